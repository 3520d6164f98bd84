"""`metaloom compare`: two data or model versions side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaloom.config import DOMAIN_SUFFIX, METHODS
from metaloom.errors import FAILED, MetaloomError
from metaloom.system.escaping import on_one_line
from metaloom.system.files import strict_json
from metaloom.system.plural import several, some
from metaloom.versioning.quality import told_apart
from metaloom.versioning.revisions import WORKSPACE

if TYPE_CHECKING:
    from metaloom.versioning.comparison import Comparison

FEW = 5  # names in a line
ALPHA = 0.01  # of a domain that has moved


def compare(
    rev_a: Annotated[str, typer.Argument(help="A model version such as v0.2.0, or a branch, tag or commit of git.")],
    rev_b: Annotated[str, typer.Argument(help="Another one; without it the working tree.")] = WORKSPACE,
    out: Annotated[Path, typer.Option(help="Folder for the plots of both.")] = Path(".metaloom/compare"),
    open_: Annotated[bool, typer.Option("--open", help="Open the plots in the browser.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="All of it as JSON, without plots.")] = False,
) -> None:
    """Set two versions side by side: data, drift, figures, settings and plots.

    Ends with 1 where neither data nor figures could be compared.
    """
    from metaloom.cli.report import open_in_browser
    from metaloom.versioning.project import find_root
    from metaloom.versioning.revisions import plots_differ, refuse_unrun, resolved

    root = find_root()
    if rev_a == WORKSPACE:
        raise MetaloomError(f"{WORKSPACE} is compared with by itself: give a version, branch, tag or commit first")
    rev_a, rev_b = resolved(root, rev_a), resolved(root, rev_b)
    for rev in (rev_a, rev_b):
        refuse_unrun(root, rev)  # before torch is imported
    from metaloom.versioning.comparison import compare as compared

    found = compared(root, rev_a, rev_b)
    if json_:
        print(strict_json(as_json(found)))
        _conclude(found)
        return
    print("\n".join(map(on_one_line, lines(found))))
    page = None if found.nothing else plots_differ(root, rev_a, rev_b, root / out)
    if page is not None:
        print(f"\nplots     {page}")
        if open_:
            open_in_browser(page.as_uri())
    _conclude(found)


def _conclude(found: Comparison) -> None:
    if found.nothing:
        raise typer.Exit(FAILED)


def as_json(found: Comparison) -> dict[str, Any]:
    """All that was compared, as plain values."""
    change = None
    if found.change is not None:
        counts = found.change.examples.rename_axis("domain").reset_index().to_dict("records")
        change = {"domains": found.change.domains, "classes": found.change.classes}
        change |= {"examples": counts, "relabelled": found.change.relabelled}
    versions = {side: asdict(each) if each else None for side, each in (("a", found.a), ("b", found.b))}
    rest = {"moved": [asdict(each) for each in found.moved], "new_classes": found.new_classes}
    handoff = {side: asdict(each) for side, each in found.handoff.items()}
    rest |= {"figures": found.figures, "handoff": handoff, "settings": found.settings, "missing": found.missing}
    return versions | {"data": change} | rest


def lines(found: Comparison) -> Iterator[str]:
    """The comparison for a terminal."""
    yield from _data(found)
    yield from _drift(found)
    yield from () if found.nothing else _figures(found)
    yield from _handoff(found)
    for key, values in sorted(found.settings.items()):
        yield f"setting   {key}: {values.get('old', 'absent')} → {values.get('new', 'absent')}"
    if found.nothing:
        yield f"nothing to compare: {'; '.join(found.missing)}"
    else:
        yield from (f"not shown {reason}" for reason in found.missing)


def _data(found: Comparison) -> Iterator[str]:
    for each in (found.a, found.b):
        if each is not None:
            counts = several(each.examples, "example"), several(each.classes, "class", "classes")
            shared = several(each.domains, "domain")
            yield f"{each.name:<9.9} data {each.data[:8] or 'not versioned'}: {', '.join(counts)}, {shared}"
            if each.named != each.data:
                named = each.named[:8] or "of no version"
                yield f"{each.name:<9.9} data {named} was not prepared: `metaloom run` there"
    if found.change is None:
        return
    if found.change.none:
        same = found.a is not None and found.b is not None and found.a.data == found.b.data
        yield f"data      the same{'' if same else ' examples are used'}"
        return
    for what, names in ((("domain", "domains"), found.change.domains), (("class", "classes"), found.change.classes)):
        for verb, which in names.items():
            if which:
                yield f"data      {several(len(which), *what)} {verb}: {some(which, FEW)}"
    for domain, counts in found.change.examples.iterrows():
        told = ", ".join(f"{n:,} {verb}" for verb, n in counts.items() if n)
        yield f"data      {domain}: {told}"
    for before, now, n in found.change.relabelled[:FEW]:
        yield f"data      {n:,} relabelled: {before} → {now}"


def _drift(found: Comparison) -> Iterator[str]:
    for each in sorted(found.moved, key=lambda each: -each.distance):
        word = "moved" if each.p < ALPHA else "within noise"
        yield f"drift     {each.domain}: {word} ({each.distance:.2f} of its spread, p = {each.p:.3f})"
    new = found.new_classes
    if not new:
        return
    if new["limit"] == new["limit"]:  # NaN: no test class was measured
        trust = "the figures hold for them" if not new["beyond"] else "the figures say little about those"
        far = f"{new['beyond']:.0%} of the new classes are farther from training than 95% of the test classes"
        yield f"drift     {far}: {trust}"
    ranked = sorted(zip(new["relative"], new["classes"], new["nearest"], strict=True), reverse=True)
    for relative, name, nearest in ranked[:FEW]:
        yield f"drift     {name}: {relative:.2f} from {nearest}"


def _figures(found: Comparison) -> Iterator[str]:
    if not found.figures:
        return
    if not any(map(_differs, found.figures)):
        yield "figures   the same"
        return
    yield ""
    yield "accuracy, %: before → now; * marks intervals that do not overlap"
    if found.change is None:
        yield "(whether these are the same episodes cannot be told)"
    elif not found.change.none:
        yield "(the data differ, so these are not the same episodes)"
    same = [each for each in found.figures if None not in (each["before"], each["now"]) and not _differs(each)]
    shown = sorted(
        (each for each in found.figures if _differs(each)),
        key=lambda each: (each["learner"] not in METHODS, each["learner"], each["setting"]),
    )
    shown = [each for each in shown if each["learner"] in METHODS or each["apart"]]
    width = max((len(each["learner"]) for each in shown), default=0)
    for each in shown:
        setting = each["setting"].replace(DOMAIN_SUFFIX, ", one domain")
        yield f"{each['learner']:<{width}}  {setting:<17} {' → '.join(_sides(each))}{' *' if each['apart'] else ''}"
    more = [
        each
        for each in found.figures
        if each not in shown and each not in same and None not in (each["before"], each["now"])
    ]
    if more:
        yield f"{several(len(more), 'more figure')} of single-task learners, where intervals overlap: --json"
    if same:
        yield f"{several(len(same), 'more figure')} {'is' if len(same) == 1 else 'are'} the same"


def _handoff(found: Comparison) -> Iterator[str]:
    _, told = told_apart(found.handoff.get("a"), found.handoff.get("b"))
    if told:
        yield f"handoff   {told}"


def _differs(figure: dict[str, Any]) -> bool:
    before, now = _sides(figure)
    return before != now


def _sides(figure: dict[str, Any]) -> list[str]:
    return [_share(figure[side], figure[f"ci_{side}"]) for side in ("before", "now")]


def _share(share: float | None, ci95: float | None) -> str:
    if share is None:
        return "not measured"
    return f"{100 * share:.1f}" if ci95 is None else f"{100 * share:.1f} ± {100 * ci95:.1f}"
