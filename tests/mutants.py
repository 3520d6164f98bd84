"""Twenty planted bugs, over all rooms: what each breaks, and the text that has to be replaced for it.

`tests/mutations.py` runs the tests against them. The text is looked for in all sources, so that it survives a move to
another file; `tests/test_mutants.py` says so when it is no longer there, or there twice.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One planted bug: `old` stands once in the sources, `new` takes its place."""

    name: str
    room: str
    breaks: str
    old: str
    new: str


MUTANTS = (
    Mutant(
        "unknown_keys",
        "config",
        "a misspelt setting in params.yaml is passed over",
        'without unknown keys."""\n\n    model_config = ConfigDict(frozen=True, extra="forbid")',
        'without unknown keys."""\n\n    model_config = ConfigDict(frozen=True)',
    ),
    Mutant(
        "quality_share",
        "data",
        "the share of bad examples is taken of the used ones, not of all",
        '"bad_share": round(bad / len(items), 6)',
        '"bad_share": round(bad / max(len(used), 1), 6)',
    ),
    Mutant(
        "rounding",
        "kinds",
        "the pixels that a graph resizes are cut off, not rounded",
        "return ((pixels + some) / UNITS).round()",
        "return (pixels + some) / UNITS",
    ),
    Mutant(
        "next_class",
        "tasks",
        "an episode can take the first example of the next class for a class with few examples",
        "order[np.arange(count.max()) >= count[ways][:, None]] = 2",
        "order[np.arange(count.max()) > count[ways][:, None]] = 2",
    ),
    Mutant(
        "second_order",
        "networks",
        "the second derivative of a convolution lacks one of its two terms",
        "to_d_y = through_x if to_d_y is None else through_x.add_(to_d_y)",
        "to_d_y = through_x",
    ),
    Mutant(
        "beta",
        "methods",
        "β leads away from the adapted weights",
        "shared[name] + settings.beta * (weight - shared[name])",
        "shared[name] - settings.beta * (weight - shared[name])",
    ),
    Mutant(
        "query_leak",
        "training",
        "the support examples of a training task are among its queries",
        "query_x=x[:, :, shots:].flatten(1, 2)",
        "query_x=x[:, :, :-shots].flatten(1, 2)",
    ),
    Mutant(
        "resume",
        "training",
        "a resumed run draws its episodes from the start again",
        'state.generator.set_state(tensors["generator"]',
        '(tensors["generator"]',
    ),
    Mutant(
        "ranks",
        "training",
        "several processes add up their gradients instead of averaging them",
        "flat /= self.count",
        "flat[: len(leaves)] /= self.count",
    ),
    Mutant(
        "estimate",
        "learner",
        "cross-validation asks for examples that the model has learned from",
        "learner.adapt(examples[~asked], ways[~asked]).predict(examples[asked])",
        "learner.adapt(examples, ways).predict(examples[asked])",
    ),
    Mutant(
        "worse_baseline",
        "baselines",
        "of candidates that are equally accurate the one with the worst NLL is chosen",
        '(found[place]["accuracy"], -found[place]["nll"])',
        '(found[place]["accuracy"], found[place]["nll"])',
    ),
    Mutant(
        "holm",
        "evaluation",
        "p-values are not corrected for their number",
        "corrected = holm([each.p for _, each in found])",
        "corrected = [each.p for _, each in found]",
    ),
    Mutant(
        "unchecked_file",
        "handoff",
        "verify does not look at the checksum of labels.json",
        "elif _sha256(path) != expected[name]:",
        "elif name != LABELS and _sha256(path) != expected[name]:",
    ),
    Mutant(
        "untempered_fleet",
        "handoff",
        "the bundles of a fleet are exported without the temperature",
        "factor = 1 / learner.temperature.of_task(",
        "factor = 1 + 0 * learner.temperature.of_task(",
    ),
    Mutant(
        "absent_classes",
        "handoff",
        "adapt.onnx takes all of its max_ways for classes of the task when it chooses the temperature",
        "ways = seen.to(head.weight.dtype).sum()",
        "ways = torch.ones_like(seen, dtype=head.weight.dtype).sum()",
    ),
    Mutant(
        "promote",
        "versioning",
        "a version whose bundle has one problem is promoted",
        'if verdict.problems:\n        raise MetaloomError(f"the bundle of {commit[:8]} does',
        'if len(verdict.problems) > 1:\n        raise MetaloomError(f"the bundle of {commit[:8]} does',
    ),
    Mutant(
        "due",
        "retraining",
        "a scheduled run asks for the version of data/ alone, and is skipped when settings or code have changed",
        'parts = (asked(root, "ls-tree", commit, "--", *inputs), data, splits.strip(), code_state())',
        "parts = (data, splits.strip(), code_state())",
    ),
    Mutant(
        "reliability",
        "report",
        "the calibration diagram mixes all learners",
        'own = table[(table["learner"] == results.champion) & (table["setting"] == setting.name)]',
        'own = table[table["setting"] == setting.name]',
    ),
    Mutant(
        "overwritten",
        "cli",
        "`fleet --shared` takes the place of any folder that is given as --out",
        "if shared and out.exists() and not is_fleet:",
        "if shared and out.is_file() and not is_fleet:",
    ),
    Mutant(
        "impatient",
        "system",
        "a run does not wait for another one to finish, whatever --wait says",
        "lock.acquire(timeout=wait, poll_interval=0.1)",
        "lock.acquire(timeout=0, poll_interval=0.1)",
    ),
)
