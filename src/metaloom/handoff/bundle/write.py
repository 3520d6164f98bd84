"""Write a bundle: whole and verified, or not at all. The same inputs give the same bytes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metaloom.config import ExportSettings
from metaloom.errors import MetaloomError
from metaloom.handoff.bundle.card import model_card
from metaloom.handoff.bundle.contents import TOLERANCE, TOLERANCE_OF_STEPS, Contents, about
from metaloom.handoff.bundle.golden import write_learning_samples, write_plain_samples, write_samples
from metaloom.handoff.bundle.page import SHOTS, write_page
from metaloom.handoff.bundle.signing import sign
from metaloom.handoff.graphs.costs import variant_tolerance, variants, variants_of_encoder
from metaloom.handoff.graphs.learning import learning_graphs
from metaloom.handoff.graphs.plain import plain_to_onnx
from metaloom.handoff.graphs.task import head_tensors, to_onnx
from metaloom.handoff.metadata import Cost, Graph, Metadata, Taken
from metaloom.handoff.shipped import verify
from metaloom.kinds import Kind
from metaloom.system.files import atomic_dir, sha256, write_json
from metaloom.system.terminal import say


class GraphFile(NamedTuple):
    """A graph's file, and what metadata.json says of it."""

    data: bytes
    about: Graph

    @classmethod
    def of(cls, data: bytes, tolerance: float, samples: list[str] | None = None) -> GraphFile:
        """A file that answers within a tolerance, on these golden samples or on all."""
        return cls(data, Graph(tolerance=tolerance, bytes=len(data), samples=samples))


def write_bundle(folder: str | Path, contents: Contents, export: ExportSettings) -> str:
    """Write, verify, then put in place.

    Args:
        folder: where; a bundle that stands there is replaced.
        contents: what goes into it.
        export: versions of ONNX and the largest number of ways.

    Returns:
        A line of what was verified.

    Raises:
        MetaloomError: the bundle does not verify, or versions of ONNX do not fit; `folder` is as it was.
    """
    with atomic_dir(Path(folder).absolute()) as new:
        fill_folder(new, contents, export)
        summary = verified(new, folder)
        if export.key:
            sign(new, export.key)
    return summary


def verified(new: Path, folder: str | Path, with_onnx: bool = True) -> str:
    """A line of what was verified of a bundle that is going to be put in place.

    Args:
        new: the bundle.
        folder: where it is going to be, for the message.
        with_onnx: whether its graphs go through ONNX's checker, too.

    Raises:
        MetaloomError: it does not verify.
    """
    verdict = verify.verify(new, with_onnx=with_onnx)
    if verdict.problems:
        raise MetaloomError(f"{folder} is as it was, the new bundle does not verify: {'; '.join(verdict.problems)}")
    return verdict.summary


def fill_folder(folder: Path, contents: Contents, export: ExportSettings) -> None:
    """All files of a bundle, the checksums last."""
    metadata, labels, samples = contents.metadata, contents.labels, folder / verify.SAMPLES
    model = to_onnx(contents.task, contents.novelty, export, about(metadata, labels))
    graphs = {verify.MODEL: GraphFile.of(model, TOLERANCE)}
    write_samples(samples, contents)
    if "plain" in export.variants:
        graphs[verify.PLAIN] = _plain(contents, export)
        write_plain_samples(samples, contents)
    costs: dict[str, Cost] = {}
    if contents.learner:
        graphs |= _learning(contents, export)
        write_learning_samples(samples, contents.learner, contents, export.max_ways)
        if contents.asked:
            smaller, costs = _variants(model, samples, contents, export)
            graphs |= smaller
    kind = contents.task.encoding.kind
    if export.page:
        _write_page(folder, graphs, contents, insist=export.page is True)
    put_together(folder, graphs, labels, metadata.model_copy(update={"variants": costs}), kind)


def _plain(contents: Contents, export: ExportSettings) -> GraphFile:
    """The form for runtimes of devices."""
    encoding = contents.task.encoding
    data = plain_to_onnx(contents.task, contents.novelty, export, about(contents.metadata, contents.labels))
    taken = Taken(
        name=verify.PREPARED, type="float32", shape=[1, *encoding.shape], description=encoding.prepared_in_words()
    )
    return GraphFile(data, Graph(tolerance=TOLERANCE, bytes=len(data), input=taken))


def _learning(contents: Contents, export: ExportSettings) -> dict[str, GraphFile]:
    """The graphs that learn, by file."""
    assert contents.learner is not None
    steps = not contents.learner.method.frozen
    made = learning_graphs(contents.learner, export, about(contents.metadata, []))
    return {name: GraphFile.of(data, TOLERANCE_OF_STEPS if steps else TOLERANCE) for name, data in made.items()}


def _variants(
    model: bytes, samples: Path, contents: Contents, export: ExportSettings
) -> tuple[dict[str, GraphFile], dict[str, Cost]]:
    """The smaller forms of model.onnx and what they cost, by file."""
    assert contents.learner is not None and contents.asked is not None
    encoding = contents.task.encoding
    names = sorted(encoding.golden(contents.examples[:1]).keys() - set(encoding.extreme))
    told = about(contents.metadata, contents.labels)
    if encoding.kind.behind:
        made = variants_of_encoder(
            model, contents.task, contents.novelty, contents.learner, contents.asked, export, told
        )
    else:
        made = variants(model, contents.learner, contents.asked, export, told)
    smaller = {
        name: GraphFile.of(data, variant_tolerance(data, samples, names), names) for name, (data, _) in made.items()
    }
    return smaller, {name: cost for name, (_, cost) in made.items()}


def _write_page(folder: Path, graphs: Mapping[str, GraphFile], contents: Contents, insist: bool) -> None:
    """The page, or a line that says why there is none; only `export.page: true` makes that an error."""
    encoding = contents.task.encoding
    try:
        if encoding.kind.page.is_file():
            examples = [encoding.for_page(contents.support_x[rows]) for rows in _first_of_each(contents.support_y)]
            data = {name: file.data for name, file in graphs.items()}
            head = head_tensors(contents.task.model.head, contents.novelty) if verify.LEARN in graphs else {}
            numbers = {name: value.numpy() for name, value in head.items()}
            write_page(folder, encoding.kind, data, contents.labels, contents.metadata, examples, numbers)
        elif insist:
            raise MetaloomError(f"there is no page for {encoding.kind.name}: set export.page to auto or false")
    except MetaloomError as error:
        if insist:
            raise
        say(f"the bundle has no index.html: {error}")


def _first_of_each(ways: np.ndarray) -> list[np.ndarray]:
    """Rows of the first examples of each class, as many as a page may hold."""
    return [np.flatnonzero(ways == way)[:SHOTS] for way in np.unique(ways)]


def put_together(
    folder: Path,
    graphs: Mapping[str, GraphFile],
    labels: list[str] | dict[str, list[str]],
    metadata: Metadata,
    kind: Kind,
) -> None:
    """All files of a bundle but its samples, which are there already; the checksums last.

    Args:
        folder: of the bundle.
        graphs: by the names of their files.
        labels: class names in the order of the outputs.
        metadata: without what there is to say about the graphs.
        kind: of example, which brings example.py and further files.
    """
    metadata = metadata.model_copy(update={"graphs": {name: file.about for name, file in graphs.items()}})
    for name, file in graphs.items():
        (folder / name).write_bytes(file.data)
    write_json(folder / verify.LABELS, labels)
    write_json(folder / verify.METADATA, metadata.plain())
    (folder / "MODEL_CARD.md").write_text(model_card(metadata, labels), encoding="utf-8")
    own = {path.name: path for path in (Path(verify.__file__), kind.shipped / "example.py")}
    if verify.PLAIN in graphs and (kind.shipped / "plain.py").is_file():
        own["plain.py"] = kind.shipped / "plain.py"
    for name, source in (own | kind.travelling).items():
        shutil.copyfile(source, folder / name)
    write_sums(folder)


def write_sums(folder: Path) -> None:
    """SHA256SUMS, of all other files."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    text = "".join(f"{sha256(folder / name)}  {name}\n" for name in files)
    (folder / verify.SUMS).write_text(text, encoding="utf-8")
