"""From a user's own labelled examples to a bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from metaloom.config import Settings
from metaloom.data.lost import lost_of
from metaloom.data.support import Support, files_of, read_support, task_name
from metaloom.handoff.adapting.solve import solve
from metaloom.handoff.bundle.contents import Maker
from metaloom.handoff.bundle.write import write_bundle
from metaloom.learner.estimate import cross_validated
from metaloom.networks.engine import choose_engine
from metaloom.system.quantities import interval95

FEW = 2**22  # numbers in the packed examples: 4 million


@dataclass(frozen=True)
class Made:
    """What there is to say about a bundle that was written.

    Args:
        summary: its accuracy, and what was verified.
        repeated: examples left out as repetitions.
        advice: what may be better; "" where there is nothing to say.
        lost: what of the examples is not read; "" where all is.
    """

    summary: str
    repeated: list[str]
    advice: str = ""
    lost: str = ""


def adapt_to(
    path: Path,
    out: Path,
    model: Path,
    settings: Settings,
    on_step: Callable[[float, str], None],
    invert: bool = False,
    name: str = "",
) -> Made:
    """Adapt a meta-learner to one task and write the task model as a bundle.

    Args:
        path: the labelled examples: a folder per class, or a table; see `metaloom.data.support`.
        out: where the bundle goes; what stands there is replaced.
        model: folder of a meta-learner, as the train stage writes it.
        settings: for the versions of ONNX and the seed of the cross-validation.
        on_step: called with how many of four steps are done, and the name of the next.
        invert: read the examples, and later the questions, as the negative of what they are.
        name: of the task; empty: that of the folder or file.

    Raises:
        MetaloomError: there is no task at the path, the model cannot be read, the bundle does not verify.
    """
    on_step(0, "loading")
    maker = Maker.open(model, settings)
    maker = _inverted(maker) if invert else maker
    encoding = maker.learner.encoding
    on_step(1, f"reading {encoding.kind.many}")
    support = read_support(path, encoding.kind, encoding.packed)
    files = files_of(path, encoding.kind)
    _for_few(maker, support)
    on_step(2, "adapting and cross-validating")
    (solved,) = solve(maker, {name or task_name(path.resolve()): support})
    advice = _advice(maker, path, support, solved.estimate, invert)
    on_step(3, "writing and verifying")
    verified = write_bundle(out, solved.contents(maker), settings.export)
    return Made(
        f"{_accuracy(solved.estimate)}; verified: {verified}", support.repeated, advice, lost_of(files, encoding.kind)
    )


def _for_few(maker: Maker, support: Support) -> None:
    """For few examples that are embedded once, until the process ends: one thread, as two wait for each other longer
    than they work where a core has something else to do; and torch's layers, which are slower but need no second to
    start."""
    if not maker.learner.method.frozen or support.examples.size > FEW:
        return
    torch.set_num_threads(1)
    if maker.settings.engine == "auto":
        choose_engine("torch")


def _inverted(maker: Maker) -> Maker:
    return replace(maker, learner=maker.learner.reading(maker.learner.encoding.inverted()))


def _advice(maker: Maker, path: Path, support: Support, estimate: dict | None, inverted: bool) -> str:
    """To read examples as negatives, or no longer so, where they look so and cross-validation finds it better."""
    encoding = maker.learner.encoding
    if not encoding.looks_inverted(support.examples):
        return ""
    looks = f"{path}: its {encoding.kind.many} look like the negative of those in training"
    how = "with `--invert`"
    if inverted:
        looks, how = f"{path}: as they are, its {encoding.kind.many} look like those in training", "without `--invert`"
    other = _inverted(maker).learner
    again = read_support(path, other.encoding.kind, other.encoding.packed)
    turned = cross_validated(other, again.examples, again.ways, maker.settings.seed)
    if estimate is None or turned is None:
        return f"{looks}; try it {how}: two examples of every class would tell which is better"
    if turned["accuracy"] <= estimate["accuracy"]:
        return ""
    return f"{looks}: {how} {turned['accuracy']:.1%} would be right instead of {estimate['accuracy']:.1%}"


def _accuracy(estimate: dict | None) -> str:
    if estimate is None:
        return "accuracy not estimated: that takes two examples of every class"
    return (
        f"{estimate['accuracy']:.1%} right by {estimate['folds']}-fold cross-validation on "
        f"{estimate['examples']} examples ({interval95(estimate['low95'], estimate['high95'])})"
    )
