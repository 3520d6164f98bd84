"""Python's collector of garbage, which a process that imports torch need not wait for."""

from __future__ import annotations

import atexit
import gc

YOUNG = 50_000  # new objects before it looks for circles among them; Python's 700 cost imports a tenth


def spare_collector() -> None:
    """Have it look less often, and not at what is there when the process ends: with torch that takes half a second."""
    gc.set_threshold(YOUNG)
    atexit.register(gc.freeze)
