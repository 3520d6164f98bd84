"""What the README shows of a run, from the run itself: its ending and the picture of its report.

python docs/refresh.py: after `make run` changed the figures. The picture needs Chromium and the test packages.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from PIL import Image

from metaloom.pipeline.summary import RunSummary, as_text

REPO = Path(__file__).resolve().parents[1]
README, PICTURE, REPORT = REPO / "README.md", REPO / "docs/report.png", REPO / "report/index.html"
FIGURES = REPO / "artifacts/evaluation/figures.json"
SETTINGS = ("5w1s", "5w5s", "20w1s", "20w5s")
LEARNERS = ("protonet", "maml", "scratch", "logistic", "finetune_head")
PLACES = {"report": "report/index.html", "bundle": "artifacts/bundle"}
ENDING = re.compile(r"(?<=```text\n).*?(?=```)", re.DOTALL)
WIDTH, HEIGHT = 1280, 850  # CSS pixels of the window
COLOURS = 128  # of the palette: text and charts need no more, and the file is a quarter of the size


def main() -> None:
    README.write_text(ENDING.sub(lambda _: ending(), README.read_text(encoding="utf-8")), encoding="utf-8")
    if REPORT.is_file():
        take_picture()
    else:
        print(f"{REPORT} not found: the picture stays as it is; `make run` makes the report", file=sys.stderr)


def ending() -> str:
    """The lines that the last run here ended with, some learners and settings left out."""
    scores = json.loads(FIGURES.read_text(encoding="utf-8"))
    few = {name: {setting: scores[name][setting] for setting in SETTINGS} for name in LEARNERS}
    lines = as_text(RunSummary("", (), 0.0, few, PLACES)).splitlines()
    width = max(map(len, lines[: 1 + len(LEARNERS)]))
    table = [f"{line.ljust(width)}  …" for line in lines[: 1 + len(LEARNERS)]]
    places = [line for line in lines if line.split(" ")[0] in PLACES]
    return "\n".join([*table, "…", *places]) + "\n"


def take_picture() -> None:
    """The top of the report, as a reader first sees it."""
    sys.path.insert(0, str(REPO / "tests"))
    from chromium import Browser

    with Browser() as browser:
        browser.look(WIDTH, dark=False, height=HEIGHT)
        browser.call("Emulation.setScrollbarsHidden", hidden=True)
        browser.open(REPORT)
        browser.picture(PICTURE)
    with Image.open(PICTURE) as picture:
        smaller = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    smaller.save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
