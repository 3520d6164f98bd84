"""`metaloom report`: where the page is, and a look at it."""

from __future__ import annotations

from typing import Annotated

import typer

from metaloom.errors import MetaloomError
from metaloom.versioning.paths import Outputs
from metaloom.versioning.project import find_root


def report(
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Say where the report is; with --open, show it."""
    root = find_root()
    page = root / Outputs(root).page
    if not page.is_file():
        raise MetaloomError(f"{page} not found: `metaloom run` makes it")
    print(page)
    if open_:
        open_in_browser(page.as_uri())


def open_in_browser(uri: str) -> None:
    """Open an address in the browser; raises MetaloomError where there is none."""
    import webbrowser

    if not webbrowser.open(uri):
        raise MetaloomError(f"no browser found on this machine: open {uri} in one that you have")
