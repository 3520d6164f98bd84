"""A bundle that is signed, and one that another has signed or changed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import typer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from metaloom.cli import bundle as commands
from metaloom.config import Settings
from metaloom.errors import MetaloomError
from metaloom.handoff.adapting.one import adapt_to
from metaloom.handoff.bundle.signing import check_signature
from metaloom.handoff.shipped.verify import verify


def key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    private = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    secret, public = folder / f"{name}.pem", folder / f"{name}.pub"
    plain = serialization.NoEncryption()
    secret.write_bytes(private.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public.write_bytes(private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return secret, public


def signed(settings: Settings, key: Path) -> Settings:
    return settings.model_copy(update={"export": settings.export.model_copy(update={"key": str(key)})})


@pytest.fixture(scope="module")
def ours(shapes: Path, model: Path, tiny_settings: Settings, tmp_path_factory: pytest.TempPathFactory):
    """A signed bundle and the public key."""
    folder = tmp_path_factory.mktemp("signed")
    secret, public = key_pair(folder, "ours")
    settings = signed(tiny_settings, secret)
    adapt_to(shapes / "domain0", folder / "bundle", model, settings, lambda done, text: None)
    return folder / "bundle", public


def test_the_owner_s_key_and_no_other(ours: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    bundle, public = ours
    _, other = key_pair(tmp_path, "other")
    assert not verify(bundle).problems and check_signature(bundle, str(public)) == []
    (problem,) = check_signature(bundle, str(other))
    assert problem.startswith("model.sig: not by ") and "does not match the provided public key" in problem
    for key, code, said in ((public, 0, "verified: "), (other, 1, "not verified: model.sig")):
        with pytest.raises(typer.Exit) as left:
            commands.verify(bundle, key)
        assert left.value.exit_code == code and "".join(capsys.readouterr()).startswith(said)
    assert subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=bundle).returncode == 0


def test_a_change_behind_right_checksums_is_found(ours: tuple[Path, Path], tmp_path: Path):
    import shutil

    from bundles import reseal

    bundle = Path(shutil.copytree(ours[0], tmp_path / "bundle"))
    card = bundle / "MODEL_CARD.md"
    card.write_text(card.read_text() + "It is never wrong.\n")
    signature = (bundle / "model.sig").read_bytes()
    (bundle / "model.sig").unlink()
    reseal(bundle)
    assert check_signature(bundle, str(ours[1])) == ["model.sig: missing, the bundle is not signed"]
    (bundle / "model.sig").write_bytes(signature)
    assert not verify(bundle).problems
    assert "Signature mismatch" in check_signature(bundle, str(ours[1]))[0]
    (bundle / "model.sig").write_bytes(signature[: len(signature) // 2])
    assert check_signature(bundle, str(ours[1]))


def test_keys_that_are_none(
    ours: tuple[Path, Path], shapes: Path, model: Path, tiny_settings: Settings, tmp_path: Path
):
    (tmp_path / "text").write_text("no key")
    for key in (tmp_path / "absent", tmp_path / "text"):
        assert len(check_signature(ours[0], str(key))) == 1
        with pytest.raises(MetaloomError, match="cannot be signed with"):
            adapt_to(shapes / "domain0", tmp_path / "out", model, signed(tiny_settings, key), lambda done, text: None)
        assert not (tmp_path / "out").exists()
