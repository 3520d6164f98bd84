from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from metaloom.data.archives import Limits, archive_stem, list_archive, read_archive
from metaloom.errors import MetaloomError

FILES = {"greek/alpha/1.png": b"one", "greek/alpha/2.png": b"two" * 500, "greek/beta/1.png": b""}
KINDS = ["data.zip", "data.tar", "data.tar.gz", "data.tgz"]


def pack(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_reads_what_is_wanted(tmp_path, kind):
    path = pack(tmp_path / kind, FILES)
    assert sorted(list_archive(path).files) == sorted(FILES)
    assert dict(read_archive(path, set(FILES))) == FILES
    assert dict(read_archive(path, {"greek/beta/1.png"})) == {"greek/beta/1.png": b""}


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_cleaned(tmp_path, kind):
    path = pack(tmp_path / kind, {"./greek//alpha/1.png": b"x", "greek\\beta\\1.png": b"y"})
    assert dict(read_archive(path, set(list_archive(path).files))) == {
        "greek/alpha/1.png": b"x",
        "greek/beta/1.png": b"y",
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["../x.png", "a/../../x.png", "/etc/x.png", "C:/x.png", "..\\x.png", "\\x.png"])
def test_paths_that_lead_out_are_refused(tmp_path, kind, name):
    path = pack(tmp_path / kind, {"a/b/1.png": b"x", name: b"x"})
    with pytest.raises(MetaloomError, match="unsafe path.*make it again with relative paths"):
        list_archive(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("a/b/1.png")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(MetaloomError, match="a/b/1.png, which is a link or a special file"):
        list_archive(tmp_path / "a.tar")


def test_links_in_a_zip_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("a/b/1.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(MetaloomError, match="is a link"):
        list_archive(tmp_path / "a.zip")


@pytest.mark.parametrize("kind", ["bomb.zip", "bomb.tgz"])
def test_a_decompression_bomb_is_refused(tmp_path, kind):
    path = pack(tmp_path / kind, {"a/b/1.bmp": bytes(80 * 2**20)})
    with pytest.raises(MetaloomError, match="decompression bomb: it holds more than 100 times its size"):
        list_archive(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "limits,message",
    [(Limits(members=2), "more than 2 members"), (Limits(total_bytes=1000), "GiB when unpacked")],
)
def test_limits_of_count_and_size(tmp_path, kind, limits, message):
    path = pack(tmp_path / kind, FILES)
    with pytest.raises(MetaloomError, match=message):
        list_archive(path, limits)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_archive_is_refused(tmp_path, kind):
    (tmp_path / kind).write_bytes(b"not an archive at all" * 100)
    with pytest.raises(MetaloomError, match="no readable archive"):
        list_archive(tmp_path / kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [0.1, 0.3, 0.6, 0.65, 0.66, 0.7, 0.85])
def test_a_truncated_archive_is_refused(tmp_path, kind, cut):
    noise = {f"a/b/{i}.png": bytes((i * j * j) % 251 for j in range(5000)) for i in range(8)}
    path = pack(tmp_path / kind, noise)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * cut)])
    with pytest.raises(MetaloomError, match="no readable archive"):
        list_archive(path)
        list(read_archive(path, set(noise)))


def test_a_damaged_member_costs_only_itself(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a/b/1.png", b"first picture")
        archive.writestr("a/b/2.png", b"second picture")
    path.write_bytes(path.read_bytes().replace(b"first picture", b"fIrst picture"))
    found = dict(read_archive(path, set(list_archive(path).files)))
    assert "is damaged" in str(found["a/b/1.png"]) and found["a/b/2.png"] == b"second picture"


def test_an_encrypted_archive_is_refused(tmp_path):
    path = pack(tmp_path / "a.zip", {"a/b/1.png": b"x"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    path.write_bytes(content)
    with pytest.raises(MetaloomError, match="encrypted.*without a password"):
        list_archive(path)


def test_stems():
    names = {
        "a.zip": "a",
        "b.tar.gz": "b",
        "c.TGZ": "c",
        "d.e.tar": "d.e",
        "f.gz": None,
        ".zip": None,
        "g": None,
    }
    assert {name: archive_stem(name) for name in names} == names


def test_damage_inside_gzip_is_noticed(tmp_path):
    path = pack(tmp_path / "a.tgz", {"a/b/1.bmp": bytes(range(256)) * 40})
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # the sum over all
    path.write_bytes(content)
    with pytest.raises(MetaloomError, match="no readable archive"):
        list_archive(path)
