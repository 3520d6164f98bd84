"""A frozen encoder: one ONNX file from packed examples to embeddings, and how it is run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

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

    given: ClassVar[str] = PICTURES  # name of the graph's input
    remedy: ClassVar[str] = "look at encoder.mean, encoder.deviation and the file"  # where it gives NaN

    @classmethod
    def of(cls, path: Path, file: str, name: str) -> Encoder:
        """An encoder whose file is going to be called otherwise than it is now.

        Raises:
            MetaloomError: onnxruntime refuses it, or it is no encoder.
        """
        session = session_of(path.read_bytes(), name)
        _, *size = session.get_inputs()[0].shape
        pictures = np.random.default_rng(0).integers(0, 256, (2, *size), np.uint8)
        return cls(file, sha256(path), name, probed(session, name, pictures, pictures[:1], "picture", cls.remedy))

    @property
    def in_words(self) -> str:
        """Its name, and how long its embeddings are."""
        return f"{self.name} ({self.embed:,} numbers)"

    @property
    def identity(self) -> str:
        """Changes with anything that would change an embedding."""
        return self.sha256

    def at(self, folder: Path) -> Encoder:
        """The same, in the folder where the stage `embed` is writing it."""
        return replace(self, file=str(folder / ENCODER))

    def checked(self) -> Path:
        """Its file, which must be the one that the model was trained on.

        Raises:
            MetaloomError: it is absent or another one.
        """
        return self.same(self.file, self.sha256, "the encoder")

    def same(self, file: str, expected: str, what: str) -> Path:
        """The path of a file, where its hash is the one expected."""
        path = Path(file)
        if not path.is_file():
            raise MetaloomError(f"{path}, {what} {self.name}, not found: `dvc repro embed` or `dvc checkout` has it")
        if sha256(path) != expected:
            raise MetaloomError(
                f"{path} is another {what.split()[1]} than the model was trained on: `dvc repro` trains again"
            )
        return path

    def inputs(self, packed: Shaped[np.ndarray, "item ..."]) -> Iterable[np.ndarray]:
        """Packed examples as the graph takes each."""
        return packed

    def __call__(self, packed: Shaped[np.ndarray, "item ..."]) -> Float32[np.ndarray, "item embed"]:
        """Embeddings of packed examples.

        Raises:
            MetaloomError: the file is absent or another one, or an embedding has a number that is none.
        """
        parts = list(self.batches(packed))
        return np.concatenate(parts) if parts else np.zeros((0, self.embed), np.float32)

    def batches(self, packed: Shaped[np.ndarray, "item ..."]) -> Iterator[Float32[np.ndarray, "batch embed"]]:
        """The same batch by batch; each is run on one core, and as many at once as there are cores."""
        return self.run([packed[start : start + BATCH] for start in range(0, len(packed), BATCH)])

    def run(self, batches: list[np.ndarray]) -> Iterator[np.ndarray]:
        """Rows (batch, embed) for batches of any sizes of what the graph takes."""
        session = _session(self)

        def run(batch: np.ndarray) -> np.ndarray:
            return np.asarray(session.run([EMBEDDING], {self.given: batch})[0])

        with ThreadPoolExecutor(min(cores(), max(1, len(batches)))) as pool:
            yield from pool.map(run, batches)


def session_of(data: bytes, name: str) -> Any:
    """A session of onnxruntime with one thread; raises MetaloomError where it refuses the graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except refusals() as error:
        raise MetaloomError(f"encoder {name}: onnxruntime refuses it: {' '.join(str(error).split())}") from None


def probed(
    session: Any,
    name: str,
    both: Shaped[np.ndarray, "2 ..."],
    alone: Shaped[np.ndarray, "1 ..."],
    one: str,
    remedy: str,
) -> int:
    """Length of an embedding, found by two examples.

    Args:
        session: of the encoder.
        name: of the encoder.
        both: two examples.
        alone: the first of them.
        one: what an example is called.
        remedy: where it gives NaN.

    Raises:
        MetaloomError: it takes one example at a time, mixes those of a batch, or gives something else than a row of
            numbers for each.
    """
    given = session.get_inputs()[0].name
    try:
        rows, own = (np.asarray(session.run([EMBEDDING], {given: some})[0]) for some in (both, alone))
    except refusals() as error:
        why = " ".join(str(error).split())
        raise MetaloomError(
            f"encoder {name} does not take two {one}s at once ({why}): export it with any batch"
        ) from None
    if rows.dtype != np.float32 or rows.ndim != 2 or len(rows) != 2 or not rows.shape[1]:
        raise MetaloomError(
            f"encoder {name} gives {rows.dtype} {rows.shape} for two {one}s, where (2, embed) of float32 is needed: "
            "pool what it gives when you export it, or name another in encoder.output"
        )
    if not np.isfinite(rows).all():
        raise MetaloomError(f"encoder {name} gives {odd(rows)}: {remedy}")
    if np.abs(rows[:1] - own).max() > 1e-3 * max(1.0, float(np.abs(own).max())):
        raise MetaloomError(
            f"encoder {name} answers otherwise for a {one} alone than beside another: export it in evaluation mode, "
            "with quantised weights alone if at all"
        )
    return rows.shape[1]


def odd(rows: np.ndarray) -> str:
    """What is among the numbers that is none."""
    return "NaN" if np.isnan(rows).any() else "infinity"


@lru_cache(maxsize=4)
def _session(encoder: Encoder) -> Any:
    return session_of(encoder.checked().read_bytes(), encoder.name)


def refusals() -> tuple[type[Exception], ...]:
    """All of onnxruntime's own exceptions: they have no class in common."""
    import onnxruntime.capi.onnxruntime_pybind11_state as state  # pyright: ignore[reportMissingImports] (compiled)

    own = (each for each in vars(state).values() if isinstance(each, type))
    return tuple(each for each in own if issubclass(each, Exception))
