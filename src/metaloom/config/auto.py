"""Settings that may be `auto`: what they are where data are plenty. `metaloom.planning` fits them to smaller data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

AUTO = "auto"

# The value of each where data are plenty and examples small, which is what the embedded data set gets.
MOST: dict[str, Any] = {
    "pictures.channels": AUTO,  # `prepare` decides it, by the pictures; 1 for the embedded ones
    "prepare.min_examples": 10,
    "episodes.n_query": 5,
    "episodes.within_domain": True,
    "episodes.settings": ["5w1s", "5w5s", "20w1s", "20w5s"],
    "studies.kinds": ["any", "domain"],
    "studies.n_way": 5,
    "studies.labels": [1, 2, 3, 5, 10, 15],
    "studies.uneven": [1, 2, 3, 7, 12],
    "studies.ways": [5, 10, 20],
    "studies.estimates.n_shot": 5,
    "train.n_shot": 1,
    "train.n_query": 5,
    "train.select_on": "5w1s",
    "train.patience": 10,
    "network.width": 64,
    "protonet.n_way": 60,
    "protonet.steps": 200,
    "ridge.n_way": 20,
    "ridge.steps": 250,
    "maml.n_way": 20,
    "maml.steps": 250,
    "anil.n_way": 20,
    "anil.steps": 200,
    "reptile.n_way": 5,
    "reptile.steps": 200,
    "shared.n_way": 60,
    "shared.steps": 250,
    "bank.window": 2,
    "bank.stride": 2,
    "bank.n_way": 20,
    "bank.steps": 250,
    "pretrain.n_way": 60,
    "pretrain.steps": 200,
    "baselines.settings": ["5w1s", "5w5s"],
    "baselines.scratch.episodes": 20,
    "baselines.scratch.elsewhere": 3,
    "baselines.finetune_all.episodes": 20,
    "baselines.finetune_all.elsewhere": 3,
    "baselines.forest.episodes": 20,
    "baselines.forest.elsewhere": 3,
    "export.domain": AUTO,
    "export.n_shot": 5,
}
WAYS_OF_INPUTS = 20  # of `protonet` where embeddings are as long as the inputs: as good as 60, in a fifth of the time
WAYS_FROM_ZERO = 5  # of training tasks of `maml` and `anil` whose heads start at zero: what was tuned for them
SLOW = ("scratch", "finetune_all", "forest")  # single-task learners that take most of the time
FEWEST = 2  # usable examples that a class has to have: one to learn from, one to ask


def auto_keys(raw: Mapping[str, Any]) -> frozenset[str]:
    """The keys that are `auto`; one that is missing counts as such."""
    return frozenset(key for key in MOST if value_at(raw, key, AUTO) == AUTO)


def most_for(raw: Mapping[str, Any]) -> dict[str, Any]:
    """MOST for the methods and the network as these settings have them: a head that starts at zero learns in tasks of
    fewer ways, and so does `protonet` with the network `linear`.

    Args:
        raw: settings as nested dictionaries; a `head` that is missing is zero.
    """
    from_zero = [name for name in ("maml", "anil") if value_at(raw, f"{name}.head", "zero") == "zero"]
    ways = {f"{name}.n_way": WAYS_FROM_ZERO for name in from_zero}
    if value_at(raw, "network.name") == "linear":
        ways["protonet.n_way"] = WAYS_OF_INPUTS
    return MOST | ways


def value_at(raw: Any, dotted: str, missing: Any = None) -> Any:
    """The value of a dotted key in nested dictionaries."""
    for key in dotted.split("."):
        if not isinstance(raw, Mapping) or key not in raw:
            return missing
        raw = raw[key]
    return raw


def filled(raw: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with other values at dotted keys; sections that are missing are made."""
    for dotted, value in values.items():
        raw = _filled(raw, dotted.split("."), value)
    return raw


def _filled(node: Any, keys: list[str], value: Any) -> Any:
    key, *rest = keys
    if not isinstance(node, dict):
        return node  # no section at all: the check of the settings says so
    return {**node, key: _filled(node.get(key, {}), rest, value) if rest else value}


def where_plenty(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A value for every key that is `auto`, as if there were data enough; it fits what the user wrote for others."""
    auto, most = auto_keys(raw), most_for(raw)
    values = {key: most[key] for key in auto}

    def written(key: str) -> Any:
        return values.get(key, value_at(raw, key))

    derived: dict[str, Any] = {"prepare.min_examples": AUTO}  # `prepare` fits it, when it knows what is usable
    names, window = written("episodes.settings"), written("bank.window")
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        derived |= {"train.select_on": names[0], "baselines.settings": same_ways(names)}
    if any(written(f"studies.{key}") != MOST[f"studies.{key}"] for key in ("n_way", "labels")):
        derived["studies.uneven"] = []
    if isinstance(window, int):
        derived["bank.stride"] = min(MOST["bank.stride"], window)
    derived |= _episodes_of_slow_learners(written)
    return values | {key: value for key, value in derived.items() if key in auto}


def _episodes_of_slow_learners(written: Callable[[str], Any]) -> dict[str, Any]:
    """As many elsewhere as the user's own number of episodes allows, and as many episodes as elsewhere."""
    values = {}
    for learner in SLOW:
        keys = f"baselines.{learner}.episodes", f"baselines.{learner}.elsewhere"
        episodes, elsewhere = map(written, keys)
        if isinstance(episodes, int) and isinstance(elsewhere, int):
            values |= {keys[0]: max(episodes, elsewhere), keys[1]: min(episodes, elsewhere)}
    return values


def same_ways(names: list[str]) -> list[str]:
    """The few-shot settings that have as many ways as the first."""
    return [name for name in names if name.partition("w")[0] == names[0].partition("w")[0]]


def least_examples(counts: Iterable[int]) -> int:
    """How many usable examples a class needs where `prepare.min_examples` is `auto`: 10, or fewer where more than a
    tenth of the classes would be left out for it.

    Args:
        counts: usable examples of each class.
    """
    sizes = sorted(count for count in counts if count >= FEWEST)
    return max(FEWEST, min(MOST["prepare.min_examples"], sizes[len(sizes) // 10])) if sizes else FEWEST
