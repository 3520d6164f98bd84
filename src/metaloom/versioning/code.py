"""code.yaml: which code of metaloom a project's stages run, in a project that does not carry that code itself.

In the place of source files, dvc.yaml of such a project depends on an entry of this file for each stage. The file is
committed, so that DVC knows on every machine what was made by which code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from metaloom import __version__
from metaloom.errors import MetaloomError
from metaloom.system.files import read_yaml, write_text

CODE = "code.yaml"
VERSION = "metaloom"  # the key of the tool's version; all others are stages
REMEDY = "`metaloom run` writes it again"
ABOUT = """\
# The code of metaloom that made what is here: its version, and a hash for each stage of dvc.yaml. `metaloom run` writes
# it anew when another version of metaloom is installed, and runs the stages again whose code is another.
"""


def read_code(root: str | Path) -> dict[str, str] | None:
    """What code.yaml says; None where there is none: the project carries the tool's own code.

    Raises:
        MetaloomError: it is not what `write_code` writes.
    """
    path = Path(root, CODE)
    if not path.is_file():
        return None
    found: Any = read_yaml(path, REMEDY)
    if not isinstance(found, dict) or VERSION not in found or not all(isinstance(each, str) for each in found.values()):
        raise MetaloomError(f"{path} does not give the version of metaloom and a hash for each stage: {REMEDY}")
    return found


def write_code(root: str | Path, stages: dict[str, str]) -> None:
    """Write the file as a whole.

    Args:
        root: the project's.
        stages: of each stage of dvc.yaml the hash of its code.
    """
    write_text(Path(root, CODE), ABOUT + yaml.safe_dump({VERSION: __version__, **stages}, sort_keys=False))


def check_version(root: str | Path = ".") -> None:
    """Refuse to run a stage that plain `dvc repro` has started with another version of metaloom than code.yaml's.

    Raises:
        MetaloomError: code.yaml names another version of metaloom than the one that would run.
    """
    found = read_code(root)
    if found is not None and found[VERSION] != __version__:
        raise MetaloomError(
            f"{CODE} is of metaloom {found[VERSION]}, and {__version__} is installed: `metaloom run` writes it again"
        )
