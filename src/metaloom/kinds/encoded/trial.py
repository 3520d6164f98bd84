"""A stranger's encoder is opened and tried in a process of its own, within limits of time and memory.

A graph may loop without end, want more memory than there is, or end the process that opens it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from metaloom.config import EncoderSettings, ExportSettings
from metaloom.errors import MetaloomError
from metaloom.kinds.encoded.encoder import Encoder
from metaloom.kinds.encoded.tokens import TextEncoder

SECONDS, GIGABYTES = 600.0, 24.0  # a file of 2 GiB, the largest, is in memory about eight times


def tried(
    how: Literal["packed", "written"],
    kind: str,
    settings: EncoderSettings,
    export: ExportSettings,
    path: Path,
    file: str,
    seconds: float = SECONDS,
    gigabytes: float = GIGABYTES,
) -> Encoder:
    """What the function of this name in `writing` gives, made by a process that is ended at its limits.

    Args:
        how: the function.
        kind: of the examples that the encoder sees.
        settings: which name the encoder's file.
        export: for the versions of ONNX.
        path: of the file that is written.
        file: what the path is going to be.
        seconds: that it may take.
        gigabytes: of memory that it may take.

    Raises:
        MetaloomError: it cannot be read, is not understood, does not work, or takes too much.
    """
    job = (how, kind, settings.model_dump(), export.model_dump(), str(path), file, seconds, gigabytes)
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, encoding="utf-8", check=False)
    if done.returncode == 0:
        answer = json.loads(done.stdout.splitlines()[-1])
        if "error" in answer:
            raise MetaloomError(answer["error"])
        return (TextEncoder if kind == "text" else Encoder)(**answer)
    if done.returncode == -signal.SIGALRM:
        raise MetaloomError(f"{settings.file} takes more than {seconds:g} s to try: a graph of it may have no end")
    why = (done.stderr.strip().splitlines() or [f"what opened it died ({done.returncode})"])[-1]
    raise MetaloomError(
        f"{settings.file} cannot be used as an encoder: {why} (it may take {gigabytes:g} GB of memory); export it again"
    )


def main() -> None:
    """The process: from the job on standard input to a line of JSON."""
    how, kind, settings, export, path, file, seconds, gigabytes = json.load(sys.stdin)
    _limit(seconds, gigabytes)
    from metaloom.kinds.encoded.writing import packed, written

    given = kind, EncoderSettings.model_validate(settings), ExportSettings.model_validate(export), Path(path)
    try:
        answer = asdict(packed(*given) if how == "packed" else written(*given, file))
    except MetaloomError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))


def _limit(seconds: float, gigabytes: float) -> None:
    """The alarm ends the process even in a graph that runs, and where its parent is gone."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    size = int(gigabytes * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (size if most == resource.RLIM_INFINITY else min(size, most), most))


if __name__ == "__main__":
    main()
