"""params.yaml and the overrides of one run, read into `Settings`; what is wrong is said with the legal values."""

from __future__ import annotations

import json
import os
import re
import reprlib
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from metaloom.config.auto import AUTO, MOST, auto_keys, filled, value_at, where_plenty
from metaloom.config.settings import Settings
from metaloom.errors import MetaloomError
from metaloom.system.files import makes, read_json, read_yaml
from metaloom.system.meant import meant

PARAMS = "params.yaml"
MOVED = {  # settings of earlier versions
    "prepare.image_size": "pictures.image_size",
    "prepare.channels": "pictures.channels",
    "prepare.fit": "pictures.fit",
    "train.rotations": "pictures.rotations",
    "train.mirror": "pictures.mirror",
    **{f"{method}.shift": "pictures.test_shift" for method in ("protonet", "ridge", "bank")},
}
ADDED = {  # settings that do not depend on the data, and that files of earlier versions lack
    "engine": AUTO,
    "contenders": [],
    "encoder": {
        "file": None,
        "size": None,
        "layout": None,
        "mean": [0.485, 0.456, 0.406],
        "deviation": [0.229, 0.224, 0.225],
        "output": None,
        "tokenizer": None,
        "tokens": None,
        "pooling": None,
    },
    "judge": {
        "alpha": 0.05,
        "margin": 0.01,
        "max_episodes": 3000,
        "max_minutes": 2,
        "guards": dict.fromkeys(
            ("domains", "worst_domain", "worst_tenth", "forgetting", "calibration", "novelty", "latency", "size"),
            "warn",
        ),
    },
    "limits": {"stage_minutes": 0, "stall_minutes": 30, "remote_seconds": 60},
    "retrain": {
        "name": "retrain",
        "data": "folder",
        "start": None,
        "when": {"examples": 0, "classes": 0, "drift": 0, "drift_days": 7},
        "stage": "prod",
        "approval": False,
        "candidate": "candidate",
        "approval_hours": 0,
        "push": True,
        "skip_ci": False,
        "keep": 2,
        "keep_days": 14,
        "notify": None,
        "quiet_days": 0,
        "energy": None,
        "mlflow": None,
    },
}
OF_TYPES = ("function-", "constrained-", "list[", "literal[")  # how pydantic names parts of a type in a place
SHOWN = 200  # characters of a value in a message
OVERRIDES = "METALOOM_SET"  # JSON of dotted keys and values: how `run --set` reaches stages that DVC starts


def load_settings(
    path: str | Path = PARAMS, overrides: dict[str, Any] | None = None, plan: str | Path | None = None
) -> Settings:
    """Read and check the settings.

    Args:
        path: the YAML file.
        overrides: dotted keys and their values, laid over the file's; None: the environment's.
        plan: JSON file of the stage `plan`, which says what `auto` stands for with these data; None: what it stands
            for where data are plenty.

    Raises:
        MetaloomError: a file is absent or cannot be read, a key is unknown or missing, a value is illegal.
    """
    overrides = environment_overrides() if overrides is None else overrides
    raw = read_params(path, overrides)
    values = where_plenty(raw) if plan is None else _planned(raw, plan)
    return check_settings(filled(raw, values), str(path), overrides)


def _planned(raw: dict[str, Any], plan: str | Path) -> dict[str, Any]:
    auto = auto_keys(raw)
    found = read_json(plan, made_by="plan") if auto else {}
    values = {key: value_at(found, key) for key in auto}
    if lacking := sorted(key for key, value in values.items() if value is None):
        raise MetaloomError(f"{plan} lacks {', '.join(lacking)}: {makes('plan')}")
    return values


def read_params(path: str | Path = PARAMS, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
    """The values as they are written, `auto` included, under the overrides; arguments and errors of `load_settings`."""
    raw = read_yaml(path)
    overrides = environment_overrides() if overrides is None else overrides
    return apply_overrides(_with_added(raw) if isinstance(raw, dict) else raw or ADDED, overrides)


def _with_added(raw: dict[str, Any]) -> dict[str, Any]:
    """With the settings of `ADDED` that a file lacks; of some sections one by one, as they have newer ones."""
    newer = {name: _laid_over(ADDED[name], raw[name]) for name in ("encoder", "judge", "retrain") if name in raw}
    return ADDED | raw | newer


def _laid_over(known: Any, own: Any) -> Any:
    """The known values under the own ones, however deep these are nested."""
    if not (isinstance(known, dict) and isinstance(own, dict)):
        return own
    return known | {name: _laid_over(known.get(name), value) for name, value in own.items()}


def environment_overrides() -> dict[str, Any]:
    """The overrides of `metaloom run --set`, as the stages that it starts see them.

    Raises:
        MetaloomError: the environment's variable holds something else.
    """
    text = os.environ.get(OVERRIDES, "")
    try:
        overrides = json.loads(text) if text else {}
    except json.JSONDecodeError:
        overrides = None
    if not isinstance(overrides, dict):
        raise MetaloomError(f'{OVERRIDES} is {text!r}: write JSON like {{"train.n_shot": 5}}, or unset it')
    return overrides


def check_settings(raw: Any, where: str = PARAMS, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Turn plain values into settings.

    Args:
        raw: as params.yaml has them.
        where: they stand, for the message.
        overrides: those of them that `--set` has given, by dotted keys.

    Raises:
        MetaloomError: with all that is wrong with them.
    """
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        problems = [_describe(each) for each in error.errors()]
        lacking = any(each["type"] == "missing" for each in error.errors())
    remedy = "; take what is missing from the params.yaml that came with this version" if lacking else ""
    raise MetaloomError(in_place(problems, where, overrides or {}) + remedy)


def in_place(problems: Iterable[str], where: str, overrides: Mapping[str, Any]) -> str:
    """What is wrong, in one line, with the file or the `--set` that it is to be put right in.

    Args:
        problems: each names its setting.
        where: the file.
        overrides: by dotted keys.
    """
    own: dict[str, list[str]] = {}
    for each in problems:
        given = next((key for key in overrides if re.search(rf"\b{re.escape(key)}\b", each)), None)
        place = where if given is None else f"--set {assigned(given, overrides[given])}"
        own.setdefault(place, []).append(each)
    return "; ".join(f"{place}: {'; '.join(found)}" for place, found in own.items())


def assigned(key: str, value: Any) -> str:
    """A setting as `--set` takes it."""
    if isinstance(value, list) and all(isinstance(each, int | str) for each in value):
        return f"{key}=[{','.join(map(str, value))}]"
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"


def run_command(values: Mapping[str, Any]) -> str:
    """`metaloom run` with these settings, by dotted keys, as it can be pasted."""
    return shlex.join(["metaloom", "run", *(word for pair in values.items() for word in ("--set", assigned(*pair)))])


def parse_override(text: str) -> tuple[str, Any]:
    """`train.n_shot=5` → ("train.n_shot", 5); the value is read as YAML.

    Raises:
        MetaloomError: there is no key or no `=`, or the value is no YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise MetaloomError(f"--set {text}: write KEY=VALUE, for example --set train.n_shot=5")
    try:
        return key, yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError):  # a date that is none, lists nested too deeply
        raise MetaloomError(f"--set {text[:SHOWN]}: the value {value[:SHOWN]!r} is no valid YAML") from None


def apply_overrides(raw: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """A copy of `raw` with dotted keys replaced; a key that is no setting is refused with its siblings."""
    for dotted, value in overrides.items():
        raw = _replaced(raw, dotted.split("."), value, dotted)
    return raw


def _replaced(node: Any, keys: list[str], value: Any, dotted: str) -> dict[str, Any]:
    key, *rest = keys
    if not isinstance(node, dict) or (key not in node and dotted not in MOST):
        known = list(node) if isinstance(node, dict) else []
        raise MetaloomError(f"--set {dotted}: {_unknown(key, known, dotted)}")
    return {**node, key: _replaced(node.get(key, {}), rest, value, dotted) if rest else value}


def _unknown(key: str, known: list[str], dotted: str) -> str:
    if dotted in MOVED:
        return f"this setting is called {MOVED[dotted]} now"
    return f"there is no setting {key!r}{meant(key, known) or '.'} Known here: {', '.join(known) or 'none'}"


_SHORT = reprlib.Repr()  # aliases of YAML make a value of a few bytes endless
_SHORT.maxstring = _SHORT.maxother = 200


def _describe(error: Any) -> str:
    location = [str(part) for part in error["loc"]]
    dotted = ".".join(part for part in location if not part.startswith(OF_TYPES))
    if error["type"] == "extra_forbidden":
        return f"{'.'.join(location)}: {_unknown(location[-1], _fields_at(location[:-1]), '.'.join(location))}"
    if error["type"] == "missing":
        return f"{dotted} is missing"
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    given = "" if error["type"] == "value_error" else f" (it is {_SHORT.repr(error['input'])}{_meant(error, dotted)})"
    return f"{dotted}: {message}{given}" if dotted else f"{message}{given}"


def _meant(error: Any, dotted: str) -> str:
    """The legal value that looks like the one that was given, in words; "" where none does."""
    given, kind = error["input"], error["type"]
    if not isinstance(given, str):
        return ""
    if kind == "list_type":
        return f"; did you mean [{given}]?"
    legal = re.findall("'([^']*)'", error["ctx"]["expected"]) if kind == "literal_error" else []
    return meant(given, [*legal, *([AUTO] if dotted in MOST else [])])


def _fields_at(location: list[str]) -> list[str]:
    model: Any = Settings
    for name in location:
        model = model.model_fields[name].annotation
    return list(model.model_fields)
