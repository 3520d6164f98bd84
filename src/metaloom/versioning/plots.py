"""What the pages of `dvc plots` and `metaloom compare` are drawn with, kept in the project: they open offline then."""

from __future__ import annotations

from pathlib import Path

from metaloom.errors import MetaloomError
from metaloom.system.files import atomic_file
from metaloom.system.lock import STATE
from metaloom.system.npm import fetched, kept_folder

NEEDED = "plots.js"  # in `STATE`, where .dvc/plots/page.html looks for it
PAGE = "page.html"  # DVC's template of its pages
VEGA = {  # the versions that DVC's own page fetches (BSD licence), with the registry's hashes
    "vega": ("5.20.2", "qmH7aD9GGPpssVdxL1xgcdxTbQzyRUeRR16Os385ymvQhiwCYQNA6+eXUPAZDTVLfk0RXu6Jzj6kUE5jQ80EVw=="),
    "vega-lite": ("5.2.0", "Yxcg8MvYfxHcG6BbkaKT0oVCIMIcE19UvqIsEwBmyd/7h2nzW7oRnID81T8UrY7hpDrIr6wa2JADOT2dhGNErw=="),
    "vega-embed": (
        "6.18.2",
        "wcDyQPE4J5aiCDc3/suH5RQDvrKkjuLkhzUcbOLwEkNF8/+pp17tS0JghzEvAPNRg+5aG1/N2ydixq8Lk3dOlg==",
    ),
}


def keep_offline(root: Path) -> bool:
    """Whether the project has what its pages of plots are drawn with; it is fetched once for this user."""
    needed = root / STATE / NEEDED
    if needed.is_file():
        return True
    try:
        kept = kept_folder("-".join(["vega", *(version for version, _ in VEGA.values())]), _fetch)
    except MetaloomError:  # without the network the pages fetch it when they are opened
        return False
    with atomic_file(needed) as temporary:
        temporary.write_bytes((kept / NEEDED).read_bytes())
    return True


def _fetch() -> dict[str, bytes]:
    scripts = [
        fetched(name, version, integrity, [f"build/{name}.min.js"], "a page of plots")[0]
        for name, (version, integrity) in VEGA.items()
    ]
    return {NEEDED: b"\n".join(scripts)}
