"""Windows of similar domains, such that a domain that is added leaves most of them alone.

A window is an anchor domain and those nearest to it. A new domain changes it only by coming into it, so the
network that was trained on it can be kept otherwise. Anchors are taken in an order that is a hash of their names:
a domain that no earlier window serves becomes an anchor itself. So windows slide over the domains by likeness, and
there is no line of all of them that one more domain would shift (which would change half of the windows). Now and
then (one new domain in ten, in a simulation) a domain that is pushed out of its window gets one of its own.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from torch import Tensor

from metaloom.config import BankSettings
from metaloom.kinds import Kind
from metaloom.tasks import spread_rows
from metaloom.tasks.limits import check_stride, check_window

SAMPLE = 256  # examples that a domain is described by, at most

Descriptors = dict[str, Float[np.ndarray, " embed"]]


def describe_domains(kind: Kind, examples: Shaped[Tensor, "item ..."], classes: pd.DataFrame) -> Descriptors:
    """Each domain's mean of the kind's untrained features, which one more domain does not change.

    Args:
        kind: of the examples.
        examples: the whole data set, on any device; domains are described on the CPU.
        classes: the class table (domain, first, count) of the domains to describe.
    """
    described = {}
    for domain, own in classes.groupby("domain", sort=True):
        rows = spread_rows(own, SAMPLE)
        described[str(domain)] = kind.untrained(examples[rows].cpu()).mean(dim=0).numpy()
    return described


def windows(descriptors: Descriptors, settings: BankSettings) -> list[tuple[str, ...]]:
    """Sets of `window` similar domains, each sorted by name, that cover all domains.

    A window serves the `stride` domains that are nearest to its anchor, itself included.

    Raises:
        MetaloomError: there are fewer domains than one window needs, or the stride leaves gaps.
    """
    names = sorted(descriptors, key=lambda name: hashlib.sha256(name.encode()).digest())
    check_window(settings.window, len(names))
    check_stride(settings.stride, settings.window)
    served: set[str] = set()
    found: dict[tuple[str, ...], None] = {}  # ordered, and without repetition
    for anchor in names:
        if anchor not in served:
            nearest = _nearest(anchor, descriptors)
            served.update(nearest[: settings.stride])
            found[tuple(sorted(nearest[: settings.window]))] = None
    return sorted(found)


def _nearest(anchor: str, descriptors: Descriptors) -> list[str]:
    """All domains, the anchor first; names decide between equals."""
    place = descriptors[anchor].astype(np.float64)
    far = {name: float(np.square(each - place).sum()) for name, each in descriptors.items()}
    return sorted(descriptors, key=lambda name: (name != anchor, far[name], name))
