"""Make docs/report.png, the picture in the README: the top of a run's report, as a reader first sees it.

python docs/screenshot.py [report/index.html]: after `make run`; needs Chromium and the test packages.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

REPO = Path(__file__).resolve().parents[1]
PICTURE = REPO / "docs" / "report.png"
WIDTH, HEIGHT = 1280, 800  # CSS pixels of the window
COLOURS = 128  # of the palette: text and charts need no more, and the file is a quarter of the size


def main(report: str = "report/index.html") -> None:
    sys.path.insert(0, str(REPO / "tests"))
    from chromium import Browser

    with Browser() as browser:
        browser.look(WIDTH, dark=False, height=HEIGHT)
        browser.open(Path(report))
        browser.picture(PICTURE)
    with Image.open(PICTURE) as picture:
        smaller = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    smaller.save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(*sys.argv[1:])
