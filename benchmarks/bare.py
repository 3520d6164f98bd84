"""The path of a benchmark on a bare machine: our source, wheels from a folder, stubs for what is not needed.

A program imports this first. Where `--wheels FOLDER` is given, or something is missing, it starts itself again with
that path in its environment, so that every process that it starts has it too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"
READY = "METALOOM_BARE"  # an environment variable: the path is made
NEEDED = {"pydantic": "pydantic", "safetensors": "safetensors", "yaml": "pyyaml"}  # by module, what to download
STUBS = {  # modules that are imported on the way to a training step, and what of them
    "jaxtyping": ("",),
    "PIL": ("",),
    "rich": ("", "console", "progress"),
    "scipy": ("", "optimize", "special"),
    "threadpoolctl": ("",),
}
STUB = '''"""Stands in for a module that is not here: whatever is taken from it does nothing."""


class _Nothing(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing

    def __getitem__(cls, key):
        return cls


class Nothing(metaclass=_Nothing):
    def __init__(self, *given, **named):
        pass


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return Nothing
'''


def laid(folder: Path, wheels: Path | None) -> list[str]:
    """The path: our source, the wheels' content and the stubs, these in `folder`.

    Raises:
        SystemExit: a module that is needed is neither here nor in a wheel.
    """
    unpacked, stubs = folder / "wheels", folder / "stubs"
    unpacked.mkdir()
    for wheel in sorted(wheels.glob("*.whl")) if wheels else ():
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked)
    here = {name for name in (*NEEDED, *STUBS) if find_spec(name) or any(unpacked.glob(f"{name}*"))}
    if missing := [download for name, download in NEEDED.items() if name not in here]:
        raise SystemExit(
            f"not here: {', '.join(missing)}. Where there is a network: pip download {' '.join(missing)} --dest FOLDER "
            "with this version of Python; then give --wheels FOLDER"
        )
    for name in STUBS.keys() - here:
        (stubs / name).mkdir(parents=True)
        for part in STUBS[name]:
            (stubs / name / f"{part or '__init__'}.py").write_text(STUB, encoding="utf-8")
    return [str(each) for each in (SOURCE, unpacked, stubs)]


def started_again(wheels: Path | None) -> int:
    """The exit code of this very command with the path."""
    with tempfile.TemporaryDirectory(prefix="metaloom-") as folder:
        path = os.pathsep.join([*laid(Path(folder), wheels), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"PYTHONPATH": path, READY: "1"}
        return subprocess.run([sys.executable, *sys.orig_argv[1:]], env=environment, check=False).returncode


def given(arguments: list[str]) -> Path | None:
    """What `--wheels` names; nothing else can be read before it is done."""
    for at, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == "--wheels":
            return Path(value or (arguments[at + 1 : at + 2] or ["."])[0])
    return None


_wheels = given(sys.argv[1:])
if READY not in os.environ and (_wheels or not all(map(find_spec, ("metaloom", *NEEDED, *STUBS)))):
    raise SystemExit(started_again(_wheels))
