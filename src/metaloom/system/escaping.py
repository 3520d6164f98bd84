"""Names and labels as they may be written, a function per format: whoever named a class may be a stranger.

HTML is Jinja's affair (`report/page.py`), JSON the json module's.
"""

from __future__ import annotations

import re

FORMULA = (*"=+-@＝＋－＠", "\t", "\r", "\n")  # what a spreadsheet takes for the beginning of a formula
KEPT = "\n\t\N{NO-BREAK SPACE}"
MARKDOWN = re.compile(r"[\\`*_{}\[\]<>#|!&~]")
ANGLES = str.maketrans("<>", "‹›")


def shown(text: str) -> str:
    """For a terminal, which obeys escape sequences and turns lines around; line ends, tabs and spaces stay."""
    return "".join(c if c.isprintable() or c in KEPT else c.encode("unicode_escape").decode() for c in text)


def on_one_line(text: str) -> str:
    """For a terminal where each line is a record."""
    return shown(text).replace("\n", "\\n").replace("\t", "\\t")


def cell(text: str) -> str:
    """For a cell of a table that a spreadsheet may open; a number stays one."""
    return f"'{text}" if text.startswith(FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+([.,]\d+)?", text) is not None


def markdown(text: str) -> str:
    """For running text or a table of a Markdown page: its own signs and HTML's are shown as they are."""
    return MARKDOWN.sub(r"\\\g<0>", shown(" ".join(text.split())))


def told(text: str) -> str:
    """For a chat or a mail, of which some take `<` for an order and others for HTML."""
    return shown(text).translate(ANGLES)


def plotted(text: str) -> str:
    """For a table that DVC plots: its page has the values in a script, which `</script>` would end."""
    return text.translate(ANGLES)
