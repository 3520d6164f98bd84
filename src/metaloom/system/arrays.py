"""Arrays on disk."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from metaloom.errors import MetaloomError
from metaloom.system.files import is_full


def reserved(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.memmap:
    """A new memory-mapped .npy file that has all of its room on the disk: a full one would end the process (SIGBUS).

    Raises:
        MetaloomError: there is not enough room.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if not is_full(error):  # a file system that cannot reserve
                return array
            raise MetaloomError(
                f"{path.parent.resolve().parent} has no room for {size / 2**20:,.0f} MiB of examples "
                f"({error.strerror}): free some, or give the project a larger disk"
            ) from None
    return array
