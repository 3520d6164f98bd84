"""What a user may not do with a file, in a line that says what to do."""

from __future__ import annotations

import errno
import os
import pwd

REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


def refused(error: OSError) -> str:
    """The line; nothing for an error of another kind."""
    if error.errno not in REFUSED or error.filename is None:
        return ""
    return (
        f"{error.filename}: {(error.strerror or '').lower()} for user {_name()}: give that user the right "
        "(chown, chmod, or mount it for writing), or run as its owner"
    )


def _name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
