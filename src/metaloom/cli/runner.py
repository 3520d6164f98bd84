"""Prefect's runner, as `metaloom serve` needs it."""

from __future__ import annotations

from typing import Any

from prefect.runner import Runner

from metaloom.system.ending import end_after


class EndingRunner(Runner):
    """Ends also when the server does not answer any more."""

    def handle_sigterm(self, *arguments: Any, **options: Any) -> None:
        """Tell the server and the runs at work, and end."""
        end_after()
        super().handle_sigterm(*arguments, **options)

    async def __aexit__(self, *raised: Any) -> None:
        end_after()
        await super().__aexit__(*raised)
