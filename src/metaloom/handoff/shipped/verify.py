"""Check a bundle. Needs nothing but Python 3.10, numpy and onnxruntime, and is part of every bundle.

Where the packages onnx and, for texts behind an encoder, tokenizers are installed, they are asked too.

    python verify.py [BUNDLE] [--provider NAME] [--seconds N] [--gigabytes N]

A bundle may come from a stranger: it is opened in a child process with limits of time and memory; --here does without.

Exit codes: 0 verified, 1 something is wrong with the bundle (one line each), 2 wrong usage.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import tokenize
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import onnxruntime.capi.onnxruntime_pybind11_state as ort_state  # pyright: ignore[reportMissingImports] (compiled)

CPU = "CPUExecutionProvider"
FORMAT = 3  # of bundles, the one that this file knows
SUMS, LABELS, METADATA, SAMPLES = "SHA256SUMS", "labels.json", "metadata.json", "samples"
LARGEST_SUMS = 2**24  # bytes: some 100,000 files
# what NumPy makes of an array's header that is damaged, beside ValueError
DAMAGED = (SyntaxError, TypeError, LookupError, OverflowError, RuntimeError, tokenize.TokenError, zipfile.BadZipFile)
TOKENIZER = "tokenizer.json"  # of texts behind an encoder
SIGNATURE = "model.sig"  # which is of all files, so no checksum is of it
MODEL, ADAPT, LEARN, CLASSIFY = "model.onnx", "adapt.onnx", "learn.onnx", "classify.onnx"
FLEET = "fleet.onnx"  # in the place of model.onnx: one network, and the heads of many tasks
VARIANTS = ("model.fp16.onnx", "model.int8.onnx")
PLAIN = "model.plain.onnx"  # one prepared example at a time, for runtimes of devices
INPUT, TASK, PREPARED, OUTPUTS = "examples", "task_id", "prepared", ("probabilities", "novelty")
SUPPORT_X, SUPPORT_Y, QUERY = "support_x", "support_y", "query_x"  # of the graphs that learn
HEAD = ("head_weight", "head_bias", "means", "absent", "spread")  # what learn.onnx gives and classify.onnx takes
INTERFACES = {
    **dict.fromkeys((MODEL, *VARIANTS), ((INPUT,), OUTPUTS)),
    PLAIN: ((PREPARED,), OUTPUTS),
    FLEET: ((INPUT, TASK), OUTPUTS),
    ADAPT: ((SUPPORT_X, SUPPORT_Y, QUERY), OUTPUTS),
    LEARN: ((SUPPORT_X, SUPPORT_Y), HEAD),
    CLASSIFY: ((INPUT, *HEAD), OUTPUTS),
}
ANSWERING = (MODEL, FLEET, *VARIANTS, PLAIN)  # for classes that are known
LOOSEST_TOLERANCE = {name: 0.5 if name in VARIANTS else 1e-2 for name in INTERFACES}  # more would prove nothing
RUNTIME_ERRORS = tuple(
    kind for kind in vars(ort_state).values() if isinstance(kind, type) and issubclass(kind, Exception)
)

EXAMPLES = (INPUT, SUPPORT_X, QUERY)  # inputs that are raw examples, as metadata.json describes them
TEXT = "str_"  # numpy's name of the type of texts
TEXTS_ALONE = {
    ("com.microsoft", "Tokenizer")
}  # operators of onnxruntime itself that a graph may have, if it takes texts
NUMBERS = {SUPPORT_Y: SUPPORT_X, TASK: INPUT}  # inputs that have a whole number for each of those examples
TYPES = {
    "float32": "float",
    "float64": "double",
    TEXT: "string",
}  # numpy's names in onnxruntime's words, where they differ

OPTIONS = {"--provider": CPU, "--seconds": "600", "--gigabytes": "8"}
HERE = "--here"
LONGEST_VALUE = 60  # characters of it in a line
LONGEST, LARGEST = 1e6, 1e18  # seconds and bytes that the system can count to
USAGE = """usage: verify.py [BUNDLE] [--provider NAME] [--seconds N] [--gigabytes N] [--here]
without BUNDLE: the folder that verify.py is in; --here: without a child process and its limits"""

FLOAT32_BITS, LEAST_BITS = 23, 16  # after the point; of a product, below which it is none of float32
FACTORS = np.array([*(1 + 2.0**-k for k in range(1, FLOAT32_BITS + 1)), 2.0**17], np.float32)  # the last is large
FORMATS = {
    (7, True): "bfloat16",
    (10, True): "TF32",
    (10, False): "float16",
}  # by bits, and whether it has the large one
MULTIPLYING = ("MatMul", "Conv")  # names of operators, and of outputs
EXACTLY = {  # how to have providers compute in float32
    "OpenVINOExecutionProvider": 'its option "precision": "FP32" (in OpenVINO itself, INFERENCE_PRECISION_HINT f32)',
    "CUDAExecutionProvider": 'its option "use_tf32": "0"',
    "TensorrtExecutionProvider": 'its options "trt_fp16_enable" and "trt_bf16_enable" off, and NVIDIA_TF32_OVERRIDE=0',
    "CoreMLExecutionProvider": 'its option "MLComputeUnits": "CPUOnly"',
    "QNNExecutionProvider": 'its option "enable_htp_fp16_precision": "0"',
}

Field = tuple[int, int | memoryview]  # of a protocol buffer message: number and value


class Verdict(NamedTuple):
    """What `verify` found.

    Attributes:
        problems: what is wrong, one line each; none: verified.
        summary: what was checked, in one line; empty where the answers were not asked for.
        precision: that the provider computes in less than float32, and what to do; empty where it does not.
    """

    problems: list[str]
    summary: str
    precision: str = ""


class Bundle(NamedTuple):
    """An opened bundle: its files are whole and fit each other, its answers are not checked yet."""

    sessions: dict[str, onnxruntime.InferenceSession]
    labels: Any  # a list of class names, or one for each task
    metadata: dict[str, Any]

    def run(self, graph: str, *inputs: Any) -> list[np.ndarray]:
        """What a graph gives, in the order of its outputs."""
        names, outputs = INTERFACES[graph]
        return [np.asarray(each) for each in self.sessions[graph].run(outputs, dict(zip(names, inputs)))]  # noqa: B905


def verify(folder: str | Path, with_onnx: bool = True, provider: str = CPU) -> Verdict:
    """Check files, metadata, labels, the graphs and their answers on the golden samples, in this order.

    The answers are those of one of onnxruntime's execution providers.

    A step that finds something wrong is the last one: what follows would stand on it.

    Args:
        folder: of the bundle.
        with_onnx: also run ONNX's checker, where installed.
        provider: execution provider that answers.

    Returns:
        Problems, one line each (none: verified), and what was checked.
    """
    folder = Path(folder)
    if problem := _provider_problem(provider):
        return Verdict([problem], "")
    bundle, problems = open_bundle(folder, list(INTERFACES), provider)
    if bundle is None:
        return Verdict(problems, "")
    problems = [problem for name in bundle.sessions if with_onnx for problem in _check_with_onnx(folder / name)]
    problems += _check_tokenizer(folder / TOKENIZER, bundle.metadata["input"])
    if problems:
        return Verdict(problems, "")
    verdict = _check_samples(bundle, folder / SAMPLES)._replace(precision=precision_of(provider))
    return verdict if verdict.problems else verdict._replace(problems=_check_sizes(bundle, folder))


def _provider_problem(name: str) -> str:
    """Why onnxruntime has no such execution provider here; nothing where it has."""
    there = onnxruntime.get_available_providers()
    return "" if name in there else f"onnxruntime {onnxruntime.__version__} has no {name} here, only {', '.join(there)}"


def open_bundle(
    folder: Path, graphs: list[str], provider: str = CPU, threads: int = 0
) -> tuple[Bundle | None, list[str]]:
    """Open a bundle, or say why it is none to rely on.

    Args:
        folder: of the bundle.
        graphs: those to load, of the ones that it has.
        provider: that runs them; what it has not got runs on the CPU.
        threads: that answer a question; 0: one for each core.
    """
    problems = check_files(folder)
    if problems:
        return None, problems
    (metadata, no_metadata), (labels, no_labels) = _read_json(folder / METADATA), _read_json(folder / LABELS)
    problems = [*no_metadata, *no_labels] or _check_metadata(metadata)
    problems = problems or _check_labels(labels, FLEET in metadata["graphs"])
    if problems:
        return None, problems
    n_way = max(map(len, labels.values())) if isinstance(labels, dict) else len(labels)
    names = [name for name in graphs if name in metadata["graphs"]]
    sessions = {}
    loaded = _at_once(lambda name: _load_graph(folder / name, metadata, n_way, provider, threads), names)
    for name, (session, problems) in zip(names, loaded):  # noqa: B905
        if session is None:
            return None, problems
        sessions[name] = session
    problems = _check_told(metadata, labels, n_way)
    return (None, problems) if problems else (Bundle(sessions, labels, metadata), [])


def _at_once(work: Callable[[Any], Any], pieces: Iterable[Any]) -> list[Any]:
    """What the work gives of each piece, in order: onnxruntime leaves Python free while it works."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(work, pieces))


def _load_graph(
    path: Path, metadata: Any, n_way: int, provider: str, threads: int
) -> tuple[onnxruntime.InferenceSession | None, list[str]]:
    if not path.is_file():
        return None, [f"{path.name}: missing"]
    data = path.read_bytes()
    problems = _check_graph(data, metadata)
    if problems:
        return None, [f"{path.name}: {problem}" for problem in problems]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors reach the caller as exceptions anyway
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(data, options, providers=[*dict.fromkeys([provider, CPU])])
    except RUNTIME_ERRORS as error:
        return None, [f"{path.name}: onnxruntime {onnxruntime.__version__} refuses it: {_one_line(error)}"]
    if provider not in session.get_providers():  # onnxruntime goes on without it, and says so in its log alone
        return None, [f"{path.name}: onnxruntime {onnxruntime.__version__} could not start {provider} for it"]
    problems = _check_interface(path.name, session, metadata, n_way)
    return (None, problems) if problems else (session, [])


def _check_with_onnx(path: Path) -> list[str]:
    """ONNX's own checker, where that package is installed."""
    try:
        import onnx
    except ImportError:
        return []
    try:
        onnx.checker.check_model(onnx.load(path), full_check=True)
    except Exception as error:  # its own, protobuf's, C++'s: no class in common, and any of them refuses the graph
        return [f"{path.name}: ONNX's checker refuses it: {_one_line(error)}"]
    return []


def _check_tokenizer(path: Path, spec: Any) -> list[str]:
    """What it makes of the texts that metadata.json has the ids of, where the package tokenizers is installed."""
    proofs, most = _at(spec, "proofs"), _at(spec, "encoder", "tokens")
    if proofs is None:
        return []
    if not isinstance(proofs, dict) or not isinstance(most, int) or not path.is_file():
        return [f"{TOKENIZER}: missing, or {METADATA} does not say what it makes of texts (input.proofs)"]
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return []
    try:
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        tokenizer.enable_truncation(most)
        differ = [text for text, ids in proofs.items() if (tokenizer.encode(text).ids or [0]) != ids]
    except Exception as error:  # its own and Python's: no class in common, and any of them refuses the file
        return [f"{TOKENIZER}: cannot be used: {_one_line(error)}"]
    return [f"{TOKENIZER}: makes other ids of {_short(text)} than {METADATA} says" for text in differ]


# --- files


def check_files(folder: Path) -> list[str]:
    """Compare every file with SHA256SUMS, which `sha256sum -c` reads too."""
    if not folder.is_dir():
        return [f"{folder} is no bundle: there is no such folder"]
    if not (folder / SUMS).is_file():
        return [f"{folder} is no bundle: it has no {SUMS}"]
    if (folder / SUMS).is_symlink() or (folder / SUMS).stat().st_size > LARGEST_SUMS:
        return [f"{SUMS}: a link, or far too large, where a list of checksums should be"]
    expected: dict[str, str] = {}
    for number, line in enumerate((folder / SUMS).read_bytes().decode("utf-8", "replace").splitlines(), start=1):
        digest, gap, name = line.partition("  ")
        if len(digest) != 64 or not gap or not _is_plain(name):
            return [f"{SUMS}: line {number} is no checksum of a file in the bundle"]
        expected[name] = digest
    try:
        found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not _is_folder(path)}
    except OSError as error:  # folders within each other until no path is long enough
        return [f"its files cannot be listed ({error.strerror})"]
    found.pop(SUMS)
    if SIGNATURE not in expected and not (folder / SIGNATURE).is_symlink():
        found.pop(SIGNATURE, None)
    model = FLEET if FLEET in expected else MODEL
    problems = [f"{name}: missing" for name in (model, LABELS, METADATA) if name not in expected]
    problems += [f"{name}: missing" for name in sorted(expected.keys() - found.keys())]
    problems += [f"{name}: not listed in {SUMS}" for name in sorted(found.keys() - expected.keys())]
    for name in sorted(expected.keys() & found.keys()):
        path = found[name]
        if path.is_symlink() or not path.is_file():
            what = "a link" if path.is_symlink() else "neither a file nor a folder"
            problems.append(f"{name}: {what}, where a file should be")
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


def _read_json(path: Path) -> tuple[Any, list[str]]:
    """The value, and why there is none. Python's parser takes NaN and 1e999; other readers refuse them."""
    try:
        return json.loads(path.read_bytes(), parse_constant=_no_number, parse_float=_finite), []
    except (ValueError, RecursionError, MemoryError) as error:
        return None, [f"{path.name}: no valid JSON ({_one_line(error) or type(error).__name__})"]


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    return value if math.isfinite(value := float(text)) else _no_number(text)


# --- metadata and labels


def _check_metadata(metadata: Any) -> list[str]:
    version = metadata.get("format") if isinstance(metadata, dict) else None
    if not isinstance(version, str) or not version.isdecimal() or len(version) > 9:
        return [f"{METADATA}: no JSON object with a format version"]
    if int(version) != FORMAT:
        age, remedy = ("newer", "use a newer one") if int(version) > FORMAT else ("older", "use its own verify.py")
        return [f"{METADATA}: format {version} is {age} than this verifier knows ({FORMAT}); {remedy}"]
    problems = _check_input(metadata.get("input"))
    for name in ("opset", "ir_version"):
        if not isinstance(_at(metadata, "onnx", name), int):
            problems.append(f"{METADATA}: onnx.{name} is missing")
    graphs = metadata.get("graphs")
    if not isinstance(graphs, dict) or not graphs.keys() & {MODEL, FLEET} or not graphs.keys() <= INTERFACES.keys():
        return [*problems, f"{METADATA}: graphs does not name {MODEL} and others of {', '.join(INTERFACES)}"]
    for name in graphs:
        tolerance = _at(graphs, name, "tolerance")
        if not isinstance(tolerance, float) or not 0 < tolerance <= LOOSEST_TOLERANCE[name]:
            allowed = f"not between 0 and {LOOSEST_TOLERANCE[name]}"
            problems.append(f"{METADATA}: graphs.{name}.tolerance is {_short(tolerance)}, {allowed}")
        if not isinstance(_at(graphs, name, "samples"), list | None):
            problems.append(f"{METADATA}: graphs.{name}.samples is no list of names")
        if name == PLAIN and not _is_fixed(_at(graphs, name, "input", "shape")):
            problems.append(f"{METADATA}: graphs.{name}.input.shape is no list of sizes that begins with 1")
    return problems


def _is_fixed(shape: Any) -> bool:
    """Whether they are the sizes of one example."""
    return isinstance(shape, list) and shape[:1] == [1] and all(type(size) is int and size > 0 for size in shape)


def _check_told(metadata: Any, labels: Any, n_way: int) -> list[str]:
    """What metadata.json says of the classes, beside labels.json."""
    problems, told = [], _at(metadata, "task", "n_way")
    if told != n_way or isinstance(told, bool):
        problems.append(f"{METADATA}: task.n_way is {_short(told)}, {LABELS} has {n_way} classes")
    if isinstance(labels, dict):
        tasks = metadata.get("tasks")
        names = [_at(each, "name") for each in tasks] if isinstance(tasks, list) else None
        if names != list(labels):
            problems.append(f"{METADATA}: tasks are not those of {LABELS}, or in another order")
    return problems


def _check_sizes(bundle: Bundle, folder: Path) -> list[str]:
    """What metadata.json says of the size of each graph that was opened."""
    problems = []
    for name in bundle.sessions:
        told, found = bundle.metadata["graphs"][name].get("bytes"), (folder / name).stat().st_size
        if told != found or isinstance(told, bool):
            problems.append(f"{METADATA}: graphs.{name}.bytes is {_short(told)}, the file has {found}")
    return problems


def _short(value: Any) -> str:
    """A stranger's value, for a line."""
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _check_input(spec: Any) -> list[str]:
    """What it says of a batch of raw examples: type, and sizes or names of sizes that vary."""
    if not isinstance(_at(spec, "type"), str) or not hasattr(np, spec["type"]):
        return [f"{METADATA}: input.type is no type of numpy's"]
    shape = _at(spec, "shape")
    if not isinstance(shape, list) or not shape or not isinstance(shape[0], str):
        return [f"{METADATA}: input.shape is no list that begins with the name of the batch"]
    if not all(isinstance(size, str) or (isinstance(size, int) and size > 0) for size in shape):
        return [f"{METADATA}: input.shape has what is neither a size nor the name of one"]
    return []


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _check_labels(labels: Any, of_tasks: bool) -> list[str]:
    """One list of class names, or by task."""
    if of_tasks and (not isinstance(labels, dict) or not labels):
        return [f"{LABELS}: no class names by task"]
    for each in labels.values() if of_tasks else [labels]:
        if not isinstance(each, list) or not each or not all(isinstance(name, str) and name for name in each):
            return [f"{LABELS}: no list of class names"]
        if len(set(each)) < len(each):
            return [f"{LABELS}: a class name stands there twice"]
    return []


# --- the graph, read without the onnx package


def _check_graph(data: bytes, metadata: Any) -> list[str]:
    """Versions, operators outside ONNX's own set, weights outside the file; before any runtime sees it."""
    try:
        model = list(_fields(memoryview(data)))
        ir_version = _number(model, 1)
        opsets = {_text(entry, 1): _number(entry, 2) for entry in _parts(model, 8)}
        graphs = _parts(model, 7)
        problems = ["defines functions of its own"] if _parts(model, 25) else []
        problems += ["carries what is for training"] if _parts(model, 20) else []
        allowed = TEXTS_ALONE if metadata["input"]["type"] == TEXT else set()
        problems += [problem for graph in graphs for problem in _check_nodes(graph, allowed)]
    except (ValueError, IndexError, AttributeError, RecursionError):
        return ["no ONNX file"]
    if len(graphs) != 1:
        return ["no ONNX file"]
    for name, found in (("ir_version", ir_version), ("opset", opsets.get("", opsets.get("ai.onnx")))):
        if found != metadata["onnx"][name]:
            problems.append(f"its {name} is {found}, {METADATA} says {metadata['onnx'][name]}")
    known = {"", "ai.onnx", *(domain for domain, _ in allowed)}
    problems += [f"needs operators of {domain!r}" for domain in opsets if domain not in known]
    return list(dict.fromkeys(problems))


def _check_nodes(graph: list[Field], allowed: set[tuple[str, str]]) -> Iterator[str]:
    for tensor in _parts(graph, 5) + _of_sparse(_parts(graph, 15)):
        yield from _check_tensor(tensor)
    for node in _parts(graph, 1):
        if _text(node, 7) not in ("", "ai.onnx") and (_text(node, 7), _text(node, 4)) not in allowed:
            yield f"operator {_text(node, 4)} is of {_text(node, 7)!r}, not of ONNX"
        for attribute in _parts(node, 5):
            sparse = _parts(attribute, 22) + _parts(attribute, 23)
            for tensor in _parts(attribute, 5) + _parts(attribute, 10) + _of_sparse(sparse):
                yield from _check_tensor(tensor)
            for subgraph in _parts(attribute, 6) + _parts(attribute, 11):
                yield from _check_nodes(subgraph, allowed)


def _of_sparse(tensors: list[list[Field]]) -> list[list[Field]]:
    """Values and indices, which are tensors themselves."""
    return [part for tensor in tensors for part in _parts(tensor, 1) + _parts(tensor, 2)]


def _check_tensor(tensor: list[Field]) -> Iterator[str]:
    if _number(tensor, 14) or _parts(tensor, 13):
        yield f"keeps weights ({_text(tensor, 8)}) in another file"


def _parts(message: list[Field], number: int) -> list[list[Field]]:
    return [list(_fields(value)) for key, value in message if key == number and isinstance(value, memoryview)]


def _text(message: list[Field], number: int) -> str:
    """A field's text: the last one, as for every reader of protocol buffers."""
    return next((bytes(v).decode() for n, v in reversed(message) if n == number and isinstance(v, memoryview)), "")


def _number(message: list[Field], number: int) -> int:
    return next((v for n, v in reversed(message) if n == number and isinstance(v, int)), 0)


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
        if shift > 63:
            raise ValueError("no number")


# --- answers


def _check_interface(name: str, session: onnxruntime.InferenceSession, metadata: Any, n_way: int) -> list[str]:
    """Names, types and sizes of what goes in and comes out."""
    spec, items = metadata["input"], "1" if name == PLAIN else "any"
    sizes = ", ".join(str(size) if isinstance(size, int) else "any" for size in spec["shape"])
    example, batch = f"tensor({TYPES.get(spec['type'], spec['type'])}) [{sizes}]", f"tensor(float) [{items}"
    ways = n_way if name in ANSWERING else "any"
    outputs = session.get_outputs()
    if ways == n_way and outputs and outputs[0].shape[1:] not in ([n_way], [None]):
        return [f"{LABELS}: {n_way} labels for {outputs[0].shape[-1]} probabilities"]
    wanted = {
        TASK: "tensor(int64) [any]",
        **dict.fromkeys(EXAMPLES, example),
        SUPPORT_Y: "tensor(int64) [any]",
        **dict.fromkeys(("head_weight", "means"), f"{batch}, any]"),
        **dict.fromkeys(("head_bias", "absent"), f"{batch}]"),
        "spread": "tensor(float) []",
        PREPARED: f"tensor(float) {_at(metadata, 'graphs', name, 'input', 'shape')}",
        **dict(zip(OUTPUTS, (f"{batch}, {ways}]", f"{batch}]"))),  # noqa: B905
    }
    problems = []
    for what, found, names in zip(("input", "output"), (session.get_inputs(), outputs), INTERFACES[name]):  # noqa: B905
        shown = " and ".join(f"{each.name} {_signature(each, name)}" for each in found)
        if shown != " and ".join(f"{each} {wanted[each]}" for each in names):
            problems.append(f"{name}: its {what} is {shown}, not {' and '.join(f'{n} {wanted[n]}' for n in names)}")
    return problems


def _signature(value: Any, graph: str) -> str:
    """Type and sizes; those of a head are the graph's own affair."""
    own = value.name in (*HEAD, OUTPUTS[0]) and graph not in ANSWERING
    shape = ", ".join(str(size) if isinstance(size, int) and not own else "any" for size in value.shape)
    return f"{value.type} [{shape}]"


def _check_samples(bundle: Bundle, folder: Path) -> Verdict:
    """The golden samples: the same answers as where the model was made, alone and in a batch."""
    problems: list[str] = []
    worst: dict[str, float] = {}
    examples = 0
    asked = [
        (graph, name, inputs, expected)
        for graphs, name, inputs, expected in _samples(bundle, folder, problems)
        for graph in graphs
        if _is_asked(bundle, graph, name)
    ]
    compared = _at_once(lambda each: _compared(bundle, *each), asked)
    for (graph, _, _, expected), (difference, problem) in zip(asked, compared):  # noqa: B905
        if problem:
            problems.append(problem)
        if difference is not None:
            worst[graph] = max(worst.get(graph, 0.0), difference)
            examples += len(expected[0])
    problems += [f"{SAMPLES}: there are none for {name}" for name in bundle.sessions.keys() - worst.keys() - {LEARN}]
    graphs = ", ".join(name for name in INTERFACES if name in bundle.sessions)
    known = f"{len(bundle.labels)} {'tasks' if FLEET in bundle.sessions else 'classes'}, {examples} golden examples"
    summary = f"{known}; {graphs} within {max(worst.values(), default=0):.1e}"
    return Verdict(list(dict.fromkeys(problems)), summary)


def _is_asked(bundle: Bundle, graph: str, sample: str) -> bool:
    """Every graph is asked every sample, but variants those that their metadata name."""
    named = bundle.metadata["graphs"][graph].get("samples")
    return graph not in VARIANTS or named is None or sample in named


def _compared(
    bundle: Bundle, graph: str, name: str, inputs: list[Any], expected: list[Any]
) -> tuple[float | None, str]:
    """How far a graph's answers on a sample are from those expected (None: it was not asked), and what is wrong."""
    if problem := _misfit(inputs, expected, bundle, graph):
        return None, f"{SAMPLES}/{name}: {problem}"
    try:
        difference = _difference(bundle, graph, inputs, expected)
    except (*RUNTIME_ERRORS, ValueError, MemoryError) as error:
        return None, f"{graph}: fails on {SAMPLES}/{name}: {_one_line(error)}"
    tolerance = bundle.metadata["graphs"][graph]["tolerance"]
    if difference <= tolerance:  # never where it is NaN
        return difference, ""
    allowed = f"the bundle allows {tolerance:.0e}"
    return difference, f"{graph}: on {SAMPLES}/{name} answers differ by {difference:.1e}; {allowed}"


def _samples(
    bundle: Bundle, folder: Path, problems: list[str]
) -> Iterator[tuple[list[str], str, list[Any], list[Any]]]:
    """Graphs, name, inputs and what is expected of them."""
    for kind in ((ADAPT, CLASSIFY), (MODEL, *VARIANTS), (PLAIN,), (FLEET,)):
        graphs = [graph for graph in kind if graph in bundle.sessions]
        if not graphs:
            continue
        inputs, outputs = INTERFACES[kind[0]]
        for path in sorted(folder.glob(f"*.{inputs[0]}.npy")):
            name = path.name.removesuffix(f".{inputs[0]}.npy")
            try:
                first, *others = (
                    [_array(folder / f"{name}.{part}.npy") for part in parts] for parts in (inputs, outputs)
                )
            except (OSError, ValueError, EOFError, MemoryError) as error:
                problems.append(f"{SAMPLES}/{name}: cannot be read ({_one_line(error)})")
                continue
            yield graphs, name, first, others[0]


def _array(path: Path) -> np.ndarray:
    try:
        values = np.load(path, allow_pickle=False)
    except DAMAGED as error:
        raise ValueError(_one_line(error)) from None
    if not isinstance(values, np.ndarray):
        raise ValueError("an archive, where an array should be")
    return values


def _misfit(inputs: list[Any], expected: list[Any], bundle: Bundle, graph: str) -> str:
    """Why arrays are no sample for a graph; nothing when they are."""
    named = dict(zip(_asked_with(graph), inputs))  # noqa: B905
    spec, (probabilities, novelty) = bundle.metadata["input"], expected
    if (
        all(_is_batch(each, spec) for name, each in named.items() if name in EXAMPLES)
        and all(
            named[name].dtype == np.int64 and named[name].shape == (len(named[numbered]),)
            for name, numbered in NUMBERS.items()
            if name in named
        )
        and (graph != PLAIN or _is_prepared(named[PREPARED], bundle.metadata["graphs"][PLAIN]["input"]["shape"]))
    ):
        ways = {len(bundle.labels)} if graph in (MODEL, *VARIANTS, PLAIN) else set(probabilities.shape[1:])
        questions = len(next(named[name] for name in (QUERY, INPUT, PREPARED) if name in named))
        numbers = probabilities.dtype.kind == novelty.dtype.kind == "f"
        if numbers and (len(ways), novelty.shape) == (1, (questions,)) and probabilities.shape == (questions, *ways):
            return ""
    shown = ", ".join(f"{each.dtype} {each.shape}" for each in (*inputs, *expected))
    return f"{shown} do not fit {graph}"


def _asked_with(graph: str) -> tuple[str, ...]:
    """The inputs of a sample; those for adapt.onnx serve classify.onnx too."""
    return INTERFACES[ADAPT if graph == CLASSIFY else graph][0]


def _is_batch(values: np.ndarray, spec: Any) -> bool:
    """Whether they are raw examples as metadata.json describes them."""
    typed = values.dtype.kind == "U" if spec["type"] == TEXT else values.dtype == spec["type"]
    if not typed or values.ndim != len(spec["shape"]) or not values.size:
        return False
    return all(isinstance(size, str) or size == found for size, found in zip(spec["shape"], values.shape))  # noqa: B905


def _is_prepared(values: np.ndarray, shape: list[int]) -> bool:
    return values.dtype == np.float32 and values.size > 0 and [1, *values.shape[1:]] == shape


def _difference(bundle: Bundle, graph: str, inputs: list[Any], expected: list[Any]) -> float:
    """The largest of probabilities, and of novelty, relative to it, for the queries together and one by one."""
    *support, query = inputs
    head = bundle.run(LEARN, *support) if graph == CLASSIFY and LEARN in bundle.sessions else []

    def answer(some: slice) -> list[np.ndarray]:
        if graph == CLASSIFY:
            return bundle.run(CLASSIFY, query[some], *head)
        if graph == FLEET:
            return bundle.run(FLEET, *(each[some] for each in inputs))
        return bundle.run(graph, *support, query[some])

    alone = [answer(slice(place, place + 1)) for place in range(len(query))]
    together = [] if graph == PLAIN else [answer(slice(None))]
    probabilities, novelty = expected
    return max(
        float(max(np.abs(p - probabilities).max(), (np.abs(distance - novelty) / np.maximum(novelty, 1)).max()))
        for p, distance in (*together, (np.concatenate(parts) for parts in zip(*alone)))  # noqa: B905
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


# --- precision


@cache  # a fleet's bundles are verified one after the other
def precision_of(provider: str) -> str:
    """Whether a provider multiplies in less than float32, and what to do; empty where it does not.

    It is asked for products of numbers 1 + 2^-k, of which float32 keeps every bit: how many of the bits come back says
    in which format it multiplies.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(multiplying(), options, providers=[*dict.fromkeys([provider, CPU])])
        found = session.run([*MULTIPLYING], asked_products())
    except RUNTIME_ERRORS as error:
        return f"in which precision {provider} computes is not known: it fails on products ({_one_line(error)})"
    return precision_in_words(provider, dict(zip(MULTIPLYING, found)))  # noqa: B905


def asked_products() -> dict[str, np.ndarray]:
    """The inputs of `multiplying`."""
    rows = _factors()[0]
    return {"rows": rows, "maps": np.ascontiguousarray(np.broadcast_to(rows[..., None, None], (*rows.shape, 3, 3)))}


def precision_in_words(provider: str, products: dict[str, Any]) -> str:
    """What the products of `multiplying` say of a provider, in one line.

    Args:
        provider: its name.
        products: by operator.
    """
    exact = FACTORS.astype(np.float64)
    bits, worst, large = {}, {}, []
    for name, found in products.items():
        both = np.asarray(found, np.float64).reshape(len(exact), 2, len(exact), -1)
        own = np.diagonal(both, axis1=0, axis2=2).reshape(-1, len(exact))  # factors as inputs, and as weights
        with np.errstate(invalid="ignore"):
            lost = np.nan_to_num(np.abs(own - exact).max(axis=0), nan=math.inf)
        kept = lost[:-1] < 2.0 ** -np.arange(2, len(exact) + 1)
        bits[name] = len(kept) if kept.all() else int(kept.argmin())
        worst[name] = float((lost / exact)[:-1].max())
        large.append(bool(lost[-1] < exact[-1] / 2))  # neither infinite nor cut off at 65,504
    less = [name for name in bits if bits[name] < LEAST_BITS]
    if not less:
        return ""
    fewest = min(bits.values())
    known = FORMATS.get((fewest, all(large)), f"less than float32, {fewest} of {FLOAT32_BITS} bits")
    remedy = EXACTLY.get(provider, "its options, if it has one that asks for float32; or another provider")
    how = f"{known} ({' and '.join(less)})"
    most = max(worst[name] for name in less)
    return f"{provider} multiplies in {how}: products differ by up to {most:.1e}; remedy: {remedy}"


def _factors() -> tuple[np.ndarray, np.ndarray]:
    """Two matrices whose product has each of `FACTORS` alone: as an input that is multiplied by 1, and as a weight."""
    count, one = len(FACTORS), np.ones((len(FACTORS), 1), np.float32)
    rows = np.concatenate([np.diag(FACTORS), one], axis=1)
    weights = np.zeros((count + 1, 2 * count), np.float32)
    weights[:count, :count], weights[count, count:] = np.eye(count), FACTORS
    return rows, weights


def multiplying() -> bytes:
    """A graph of one MatMul and one Conv with those weights, in the bytes of ONNX."""
    rows, weights = _factors()
    kernels = np.zeros((weights.shape[1], weights.shape[0], 3, 3), np.float32)
    kernels[:, :, 1, 1] = weights.T
    pads = _message((1, b"pads"), *((8, 1),) * 4, (20, 7))
    shapes = {"rows": rows.shape, "maps": (*rows.shape, 3, 3), "MatMul": (len(rows), len(kernels))}
    shapes["Conv"] = (*shapes["MatMul"], 3, 3)
    nodes = [
        (1, _message((1, b"rows"), (1, b"weights"), (2, b"MatMul"), (4, b"MatMul"))),
        (1, _message((1, b"maps"), (1, b"kernels"), (2, b"Conv"), (4, b"Conv"), (5, pads))),
    ]
    tensors = [(5, _tensor(b"weights", weights)), (5, _tensor(b"kernels", kernels))]
    inputs = [(11, _described(name, shapes[name])) for name in ("rows", "maps")]
    outputs = [(12, _described(name, shapes[name])) for name in MULTIPLYING]
    graph = _message(*nodes, (2, b"products"), *tensors, *inputs, *outputs)
    return _message((1, 8), (7, graph), (8, _message((1, b""), (2, 13))))


def _tensor(name: bytes, values: np.ndarray) -> bytes:
    return _message(*((1, size) for size in values.shape), (2, 1), (8, name), (9, values.astype("<f4").tobytes()))


def _described(name: str, shape: tuple[int, ...]) -> bytes:
    sizes = _message(*((1, _message((1, size))) for size in shape))
    return _message((1, name.encode()), (2, _message((1, _message((1, 1), (2, sizes))))))


def _message(*fields: tuple[int, int | bytes]) -> bytes:
    """A protocol buffer message: what `_fields` reads."""
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts += [_encoded(number << 3), _encoded(value)]
        else:
            parts += [_encoded(number << 3 | 2), _encoded(len(value)), value]
    return b"".join(parts)


def _encoded(number: int) -> bytes:
    digits = []
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


# --- the command line


def _in_child(arguments: list[str], seconds: float, gigabytes: float) -> int:
    """Have another process check the bundle and say what it found; one that takes too much is ended."""
    isolated = ["-I"] if sys.flags.isolated else []
    command = [sys.executable, *isolated, str(Path(__file__).resolve()), *arguments, HERE]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=min(seconds, LONGEST),
            check=False,
            preexec_fn=lambda: _limit_memory(gigabytes),
        )
    except subprocess.TimeoutExpired:
        return _refused(f"to check it takes more than {seconds:g} s; --seconds allows more")
    if done.returncode not in (0, 1, 2):
        return _refused(
            f"what checked it died ({done.returncode}), perhaps of the {gigabytes:g} GB of memory that it may take; "
            "--gigabytes allows more"
        )
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


def _limit_memory(gigabytes: float) -> None:
    try:
        import resource
    except ImportError:  # not on this system: the limit of time remains
        return
    _, most = resource.getrlimit(resource.RLIMIT_DATA)  # a user may have set one, which cannot be raised
    size = int(min(gigabytes * 1e9, LARGEST if most == resource.RLIM_INFINITY else most))
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def _refused(problem: str) -> int:
    print(f"not verified: {printable(problem)}", file=sys.stderr)
    return 1


def printable(text: str) -> str:
    """What a terminal shows and never obeys: a stranger has named the files."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def main(arguments: list[str]) -> int:
    """The command line; the exit code."""
    options, rest = dict(OPTIONS), [each for each in arguments if each != HERE]
    for name in OPTIONS:
        if name in rest[:-1]:
            place = rest.index(name)
            options[name] = rest[place + 1]
            del rest[place : place + 2]
    try:
        limits = float(options["--seconds"]), float(options["--gigabytes"])
    except ValueError:
        limits = (0.0, 0.0)
    if len(rest) > 1 or any(each.startswith("-") for each in rest) or not all(0 < each < math.inf for each in limits):
        print(USAGE, file=sys.stderr)
        return 2
    if HERE not in arguments:
        return _in_child(arguments, *limits)
    bundle = Path(rest[0]) if rest else Path(__file__).resolve().parent
    verdict = verify(bundle, provider=options["--provider"])
    for problem in verdict.problems:
        _refused(problem)
    if verdict.precision:
        print(f"precision: {printable(verdict.precision)}")
    if not verdict.problems:
        print(f"verified: {printable(str(bundle))}: {verdict.summary}")
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    sys.exit(main(sys.argv[1:]))
