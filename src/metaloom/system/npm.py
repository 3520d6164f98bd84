"""Files of npm's packages that pages need, fetched once for this user and checked against a pinned hash."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from metaloom.errors import MetaloomError
from metaloom.system.files import atomic_dir

REGISTRY = "https://registry.npmjs.org"
SECONDS = 60


def kept_folder(name: str, made: Callable[[], Mapping[str, bytes]]) -> Path:
    """The folder of this name among what metaloom keeps for this user; made of these files where it is absent."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "metaloom" / name
    if not folder.is_dir():
        files = made()
        with atomic_dir(folder) as new:
            for file, content in files.items():
                (new / file).write_bytes(content)
    return folder


def fetched(package: str, version: str, integrity: str, files: Sequence[str], needed_by: str) -> list[bytes]:
    """Files of a package, in this order.

    Args:
        package: its name.
        version: of it.
        integrity: the package's SHA-512, as the registry has it.
        files: their paths in the package.
        needed_by: what cannot do without, for the message.

    Raises:
        MetaloomError: the registry does not answer, or with something else than was pinned.
    """
    registry = (os.environ.get("NPM_CONFIG_REGISTRY") or REGISTRY).rstrip("/")
    url = f"{registry}/{package}/-/{package.rpartition('/')[2]}-{version}.tgz"  # without its scope
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:  # noqa: S310 (npm's registry, hash checked)
            data = answer.read()
    except (urllib.error.URLError, OSError) as error:
        raise MetaloomError(f"{package} cannot be had from {registry} ({error}): {needed_by} needs it") from None
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != integrity:
        raise MetaloomError(f"{url} is not the file that is pinned (its SHA-512 differs): {needed_by} cannot use it")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = [archive.extractfile(f"package/{file}") for file in files]
        return [each.read() for each in found if each is not None]  # the hash is that of an archive that has them all
