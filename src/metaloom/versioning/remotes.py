"""DVC's remotes: what is wrong with one, in a line that tells a refusal from a silence; pushes that are checked."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from metaloom.errors import MetaloomError
from metaloom.system.files import write_text
from metaloom.system.limits import HungError
from metaloom.system.lock import STATE, BusyError
from metaloom.versioning.noted import noted
from metaloom.versioning.project import chain, open_project
from metaloom.versioning.purged import lists_any, purged
from metaloom.versioning.silence import SETTING

T = TypeVar("T")

SEEN = f"{STATE}/remote-folders"  # folders that versions have been sent to
WAITS = (1.0, 5.0)  # seconds before a transfer is tried again, of which the remote broke off the one before
REFUSALS = {
    "PermissionDenied",
    "NoCredentialsError",
    "ClientAuthenticationError",
    "RefreshError",
}  # of client libraries
REFUSED = {"401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "Forbidden"}  # codes of S3
CLIENTS = ("botocore", "asyncssh", "azure", "google", "aiohttp")  # packages of the client libraries
REFUSES = "the remote refuses access: {}: give its credentials with `dvc remote modify --local NAME …`"
ABSENT = {"NoSuchBucket", "404"}
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
SILENT = {"ReadTimeoutError", "ConnectTimeoutError", "FSTimeoutError", "ServiceRequestTimeoutError"}


@contextmanager
def remote_errors() -> Iterator[None]:
    """What a remote and its client library raise, as one line of ours; DVC hides why a transfer failed in its log.

    Raises:
        BusyError: it does not answer, or breaks off.
        HungError: it has been silent for too long.
        MetaloomError: it refuses, is not there, or a package is missing.
    """
    from dvc.exceptions import DownloadError, DvcException, FileTransferError
    from dvc_objects.fs.errors import RemoteMissingDepsError

    with noted(silently=True) as causes:
        try:
            yield
        except (RemoteMissingDepsError, ImportError) as error:
            extra = "`pip install 'metaloom[s3]'` for s3://; gs, azure and ssh are extras too"
            raise MetaloomError(f"the remote needs a package that is not here ({error}): {extra}") from None
        except FileTransferError as error:
            if all(isinstance(each, FileNotFoundError) and not _says_why(each) for each in causes):
                raise  # it has not got some of the files: that is no fault of the remote
            raise _problem([*causes, error]) from None
        except DvcException:
            raise
        except EOFError:
            raise MetaloomError(REFUSES.format("it asks for a password, and nobody is here to answer")) from None
        except OSError as error:
            if _is_local(error) and not causes:
                raise
            raise _problem([*causes, error]) from None
        except Exception as error:  # DVC's index and client libraries have roots of their own
            if not type(error).__module__.startswith(("dvc_", *CLIENTS)):
                raise
            if isinstance(error.__cause__, FileNotFoundError) and not _says_why(error):
                raise DownloadError(1) from None
            raise _problem([error]) from None


def _problem(errors: list[BaseException]) -> MetaloomError:
    """The first that says why, in words."""
    causes = [cause for error in errors for cause in _causes(error)]
    said = chain(errors[0])
    if any(_refuses(each) for each in causes):
        return MetaloomError(REFUSES.format(said))
    if any(_code(each) in ABSENT for each in causes):
        return MetaloomError(f"the remote is not there: {said}: make its bucket, or `dvc remote modify NAME url …`")
    if any(isinstance(each, OSError) and each.errno in FULL for each in causes):
        return MetaloomError(f"the remote cannot be written to: {said}: make room there, or let it be written to")
    if any(_is_silent(each) for each in causes):
        return HungError(f"the remote has been silent for too long ({SETTING}): {said}", "TimedOut")
    return BusyError(f"the remote does not answer: {said}")


def _is_silent(error: BaseException) -> bool:
    said = str(error)
    timed_out = isinstance(error, TimeoutError) or (isinstance(error, OSError) and error.errno == errno.ETIMEDOUT)
    return timed_out or type(error).__name__ in SILENT or "keepalive" in said or os.strerror(errno.ETIMEDOUT) in said


def _is_local(error: OSError) -> bool:
    """Whether the error is of this machine's disk, or of a file that a remote has not got."""
    absent = isinstance(error, FileNotFoundError) and not _says_why(error)
    return absent or error.filename is not None or error.errno in FULL


def _says_why(error: BaseException) -> bool:
    return any(_refuses(each) or _code(each) in ABSENT for each in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _refuses(error: BaseException) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    refused = isinstance(error, PermissionError) and error.filename is None
    return refused or bool(names & REFUSALS) or _code(error) in REFUSED


def _code(error: BaseException) -> str:
    """The error's code in an answer of S3; empty where it is another error."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def tried_again(transfer: Callable[[], T]) -> T:
    """What a transfer gives, which may have to begin more than once; what has arrived is not sent again.

    Raises:
        BusyError: the remote broke off each time.
    """
    for seconds in WAITS:
        try:
            return transfer()
        except BusyError:
            time.sleep(seconds)
            if ssh := sys.modules.get("dvc_ssh.spec"):
                ssh.SSHFileSystem.clear_instance_cache()  # or it goes on with the connection that is broken
    return transfer()


def push_version(root: str | Path, commit: str) -> int | None:
    """Send all outputs of a commit to the default remote, and look whether they have arrived.

    Returns:
        How many files the remote holds of them; None where there is no remote.

    Raises:
        BusyError: it does not answer.
        MetaloomError: it refuses, is not there, or lacks what it has taken.
    """
    with open_project(root) as repo:
        if not repo.config["core"].get("remote"):
            return None
        with remote_errors():
            _refuse_away(repo, root)

        def push() -> int:
            with remote_errors():
                repo.push(revs=[commit], workspace=False)
                return _arrived(repo, commit, purged(root))

        arrived = tried_again(push)
        _see_folder(repo, root)
        return arrived


def _refuse_away(repo: Any, root: str | Path) -> None:
    """Raise where the remote is a folder that was there before and is not now: DVC would make a new one, and nobody
    would notice that a disk is not mounted."""
    folder = _folder(repo)
    if folder and str(folder) in _folders_seen(root) and not _is_there(folder):
        raise MetaloomError(
            f"DVC's remote is the folder {folder}, which was there and is not now: mount its disk, or `mkdir` it, if "
            "it is to begin empty"
        )


def _folder(repo: Any) -> Path | None:
    """That is the default remote; None where that is something else."""
    remote = repo.cloud.get_remote()
    return Path(remote.path) if remote.fs.protocol == "local" else None


def _is_there(folder: Path) -> bool:
    """Also of a dead mount, at which looking is an error."""
    try:
        return folder.is_dir()
    except OSError:
        return False


def _folders_seen(root: str | Path) -> list[str]:
    path = Path(root, SEEN)
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _see_folder(repo: Any, root: str | Path) -> None:
    folder, seen = _folder(repo), _folders_seen(root)
    if folder and str(folder) not in seen:
        write_text(Path(root, SEEN), "".join(f"{each}\n" for each in (*seen, folder)))


def _arrived(repo: Any, commit: str, gone: set[str]) -> int:
    """Ask the remote for every file, and send what it lacks: DVC asks for a listing of them alone (dvc#10977).

    Args:
        gone: hashes of what was purged: neither these are asked for, nor folders that are not whole without them.
    """
    from dvc_data.hashfile import transfer

    with repo.switch(commit):
        named = {info for infos in repo.index.used_objs(force=True).values() for info in infos}
    remote = repo.cloud.get_remote_odb()
    wanted = {info.value: info for info in named if info.name == remote.hash_name and info.value not in gone}
    for version in [each for each in wanted if gone and each.endswith(".dir")]:
        if lists_any(Path(repo.cache.local.oid_to_path(version)), gone):
            del wanted[version]
    if missing := wanted.keys() - set(remote.oids_exist(wanted)):
        transfer.transfer(repo.cache.local, remote, {wanted[each] for each in missing}, shallow=True)
        missing -= set(remote.oids_exist(missing))
    if missing:
        raise BusyError(f"{len(missing)} of {len(wanted)} files have not arrived in the remote {remote.path}")
    return len(wanted)
