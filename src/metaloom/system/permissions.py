"""What a user may not do with a file, or cannot do with this system, in a line that says what to do."""

from __future__ import annotations

import errno
import os
import pwd

from metaloom.system.files import is_full

REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
REMEDIES = {  # of other errors that the user can put right
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "links lead to one another: remove them",
    errno.ENOTDIR: "a file is where a folder is needed: remove it, or choose another place",
    errno.EISDIR: "a folder is where a file is needed: remove it, or choose another place",
    errno.EEXIST: "something else is there: remove it, or choose another place",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "end other programs, which have too many files open",
    errno.EIO: "the disk or the connection to it is damaged: read its log (`dmesg`)",
    errno.ESTALE: "the connection to the disk was lost: mount it again",
    errno.ENXIO: "no file that can be read is there: remove it",
}


def refused(error: OSError) -> str:
    """The line; nothing for an error of another kind."""
    if error.errno not in REFUSED or error.filename is None:
        return ""
    return (
        f"{error.filename}: {(error.strerror or '').lower()} for user {_name()}: give that user the right "
        "(chown, chmod, or mount it for writing), or run as its owner"
    )


def unable(error: OSError) -> str:
    """The line for an error of the system: a right that the user lacks, a full disk, a name that is too long and the
    like; nothing where it may be a mistake of ours."""
    if line := refused(error):
        return line
    where = f"{error.filename}: " if error.filename is not None else ""
    said = (error.strerror or str(error)).lower()
    if is_full(error):
        return f"{where}{said}: the disk is full or the user's share of it, so free some room and run again"
    remedy = REMEDIES.get(error.errno or 0)
    return f"{where}{said}: {remedy}" if remedy else ""


def _name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
