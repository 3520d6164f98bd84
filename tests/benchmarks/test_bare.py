"""The path of a benchmark on a machine where hardly anything is installed."""

from __future__ import annotations

import importlib
import subprocess
import sys
import zipfile

import pytest

A_PROGRAM = """
import sys
import bare
import jaxtyping, ours, pydantic
from rich.console import Console
from scipy.special import log_softmax

print(ours.NUMBER, Console(stderr=True) and jaxtyping.Float[int, "a b"] and log_softmax is not None, sys.argv[1:])
"""


@pytest.fixture
def bare(repo, monkeypatch):
    monkeypatch.syspath_prepend(str(repo / "benchmarks"))
    monkeypatch.delenv("METALOOM_BARE", raising=False)
    return importlib.import_module("bare")


@pytest.fixture
def wheels(tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "all-1.0-py3-none-any.whl", "w") as wheel:
        for name in ("pydantic", "safetensors", "yaml"):
            wheel.writestr(f"{name}/__init__.py", "")
        wheel.writestr("ours.py", "NUMBER = 7")
    return folder


def run(program, *arguments: str) -> subprocess.CompletedProcess[str]:
    """By a Python that sees no installed package."""
    return subprocess.run([sys.executable, "-S", str(program), *arguments], capture_output=True, text=True)


def test_a_program_starts_again_with_wheels_and_stubs(repo, wheels, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(f"import sys\nsys.path.insert(0, {str(repo / 'benchmarks')!r})\n{A_PROGRAM}")
    done = run(program, "--wheels", str(wheels), "--only", "parity")
    assert done.stdout == f"7 True ['--wheels', '{wheels}', '--only', 'parity']\n", done.stderr
    done = run(program)
    assert done.returncode and not done.stdout
    assert done.stderr.startswith("not here: pydantic, safetensors, pyyaml. Where there is a network: pip download ")


def test_what_is_installed_or_in_a_wheel_has_no_stub(bare, wheels, tmp_path, monkeypatch):
    monkeypatch.setattr(bare, "find_spec", lambda name: name == "scipy")
    folder = tmp_path / "path"
    folder.mkdir()
    source, unpacked, stubs = bare.laid(folder, wheels)
    assert (folder / "wheels/ours.py").is_file() and unpacked == str(folder / "wheels")
    assert {each.name for each in (folder / "stubs").iterdir()} == {"jaxtyping", "PIL", "rich", "threadpoolctl"}


@pytest.mark.parametrize(
    ("arguments", "folder"), [([], None), (["--wheels", "a"], "a"), (["--out", "b", "--wheels=c d"], "c d")]
)
def test_the_folder_is_read_before_anything_can_be_imported(bare, arguments, folder):
    found = bare.given(arguments)
    assert (found and str(found)) == folder
