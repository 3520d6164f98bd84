"""What of an addition is in data/ already, under whatever name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from metaloom.config import PrepareSettings
from metaloom.data.quality import judge
from metaloom.data.scan import Scan, scan
from metaloom.data.sources import Listing, list_sources
from metaloom.errors import MetaloomError
from metaloom.kinds import Kind
from metaloom.system.plural import some

SHOWN = 3  # domains in a message


@dataclass(frozen=True)
class Already:
    """Examples of an addition that are in data/ too.

    Args:
        count: of them.
        total: examples of the addition.
        example: one of them, and where it is in data/.
        domains: of data/ that have them.
        before: share of data/ that is unusable now.
        after: the same with the addition.
    """

    count: int
    total: int
    example: tuple[str, str]
    domains: Sequence[str]
    before: float
    after: float

    def in_words(self, kind: Kind) -> str:
        """How many, and where."""
        ours, theirs = self.example
        what = kind.one if self.total == 1 else kind.many
        return (
            f"{self.count:,} of {self.total:,} {what} {'is' if self.count == 1 else 'are'} in data/ already, in "
            f"{some(self.domains, SHOWN)} ({ours} is {theirs})"
        )


def list_beside(data: Path, kind: Kind, without: str) -> Listing | None:
    """What is in data/ beside an entry of it; None where nothing is, or data/ cannot be listed.

    Args:
        data: the folder.
        kind: of its examples.
        without: the entry of data/ that is going to be replaced.
    """
    try:
        listing = list_sources(data, kind)
    except MetaloomError:  # `metaloom data check` says what is wrong with it, and an addition may put it right
        return None
    items = [item for item in listing.items if item.file.relative_to(data).parts[0] != without]
    return replace(listing, items=items) if items else None


def find_already(added: Scan, beside: Listing, settings: PrepareSettings) -> Already | None:
    """Compare with what is in data/ as it is decoded; None where nothing of it is there.

    Args:
        added: the addition.
        beside: what is there.
        settings: of what is usable.
    """
    there = scan(beside)
    places = {digest: item for digest, item in zip(there.digests, beside.items, strict=True) if digest}
    both = [
        (item, places[digest])
        for digest, item in zip(added.digests, added.listing.items, strict=True)
        if digest in places
    ]
    if not both:
        return None
    before, after = (judge(each, settings.min_examples).report["bad_share"] for each in (there, _joined(there, added)))
    domains = sorted({theirs.domain for _, theirs in both})
    example = both[0][0].source, both[0][1].source
    return Already(len(both), len(added.listing.items), example, domains, before, after)


def refuse_already(found: Already, path: Path, kind: Kind, settings: PrepareSettings) -> None:
    """Raises MetaloomError where data/ can be used now, and could not with the addition."""
    if found.before <= settings.max_bad_share < found.after:
        raise MetaloomError(
            f"{path}: {found.in_words(kind)}: with them {found.after:.1%} of data/ would be unusable, more than "
            f"prepare.max_bad_share ({settings.max_bad_share:.1%}). Nothing was added: leave out what is there, or "
            "take that out of data/ first (`metaloom data remove`)"
        )


def _joined(one: Scan, other: Scan) -> Scan:
    listing = replace(one.listing, items=[*one.listing.items, *other.listing.items])
    return Scan(
        listing,
        one.reading,
        one.sha256 + other.sha256,
        one.digests + other.digests,
        one.reasons + other.reasons,
        one.shapes + other.shapes,
        one.traits + other.traits,
    )
