"""One module per DVC stage: read files, call the library, write files.

dvc.yaml calls them as `python -m metaloom.stages.NAME ARGUMENTS`; the paths stand there and only there.
"""

from __future__ import annotations

import argparse
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from metaloom.errors import BAD_INPUT, ERROR_FILE, INTERRUPTED, MetaloomError
from metaloom.system.collector import spare_collector
from metaloom.system.files import is_full
from metaloom.system.lifeline import end_with_runner
from metaloom.system.utf8 import in_utf8
from metaloom.versioning.code import check_version

spare_collector()  # here: the modules of stages import torch before they call anything


def run_stage(main: Callable[..., Any]) -> None:
    """Call `main` with the command line's arguments, one per parameter, in order; those with a default may be left out.

    Exits with 2 and one line on standard error when the user can fix what went wrong.
    """
    in_utf8()
    end_with_runner()
    parser = _Arguments(description=(inspect.getdoc(main) or "").split("\n")[0])
    for name, parameter in inspect.signature(main).parameters.items():
        optional = parameter.default is not parameter.empty
        parser.add_argument(name, nargs="?" if optional else None, default=parameter.default)
    try:
        check_version()
        main(**vars(parser.parse_args()))
    except MetaloomError as error:
        sys.exit(_fail(str(error)))
    except OSError as error:
        if not is_full(error):
            raise
        sys.exit(_fail(f"the disk is full ({error}): free some room and run again, what was finished is kept"))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


class _Arguments(argparse.ArgumentParser):
    """The paths in dvc.yaml's command; other ones than the stage takes are of another version of metaloom."""

    def error(self, message: str) -> NoReturn:
        stage = Path(sys.argv[0]).stem
        raise MetaloomError(
            f"dvc.yaml calls the stage {stage} with other paths than this metaloom does ({message}): take the stage "
            "from the dvc.yaml that `metaloom init` writes into a new folder, or install the version that wrote yours"
        )


def _fail(message: str) -> int:
    if path := os.environ.get(ERROR_FILE):
        Path(path).write_text(message, encoding="utf-8")
    else:
        from metaloom.system.terminal import complain

        complain(f"error: {message}")
    return BAD_INPUT
