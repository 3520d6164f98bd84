"""Check a bundle. Needs nothing but Python 3.10, numpy and onnxruntime, and is part of every bundle.

    python verify.py [BUNDLE]

Exit codes: 0 verified, 1 something is wrong with the bundle (one line each), 2 wrong usage.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import onnxruntime.capi.onnxruntime_pybind11_state as ort_state  # pyright: ignore[reportMissingImports] (compiled)

FORMAT = 1  # of bundles, the newest that this file knows
SUMS, MODEL, LABELS, METADATA = "SHA256SUMS", "model.onnx", "labels.json", "metadata.json"
INPUT, OUTPUT = "images", "probabilities"
LOOSEST_TOLERANCE = 1e-2  # golden samples prove nothing when more is allowed
RUNTIME_ERRORS = tuple(
    kind for kind in vars(ort_state).values() if isinstance(kind, type) and issubclass(kind, Exception)
)

Field = tuple[int, int | memoryview]  # of a protocol buffer message: number and value


class Verdict(NamedTuple):
    """What is wrong, one line each (nothing: verified), and a line of what was checked."""

    problems: list[str]
    summary: str


class Bundle(NamedTuple):
    """An opened bundle: its files are whole and fit each other, its answers are not checked yet."""

    session: onnxruntime.InferenceSession
    labels: list[str]
    metadata: dict[str, Any]


def verify(folder: str | Path) -> Verdict:
    """Check files, metadata, labels, the graph and its answers on the golden samples, in this order.

    A step that finds something wrong is the last one: what follows would stand on it.
    """
    folder = Path(folder)
    bundle, problems = open_bundle(folder)
    if bundle is None:
        return Verdict(problems, "")
    try:
        return _check_samples(bundle, folder / "samples")
    except RUNTIME_ERRORS as error:
        return Verdict([f"{MODEL}: fails on a golden sample: {_one_line(error)}"], "")


def open_bundle(folder: Path) -> tuple[Bundle | None, list[str]]:
    """Open a bundle, or say why it is none to rely on."""
    problems = check_files(folder)
    if problems:
        return None, problems
    metadata, labels = _read_json(folder / METADATA), _read_json(folder / LABELS)
    problems = _check_metadata(metadata) or _check_labels(labels)
    problems = problems or _check_graph((folder / MODEL).read_bytes(), metadata)
    if problems:
        return None, problems
    try:
        session = _load_session(folder / MODEL)
    except RUNTIME_ERRORS as error:
        return None, [f"{MODEL}: onnxruntime {onnxruntime.__version__} refuses it: {_one_line(error)}"]
    problems = _check_interface(session, metadata["input"]["channels"], len(labels))
    return (None, problems) if problems else (Bundle(session, labels, metadata), [])


def _load_session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; they reach the caller as exceptions anyway
    return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


# --- files


def check_files(folder: Path) -> list[str]:
    """Compare every file with SHA256SUMS, which `sha256sum -c` reads too."""
    if not folder.is_dir():
        return [f"{folder} is no bundle: there is no such folder"]
    if not (folder / SUMS).is_file():
        return [f"{folder} is no bundle: it has no {SUMS}"]
    expected: dict[str, str] = {}
    for number, line in enumerate((folder / SUMS).read_bytes().decode("utf-8", "replace").splitlines(), start=1):
        digest, gap, name = line.partition("  ")
        if len(digest) != 64 or not gap or not _is_plain(name):
            return [f"{SUMS}: line {number} is no checksum of a file in the bundle"]
        expected[name] = digest
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not _is_folder(path)}
    found.pop(SUMS)
    problems = [f"{name}: missing" for name in (MODEL, LABELS, METADATA) if name not in expected]
    problems += [f"{name}: missing" for name in sorted(expected.keys() - found.keys())]
    problems += [f"{name}: not listed in {SUMS}" for name in sorted(found.keys() - expected.keys())]
    for name in sorted(expected.keys() & found.keys()):
        path = found[name]
        if path.is_symlink() or not path.is_file():
            problems.append(f"{name}: a link, where a file should be")
        elif _sha256(path) != expected[name]:
            problems.append(f"{name}: its content has changed (checksum differs)")
    return list(dict.fromkeys(problems))


def _is_plain(name: str) -> bool:
    return bool(name) and not name.startswith("/") and "\\" not in name and ".." not in name.split("/")


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


# --- metadata and labels


def _check_metadata(metadata: Any) -> list[str]:
    version = metadata.get("format") if isinstance(metadata, dict) else None
    if not isinstance(version, str) or not version.isdecimal():
        return [f"{METADATA}: no JSON object with a format version"]
    if int(version) > FORMAT:
        return [f"{METADATA}: format {version} is newer than this verifier knows ({FORMAT}); use a newer one"]
    problems = []
    if not isinstance(_at(metadata, "input", "channels"), int):
        problems.append(f"{METADATA}: input.channels is missing")
    for name in ("opset", "ir_version"):
        if not isinstance(_at(metadata, "onnx", name), int):
            problems.append(f"{METADATA}: onnx.{name} is missing")
    tolerance = metadata.get("tolerance")
    if not isinstance(tolerance, float) or not 0 < tolerance <= LOOSEST_TOLERANCE:
        problems.append(f"{METADATA}: tolerance is {tolerance}, not between 0 and {LOOSEST_TOLERANCE}")
    return problems


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _check_labels(labels: Any) -> list[str]:
    if not isinstance(labels, list) or not all(isinstance(label, str) and label for label in labels):
        return [f"{LABELS}: no list of class names"]
    if len(set(labels)) < len(labels):
        return [f"{LABELS}: a class name stands there twice"]
    return []


# --- the graph, read without the onnx package


def _check_graph(data: bytes, metadata: Any) -> list[str]:
    """Versions, operators outside ONNX's own set, weights outside the file; before any runtime sees it."""
    try:
        model = list(_fields(memoryview(data)))
        ir_version = next((value for number, value in model if number == 1), None)
        opsets = {_text(entry, 1): _number(entry, 2) for entry in _parts(model, 8)}
        graphs = _parts(model, 7)
        problems = [f"{MODEL}: defines functions of its own"] if _parts(model, 25) else []
        problems += [problem for graph in graphs for problem in _check_nodes(graph)]
    except (ValueError, IndexError, AttributeError):
        return [f"{MODEL}: no ONNX file"]
    if len(graphs) != 1:
        return [f"{MODEL}: no ONNX file"]
    for name, found in (("ir_version", ir_version), ("opset", opsets.get("", opsets.get("ai.onnx")))):
        if found != metadata["onnx"][name]:
            problems.append(f"{MODEL}: its {name} is {found}, {METADATA} says {metadata['onnx'][name]}")
    problems += [f"{MODEL}: needs operators of {domain!r}" for domain in opsets if domain not in ("", "ai.onnx")]
    return list(dict.fromkeys(problems))


def _check_nodes(graph: list[Field]) -> Iterator[str]:
    for tensor in _parts(graph, 5):
        yield from _check_tensor(tensor)
    for node in _parts(graph, 1):
        if _text(node, 7) not in ("", "ai.onnx"):
            yield f"{MODEL}: operator {_text(node, 4)} is of {_text(node, 7)!r}, not of ONNX"
        for attribute in _parts(node, 5):
            for tensor in _parts(attribute, 5) + _parts(attribute, 10):
                yield from _check_tensor(tensor)
            for subgraph in _parts(attribute, 6) + _parts(attribute, 11):
                yield from _check_nodes(subgraph)


def _check_tensor(tensor: list[Field]) -> Iterator[str]:
    if _number(tensor, 14) == 1 or _parts(tensor, 13):
        yield f"{MODEL}: keeps weights ({_text(tensor, 8)}) in another file"


def _parts(message: list[Field], number: int) -> list[list[Field]]:
    return [list(_fields(value)) for key, value in message if key == number and isinstance(value, memoryview)]


def _text(message: list[Field], number: int) -> str:
    return next((bytes(v).decode() for n, v in message if n == number and isinstance(v, memoryview)), "")


def _number(message: list[Field], number: int) -> int:
    return next((v for n, v in message if n == number and isinstance(v, int)), 0)


def _fields(data: memoryview) -> Iterator[Field]:
    """Fields of one protocol buffer message: (number, integer or bytes)."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        if key & 7 == 0:
            value, place = _varint(data, place)
            yield key >> 3, value
            continue
        if key & 7 == 2:
            size, place = _varint(data, place)
        elif key & 7 in (1, 5):
            size = 8 if key & 7 == 1 else 4
        else:
            raise ValueError("no protocol buffer")
        if place + size > len(data):
            raise ValueError("cut off")
        yield key >> 3, data[place : place + size]
        place += size


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place


# --- answers


def _check_interface(session: onnxruntime.InferenceSession, channels: int, n_way: int) -> list[str]:
    outputs = session.get_outputs()
    if len(outputs) == 1 and outputs[0].shape[1:] not in ([n_way], [None]):
        return [f"{LABELS}: {n_way} labels for {outputs[0].shape[-1]} probabilities"]
    problems = []
    for what, found, wanted in (
        ("input", session.get_inputs(), f"{INPUT} tensor(uint8) [any, any, any, {channels}]"),
        ("output", outputs, f"{OUTPUT} tensor(float) [any, {n_way}]"),
    ):
        shown = " and ".join(_signature(value) for value in found)
        if shown != wanted:
            problems.append(f"{MODEL}: its {what} is {shown}, not {wanted}")
    return problems


def _signature(value: Any) -> str:
    shape = ", ".join(str(size) if isinstance(size, int) else "any" for size in value.shape)
    return f"{value.name} {value.type} [{shape}]"


def _check_samples(bundle: Bundle, folder: Path) -> Verdict:
    """The golden samples: the same probabilities as where the model was made, alone and in a batch."""
    problems: list[str] = []
    worst, images_seen, tolerance = 0.0, 0, bundle.metadata["tolerance"]
    paths = sorted(folder.glob("*.images.npy"))
    for path in paths:
        name = path.name.removesuffix(".images.npy")
        try:
            images = np.load(path, allow_pickle=False)
            expected = np.load(folder / f"{name}.probabilities.npy", allow_pickle=False)
        except (OSError, ValueError) as error:
            problems.append(f"samples/{name}: cannot be read ({_one_line(error)})")
            continue
        if not _fits(images, expected, bundle):
            what = f"{images.dtype} images {images.shape}, probabilities {expected.shape}"
            problems.append(f"samples/{name}: {what} do not fit the model")
            continue
        alone = np.concatenate([_run(bundle, image[None]) for image in images])
        for how, answer in (("together", _run(bundle, images)), ("one by one", alone)):
            difference = float(np.abs(answer - expected).max())
            worst = max(worst, difference)
            if not difference <= tolerance:  # also where it is NaN
                problems.append(
                    f"samples/{name}: asked {how}, probabilities differ by {difference:.1e}; "
                    f"the bundle allows {tolerance:.0e}"
                )
        images_seen += len(images)
    if not paths:
        problems.append("samples: there are none")
    return Verdict(
        problems,
        f"{len(bundle.labels)} classes, {images_seen} golden images within {tolerance:.0e} "
        f"(largest difference {worst:.1e})",
    )


def _fits(images: np.ndarray, expected: np.ndarray, bundle: Bundle) -> bool:
    channels, wanted = bundle.metadata["input"]["channels"], (len(images), len(bundle.labels))
    whole = images.ndim == 4 and images.size > 0 and images.dtype == np.uint8
    return whole and images.shape[3] == channels and expected.shape == wanted


def _run(bundle: Bundle, images: np.ndarray) -> np.ndarray:
    return np.asarray(bundle.session.run([OUTPUT], {INPUT: images})[0])


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def main(arguments: list[str]) -> int:
    if len(arguments) > 1 or any(each.startswith("-") for each in arguments):
        print("usage: verify.py [BUNDLE]   (without BUNDLE: the folder that verify.py is in)", file=sys.stderr)
        return 2
    bundle = Path(arguments[0]) if arguments else Path(__file__).resolve().parent
    verdict = verify(bundle)
    for problem in verdict.problems:
        print(f"not verified: {problem}", file=sys.stderr)
    if not verdict.problems:
        print(f"verified: {bundle}: {verdict.summary}")
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
