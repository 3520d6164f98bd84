"""DVC stage `embed`: a frozen encoder sees every example once, and later stages learn on its embeddings."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from metaloom.config import load_settings
from metaloom.data.packed import BEHIND, EXAMPLES, KIND, Dataset
from metaloom.errors import MetaloomError
from metaloom.kinds import ENCODER, Encoder, beside_encoder, packed_for, seen_by
from metaloom.stages import run_stage
from metaloom.system.arrays import reserved
from metaloom.system.files import READ, atomic_dir, makes_again, read_json, sha256, write_json
from metaloom.system.terminal import bar, say

SCRATCH = Path(".metaloom/embeddings")  # outside the stage's outputs: DVC clears those before a run
BLOCK = 1024  # examples after which what is finished is on the disk, for a run that goes on from there
DONE = "done.json"


def main(dataset: str, embedded: str) -> None:
    """Write the folder `embedded`: the encoder, its rows for all examples, and where the examples are; without an
    encoder the last alone.

    Raises:
        MetaloomError: the encoder cannot be read or is not understood, takes other examples than the data set has, or
            gives what is no number; an older `embedded` then stays as it is.
    """
    settings = load_settings()
    if settings.encoder.file is None:
        with atomic_dir(embedded) as folder:
            write_json(folder / BEHIND, {"dataset": dataset})
        return
    packed = Dataset.load(dataset)
    if not packed_for(packed.kind, settings):
        raise MetaloomError(f"{dataset} is not packed as {settings.encoder.file} takes it: {makes_again('prepare')}")
    with atomic_dir(embedded) as folder, bar("embed", len(packed.items)) as progress:
        kind = seen_by(packed.kind, settings.encoder, settings.export, folder, f"{embedded}/{ENCODER}")
        write_json(folder / BEHIND, {"dataset": dataset})
        write_json(folder / READ, {file: sha256(file) for file in beside_encoder(packed.kind, settings.encoder)})
        write_json(folder / KIND, kind.described())
        here = kind.encoder.at(folder)
        write_embeddings(
            folder / EXAMPLES, packed, here, SCRATCH, lambda done: progress.update(done, kind.encoder.name)
        )
    say(f"{kind.encoder.name}: {len(packed.items):,} {kind.many} → {kind.encoder.embed} numbers each in {embedded}")


def write_embeddings(
    target: Path, packed: Dataset, encoder: Encoder, scratch: Path, on_done: Callable[[int], None]
) -> None:
    """The rows of all examples, (item, embed) float32, in their order.

    Args:
        target: .npy file that is going to be written.
        packed: the examples.
        encoder: that sees them.
        scratch: folder for what is unfinished; whoever goes on finds it there.
        on_done: is called with how many are finished.

    Raises:
        MetaloomError: the encoder gives NaN or an infinity, or the disk is full.
    """
    rows, done = _begun(scratch, packed, encoder)
    for start in range(done, len(packed.items), BLOCK):
        place = start
        for batch in encoder.batches(packed.examples[start : start + BLOCK]):
            _check(batch, packed, place, encoder)
            rows[place : place + len(batch)] = batch
            place += len(batch)
            on_done(place)
        rows.flush()
        packed.let_go()
        write_json(scratch / DONE, _state(packed, encoder, place))
    del rows
    target.unlink(missing_ok=True)
    shutil.move(scratch / EXAMPLES, target)
    shutil.rmtree(scratch)


def _begun(scratch: Path, packed: Dataset, encoder: Encoder) -> tuple[np.memmap, int]:
    """The array, and how many of its rows are finished: of this very encoder, for these very examples."""
    if (scratch / DONE).is_file() and (scratch / EXAMPLES).is_file():
        with suppress(MetaloomError, ValueError, OSError):  # what is damaged is made again
            found = read_json(scratch / DONE)
            done = found.get("done") if isinstance(found, dict) else None
            rows = np.lib.format.open_memmap(scratch / EXAMPLES, mode="r+")
            whole = (rows.dtype, rows.shape) == (np.float32, (len(packed.items), encoder.embed))
            if whole and isinstance(done, int) and found == _state(packed, encoder, done):
                return rows, done
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    return reserved(scratch / EXAMPLES, np.dtype(np.float32), (len(packed.items), encoder.embed)), 0


def _state(packed: Dataset, encoder: Encoder, done: int) -> dict[str, str | int]:
    """What is finished, and of what: an example's hash is of its file, and the encoder's of how it is read, too."""
    hashed = hashlib.sha256("\n".join(packed.items["sha256"]).encode())
    hashed.update(repr((packed.kind.described(), packed.examples.shape)).encode())
    return {"examples": hashed.hexdigest(), "encoder": encoder.identity, "done": done}


def _check(batch: np.ndarray, packed: Dataset, place: int, encoder: Encoder) -> None:
    finite = np.isfinite(batch).all(axis=1)
    if not finite.all():
        source = packed.items["source"].iloc[place + int(np.argmin(finite))]
        raise MetaloomError(
            f"encoder {encoder.name} gives NaN or an infinity for {source}: look at it; {encoder.remedy}"
        )


if __name__ == "__main__":
    run_stage(main)
