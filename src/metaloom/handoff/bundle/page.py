"""index.html of a bundle: the graphs in a browser, from the file system and without a request to anywhere.

A page that is opened as a file may load scripts from beside it, but neither fetch nor import; so the runtime and the
graphs are scripts that hold base64.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metaloom.errors import MetaloomError
from metaloom.handoff.metadata import Metadata
from metaloom.handoff.shipped import verify
from metaloom.handoff.shipped.verify import ADAPT, CLASSIFY, LEARN, MODEL
from metaloom.kinds import TOKENIZER, Kind
from metaloom.system.files import read_json
from metaloom.system.npm import fetched, kept_folder

VERSION = "1.27.0"  # of onnxruntime-web (MIT), which npm's registry serves; the hash is the registry's own
INTEGRITY = "ogDLsqIozHZwifPuN37OproAo0byX6t43/bP8GzeZWBWD6MOGExswFAx3up4NS/vvWBOg2u2PXomDt3rMmdQSg=="
SCRIPT, GLUE, WASM = "ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"
TOKENIZERS = "@huggingface/tokenizers"  # Apache-2.0; without any dependency
TOKENIZERS_VERSION = "0.2.0"
TOKENIZERS_INTEGRITY = "LidMHe1FpcSYH4vcSjXooda34pC0M8m1gmDOv7SQi6Iv+ib1zX7J3sHBCC9/3FPCkn2k1b55FneVqMRxrr99pg=="
TOKENIZER_MODELS = (
    "WordPiece",
    "BPE",
    "Unigram",
)  # that it knows; whether it reads texts as in training, the page asks
TOKENIZERS_CODE = "tokenizers.min.mjs"
SHARED = ("page.css", "page.js")  # of the pages of all kinds
PACKED = f"{WASM}.gz"
SHOTS, ROOM = 5, 500_000  # examples of a class, and characters of all of them, that a page holds at most


def write_page(
    folder: Path,
    kind: Kind,
    graphs: Mapping[str, bytes],
    labels: list[str],
    metadata: Metadata,
    examples: Sequence[Sequence[str]] = (),
    head: Mapping[str, np.ndarray] | None = None,
) -> None:
    """index.html and the scripts beside it.

    Args:
        folder: of the bundle.
        kind: of example, which brings the page, and the tokenizer that its graphs need.
        graphs: by the names of their files.
        labels: class names in the order of the outputs.
        metadata: of the bundle.
        examples: of each class, as `Encoding.for_page` gives them.
        head: what learn.onnx would give of the bundle's own classes. With it, the page asks classify.onnx about them
            too, and needs no model.onnx.

    Raises:
        MetaloomError: onnxruntime-web, or the package of tokenizers, cannot be had.
    """
    runtime = web_runtime()
    about = {
        "task": metadata.task.name,
        "labels": labels,
        "examples": some_of_each(examples),
        "input": metadata.input.model_dump(mode="json"),
        "max_ways": metadata.max_ways,
        "head": {name: _numbers(value) for name, value in (head or {}).items()},
        "graphs": {
            name: _text(graphs[name]) for name in ((LEARN, CLASSIFY) if head else (MODEL, ADAPT)) if name in graphs
        },
        "tokenizer": _tokenizer(kind),
    }
    scripts = folder / "page"
    scripts.mkdir()
    (folder / "index.html").write_bytes(kind.page.read_bytes())
    for name in SHARED:
        (scripts / name).write_bytes(Path(verify.__file__).with_name(name).read_bytes())
    (scripts / SCRIPT).write_bytes((runtime / SCRIPT).read_bytes())
    packed = {"mjs": _text((runtime / GLUE).read_bytes()), "wasm": _text((runtime / PACKED).read_bytes())}
    (scripts / "runtime.js").write_text(f"window.metaloomRuntime = {json.dumps(packed)};\n", encoding="utf-8")
    (scripts / "graphs.js").write_text(f"window.metaloomGraphs = {json.dumps(about)};\n", encoding="utf-8")


def some_of_each(examples: Sequence[Sequence[str]]) -> list[list[str]]:
    """The first examples of each class: as many of each as there is room for, one at least."""
    few = [list(each[:SHOTS]) for each in examples]
    while sum(len(text) for each in few for text in each) > ROOM and max(map(len, few)) > 1:
        few = [each[: max(map(len, few)) - 1] for each in few]
    return few


def web_runtime() -> Path:
    """The folder with onnxruntime-web's files, which are fetched once for this user.

    Raises:
        MetaloomError: the registry does not answer, or with something else than was pinned.
    """
    return kept_folder(f"onnxruntime-web-{VERSION}", _fetch_runtime)


def _tokenizer(kind: Kind) -> dict[str, str] | None:
    """The file of the kind's tokenizer and the code that reads it; None: it has none.

    Raises:
        MetaloomError: that code cannot be had, or does not know such tokenizers.
    """
    file = kind.travelling.get(TOKENIZER)
    if file is None:
        return None
    model = (read_json(file).get("model") or {}).get("type")
    if model not in (None, *TOKENIZER_MODELS):
        raise MetaloomError(f"{TOKENIZERS} reads {', '.join(TOKENIZER_MODELS)}, and the tokenizer is a {model}")
    code = kept_folder(f"huggingface-tokenizers-{TOKENIZERS_VERSION}", _fetch_tokenizers) / TOKENIZERS_CODE
    return {"code": _text(code.read_bytes()), "file": _text(file.read_bytes())}


def _fetch_tokenizers() -> dict[str, bytes]:
    path = f"dist/{TOKENIZERS_CODE}"
    (code,) = fetched(TOKENIZERS, TOKENIZERS_VERSION, TOKENIZERS_INTEGRITY, [path], "export.page")
    return {TOKENIZERS_CODE: code}


def _fetch_runtime() -> dict[str, bytes]:
    paths = [f"dist/{name}" for name in (SCRIPT, GLUE, WASM)]
    script, glue, wasm = fetched("onnxruntime-web", VERSION, INTEGRITY, paths, "export.page")
    return {SCRIPT: script, GLUE: glue, PACKED: gzip.compress(wasm, mtime=0)}


def _numbers(value: np.ndarray) -> dict[str, Any]:
    return {"dims": list(value.shape), "data": _text(value.astype("<f4").tobytes())}


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
