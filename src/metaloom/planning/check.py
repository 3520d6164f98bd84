"""All numbers that do not fit the data at once, and the values that do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import ValidationError

from metaloom.config import (
    DOMAIN_SUFFIX,
    MOST,
    NO_ENCODER,
    PARAMS,
    PRETRAIN,
    Setting,
    Settings,
    StudySettings,
    run_command,
    value_at,
)
from metaloom.config.auto import AUTO
from metaloom.config.settings import not_drawn
from metaloom.errors import MetaloomError
from metaloom.networks import NETWORKS, build_network
from metaloom.planning.deployment import check_key, check_start, check_versions, deployed
from metaloom.planning.fit import changed, fit, plain
from metaloom.planning.pools import Data
from metaloom.system.device import check_compiler, choose_device
from metaloom.tasks.episodes import eligible_groups
from metaloom.tasks.limits import check_shares, check_stride, check_ways, check_window, nearest_share
from metaloom.tasks.studies import check_labels, way_domains

FITS = "This fits: "
ROUNDS = 50  # of repairs, far more than there are settings to repair
EPISODES = ("episodes.settings", "episodes.n_query", "episodes.within_domain")


@dataclass(frozen=True)
class Finding:
    """Something in params.yaml that does not fit.

    Args:
        keys: of the settings that it takes to say so; another value for one of them, or for all, fits.
        message: what is wrong, and what to do.
        remedy: values that fit, where `auto` is none for these keys.
    """

    keys: tuple[str, ...]
    message: str
    remedy: dict[str, Any] | None = None


def check(settings: Settings, data: Data) -> list[Finding]:
    """What does not fit the data, as far as settings and data alone tell."""
    return [finding for part in CHECKS for finding in part(settings, data)]


def _refused(keys: tuple[str, ...], ask: Callable[[], Any], remedy: dict[str, Any] | None = None) -> Iterator[Finding]:
    try:
        ask()
    except MetaloomError as error:
        yield Finding(keys, str(error).removeprefix(f"{PARAMS}: "), remedy)


def _machine(settings: Settings, data: Data) -> Iterator[Finding]:
    """What the kind of examples, or the machine, does not allow."""
    name, axes = settings.network.name, len(data.shape)
    if axes not in NETWORKS[name].axes:
        fitting = next(each for each, network in NETWORKS.items() if axes in network.axes)
        yield from _refused(
            ("network.name",), lambda: build_network(settings.network, "none", data.shape), {"network.name": fitting}
        )
    if NO_ENCODER in settings.contenders and not data.without_encoder:
        message = f"contenders has {NO_ENCODER}, which does without the encoder that sees {data.many}, and none does: "
        others = [each for each in settings.contenders if each != NO_ENCODER]
        yield Finding(("contenders",), f"{message}leave it out", {"contenders": others})
    networks = [each for each in settings.contenders if each != NO_ENCODER]
    if misfits := [each for each in networks if axes not in NETWORKS[each].axes]:
        message = f"contenders has {', '.join(misfits)}, made for other examples than {data.many} of shape {data.shape}"
        yield Finding(
            ("contenders",),
            f"{message}: leave it out",
            {"contenders": [x for x in settings.contenders if x not in misfits]},
        )
    if "bank" in settings.methods and not data.rescaled:
        others = [name for name in settings.methods if name != "bank"] or ["protonet"]
        message = f"methods has bank, whose networks cannot take {data.many} as each is used to them: leave it out"
        yield Finding(("methods",), message, {"methods": others})
    refused = list(_refused(("device",), lambda: choose_device(settings.device), {"device": AUTO}))
    yield from refused
    if settings.train.compile is True and not refused:
        device = choose_device(settings.device)
        yield from _refused(("train.compile",), lambda: check_compiler(device), {"train.compile": AUTO})


def _episodes(settings: Settings, data: Data) -> Iterator[Finding]:
    """One finding for each few-shot setting at most: more say the same."""
    for base in dict.fromkeys(settings.episodes.settings):
        names = [name for name in settings.episodes.names if name.removesuffix(DOMAIN_SUFFIX) == base]
        pools = [pool.classes for pool in data.asked]
        asked = [(pool, name) for pool in pools for name in names]
        found = (_refused(EPISODES, lambda pool=pool, name=name: _groups(settings, pool, name)) for pool, name in asked)
        yield from [finding for each in found for finding in each][:1]


def _groups(settings: Settings, pool: Any, name: str) -> None:
    setting, within = Setting.parse(name.removesuffix(DOMAIN_SUFFIX)), name.endswith(DOMAIN_SUFFIX)
    eligible_groups(pool, name, setting, settings.episodes.n_query, within, "episodes")


def _choices(settings: Settings, _: Data) -> Iterator[Finding]:
    for key, message in not_drawn(settings):
        yield Finding((key,), message)


def _studies(settings: Settings, data: Data) -> Iterator[Finding]:
    studies, n_query, pool = settings.studies, settings.episodes.n_query, data.pool("test").classes
    keys = ("studies.labels", "studies.n_way", "studies.kinds", "episodes.n_query")
    found = [_refused(keys, lambda scope=scope: check_labels(pool, studies, scope, n_query)) for scope in studies.kinds]
    yield from [finding for each in found for finding in each][:1]
    if studies.ways:
        yield from _refused(("studies.ways", "episodes.n_query"), lambda: way_domains(pool, studies, n_query))
    try:
        StudySettings.model_validate(studies.model_dump())
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        yield Finding(("studies.uneven", "studies.labels", "studies.n_way"), f"studies: {message}")


def _training(settings: Settings, data: Data) -> Iterator[Finding]:
    examples, processes = settings.train.examples, settings.train.processes
    classes = data.training(examples)
    for name in (*settings.methods, PRETRAIN):
        own = settings.method(name)
        yield from _refused(
            (f"{name}.n_way", "train.n_query", "train.n_shot"), partial(check_ways, name, own.n_way, classes, examples)
        )
        key, tasks = f"{name}.tasks_per_step", own.tasks_per_step
        remedy = {key: nearest_share(processes, tasks)}
        yield from _refused((key,), partial(check_shares, processes, name, tasks), remedy)
    yield from _refused(
        ("train.start",), lambda: check_start(settings.train.start, settings.methods), {"train.start": None}
    )
    if "bank" in settings.methods:
        window, stride, domains = settings.bank.window, settings.bank.stride, len(data.pool("train").domains)
        too_large = [*_refused(("bank.window", "bank.stride"), lambda: check_window(window, domains))]
        yield from too_large or _refused(("bank.stride", "bank.window"), lambda: check_stride(stride, window))


def _export(settings: Settings, data: Data) -> Iterator[Finding]:
    export = settings.export
    yield from _refused(("export.domain", "export.n_shot"), lambda: deployed(data.classes, export))
    if export.variants and not data.variants:
        message = f"export.variants: there are none for {data.many}"
        yield Finding(("export.variants",), message, {"export.variants": []})
    if export.measured and min(Setting.parse(name).n_way for name in settings.episodes.settings) > export.max_ways:
        message = f"export.variants: no setting of episodes has at most export.max_ways ({export.max_ways}) ways"
        yield Finding(("episodes.settings",), f"{message} to measure them on", {"export.variants": []})
    yield from _refused(("export.key",), lambda: check_key(export), {"export.key": None})
    newest = {"export.opset": 18, "export.ir_version": max(9, export.ir_version)}
    yield from _refused(("export.ir_version",), lambda: check_versions(export), newest)


def repaired(settings: Settings, auto: frozenset[str], data: Data) -> dict[str, Any]:
    """Other values for settings that the user wrote, with which nothing is found; as few of them as that takes.

    Args:
        settings: as for plenty of data.
        auto: dotted keys that are `auto` already.
        data: what there is.

    Raises:
        MetaloomError: no value fits, as the data are too few.
    """
    values: dict[str, Any] = {}
    relaxed = auto
    for _ in range(ROUNDS):
        fitted = fit(changed(settings, values), relaxed, data)
        found = check(fitted, data)
        if not found:
            resolved = plain(fitted)
            return values | {key: value_at(resolved, key) for key in MOST if key in relaxed - auto}
        if found[0].remedy is not None:
            values |= found[0].remedy
            continue
        written = [key for key in found[0].keys if key in MOST and key not in relaxed]
        if not written:
            break
        relaxed |= _enough(found[0], written, relaxed, changed(settings, values), data)
    if data.classes.groupby("domain").size().max() == 1:
        together = "put classes that belong together into one folder, which is their domain"
        raise MetaloomError(f"No number makes up for it: each domain has one class, and a task needs two; {together}")
    raise MetaloomError("No number makes up for it: add classes, examples or domains, or change `split`")


def _enough(
    finding: Finding, written: list[str], relaxed: frozenset[str], settings: Settings, data: Data
) -> frozenset[str]:
    """The one key without which the finding is gone, or all of them."""
    for key in written:
        left = check(fit(settings, relaxed | {key}, data), data)
        if all(each.keys != finding.keys for each in left):
            return frozenset({key})
    return frozenset(written)


CHECKS = (_machine, _episodes, _choices, _studies, _training, _export)


def way_out(settings: Settings, auto: frozenset[str], data: Data, overrides: Mapping[str, Any]) -> str:
    """The command with which everything fits, where there is one.

    Args:
        overrides: that the user has given beside params.yaml.
    """
    try:
        return f"{FITS}{run_command({**overrides, **repaired(settings, auto, data)})}"
    except MetaloomError as error:
        return str(error)
