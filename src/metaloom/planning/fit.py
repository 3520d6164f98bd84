"""What each setting that is `auto` becomes with these data: the value for plenty of data, or the largest that fits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from metaloom.config import METHOD_SETTINGS, MOST, Setting, Settings, filled, most_for, same_ways
from metaloom.config.auto import AUTO, SLOW
from metaloom.planning import work
from metaloom.planning.deployment import of_domain
from metaloom.planning.pools import Data
from metaloom.system.certainty import FEWEST_EPISODES

SHARE = 0.4  # of a class's examples that are asked about; the others are there to learn from
FEW = 3  # classes of a domain from which on it pays to ask within domains


@dataclass(frozen=True)
class Case:
    """What a rule looks at.

    Args:
        settings: in which the rules before it have given their values already.
        auto: dotted keys.
        data: what there is.
    """

    settings: Settings
    auto: frozenset[str]
    data: Data


Rule = Callable[[Case], Any]


def fit(settings: Settings, auto: Iterable[str], data: Data) -> Settings:
    """The settings with a value for each that is `auto`.

    Args:
        settings: as for plenty of data.
        auto: dotted keys.
        data: what there is.
    """
    auto = frozenset(auto)
    for key, rule in RULES.items():
        if key in auto:
            settings = changed(settings, {key: rule(Case(settings, auto, data))})
    return settings


def changed(settings: Settings, values: dict[str, Any]) -> Settings:
    """The settings with other values at dotted keys; nothing is checked."""
    for dotted, value in values.items():
        *sections, last = dotted.split(".")
        nodes: list[Any] = [settings]
        for section in sections:
            nodes.append(getattr(nodes[-1], section))
        for name, node in zip([last, *reversed(sections)], reversed(nodes), strict=True):
            value = node.model_copy(update={name: value})
        settings = value
    return settings


def plain(settings: Settings) -> dict[str, Any]:
    """The values of all settings that may be `auto`, in nested dictionaries."""
    values = {}
    for key in MOST:
        value: Any = settings
        for name in key.split("."):
            value = getattr(value, name)
        values[key] = value
    return filled({}, values)


def _n_query(case: Case) -> int:
    wanted = max(1, min(MOST["episodes.n_query"], int(SHARE * _typical(case))))
    if "episodes.settings" in case.auto:
        return wanted
    return next((n for n in range(wanted, 1, -1) if _all_fit(case, n, (False,))), 1)


def _within_domain(case: Case) -> bool:
    n_query = case.settings.episodes.n_query
    if case.data.pool("test").of_one_domain(1 + n_query):
        return False
    if "episodes.settings" not in case.auto:
        return _all_fit(case, n_query, (True,))
    return case.data.ways(1 + n_query, (True,)) >= min(FEW, case.data.ways(1 + n_query, (False,)))


def _all_fit(case: Case, n_query: int, of: Iterable[bool]) -> bool:
    parsed = [Setting.parse(name) for name in case.settings.episodes.settings]
    return all(case.data.ways(each.n_shot + n_query, of) >= each.n_way for each in parsed)


def _episodes(case: Case) -> list[str]:
    n_query = case.settings.episodes.n_query
    many = min(5, _typical(case) - n_query)
    shots = [1, many] if many > 1 else [1]
    scopes = (False, True) if case.settings.episodes.within_domain else (False,)
    most = case.data.ways(max(shots) + n_query, scopes)
    few, lots = max(2, min(5, most)), min(20, most)
    ways = [few, lots] if lots >= 2 * few else [few]
    return [f"{n_way}w{n_shot}s" for n_way in ways for n_shot in shots]


def _typical(case: Case) -> int:
    return min(pool.typical for pool in case.data.asked)


def _study_scopes(case: Case) -> list[str]:
    test, examples = case.data.pool("test"), 1 + case.settings.episodes.n_query
    many = test.ways(examples, within=True) >= min(FEW, test.ways(examples))
    return ["any", "domain"] if many and not test.of_one_domain(examples) else ["any"]


def _study_ways(case: Case, examples: int) -> int:
    test = case.data.pool("test")
    return min(
        test.ways(examples + case.settings.episodes.n_query, scope == "domain") for scope in case.settings.studies.kinds
    )


def _study_n_way(case: Case) -> int:
    shots = 1 if "studies.labels" in case.auto else max(case.settings.studies.labels)
    return max(2, min(MOST["studies.n_way"], _study_ways(case, shots)))


def _study_labels(case: Case) -> list[int]:
    n_way = case.settings.studies.n_way
    return [n for n in MOST["studies.labels"] if _study_ways(case, n) >= n_way] or [1]


def _uneven(case: Case) -> list[int]:
    """As many examples as with the same number for each class: half of the classes have one, half have more."""
    n_way, labels = case.settings.studies.n_way, case.settings.studies.labels
    usual = MOST["studies.uneven"]
    if n_way == len(usual) and max(labels) >= max(usual) and sum(usual) // n_way in labels:
        return usual
    means = [mean for mean in labels if mean > 1 and 2 * mean - 1 <= max(labels)]
    half, odd = divmod(n_way, 2)
    mean = max(means, default=0)
    return [1] * half + [mean] * odd + [2 * mean - 1] * half if means else []


def _ways(case: Case) -> list[int]:
    most = case.data.pool("test").ways(1 + case.settings.episodes.n_query, within=True)
    return [n for n in MOST["studies.ways"] if n <= most] or ([most] if most > 1 else [])


def _estimate_shots(case: Case) -> int:
    return max(2, min(MOST["studies.estimates.n_shot"], max(case.settings.studies.labels)))


def _training_queries(case: Case) -> int:
    return max(1, min(MOST["train.n_query"], case.data.pool("train").typical - case.settings.train.n_shot))


def _training_ways(method: str) -> Rule:
    return lambda case: max(
        2, min(_usual_ways(case.settings, method), case.data.training(case.settings.train.examples))
    )


def _usual_ways(settings: Settings, method: str) -> int:
    return most_for(settings.model_dump())[f"{method}.n_way"]


def _bank_window(case: Case) -> int:
    return min(MOST["bank.window"], len(case.data.pool("train").domains))


def _bank_stride(case: Case) -> int:
    return min(MOST["bank.stride"], case.settings.bank.window)


def _bank_n_way(case: Case) -> int:
    """What the window of the smallest domains has."""
    train = case.data.pool("train")
    usable = sorted(
        int((train.of_domain(each)["count"] >= case.settings.train.examples).sum()) for each in train.domains
    )
    return max(2, min(MOST["bank.n_way"], sum(usable[: case.settings.bank.window]) * case.data.views))


def _export_shots(case: Case) -> int:
    """One example of each class at least stays to measure the model on."""
    counts = of_domain(case.data.classes, case.settings.export.domain)["count"]
    return max(1, min(MOST["export.n_shot"], int(counts.min()) - 1)) if len(counts) else 1


def _width(case: Case) -> int:
    return work.width(case.settings.network, case.data.shape, case.data.budget.effort)


def step_work(settings: Settings, auto: frozenset[str], data: Data, method: str) -> float:
    """How much work a training step is; 1 where data are plenty and examples as large as the embedded ones.

    A network that is wider than usual, by the user or by a time budget, is not meant to learn for fewer steps.
    """
    network, own, train = settings.network, settings.method(method), settings.train
    own_width = min(network.width, MOST["network.width"])
    width = work.width(network, data.shape, effort=1) if "network.width" in auto else own_width
    usual = _usual_ways(settings, method) * (MOST["train.n_shot"] + MOST["train.n_query"])
    return work.times(network, width, data.shape) * own.n_way * train.examples / usual


def _steps(method: str) -> Rule:
    key = f"{method}.steps"

    def steps(case: Case) -> int:
        out = case.data.budget.left_out
        if method in out and set(case.settings.methods).difference(out):  # they may have changed since it was chosen
            return 0
        cost = step_work(case.settings, case.auto, case.data, method)
        return work.steps(MOST[key], cost, case.data.budget.effort)

    return steps


def _slow_learner(learner: str) -> dict[str, Rule]:
    section = f"baselines.{learner}"

    def elsewhere(case: Case) -> int:
        wanted = work.episodes(MOST[f"{section}.elsewhere"], work.FEWEST_ELSEWHERE, case.data.budget.effort)
        return min(wanted, getattr(case.settings.baselines, learner).episodes)

    def episodes(case: Case) -> int:
        wanted = work.episodes(MOST[f"{section}.episodes"], FEWEST_EPISODES, case.data.budget.effort)
        most = max(MOST[f"{section}.episodes"], case.settings.episodes.test)
        written = f"{section}.elsewhere" not in case.auto
        least = getattr(case.settings.baselines, learner).elsewhere if written else 0
        return max(least, min(most, wanted))

    return {f"{section}.episodes": episodes, f"{section}.elsewhere": elsewhere}


# In an order in which each may read those before it.
RULES: dict[str, Rule] = {
    "episodes.n_query": _n_query,
    "episodes.within_domain": _within_domain,
    "episodes.settings": _episodes,
    "studies.kinds": _study_scopes,
    "studies.n_way": _study_n_way,
    "studies.labels": _study_labels,
    "studies.uneven": _uneven,
    "studies.ways": _ways,
    "studies.estimates.n_shot": _estimate_shots,
    "train.n_shot": lambda case: MOST["train.n_shot"],
    "train.n_query": _training_queries,
    "train.select_on": lambda case: case.settings.episodes.names[0],
    **{
        f"{method}.n_way": _training_ways(method)
        for method in ("protonet", "ridge", "maml", "anil", "reptile", "shared", "pretrain")
    },
    "bank.window": _bank_window,
    "bank.stride": _bank_stride,
    "bank.n_way": _bank_n_way,
    "train.patience": lambda case: math.ceil(MOST["train.patience"] * max(1.0, case.data.budget.effort)),
    "network.width": _width,
    **{f"{method}.steps": _steps(method) for method in METHOD_SETTINGS},
    "baselines.settings": lambda case: same_ways(case.settings.episodes.settings),
    **{key: rule for learner in SLOW for key, rule in _slow_learner(learner).items()},
    "export.domain": lambda _: AUTO,
    "export.n_shot": _export_shots,
}
