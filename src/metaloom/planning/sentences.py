"""What was fitted to the data, in a sentence for each group of settings."""

from __future__ import annotations

from collections.abc import Iterator

from metaloom.config import MOST, PRETRAIN, Setting, Settings, most_for, value_at
from metaloom.planning.deployment import of_domain
from metaloom.planning.fit import plain
from metaloom.planning.pools import Data
from metaloom.planning.work import times
from metaloom.system.plural import several

WITHIN = "episodes.within_domain"


def sentences(settings: Settings, auto: frozenset[str], data: Data) -> Iterator[str]:
    """What to tell a user about each `auto` setting whose value is not the one for plenty of data."""
    values, most = plain(settings), most_for(settings.model_dump())
    less = {key for key in auto if value_at(values, key) != most[key]}
    trained = [name for name in (*settings.trained, PRETRAIN) if f"{name}.n_way" in less]
    cheaper = any(key == "network.width" or key.endswith(".steps") for key in less)
    if "prepare.min_examples" in less:
        least = settings.prepare.min_examples
        yield f"prepare: classes from {least} {data.many} upward are used, as many of yours have no more"
    if any(key.startswith("episodes.") for key in less - {WITHIN}):
        yield _episodes(settings, data)
    if WITHIN in less:
        yield _not_within_domain(settings, data)
    if less & {"studies.labels", "studies.n_way", "studies.ways"}:
        ways = f" and {max(settings.studies.ways)} ways" if settings.studies.ways else ""
        yield f"studies: up to {several(max(settings.studies.labels), 'shot')}{ways}"
    if trained or "train.n_query" in less:
        yield _training(settings, trained, data)
    if cheaper:
        yield _work(settings, data)
    chosen = of_domain(data.classes, settings.export.domain)
    if "export.n_shot" in less and len(chosen):
        shots = several(settings.export.n_shot, "shot", "shots")
        yield f"export: {shots} of {int(chosen['count'].min())} {data.many} per class of {chosen['domain'].iloc[0]}"


def _episodes(settings: Settings, data: Data) -> str:
    n_query, parsed = settings.episodes.n_query, [Setting.parse(name) for name in settings.episodes.settings]
    ways, shots = {each.n_way for each in parsed}, {each.n_shot for each in parsed}
    classes = min(pool.ways(1 + n_query) for pool in data.asked)
    typical = min(pool.typical for pool in data.asked)
    learned = f"{_either(shots)} {'shot' if shots == {1} else 'shots'}"
    asked = f"{several(n_query, 'query', 'queries')} of {typical} {data.many}"
    return f"episodes: {_either(ways)} ways of your {classes} classes, {learned} and {asked}"


def _not_within_domain(settings: Settings, data: Data) -> str:
    test = data.pool("test")
    if test.of_one_domain(1 + settings.episodes.n_query):
        return f"episodes: no separate ones within one domain, as all test classes are of {test.domains[0]}"
    return "episodes: none within one domain, as no domain has enough classes"


def _training(settings: Settings, trained: list[str], data: Data) -> str:
    each = ", ".join(f"{name} {settings.method(name).n_way}" for name in trained)
    ways = f"{each} ways of {data.training(settings.train.examples)} classes, " if each else ""
    queries = several(settings.train.n_query, "query", "queries")
    return f"training: {ways}{queries} of {data.pool('train').typical} {data.many}"


def _work(settings: Settings, data: Data) -> str:
    steps = ", ".join(f"{name} {settings.method(name).steps}" for name in (*settings.trained, PRETRAIN))
    chosen = f"network {settings.network.width} wide, steps of {steps}"
    if data.budget.minutes is not None:
        out = [name for name in settings.methods if name not in settings.trained]
        lacking = f"; too little time for {', '.join(out)}" if out else ""
        episodes = f"{settings.baselines.scratch.episodes} episodes from scratch"
        return f"{data.budget.minutes:g} minutes: {chosen}, {episodes}{lacking}"
    costly = times(settings.network, MOST["network.width"], data.shape)
    return f"work: {data.many} {costly:.1f} times as costly as embedded ones: {chosen}"


def _either(numbers: set[int]) -> str:
    return " or ".join(map(str, sorted(numbers)))
