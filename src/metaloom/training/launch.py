"""Start a stage again in several processes, through torchrun.

`python -m metaloom.training.launch TORCHRUN_ARGUMENTS` is torchrun itself, which ends with its parent.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import torch

from metaloom.errors import ERROR_FILE, MetaloomError
from metaloom.system import lifeline
from metaloom.system.terminal import QUIET

RESTARTS = 3  # from the checkpoint, when a process dies
# torchrun would give processes that start again the store of those before, with addresses at which nobody listens any
# more: https://github.com/pytorch/pytorch/issues/135712
FRESH_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


def launch(module: str, arguments: list[str], processes: int) -> None:
    """Run `python -m MODULE ARGUMENTS` in so many processes, which share the cores.

    When one dies, all start again, which is why they have to go on from a checkpoint.

    Raises:
        MetaloomError: one of theirs, or they died more often than torchrun starts them again.
    """
    options = ["--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={processes}", f"--max-restarts={RESTARTS}"]
    threads = max(1, torch.get_num_threads() // processes)
    with tempfile.TemporaryDirectory(prefix="metaloom-") as folder:
        message = Path(folder, "error")
        message.touch()
        child = lifeline.start(
            ["-m", "metaloom.training.launch", *options, "-m", module, *arguments],
            cwd=".",
            env={**os.environ, **FRESH_STORE, ERROR_FILE: str(message), "OMP_NUM_THREADS": str(threads)},
            out=None,
            err=None,
        )
        try:
            code = child.wait()
        except BaseException:
            lifeline.stop(child)
            raise
        if child.stdin:
            child.stdin.close()
        if text := message.read_text(encoding="utf-8").strip():
            raise MetaloomError(text)
    if code:
        raise MetaloomError(
            f"a training process died, and again after {RESTARTS} restarts (torchrun's exit code {code}; what it wrote "
            "is above): the same command goes on from the last checkpoint"
        )


def begin() -> None:
    """What such a process does first: be quiet unless it is the first, and end with those that `launch` started it
    through. One that is started again though another has left a message for the user has nothing to do.
    """
    if os.environ["RANK"] != "0":
        os.environ[QUIET] = "1"
    if path := os.environ.get(ERROR_FILE):  # not where torchrun was started by hand, on several machines perhaps
        lifeline.end_with_parent()
        if Path(path).stat().st_size:
            sys.exit(0)


def leave() -> NoReturn:
    """What such a process does last, its part done: end without the interpreter's own end.

    gloo's threads outlive destroy_process_group, and one that lets go of a tensor while the interpreter ends aborts
    the process: https://github.com/pytorch/pytorch/pull/179291
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def main() -> None:
    """torchrun, which ends with its parent."""
    from torch.distributed.run import main as torchrun

    pipe = os.dup(sys.stdin.fileno())
    lifeline.end_with_parent()
    os.dup2(pipe, sys.stdin.fileno())  # the processes inherit it, and end should torchrun itself be killed
    torchrun(sys.argv[1:])


if __name__ == "__main__":
    main()
