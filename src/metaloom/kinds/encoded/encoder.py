"""A frozen encoder: one ONNX file from packed pictures to embeddings, and how it is run."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped

from metaloom.errors import MetaloomError
from metaloom.system.files import sha256
from metaloom.system.parallel import cores

ENCODER = "encoder.onnx"  # the file's name in the folder of the stage `embed`
PICTURES, EMBEDDING = "pictures", "embedding"  # names of the graph's input and output
BATCH = (
    32  # examples that pass it together; always so many, so that their last bits do not depend on the machine's cores
)


@dataclass(frozen=True)
class Encoder:
    """What is known of it without opening its file.

    Args:
        file: that the stage `embed` has written.
        sha256: of the file.
        name: of the encoder, for a person.
        embed: length of an embedding.
    """

    file: str
    sha256: str
    name: str
    embed: int

    @classmethod
    def of(cls, path: Path, file: str, name: str) -> Encoder:
        """An encoder whose file is going to be called otherwise than it is now.

        Raises:
            MetaloomError: onnxruntime refuses it, or it is no encoder.
        """
        session = session_of(path.read_bytes(), name)
        return cls(file, sha256(path), name, probed(session, name))

    def checked(self) -> Path:
        """Its file, which must be the one that the model was trained on.

        Raises:
            MetaloomError: it is absent or another one.
        """
        path = Path(self.file)
        if not path.is_file():
            raise MetaloomError(
                f"{path}, the encoder {self.name}, not found: `dvc repro embed` or `dvc checkout` has it"
            )
        if sha256(path) != self.sha256:
            raise MetaloomError(f"{path} is another encoder than the model was trained on: `dvc repro` trains again")
        return path

    def __call__(self, packed: Shaped[np.ndarray, "item ..."]) -> Float32[np.ndarray, "item embed"]:
        """Embeddings of packed examples.

        Raises:
            MetaloomError: the file is absent or another one, or an embedding has a number that is none.
        """
        parts = list(self.batches(packed))
        return np.concatenate(parts) if parts else np.zeros((0, self.embed), np.float32)

    def batches(self, packed: Shaped[np.ndarray, "item ..."]) -> Iterator[Float32[np.ndarray, "batch embed"]]:
        """The same batch by batch; each is run on one core, and as many at once as there are cores."""
        session = _session(self)

        def run(start: int) -> np.ndarray:
            return np.asarray(session.run([EMBEDDING], {PICTURES: packed[start : start + BATCH]})[0])

        with ThreadPoolExecutor(min(cores(), max(1, -(-len(packed) // BATCH)))) as pool:
            yield from pool.map(run, range(0, len(packed), BATCH))


def session_of(data: bytes, name: str) -> Any:
    """A session of onnxruntime with one thread; raises MetaloomError where it refuses the graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except _refusals() as error:
        raise MetaloomError(f"encoder {name}: onnxruntime refuses it: {' '.join(str(error).split())}") from None


def probed(session: Any, name: str) -> int:
    """Length of an embedding, found by two pictures.

    Raises:
        MetaloomError: it takes one picture at a time, mixes those of a batch, or gives something else than a row of
            numbers for each.
    """
    _, *size = session.get_inputs()[0].shape
    pictures = np.random.default_rng(0).integers(0, 256, (2, *size), np.uint8)
    try:
        both, alone = (np.asarray(session.run([EMBEDDING], {PICTURES: some})[0]) for some in (pictures, pictures[:1]))
    except _refusals() as error:
        why = " ".join(str(error).split())
        raise MetaloomError(
            f"encoder {name} does not take two pictures at once ({why}): export it with any batch"
        ) from None
    if both.dtype != np.float32 or both.ndim != 2 or len(both) != 2 or not both.shape[1]:
        raise MetaloomError(
            f"encoder {name} gives {both.dtype} {both.shape} for two pictures, where (2, embed) of float32 is needed: "
            "pool what it gives when you export it, or name another in encoder.output"
        )
    if not np.isfinite(both).all():
        raise MetaloomError(f"encoder {name} gives {odd(both)}: look at encoder.mean, encoder.deviation and the file")
    if np.abs(both[:1] - alone).max() > 1e-3 * max(1.0, float(np.abs(alone).max())):
        raise MetaloomError(
            f"encoder {name} answers otherwise for a picture alone than beside another: export it in evaluation mode"
        )
    return both.shape[1]


def odd(rows: np.ndarray) -> str:
    """What is among the numbers that is none."""
    return "NaN" if np.isnan(rows).any() else "infinity"


@lru_cache(maxsize=4)
def _session(encoder: Encoder) -> Any:
    return session_of(encoder.checked().read_bytes(), encoder.name)


def _refusals() -> tuple[type[Exception], ...]:
    """All of onnxruntime's own exceptions: they have no class in common."""
    import onnxruntime.capi.onnxruntime_pybind11_state as state  # pyright: ignore[reportMissingImports] (compiled)

    own = (each for each in vars(state).values() if isinstance(each, type))
    return tuple(each for each in own if issubclass(each, Exception))
