"""Whether a remote of DVC's answers at all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as OutOfTime
from typing import Any

ABSENT = 404  # HTTP's word for it
PATIENCE = 20  # seconds that a remote may take to answer


def unreached(repo: Any, name: str) -> str:
    """Why a remote of DVC's Repo cannot be reached; nothing where it can."""

    def ask() -> None:
        odb = repo.cloud.get_remote_odb(name)
        try:
            odb.fs.info(odb.path)
        except FileNotFoundError as error:  # nothing was pushed yet, or that is what it makes of any other trouble
            if error.__cause__ and getattr(error.__cause__, "status", None) != ABSENT:
                raise error.__cause__ from None

    pool = ThreadPoolExecutor(1)
    try:
        pool.submit(ask).result(timeout=PATIENCE)
    except OutOfTime:
        return f"nothing within {PATIENCE} s"
    except Exception as error:  # s3fs, gcsfs, adlfs, asyncssh: no class in common, and any says why
        return " ".join(str(error).split()) or type(error).__name__
    finally:
        pool.shutdown(wait=False)
    return ""
