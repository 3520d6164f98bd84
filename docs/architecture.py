"""Draw docs/architecture.svg from the imports themselves: which room of the house imports which.

python docs/architecture.py

A room is a name in the layers of import-linter's contract (pyproject.toml). An arrow that other arrows imply is left
out; every room's own list is in the picture as its tooltip. Rows are by the longest way down to a room without imports,
and the order in a row by barycentres (Sugiyama, Tagawa, Toda: Methods for visual understanding of hierarchical system
structures, 1981): a long arrow passes through an empty place in every row between.
"""

from __future__ import annotations

import itertools
import sys
import tomllib
from dataclasses import dataclass
from html import escape
from pathlib import Path

import grimp

REPO = Path(__file__).resolve().parents[1]
PICTURE = REPO / "docs" / "architecture.svg"
BOX, HEIGHT, ROW, GAP, MARGIN = 118, 34, 76, 26, 20  # SVG units: one is a pixel at full size
LANE = 14  # the width of the place that a long arrow takes in a row
SWEEPS = 8  # down and up again, of putting each row in order
Rooms = dict[str, set[str]]


@dataclass(frozen=True)
class Place:
    """Where a room, or an arrow that passes a row, stands: the middle of its top edge."""

    x: float
    y: float
    width: float


def room_names() -> list[str]:
    """The rooms of the contract, from the top layer to the bottom."""
    settings = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    return [room.strip() for layer in layers for room in layer.split("|")]


def room_imports() -> Rooms:
    """For each room the rooms that it imports."""
    names = room_names()
    if str(REPO) not in sys.path:
        sys.path.insert(0, str(REPO))  # where `flows` is, which is not installed
    graph = grimp.build_graph("metaloom", "flows", cache_dir=None)
    imports: Rooms = {name: set() for name in names}
    for module in graph.modules:
        own = _room(module, names)
        if own is None:
            continue
        imported = {_room(other, names) for other in graph.find_modules_directly_imported_by(module)}
        imports[own] |= {room for room in imported if room is not None and room != own}
    return imports


def without_implied(imports: Rooms) -> Rooms:
    """The same without what follows from other imports (the transitive reduction of a graph without circles)."""
    below = {room: _reachable(room, imports) for room in imports}
    return {
        room: {each for each in direct if not any(each in below[other] for other in direct - {each})}
        for room, direct in imports.items()
    }


def rows_of(imports: Rooms) -> dict[str, int]:
    """Each room's row, counted from the bottom."""
    rows: dict[str, int] = {}

    def row(room: str) -> int:
        if room not in rows:
            rows[room] = 1 + max((row(each) for each in imports[room]), default=-1)
        return rows[room]

    for room in imports:
        row(room)
    return rows


def drawn() -> str:
    """The picture as SVG."""
    imports = room_imports()
    arrows, rows = without_implied(imports), rows_of(imports)
    ways = [_way(upper, lower, rows) for upper in sorted(arrows) for lower in sorted(arrows[upper])]
    places, width, height = _places(_ordered(rows, ways), rows)
    parts = [_arrow([places[stop] for stop in way]) for way in ways]
    parts += [_box(room, places[room], imports[room]) for room in sorted(rows)]
    return _page(parts, width, height)


def _room(module: str, names: list[str]) -> str | None:
    return next((name for name in names if module == name or module.startswith(f"{name}.")), None)


def _reachable(room: str, imports: Rooms) -> set[str]:
    found: set[str] = set()
    waiting = list(imports[room])
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += imports[each]
    return found


def _way(upper: str, lower: str, rows: dict[str, int]) -> list[str]:
    """The stops of an arrow: both rooms, and a place in every row between."""
    passed = [f"{upper}>{lower}@{row}" for row in range(rows[upper] - 1, rows[lower], -1)]
    return [upper, *passed, lower]


def _ordered(rows: dict[str, int], ways: list[list[str]]) -> list[list[str]]:
    """What stands in each row, from the bottom, in an order with few crossings."""
    stops = dict.fromkeys(sorted(rows) + [stop for way in ways for stop in way[1:-1]])
    row_of = {stop: rows[stop] if stop in rows else int(stop.rsplit("@", 1)[1]) for stop in stops}
    order = [[stop for stop in stops if row_of[stop] == row] for row in range(max(rows.values()) + 1)]
    joined: dict[str, list[str]] = {stop: [] for stop in stops}
    for way in ways:
        for above, below in itertools.pairwise(way):
            joined[above].append(below)
            joined[below].append(above)
    for sweep in range(SWEEPS):
        step = 1 if sweep % 2 else -1
        for row in range(len(order))[::step]:
            _put_in_order(order, row, row - step, joined)
    return order


def _put_in_order(order: list[list[str]], row: int, neighbour: int, joined: dict[str, list[str]]) -> None:
    """Sort a row by the mean position of what each stop is joined with in the neighbouring row."""
    if not 0 <= neighbour < len(order):
        return
    at = {stop: (index + 0.5) / len(order[neighbour]) for index, stop in enumerate(order[neighbour])}

    def middle(stop: str) -> float:
        known = [at[each] for each in joined[stop] if each in at]
        return sum(known) / len(known) if known else 0.5

    order[row].sort(key=middle)


def _places(order: list[list[str]], rows: dict[str, int]) -> tuple[dict[str, Place], int, int]:
    widths = [[BOX if stop in rows else LANE for stop in row] for row in order]
    whole = max(sum(each) + GAP * (len(each) - 1) for each in widths) + 2 * MARGIN
    places = {}
    for row, stops in enumerate(order):
        x = (whole - sum(widths[row]) - GAP * (len(stops) - 1)) / 2
        y = MARGIN + (len(order) - 1 - row) * ROW
        for stop, width in zip(stops, widths[row], strict=True):
            places[stop] = Place(x + width / 2, y, width)
            x += width + GAP
    return places, round(whole), MARGIN * 2 + (len(order) - 1) * ROW + HEIGHT


def _arrow(stops: list[Place]) -> str:
    """A smooth line from the lower edge of the first place to the upper edge of the last."""
    path = f"M{stops[0].x:.0f} {stops[0].y + HEIGHT:.0f}"
    for above, below in itertools.pairwise(stops):
        start, end = above.y + HEIGHT, below.y
        middle = (start + end) / 2
        path += f"C{above.x:.0f} {middle:.0f} {below.x:.0f} {middle:.0f} {below.x:.0f} {end:.0f}"
        if below is not stops[-1]:
            path += f"V{below.y + HEIGHT:.0f}"
    return f'<path d="{path}" marker-end="url(#tip)"/>'


def _box(room: str, place: Place, imported: set[str]) -> str:
    name = room.removeprefix("metaloom.")
    known = ", ".join(sorted(each.removeprefix("metaloom.") for each in imported)) or "nothing of ours"
    x, middle = place.x - BOX / 2, place.x
    return (
        f"<g><title>{escape(name)} imports {escape(known)}</title>"
        f'<rect x="{x:.0f}" y="{place.y:.0f}" width="{BOX}" height="{HEIGHT}" rx="6"/>'
        f'<text x="{middle:.0f}" y="{place.y + HEIGHT / 2 + 5:.0f}">{escape(name)}</text></g>'
    )


def _page(parts: list[str], width: int, height: int) -> str:
    style = (
        "text{font:600 14px sans-serif;text-anchor:middle;fill:#1f2933}"
        "rect{fill:#e6f4f1;stroke:#0f766e}path{fill:none;stroke:#7b8794;stroke-width:1.3}"
    )
    tip = (
        '<marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" style="fill:#7b8794;stroke:none"/></marker>'
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    ground = f'<rect width="{width}" height="{height}" style="fill:#fff;stroke:none"/>'
    return "\n".join([head, f"<style>{style}</style><defs>{tip}</defs>{ground}", *parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(drawn(), encoding="utf-8")
