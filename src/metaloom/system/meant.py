"""Which of the legal names a user may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

ALSO = {"gpu": "cuda"}  # what others call it


def meant(given: str, legal: Iterable[str]) -> str:
    """`; did you mean NAME?` where one of the names looks like what was given, in whatever case; else ""."""
    folded = {each.lower(): each for each in legal}
    wanted = given.strip().lower()
    if (other := ALSO.get(wanted)) in folded:
        return f"; did you mean {folded[other]}?"
    close = difflib.get_close_matches(wanted, folded, n=1)
    return f"; did you mean {folded[close[0]]}?" if close else ""
