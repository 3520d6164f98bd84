"""Signatures of bundles, by sigstore's model-signing with a key of one's own (https://github.com/sigstore/model-transparency).

The checksums say that a bundle is whole, a signature says whose it is. Keys are elliptic-curve PEM files, as
`openssl ecparam -genkey -name prime256v1 -noout -out key.pem` and `openssl ec -in key.pem -pubout` make them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from metaloom.errors import MetaloomError
from metaloom.handoff.shipped.verify import SIGNATURE


def sign(folder: Path, key: str) -> None:
    """Write the signature beside what it is of.

    Args:
        folder: a whole bundle.
        key: file of the private key.

    Raises:
        MetaloomError: the key cannot be read, or model-signing is not installed.
    """
    library = _library()
    with _refusals(f"{folder.name} cannot be signed with {key}"):
        signer = library.signing.Config().use_elliptic_key_signer(private_key=key)
        signer.set_hashing_config(_hashing(library, folder)).sign(folder, folder / SIGNATURE)


def check_signature(folder: Path, key: str) -> list[str]:
    """Why a bundle is not what the owner of a key has signed, one line each.

    Args:
        folder: a bundle.
        key: file of the public key.

    Raises:
        MetaloomError: model-signing is not installed.
    """
    if not (folder / SIGNATURE).is_file():
        return [f"{SIGNATURE}: missing, the bundle is not signed"]
    library = _library()
    try:
        with _refusals("signature"):
            verifier = library.verifying.Config().use_elliptic_key_verifier(public_key=key)
            verifier.set_hashing_config(_hashing(library, folder)).verify(folder, folder / SIGNATURE)
    except MetaloomError as error:
        return [f"{SIGNATURE}: not by {key}: {error}"]
    return []


def _hashing(library: ModuleType, folder: Path) -> Any:
    return library.hashing.Config().set_ignored_paths(paths=[folder / SIGNATURE])


def _library() -> ModuleType:
    try:
        import model_signing
    except ImportError:
        raise MetaloomError("model-signing is not installed: `pip install 'metaloom[sign]'`") from None
    return model_signing


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, OSError, KeyError) as error:  # what the library raises for files and keys
        first = str(error).partition(":")[0] if "Hash mismatch" in str(error) else " ".join(str(error).split())
        raise MetaloomError(f"{what}: {first}") from None
