"""From a user's own labelled examples to a bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from metaloom.config import Settings
from metaloom.data.support import read_support, task_name
from metaloom.handoff.adapting.solve import solve
from metaloom.handoff.bundle.contents import Maker
from metaloom.handoff.bundle.write import write_bundle


@dataclass(frozen=True)
class Made:
    """What there is to say about a bundle that was written; `repeated`: examples left out as repetitions."""

    summary: str
    repeated: list[str]


def adapt_to(path: Path, out: Path, model: Path, settings: Settings, on_step: Callable[[float, str], None]) -> Made:
    """Adapt a meta-learner to one task and write the task model as a bundle.

    Args:
        path: the labelled examples: a folder per class, or a table; see `metaloom.data.support`.
        out: where the bundle goes; what stands there is replaced.
        model: folder of a meta-learner, as the train stage writes it.
        settings: for the versions of ONNX and the seed of the cross-validation.
        on_step: called with how many of four steps are done, and the name of the next.

    Raises:
        MetaloomError: there is no task at the path, the model cannot be read, the bundle does not verify.
    """
    on_step(0, "loading")
    maker = Maker.open(model, settings)
    encoding = maker.learner.encoding
    on_step(1, f"reading {encoding.kind.many}")
    support = read_support(path, encoding.kind, encoding.packed)
    on_step(2, "adapting and cross-validating")
    (solved,) = solve(maker, {task_name(path.resolve()): support})
    on_step(3, "writing and verifying")
    verified = write_bundle(out, solved.contents(maker), settings.export)
    return Made(f"{_accuracy(solved.estimate)}; verified: {verified}", support.repeated)


def _accuracy(estimate: dict | None) -> str:
    if estimate is None:
        return "accuracy not estimated: that takes two examples of every class"
    return (
        f"{estimate['accuracy']:.1%} right by {estimate['folds']}-fold cross-validation on "
        f"{estimate['examples']} examples (95% interval {estimate['low95']:.1%} to {estimate['high95']:.1%})"
    )
