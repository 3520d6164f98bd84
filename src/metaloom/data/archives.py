"""Reading zip and tar archives that nobody has vouched for.

Nothing is ever unpacked to disk, but `metaloom data add` keeps archives as they are and others will unpack
them: one with `../`, absolute paths or links is refused whole, like one that would swell beyond all measure.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path

from metaloom.errors import MetaloomError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
MAX_FILE_BYTES = 256 * 2**20
WHOLE = -1  # bytes to read of a file
_CHUNK = 2**20
_ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, LZMAError)
_PADDING_CHUNKS = 64  # tar pads its end with zeros, by kilobytes
_MORE = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_MORE_BYTES = 2**20  # that tar may say of a member beside its header; tarfile reads them at once, whatever their number


@dataclass(frozen=True)
class Limits:
    """What an archive may hold; beyond it is taken for a decompression bomb."""

    members: int = 1_000_000
    total_bytes: int = 32 * 2**30
    ratio: int = 100  # uncompressed to compressed; PNG and JPEG hardly shrink at all
    ratio_from_bytes: int = 64 * 2**20  # a few flat bitmaps may shrink more than that


LIMITS = Limits()


@dataclass(frozen=True)
class Listed:
    """Files and folders in an archive, as clean relative paths."""

    files: list[str]
    folders: list[str]


def archive_stem(name: str) -> str | None:
    """`greek.tar.gz` → `greek`; None for what is no archive's name."""
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return None


def list_archive(path: Path, limits: Limits = LIMITS) -> Listed:
    """Names in an archive.

    Raises:
        MetaloomError: it is damaged, encrypted, a bomb, or holds a path or a link that leads out of it.
    """
    is_zip = path.name.lower().endswith(".zip")
    tally = _Tally(path, limits)
    files: dict[str, None] = {}  # a dict, for its order
    folders: dict[str, None] = {}
    with _damage_named(path):
        for name, size, is_folder in _zip_members(path) if is_zip else _tar_members(path):
            tally.add(size)
            clean = _clean_name(path, name)
            if clean:
                (folders if is_folder else files)[clean] = None
    return Listed(list(files), list(folders))


def read_archive(path: Path, wanted: set[str]) -> Iterator[tuple[str, bytes | str]]:
    """(name, bytes) of every wanted file in the archive's own order, or (name, why it cannot be read).

    The names are those of `list_archive`, which must have passed the archive. A name that stands twice in the
    archive comes twice: the later one counts, as it would on unpacking.
    """
    reader = _read_zip if path.name.lower().endswith(".zip") else _read_tar
    with _damage_named(path):
        yield from reader(path, wanted)


def read_heads(path: Path, wanted: set[str], size: int) -> Iterator[tuple[str, bytes]]:
    """(name, first `size` bytes) of wanted files, as `list_archive` names them; of one that cannot be read no bytes."""
    reader = _read_zip if path.name.lower().endswith(".zip") else _read_tar
    with _damage_named(path):
        for name, content in reader(path, wanted, size):
            yield name, content if isinstance(content, bytes) else b""


class _Tally:
    def __init__(self, path: Path, limits: Limits) -> None:
        self.path, self.limits = path, limits
        self.members = self.bytes = 0
        self.compressed = max(1, path.stat().st_size)

    def add(self, size: int) -> None:
        self.members += 1
        self.bytes += max(0, size)
        limits = self.limits
        if self.members > limits.members:
            self._refuse(f"more than {limits.members:,} members")
        if self.bytes > limits.total_bytes:
            self._refuse(f"more than {limits.total_bytes / 2**30:g} GiB when unpacked")
        if self.bytes > limits.ratio_from_bytes and self.bytes > limits.ratio * self.compressed:
            self._refuse(f"more than {limits.ratio} times its size when unpacked")

    def _refuse(self, what: str) -> None:
        raise MetaloomError(
            f"{self.path} may be a decompression bomb: it holds {what}. If you trust it, unpack it into a folder"
        )


def _zip_members(path: Path) -> Iterator[tuple[str, int, bool]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if stat.S_ISLNK(info.external_attr >> 16):
                _refuse_link(path, info.filename)
            if info.flag_bits & 1:
                raise MetaloomError(f"{path} is encrypted ({info.filename}): make it again without a password")
            yield info.filename, info.file_size, info.is_dir()


def _tar_members(path: Path) -> Iterator[tuple[str, int, bool]]:
    end = 0
    with _open_tar(path) as (archive, stream):
        for info in archive:
            if not (info.isfile() or info.isdir()) or info.issparse():
                _refuse_link(path, info.name)
            end = info.offset_data + -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            yield info.name, info.size, info.isdir()
        # tarfile takes an archive that was cut off between two members for a whole one
        if archive.fileobj is not None and archive.fileobj.tell() < end + tarfile.BLOCKSIZE:
            raise tarfile.ReadError("its end is missing")
        for _ in range(_PADDING_CHUNKS):  # gzip checks its sum at the end
            if not stream.read(_CHUNK):
                return
        raise tarfile.ReadError("something else follows its end")


@contextmanager
def _open_tar(path: Path) -> Iterator[tuple[tarfile.TarFile, io.BufferedIOBase]]:
    """The archive, and the unpacked stream behind it."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream: io.BufferedIOBase = gzip.GzipFile(fileobj=file) if packed else file
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as archive:
            yield archive, stream


class _Member(tarfile.TarInfo):
    """A member whose header is read before anything that the header asks for."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        found = super().frombuf(buf, encoding, errors)
        if found.type in _MORE and found.size > _MORE_BYTES:
            raise tarfile.ReadError(f"the header of a member has {found.size:,} bytes")
        if found.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(f"{found.name} is a sparse file")
        return found


def _refuse_link(path: Path, name: str) -> None:
    raise MetaloomError(
        f"{path} holds {name}, which is a link or a special file: make the archive again with plain files only"
    )


def _clean_name(path: Path, name: str) -> str:
    parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".")]
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[/\\]", name) or ".." in parts:
        raise MetaloomError(
            f"{path} holds the unsafe path {name!r}, which leads out of the archive: make it again with relative paths"
        )
    return checked_utf8("/".join(parts), path)


def checked_utf8(name: str, where: Path) -> str:
    """The name, where it is whole UTF-8; raises MetaloomError where it is not."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise MetaloomError(f"{where} holds the name {name!r}, which is no valid UTF-8: rename it") from None
    return name


def _read_zip(path: Path, wanted: set[str], head: int = WHOLE) -> Iterator[tuple[str, bytes | str]]:
    """Whole files, or `head` bytes of each."""
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = _clean_name(path, info.filename)
            if name not in wanted or info.is_dir():
                continue
            if head == WHOLE and info.file_size > MAX_FILE_BYTES:
                yield name, too_large()
                continue
            try:
                with archive.open(info) as file:
                    yield name, file.read(head)
            except _ZIP_DAMAGE as error:
                yield name, f"is damaged: {error}"
            except NotImplementedError as error:  # a compression that zipfile lacks
                yield name, f"cannot be unpacked: {error}"


def _read_tar(path: Path, wanted: set[str], head: int = WHOLE) -> Iterator[tuple[str, bytes | str]]:
    """Whole files, or `head` bytes of each."""
    with _open_tar(path) as (archive, _):
        for info in archive:
            name = _clean_name(path, info.name)
            if name not in wanted or not info.isfile():
                continue
            file = archive.extractfile(info) if head != WHOLE or info.size <= MAX_FILE_BYTES else None
            content = file.read(head) if file else too_large()
            if file and len(content) < (info.size if head == WHOLE else min(info.size, head)):
                raise tarfile.ReadError(f"it ends inside {name}")
            yield name, content


def too_large() -> str:
    """Why a file is not read."""
    return f"is larger than {MAX_FILE_BYTES // 2**20} MiB"


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except RecursionError:  # of tarfile: each header of a member's headers is read inside the one before
        raise MetaloomError(f"{path} is no readable archive (headers of headers): make it again") from None
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno and not os.access(path, os.R_OK):
            raise MetaloomError(f"{path} cannot be read: {error.strerror}") from None
        raise MetaloomError(f"{path} is no readable archive ({error}): copy or make it again") from None
