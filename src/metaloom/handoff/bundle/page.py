"""index.html of a bundle: the graphs in a browser, from the file system and without a request to anywhere.

A page that is opened as a file may load scripts from beside it, but neither fetch nor import; so the runtime and the
graphs are scripts that hold base64.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import tarfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from metaloom.errors import MetaloomError
from metaloom.handoff.metadata import Metadata
from metaloom.handoff.shipped import verify
from metaloom.handoff.shipped.verify import ADAPT, MODEL
from metaloom.system.files import atomic_dir

VERSION = "1.27.0"  # of onnxruntime-web (MIT), which npm's registry serves; the hash is the registry's own
INTEGRITY = "ogDLsqIozHZwifPuN37OproAo0byX6t43/bP8GzeZWBWD6MOGExswFAx3up4NS/vvWBOg2u2PXomDt3rMmdQSg=="
REGISTRY = "https://registry.npmjs.org"
SCRIPT, GLUE, WASM = "ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"
SHARED = ("page.css", "page.js")  # of the pages of all kinds
PACKED = f"{WASM}.gz"
SECONDS = 60


def write_page(
    folder: Path,
    page: Path,
    graphs: Mapping[str, bytes],
    labels: list[str],
    metadata: Metadata,
    examples: Sequence[str] = (),
) -> None:
    """index.html and the scripts beside it.

    Args:
        folder: of the bundle.
        page: the index.html that the kind of example brings.
        graphs: by the names of their files.
        labels: class names in the order of the outputs.
        metadata: of the bundle.
        examples: one of each class in words, where there are such.

    Raises:
        MetaloomError: onnxruntime-web cannot be had.
    """
    runtime = web_runtime()
    about = {
        "task": metadata.task.name,
        "labels": labels,
        "examples": list(examples),
        "input": metadata.input.model_dump(mode="json"),
        "max_ways": metadata.max_ways,
        "graphs": {name: _text(graphs[name]) for name in (MODEL, ADAPT) if name in graphs},
    }
    scripts = folder / "page"
    scripts.mkdir()
    (folder / "index.html").write_bytes(page.read_bytes())
    for name in SHARED:
        (scripts / name).write_bytes(Path(verify.__file__).with_name(name).read_bytes())
    (scripts / SCRIPT).write_bytes((runtime / SCRIPT).read_bytes())
    packed = {"mjs": _text((runtime / GLUE).read_bytes()), "wasm": _text((runtime / PACKED).read_bytes())}
    (scripts / "runtime.js").write_text(f"window.metaloomRuntime = {json.dumps(packed)};\n", encoding="utf-8")
    (scripts / "graphs.js").write_text(f"window.metaloomGraphs = {json.dumps(about)};\n", encoding="utf-8")


def web_runtime() -> Path:
    """The folder with onnxruntime-web's files, which are fetched once for this user.

    Raises:
        MetaloomError: the registry does not answer, or with something else than was pinned.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "metaloom" / f"onnxruntime-web-{VERSION}"
    if folder.is_dir():
        return folder
    registry = (os.environ.get("NPM_CONFIG_REGISTRY") or REGISTRY).rstrip("/")
    url = f"{registry}/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:  # noqa: S310 (npm's registry, hash checked)
            data = answer.read()
    except (urllib.error.URLError, OSError) as error:
        raise MetaloomError(f"onnxruntime-web cannot be had from {registry} ({error}): export.page needs it") from None
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != INTEGRITY:
        raise MetaloomError(f"{url} is not the file that is pinned (its SHA-512 differs): export.page cannot use it")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive, atomic_dir(folder) as new:
        for name in (SCRIPT, GLUE, WASM):
            content = archive.extractfile(f"package/dist/{name}")
            assert content is not None  # the hash is that of an archive that has it
            (new / name).write_bytes(content.read())
        (new / PACKED).write_bytes(gzip.compress((new / WASM).read_bytes(), mtime=0))
        (new / WASM).unlink()
    return folder


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
