"""What is no file, links that lead nowhere, folders without end, headers of archives, and what a system refuses."""

from __future__ import annotations

import errno
import gzip
import os
import socket
import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath

import pytest

from metaloom.cli.app import main
from metaloom.data.add import Addition, finish_addition, install_addition
from metaloom.data.archives import list_archive
from metaloom.data.labels import read_labels
from metaloom.data.reserved import DEEPEST, refuse_reserved
from metaloom.data.sources import list_sources, read_sources
from metaloom.data.support import read_support
from metaloom.errors import MetaloomError
from metaloom.handoff.bundle.listed import listed
from metaloom.kinds.pictures.kind import Pictures
from metaloom.python.folder import load_folder
from metaloom.system.files import is_full
from metaloom.versioning.data import version_data

PICTURES = Pictures(28, 1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("greek/alpha/1.png", "greek/beta/1.png"):
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        (tmp_path / "data" / name).write_bytes(b"no picture")
    return tmp_path / "data"


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))  # a socket's name is short


def _link_nowhere(path: Path) -> None:
    path.symlink_to("gone.png")


def _loop(path: Path) -> None:
    path.symlink_to("other.png")
    path.with_name("other.png").symlink_to(path.name)


MADE = {"is a pipe": _pipe, "is a socket": _socket, "leads nowhere": _link_nowhere, "a link that leads nowhere": _loop}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("words", MADE)
def test_no_version_is_made_of_what_is_no_file(data: Path, monkeypatch: pytest.MonkeyPatch, words: str):
    monkeypatch.chdir(data)
    MADE[words](data / "greek/alpha/2.png")
    with pytest.raises(MetaloomError, match=rf"alpha/(2|other).png is a .*{words.split()[-1]}.*: remove it"):
        version_data(data.parent)


def test_a_replacement_that_was_killed_between_two_moves_is_finished(data: Path, monkeypatch: pytest.MonkeyPatch):
    new, staging = data.parent / "new", data.parent / "adding"
    (new / "gamma").mkdir(parents=True)
    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "rename", killed)
        install_addition(Addition(new, "greek", [], {}), data, staging, only=False)
    assert not (data / "greek").exists()
    finish_addition(data, staging)
    assert [each.name for each in (data / "greek").iterdir()] == ["gamma"]
    finish_addition(data, staging)  # a second time there is nothing to do


def test_links_that_lead_to_one_another_are_examples_that_cannot_be_read(data: Path):
    _loop(data / "greek/alpha/2.png")
    contents = [content for _, content in read_sources(list_sources(data, PICTURES))]
    assert sum(content == "cannot be read: Too many levels of symbolic links" for content in contents) == 2


def test_folders_without_end_are_refused(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(data)  # the path of the last is longer than a call may have
    for _ in range(DEEPEST + 20):
        Path("deep").mkdir()
        os.chdir("deep")
    with pytest.raises(MetaloomError, match=f"more than {DEEPEST} folders in one another"):
        refuse_reserved(data)
    with pytest.raises(MetaloomError, match=f"more than {DEEPEST} folders in one another"):
        list_sources(data, PICTURES)


def _header(size: int, kind: bytes, body: bytes = b"") -> bytes:
    info = tarfile.TarInfo("x")
    info.size, info.type = size, kind
    return info.tobuf(tarfile.USTAR_FORMAT) + body.ljust(-(-len(body) // 512) * 512, b"\0")


@pytest.mark.parametrize(
    "content",
    [
        _header(2**32, tarfile.XHDTYPE, bytes(2**16)),
        _header(2**32, tarfile.XGLTYPE, bytes(2**16)),
        _header(2**32, tarfile.GNUTYPE_LONGNAME, bytes(2**16)),
        _header(2**20, tarfile.GNUTYPE_SPARSE, bytes(2**16)),
        _header(11, tarfile.XHDTYPE, b"11 path=aa\n") * 2000,
    ],
)
def test_what_a_tar_says_of_a_member_is_limited(tmp_path: Path, content: bytes):
    """tarfile reads such a header at once, of whatever size, and each header of a header inside the one before."""
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(content))
    with pytest.raises(MetaloomError, match=r"a.tar.gz is no readable archive \((the header|x is a sparse|headers of)"):
        list_archive(tmp_path / "a.tar.gz")


@pytest.mark.timeout(20)
def test_a_pipe_among_a_user_s_own_files_is_not_waited_for(data: Path):
    os.mkfifo(data / "greek/alpha/2.png")
    words = "alpha/2.png is a pipe, not a file: remove it"
    with pytest.raises(MetaloomError, match=words):
        read_support(data / "greek", PICTURES, (28, 28, 1))
    with pytest.raises(MetaloomError, match=words):
        load_folder(data / "greek")
    skipped: list[str] = []
    assert list(listed([str(data)], PICTURES, [], skipped.append)) == sorted(data.rglob("1.png"))
    assert "alpha/2.png skipped" in skipped[0]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space left on device: the disk is full"),
        (OSError("8690 requested and 8064 written"), "8690 requested and 8064 written: the disk is full"),
        (OSError(errno.EFBIG, "File too large", "a"), "a: file too large: the disk is full"),
        (
            OSError(errno.ENAMETOOLONG, "File name too long", "a" * 300),
            "aaa: file name too long: choose a shorter name",
        ),
        (FileExistsError(errno.EEXIST, "File exists", ".metaloom"), ".metaloom: file exists: something else is there"),
        (OSError(errno.EMFILE, "Too many open files", "a"), "raise the limit of open files"),
    ],
)
def test_what_the_system_refuses_is_one_line(capsys: pytest.CaptureFixture[str], error: OSError, words: str):
    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        main(command)
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.startswith("error: ") and words in said and said.count("\n") == 1


def test_a_full_disk_under_standard_output_is_one_line():
    ours = "import sys; from metaloom.cli.app import main; main(lambda: print('x' * 10000))"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", ours], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "the disk is full" in done.stderr


def test_a_text_longer_than_a_name_may_be_is_no_folder():
    texts = ["a word and " * 100]
    assert list(listed(texts, PICTURES, [], print)) == texts


def test_a_table_of_labels_that_is_nested_too_deeply_is_refused():
    with pytest.raises(MetaloomError, match="metadata.jsonl is no readable table"):
        read_labels(b"[" * 100_000, PurePosixPath(), "metadata.jsonl")


def test_a_short_write_of_numpys_is_a_full_disk():
    assert is_full(OSError("8690 requested and 8064 written")) and not is_full(OSError("another"))


def test_an_input_that_is_closed_is_an_empty_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", None)
    read: list[bytes] = []
    main(lambda: read.append(sys.stdin.buffer.read()))
    sys.stdin.close()
    assert read == [b""]
