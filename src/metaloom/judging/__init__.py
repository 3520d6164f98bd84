"""Whether a new model may take the place of the present one: both answer the same fresh questions until it is decided.

`judge` says so as a `Verdict`; docs/judging.md says what that promises. It loads torch when it is first used, which the
ledger does without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from metaloom.judging.verdict import Verdict

if TYPE_CHECKING:
    from metaloom.judging.process import judge

__all__ = ["Verdict", "judge"]


def __getattr__(name: str) -> Any:
    if name != "judge":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from metaloom.judging.process import judge

    return judge
