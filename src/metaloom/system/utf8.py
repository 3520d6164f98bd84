"""Text is UTF-8, whatever the locale says: names of files, what is printed, what processes tell each other."""

from __future__ import annotations

import locale
import os
import sys

UTF8 = {"PYTHONUTF8": "1"}  # for the environment of a process that we start


def in_utf8() -> None:
    """Start this command again in Python's UTF-8 mode where the locale is another: file names would read otherwise."""
    if sys.flags.utf8_mode or "utf-8" == sys.getfilesystemencoding() == locale.getpreferredencoding(False).lower():
        return
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **UTF8})  # noqa: S606 (our own command)
