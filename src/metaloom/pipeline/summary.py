"""What a run has to say at its end, as text for the terminal and as Markdown for Prefect."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from metaloom.config import DOMAIN_SUFFIX
from metaloom.errors import MetaloomError
from metaloom.evaluation.headline import is_headline, scores_of
from metaloom.pipeline.committed import against_committed
from metaloom.system.escaping import markdown
from metaloom.system.files import read_json
from metaloom.system.git import changed, committed
from metaloom.system.plural import several
from metaloom.system.provenance import POINTER
from metaloom.system.quantities import UNKNOWN, duration, with_interval
from metaloom.system.rounding import nulled
from metaloom.versioning.of_run import committed_file
from metaloom.versioning.paths import Outputs

NARROW = 80  # columns of a log
GAP, DOMAIN = "  ", ", domain"  # between columns of the table; behind a setting


@dataclass(frozen=True)
class StageRun:
    """One stage in one run: its state (`Cached` or `Ran`) and how long that took."""

    name: str
    state: str
    seconds: float


@dataclass(frozen=True)
class RunSummary:
    """A finished run.

    Args:
        data: one line about the data version.
        stages: in the order in which they ran.
        seconds: of the whole run.
        scores: every learner's figures, by setting.
        places: a path for each word.
        figures: how `scores` compare with the committed ones; "" where there are none.
        fitted: which settings were fitted to the data.
        verdict: what the run comes to, in words; "" where there is no report.
    """

    data: str
    stages: tuple[StageRun, ...]
    seconds: float
    scores: dict[str, dict[str, dict[str, float | None]]]
    places: dict[str, str]
    figures: str = ""
    fitted: tuple[str, ...] = ()
    verdict: str = ""

    def of_a_part(self) -> RunSummary:
        """Without what is there of an earlier run: not all stages are up to date."""
        return replace(self, scores={}, places={}, figures="", verdict="")


def summarise(root: str | Path, data: str, stages: list[StageRun], seconds: float) -> RunSummary:
    """Gather what there is to say; the paths come from dvc.yaml, and what does not exist is left out.

    Args:
        root: the project's root.
        data: one line about the data version.
        stages: in the order in which they ran.
        seconds: of the whole run.
    """
    root = Path(root)
    outputs = Outputs(root)
    figures = outputs.known("figures")
    places = {"report": outputs.known("page"), "bundle": outputs.known("bundle")}
    scores = json.loads((root / figures).read_text(encoding="utf-8")) if figures and (root / figures).is_file() else {}
    return RunSummary(
        data=data,
        stages=tuple(stages),
        seconds=seconds,
        scores=scores,
        places={word: path for word, path in places.items() if path and (root / path).exists()},
        figures=_against_committed(root, outputs, scores) if scores else "",
        fitted=_fitted(root, outputs),
        verdict=_verdict(root, outputs),
    )


def _fitted(root: Path, outputs: Outputs) -> tuple[str, ...]:
    path = root / (outputs.known("plan") or "")
    return tuple(read_json(path)["fitted"]) if path.is_file() else ()


def _verdict(root: Path, outputs: Outputs) -> str:
    path = root / (outputs.known("verdict") or "")
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def _against_committed(root: Path, outputs: Outputs, scores: dict[str, Any]) -> str:
    headline = outputs.known("headline")
    text = committed(root, headline) if headline else None
    if text is None:
        return ""
    if committed(root, POINTER) and changed(root, POINTER):
        return "of other data than the committed ones"
    try:
        raw = json.loads(text)
        before = scores_of(raw, str(headline))
        if is_headline(raw) and (found := _committed_figures(root, outputs)):
            before = found
        elif is_headline(raw):
            scores = {name: own for name, own in scores.items() if name in before}
        return against_committed(nulled(before), nulled(scores))
    except (MetaloomError, AttributeError, TypeError, ValueError):  # of another version of metaloom, or no JSON
        return f"not comparable: {headline} has another form in the commit"


def _committed_figures(root: Path, outputs: Outputs) -> dict[str, Any] | None:
    """All figures of the commit, of which git itself has the headline, where DVC's cache here has them."""
    content = None
    with suppress(MetaloomError):  # a broken dvc.lock in the commit, or DVC at work
        content = committed_file(root, outputs.evaluation, PurePosixPath(outputs.figures).name)
    return None if content is None else json.loads(content)


def as_text(summary: RunSummary, width: int = NARROW) -> str:
    """The summary for a terminal or a log of so many columns.

    What of the table is wider is left out, tasks within one domain first; the report has it.
    """
    lines = []
    if summary.scores:
        table = _table(summary.scores)
        widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
        shown = _fitting(table[0], widths, width)
        lines = [GAP.join(row[column].ljust(widths[column]) for column in shown) for row in table]
        if left := [name for column, name in enumerate(table[0]) if column not in shown]:
            lines.append(f"not shown, as {width} columns are too few: {'; '.join(left)} (the report has them)")
        lines.append("")
    lines += [f"{word:<8}{path}" for word, path in summary.places.items()]
    lines.append(f"{'data':<8}{summary.data.removeprefix('data/ is ')}")
    lines.append(f"{'stages':<8}{stages_line(summary.stages)}")
    lines.append(f"{'time':<8}{duration(summary.seconds)}")
    if summary.figures:
        lines.append(f"{'figures':<8}{summary.figures}")
    lines += [f"{'fitted' if place == 0 else '':<8}{each}" for place, each in enumerate(summary.fitted)]
    if summary.verdict:
        lines += ["", summary.verdict]
    return "\n".join(line.rstrip() for line in lines)


def as_markdown(summary: RunSummary) -> str:
    """The summary for Prefect's page of the run."""
    lines = ["# Run", ""]
    if summary.scores:
        head, *body = _table(summary.scores)
        lines += [_row(head), _row(["---"] * len(head)), *map(_row, body), ""]
    facts = [*summary.places.items(), ("data", summary.data), ("time", duration(summary.seconds))]
    facts += [("figures", summary.figures)] if summary.figures else []
    facts += [("fitted", each) for each in summary.fitted]
    lines += [f"- {word}: {markdown(text)}" for word, text in facts]
    lines += ["", *map(markdown, summary.verdict.splitlines())] if summary.verdict else []
    lines += [
        "",
        "| stage | state | time |",
    ]
    lines.append(_row(["---"] * 3))
    lines += [_row([each.name, each.state, duration(each.seconds)]) for each in summary.stages]
    return "\n".join(lines) + "\n"


def stages_line(stages: tuple[StageRun, ...]) -> str:
    """`2 ran (train@maml 61 s, evaluate 20 s), 5 cached`."""
    ran = [f"{each.name} {duration(each.seconds)}" for each in stages if each.state == "Ran"]
    cached = len(stages) - len(ran)
    if not ran:
        return f"everything was cached ({several(cached, 'stage')})"
    return f"{len(ran)} ran ({', '.join(ran)})" + (f", {cached} cached" if cached else "")


def _table(scores: dict[str, dict[str, dict[str, float | None]]]) -> list[list[str]]:
    """A row per learner, a column per setting: accuracy with half the width of its 95% interval, in per cent."""
    settings = list(dict.fromkeys(setting for learner in scores.values() for setting in learner))
    rows = [["accuracy, %", *(setting.replace(DOMAIN_SUFFIX, DOMAIN) for setting in settings)]]
    for name, learner in scores.items():
        rows.append([name, *(_score(learner.get(setting)) for setting in settings)])
    return rows


def _fitting(head: list[str], widths: list[int], width: int) -> list[int]:
    """All columns, or else the first ones that fit of those without a domain; two at least."""
    shown = list(range(len(head)))
    if _width(widths, shown) > width:
        shown = [column for column in shown if not head[column].endswith(DOMAIN)]
    while _width(widths, shown) > width and len(shown) > 2:
        shown.pop()
    return shown


def _width(widths: list[int], columns: list[int]) -> int:
    return sum(widths[column] + len(GAP) for column in columns) - len(GAP)


def _score(score: dict[str, Any] | None) -> str:
    if not score or not score["episodes"]:
        return UNKNOWN
    failed = f" ({score['failed']} failed)" if score.get("failed") else ""
    return with_interval(score["accuracy"], score["ci95"], unit="") + failed


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(map(markdown, cells))} |"
