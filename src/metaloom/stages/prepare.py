"""data/ → artifacts/dataset/: decode once, list what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from metaloom.config import AUTO, Settings, load_settings
from metaloom.data.layouts import layout_lines
from metaloom.data.packed import KIND, write_dataset, write_own
from metaloom.data.preview import write_preview
from metaloom.data.quality import check_quality, judge, said
from metaloom.data.scan import scan
from metaloom.data.sources import list_sources
from metaloom.errors import MetaloomError
from metaloom.kinds import Kind, own_packing_of, packing_of
from metaloom.stages import run_stage
from metaloom.system.files import atomic_dir, read_json, write_text
from metaloom.system.plural import several
from metaloom.system.terminal import say
from metaloom.system.unchanged import unchanged, version_of


def main(data: str, dataset: str, note: str = "") -> None:
    """Pack all usable examples of a data folder into one memory-mapped array, and name the version in the file `note`.

    Raises:
        MetaloomError: there is nothing usable, more is bad than prepare.max_bad_share, or `data` changed meanwhile;
            an older `dataset` then stays as it is.
    """
    everything = load_settings()
    settings, kind = everything.prepare, packing_of(everything)
    with atomic_dir(dataset) as folder, unchanged(data) as source:
        listing = list_sources(source, kind)
        scratch = folder / "scratch.npy"
        scanned = scan(listing, scratch)
        quality = judge(scanned, settings.min_examples)
        check_quality(quality.report, settings, kind, data)
        changes = list(_decided_otherwise(everything, scanned.listing.kind, Path(dataset) / KIND))
        write_preview(folder, scanned, quality.used)
        write_dataset(folder, scanned, scratch, quality.used, quality.report)
        if (own := own_packing_of(everything)) is not None:
            items = [scanned.listing.items[index] for index in quality.used]
            again = scan(replace(scanned.listing, kind=own, items=items), scratch)
            write_own(folder, again, scratch, dataset)
        version = version_of(source, data) if note else ""
    if note:
        write_text(note, f"{version}\n")
    report = quality.report
    usual = {branch.layout for branch in listing.branches} <= {"domains"}
    for line in [*([] if usual else layout_lines(listing.branches, given=False)), *said(report), *changes]:
        say(line)
    say(
        f"{report['used']:,} of {report['examples']:,} {kind.many}, "
        f"{several(report['classes'], 'class', 'classes')} in {several(report['domains'], 'domain')} "
        f"({report['bad_share']:.1%} bad) → {dataset}"
    )


def _decided_otherwise(settings: Settings, kind: Kind, before: Path) -> Iterator[str]:
    """A sentence about each setting that the data decide, and decide otherwise than those of the data set before."""
    try:
        old = read_json(before)
    except MetaloomError:  # there is none
        return
    own = getattr(settings, kind.name).model_dump()
    for name, value in kind.described().items():
        if own.get(name) == AUTO and old.get(name, value) != value:
            yield f"{kind.name}.{name} is {value}, and was {old[name]} with the data before: models learn from it again"


if __name__ == "__main__":
    run_stage(main)
