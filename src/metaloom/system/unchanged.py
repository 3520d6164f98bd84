"""data/ read as one version: nothing of it may change between the first look at it and the last."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metaloom.errors import MetaloomError
from metaloom.system.files import stamps
from metaloom.system.plural import several

FOLDER = "METALOOM_DATA"  # an environment variable: the folder that holds the version to read, where data/ has moved on


@contextmanager
def unchanged(data: str) -> Iterator[Path]:
    """The folder to read.

    Raises:
        MetaloomError: it is another one when the block has ended without an error.
    """
    folder = Path(os.environ.get(FOLDER, data))
    before = stamps(folder)
    yield folder
    after = stamps(folder)
    if differ := {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}:
        raise MetaloomError(
            f"{data} changed while it was read ({several(len(differ), 'file')}): `metaloom run` reads the version that "
            "data.dvc names, whatever comes in between; or run this again when nothing is being copied"
        )
