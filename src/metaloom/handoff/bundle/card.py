"""MODEL_CARD.md, from what the run measured and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from metaloom.handoff.metadata import Accuracy, Cost, Metadata, Metrics, Score
from metaloom.handoff.shipped import verify
from metaloom.kinds import KINDS, Kind
from metaloom.system.certainty import compared
from metaloom.system.escaping import markdown
from metaloom.system.quantities import interval95

NOT_KNOWN = "not known"


def model_card(metadata: Metadata, labels: list[str] | dict[str, list[str]]) -> str:
    """The card of one bundle as Markdown.

    Args:
        metadata: of the bundle.
        labels: class names in the order of the outputs, or those of each task of a fleet.
    """
    if isinstance(labels, dict):
        return fleet_card(metadata, labels)
    sections = (
        _headline,
        _purpose,
        _accuracy,
        _meta_accuracy,
        _domains,
        _use,
        _variants,
        _limits,
        _data,
        _provenance,
        _again,
    )
    texts = (section(metadata) for section in sections)
    return "\n\n".join([*(text for text in texts if text), _labels(labels)]) + "\n"


def fleet_card(metadata: Metadata, labels: dict[str, list[str]]) -> str:
    """The card of one network with the heads of many tasks."""
    estimates = {each.name: each.estimate for each in metadata.tasks}
    rows = [
        f"| {place} | {markdown(task)} | {len(names)} | {_share(estimates[task])} |"
        for place, (task, names) in enumerate(labels.items())
    ]
    head = ["| task_id | task | classes | right, cross-validated |", "|---|---|---|---|"]
    use = (
        f"`{verify.FLEET}` takes `{verify.INPUT}`: {metadata.input.description} With them goes `task_id`, one for each "
        f"{_kind(metadata).one}. It gives `probabilities` in the order of the task's names in `labels.json`, and "
        f"`novelty`: {_novelty(metadata)}. `python example.py --task NAME {_file(metadata)}` shows how. "
        "`python verify.py` checks this bundle."
    )
    title = f"# {len(labels)} tasks that share one network"
    tasks = "\n".join(["## Tasks", "", *head, *rows])
    return "\n\n".join([title, _meta_accuracy(metadata), f"## Use\n\n{use}", _provenance(metadata), tasks]) + "\n"


def _kind(metadata: Metadata) -> type[Kind]:
    return KINDS[metadata.input.kind]


def _taken(metadata: Metadata) -> str:
    """What a graph takes."""
    many = _kind(metadata).many
    return f"{many} as ids of tokens" if "proofs" in (metadata.input.model_extra or {}) else f"raw {many}"


def _novelty(metadata: Metadata) -> str:
    return metadata.outputs[verify.OUTPUTS[1]].description or ""


def _share(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1%}"


def _headline(metadata: Metadata) -> str:
    task = metadata.task
    return (
        f"# {markdown(task.name)}: a classifier of {task.n_way} classes\n\n"
        f"Learned from {task.support_examples} labelled examples by a {metadata.method} meta-learner "
        f"({metadata.learner['network']['name']}), and stored as one ONNX file that takes {_taken(metadata)}."
    )


def _purpose(metadata: Metadata) -> str:
    text = (
        f"## What it is for\n\nTo tell these classes apart in {_kind(metadata).many} of the sort that it learned from, "
        "where an occasional wrong answer is harmless or somebody looks twice."
    )
    if verify.ADAPT in metadata.graphs:
        text += " With `adapt.onnx`: to learn further tasks of this sort, from a few labelled examples of each class."
    return text


def _accuracy(metadata: Metadata) -> str:
    title = "## How good is this model?\n\n"
    measured = metadata.metrics.task
    if measured is None:
        return title + (
            "Not measured: there was no example that the model had not learned from. Ask it about labelled "
            "examples of your own before you rely on it."
        )
    text = (
        f"**{measured.accuracy:.1%}** of its answers are right ({interval95(measured.low95, measured.high95)}), "
        f"{_how(measured)}. Guessing would give {1 / metadata.task.n_way:.1%}."
    )
    if metadata.task.meta_trained_on_it:
        text += " The meta-learner was trained on these very classes: on new ones it does worse."
    elif metadata.task.chosen_on_it:
        text += (
            " The meta-learner and its temperature were chosen by how well they do on these very classes: on new "
            "ones it may do a little worse."
        )
    return title + text


def _how(measured: Accuracy) -> str:
    if measured.kind == "held_out":
        return f"measured on {measured.examples} held-out examples of these classes, none learned from"
    return (
        f"estimated by {measured.folds}-fold cross-validation on its {measured.examples} support examples; the models "
        "that were asked had learned from fewer examples than this one"
    )


def _meta_accuracy(metadata: Metadata) -> str:
    validation = metadata.metrics.validation
    rows = [_row("test", setting, score, score.in_words) for setting, score in metadata.metrics.evaluation.items()]
    chosen = f"{_share(validation.accuracy)}, the best of {validation.looks or 'several'} looks"
    rows.append(_row("validation", validation.setting, validation, chosen))
    head = ["| classes | setting | accuracy | NLL (nats) | episodes |", "|---|---|---|---|---|"]
    title = "## How good is its meta-learner on new tasks?"
    return "\n".join([title, "", *_against_rival(metadata.metrics), *head, *rows])


def _against_rival(metrics: Metrics) -> list[str]:
    """Is it worth it? Against the best that one would do otherwise."""
    rival = metrics.rival
    if rival is None:
        return []
    score = metrics.evaluation.get(rival.setting)
    few = score is not None and score.few_classes
    said = compared(rival.difference, rival.ci95, rival.classes_ci95, few, rival.episodes)
    return [
        f"Its accuracy on classes that it has never seen ({rival.setting}, {rival.episodes} episodes) is {said} that "
        f"of `{rival.learner}`, the best without meta-learning.",
        "",
    ]


def _domains(metadata: Metadata) -> str:
    found = metadata.metrics.domains
    if len(found) < 2:  # of one domain it is the figure above
        return ""
    rows = []
    for each in found:
        interval = "" if each.low95 is None else f" ({each.low95:.1%} to {each.high95:.1%})"
        rows.append(f"| {markdown(each.domain)} | {each.accuracy:.1%}{interval} | {each.queries:,} |")
    title = f"Test queries by the domain of their class, {found[0].setting}:"
    return "\n".join([title, "", "| domain | accuracy | queries |", "|---|---|---|", *rows])


def _row(classes: str, setting: str, score: Score, accuracy: str) -> str:
    nll = "–" if score.nll is None else f"{score.nll:.3f}"
    return f"| {classes} | {setting} | {accuracy} | {nll} | {score.episodes} |"


def _file(metadata: Metadata) -> str:
    return f"FILE{_kind(metadata).suffixes[0]}"


def _use(metadata: Metadata) -> str:
    kind, graphs = _kind(metadata), metadata.graphs
    text = f"""## Use

`python example.py {_file(metadata)}` classifies {kind.many}: it is short, and its first lines say what it needs.

`model.onnx` takes `{verify.INPUT}`: {metadata.input.description} It gives `probabilities` in the order of
`labels.json`, and `novelty`: {_novelty(metadata)}."""
    if verify.ADAPT in graphs:
        text += f"""

`adapt.onnx` learns other classes on the spot, from `support_x` ({kind.many}) and `support_y` (whole numbers from 0,
below {metadata.max_ways}), and answers for `query_x`; `example.py --learn` shows how."""
    if verify.LEARN in graphs:
        text += """ `learn.onnx` and
`classify.onnx` do it in two steps: learn once, keep what `learn.onnx` gives, and classify often."""
    if verify.PLAIN in graphs and (taken := graphs[verify.PLAIN].input):
        text += f"""

`model.plain.onnx` is the same model for runtimes of devices: all float32, every size fixed, one {kind.one} at a time.
It takes `{taken.name}`, prepared by the caller: {taken.description}"""
    return f"""{text}

`python verify.py` (numpy and onnxruntime suffice) checks that every file is whole and that this machine gives
the answers of the machine that made the bundle, within {graphs[verify.MODEL].tolerance:.0e}."""


def _variants(metadata: Metadata) -> str:
    costs = metadata.variants
    if not costs:
        return ""
    rows = [
        f"| `{name}` | {cost.bytes / 1000:,.0f} kB ({cost.smaller:.1f} times smaller) | "
        f"{cost.milliseconds:.2f} ms ({cost.milliseconds_of_model:.2f} ms) | "
        f"{_points(cost)}, {cost.episodes} episodes |"
        for name, cost in costs.items()
    ]
    one = _kind(metadata).one
    head = [
        f"| file | size | one {one} (`model.onnx`) | accuracy less that of `model.onnx`, same test episodes |",
        "|---|---|---|---|",
    ]
    return "\n".join(["## Smaller forms of model.onnx", "", *head, *rows])


def _points(cost: Cost) -> str:
    """In points of accuracy, what the form's answers gain or lose."""
    difference = f"{100 * cost.difference:+.2f}"
    return f"{difference} points, no interval" if cost.ci95 is None else f"{difference} ± {100 * cost.ci95:.2f} points"


def _limits(metadata: Metadata) -> str:
    return f"""## Limits

- It knows these {metadata.task.n_way} classes only, and gives anything else one of their names; such an example has a
  high `novelty`.
- Its probabilities have a temperature that was fitted on other classes' validation tasks, not on these classes.
- {_kind(metadata).many.capitalize()} from another source, made by other means, are another matter: measure its accuracy
  on them again."""


def _data(metadata: Metadata) -> str:
    reading = (metadata.input.model_extra or {}).get("reading")
    licence = markdown((metadata.params.get("export") or {}).get("data_licence") or "not stated")
    return (
        "## Data\n\nThe meta-learner has learned from the training domains of the data version below, this model from "
        f"the support examples too; the golden samples are examples of it. Licence: {licence}."
        + (f" {markdown(reading[:1].upper() + reading[1:])}." if reading else "")
    )


def _again(metadata: Metadata) -> str:
    git = metadata.provenance.git
    commit = git.commit if git else "COMMIT"
    changed = " with the changes that were not committed when it was made" if git and git.uncommitted_changes else ""
    return (
        f"## Make it again\n\nIn a clone of the project it comes from{changed}:\n\n"
        f"```bash\ngit checkout {commit}\nmetaloom run\n```\n\n"
        "`metaloom run` fetches the data version, too. Settings that `--set` gave are in no commit: `params` in "
        "metadata.json has those that the bundle was made with.\n\n"
        "For a task of one's own, `metaloom adapt --support PATH --out BUNDLE` instead of the last stage."
    )


def _provenance(metadata: Metadata) -> str:
    source, git = metadata.provenance, metadata.provenance.git
    commit = NOT_KNOWN if git is None else git.commit
    if git and git.uncommitted_changes:
        commit += " with uncommitted changes"
    rows = {
        "data version (md5)": source.data or NOT_KNOWN,
        "git commit": commit,
        "meta-learner (sha256)": source.model_sha256,
        "ONNX": f"opset {metadata.onnx.opset}, IR version {metadata.onnx.ir_version}",
        "libraries": ", ".join(f"{name} {number}" for name, number in metadata.libraries.items()),
        "method": _settings(metadata.learner["method"]),
        "network": _settings(metadata.learner["network"]),
    }
    return "\n".join(["## Provenance", "", "| | |", "|---|---|", *_rows(rows)])


def _rows(values: dict[str, str]) -> Iterator[str]:
    for name, value in values.items():
        yield f"| {name} | {value} |"


def _settings(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {v if isinstance(v, str) else json.dumps(v)}" for name, v in values.items())


def _labels(labels: list[str]) -> str:
    return "## Labels\n\n" + "\n".join(f"{place}. {markdown(label)}" for place, label in enumerate(labels))
