"""Annotations are checked on every test run, as a type checker reads them: an int is a float.

In the modules that have arrays, and nowhere else: what has none, pyright checks, and a check at every call of every
function took a third of the tests' time. To be imported before what it checks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

SOURCES = Path(__file__).resolve().parents[1] / "src"

check = beartype(conf=BeartypeConf(is_pep484_tower=True))


def typecheck(function: Callable) -> Callable:
    """The function, checked; one inside another is not, as that would be read again whenever the other is called."""
    return function if "<locals>" in function.__qualname__ else check(function)


def with_arrays() -> list[str]:
    """The modules that annotate arrays."""
    files = [path for path in sorted(SOURCES.rglob("*.py")) if "jaxtyping" in path.read_text(encoding="utf-8")]
    return [".".join(path.relative_to(SOURCES).with_suffix("").parts).removesuffix(".__init__") for path in files]


install_import_hook(with_arrays(), "typecheck.typecheck")
