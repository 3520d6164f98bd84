"""What a run has to say at its end, as text for the terminal and as Markdown for Prefect."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaloom.config import DOMAIN_SUFFIX
from metaloom.pipeline.committed import against_committed
from metaloom.system.escaping import markdown
from metaloom.system.files import read_json
from metaloom.system.git import changed, committed
from metaloom.system.plural import several
from metaloom.system.provenance import POINTER
from metaloom.system.quantities import UNKNOWN, duration, with_interval
from metaloom.system.rounding import nulled
from metaloom.versioning.paths import Outputs


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
        scores: what metrics/evaluation.json holds.
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
    metrics = outputs.known("figures")
    places = {"report": outputs.known("page"), "bundle": outputs.known("bundle")}
    scores = json.loads((root / metrics).read_text(encoding="utf-8")) if metrics and (root / metrics).is_file() else {}
    return RunSummary(
        data=data,
        stages=tuple(stages),
        seconds=seconds,
        scores=scores,
        places={word: path for word, path in places.items() if path and (root / path).exists()},
        figures=_against_committed(root, metrics, scores) if metrics and scores else "",
        fitted=_fitted(root, outputs),
        verdict=_verdict(root, outputs),
    )


def _fitted(root: Path, outputs: Outputs) -> tuple[str, ...]:
    path = root / (outputs.known("plan") or "")
    return tuple(read_json(path)["fitted"]) if path.is_file() else ()


def _verdict(root: Path, outputs: Outputs) -> str:
    path = root / (outputs.known("verdict") or "")
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def _against_committed(root: Path, metrics: str, scores: dict[str, Any]) -> str:
    text = committed(root, metrics)
    if text is None:
        return ""
    if committed(root, POINTER) and changed(root, POINTER):
        return "of other data than the committed ones"
    try:
        return against_committed(nulled(json.loads(text)), nulled(scores))
    except (AttributeError, TypeError, ValueError):  # of another version of metaloom, or no JSON
        return f"not comparable: {metrics} has another form in the commit"


def as_text(summary: RunSummary) -> str:
    """The summary for a terminal."""
    lines = []
    if summary.scores:
        table = _table(summary.scores)
        widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
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
    rows = [["accuracy, %", *(setting.replace(DOMAIN_SUFFIX, ", domain") for setting in settings)]]
    for name, learner in scores.items():
        rows.append([name, *(_score(learner.get(setting)) for setting in settings)])
    return rows


def _score(score: dict[str, Any] | None) -> str:
    if not score or not score["episodes"]:
        return UNKNOWN
    failed = f" ({score['failed']} failed)" if score.get("failed") else ""
    return with_interval(score["accuracy"], score["ci95"], unit="") + failed


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(map(markdown, cells))} |"
