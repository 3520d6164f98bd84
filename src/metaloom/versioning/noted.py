"""What DVC only logs: why a file could not be copied, which the exception that it raises does not say."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

NAMES = ("dvc", "dvc_data", "dvc_objects")  # of its loggers


class _Notes(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.found.append(record.exc_info[1])


@contextmanager
def noted(silently: bool = False) -> Iterator[list[BaseException]]:
    """The exceptions that DVC logs while the block runs; `silently`: nobody else hears of them."""
    notes, loggers = _Notes(), [logging.getLogger(name) for name in NAMES]
    before = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(notes)
        logger.propagate = logger.propagate and not silently
    try:
        yield notes.found
    finally:
        for logger, propagated in zip(loggers, before, strict=True):
            logger.removeHandler(notes)
            logger.propagate = propagated
