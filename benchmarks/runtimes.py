"""A bundle's graphs in other runtimes: the largest difference from the bundle's golden answers, or why there is none.

python benchmarks/runtimes.py BUNDLE [--in FOLDER] [--only NAME …]: BUNDLE has model.plain.onnx (export.variants:
[plain]); each runtime gets a virtual environment of its own in FOLDER (build/runtimes), with the versions below.
model.onnx is asked pictures of 20 to 2,000 pixels, model.plain.onnx the golden samples, both against onnxruntime here.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Answer = Callable[[np.ndarray], list[np.ndarray]]  # probabilities and novelty, of one batch
WHOLE, PLAIN = "model.onnx", "model.plain.onnx"
SIDES = ((20, 20), (28, 28), (105, 105), (33, 300), (480, 640), (2000, 1500))
OUTPUTS = ("probabilities", "novelty")


class Runtime(NamedTuple):
    """Pinned packages, and how a graph is opened: imported in the runtime's own environment."""

    packages: tuple[str, ...]
    opened: Callable[[Path, Path], Answer]
    graphs: tuple[str, ...] = (WHOLE, PLAIN)
    converter: tuple[str, ...] = ()  # packages of an environment that only converts: the two do not fit together


# --- how each is asked; the second argument is a folder to write into


def with_onnxruntime(graph: Path, folder: Path, provider: str = "CPUExecutionProvider") -> Answer:
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=[provider])
    assert provider in session.get_providers()
    return lambda x: session.run(OUTPUTS, {session.get_inputs()[0].name: x})


def with_its_openvino(graph: Path, folder: Path) -> Answer:
    return with_onnxruntime(graph, folder, "OpenVINOExecutionProvider")


def with_openvino(graph: Path, folder: Path) -> Answer:
    import openvino

    compiled = openvino.Core().compile_model(graph, "CPU")
    print(f"it computes in {compiled.get_property('INFERENCE_PRECISION_HINT').to_string()}")
    return lambda x: [compiled([x])[name] for name in OUTPUTS]


def with_reference(graph: Path, folder: Path) -> Answer:
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(str(graph))
    return lambda x: list(evaluator.run(list(OUTPUTS), {evaluator.input_names[0]: x}))


def with_tract(graph: Path, folder: Path) -> Answer:
    import tract

    runnable = tract.onnx().load(str(graph)).into_model().into_runnable()
    return lambda x: [each.to_numpy() for each in runnable.run([x])]


def with_opencv(graph: Path, folder: Path) -> Answer:
    import cv2

    network = cv2.dnn.readNetFromONNX(str(graph))

    def answer(x: np.ndarray) -> list[np.ndarray]:
        network.setInput(x)
        return list(network.forward(list(OUTPUTS)))

    return answer


def with_mnn(graph: Path, folder: Path) -> Answer:
    import MNN.expr as expr
    import MNN.nn as nn

    converted = folder / "plain.mnn"
    command = ["mnnconvert", "-f", "ONNX", "--modelFile", graph, "--MNNModel", converted, "--bizCode", "metaloom"]
    converting(Path(sys.executable).parent, command)
    network = nn.load_module_from_file(str(converted), ["prepared"], list(OUTPUTS))

    def answer(x: np.ndarray) -> list[np.ndarray]:
        return [np.array(each.read()) for each in network.forward([expr.const(x, list(x.shape), expr.NCHW)])]

    return answer


def with_ncnn(graph: Path, folder: Path) -> Answer:
    import ncnn

    shape = ",".join(map(str, np.load(graph.parent / "samples/examples.prepared.npy")[:1].shape))
    copied = Path(shutil.copy(graph, folder / "plain.onnx"))
    told = converting(Path(sys.executable).parent, ["pnnx", copied, f"inputshape=[{shape}]f32"])
    unknown = [line for line in told.splitlines() if line.startswith("todo ")]
    if unknown:
        raise ValueError(f"pnnx knows no {unknown[0].removeprefix('todo ')}")
    network = ncnn.Net()
    network.opt.use_fp16_packed = network.opt.use_fp16_storage = network.opt.use_fp16_arithmetic = False
    network.load_param(str(folder / "plain.ncnn.param"))
    network.load_model(str(folder / "plain.ncnn.bin"))

    def answer(x: np.ndarray) -> list[np.ndarray]:
        asked = network.create_extractor()
        asked.input("in0", ncnn.Mat(x[0]).clone())
        return [np.array(asked.extract(f"out{place}")[1])[None] for place in range(2)]

    return answer


def with_litert(graph: Path, folder: Path) -> Answer:
    from ai_edge_litert.interpreter import Interpreter

    converting(folder / "converter/bin", ["onnx2tf", "-i", graph, "-o", folder / "converted"])
    (converted,) = (folder / "converted").glob("*_float32.tflite")
    interpreter = Interpreter(str(converted))
    interpreter.allocate_tensors()
    (taken,) = interpreter.get_input_details()
    given = sorted(interpreter.get_output_details(), key=lambda each: -len(each["shape"]))

    def answer(x: np.ndarray) -> list[np.ndarray]:
        laid = x if tuple(taken["shape"]) == x.shape else x.transpose(0, 2, 3, 1)
        interpreter.set_tensor(taken["index"], laid)
        interpreter.invoke()
        return [interpreter.get_tensor(each["index"]) for each in given]

    return answer


def with_node(graph: Path, folder: Path) -> Answer:
    """Each question is a process of Node's: it reads and writes raw bytes."""
    script = Path(__file__).with_name("runtimes_node.cjs")

    def answer(x: np.ndarray) -> list[np.ndarray]:
        x.tofile(folder / "question")
        kind = "uint8" if x.dtype == np.uint8 else "float32"
        converting(None, ["node", script, folder, graph, kind, ",".join(map(str, x.shape))])
        return [np.fromfile(folder / name, np.float32) for name in OUTPUTS]

    return answer


def converting(binaries: Path | None, command: list[Any]) -> str:
    name, *arguments = map(str, command)
    program = name if binaries is None else str(binaries / name)
    done = subprocess.run([program, *arguments], capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise ValueError(f"{name}: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    return done.stdout + done.stderr


RUNTIMES = {
    "onnxruntime": Runtime(("onnxruntime==1.31.1",), with_onnxruntime),
    "onnxruntime-node": Runtime(("onnxruntime-node@1.30.0",), with_node),
    "OpenVINO": Runtime(("openvino==2026.4.1",), with_openvino),
    "onnxruntime-openvino": Runtime(("onnxruntime-openvino==1.24.1", "openvino==2025.4.1"), with_its_openvino),
    "onnx's reference": Runtime(("onnx==1.23.2",), with_reference),
    "tract": Runtime(("tract==0.23.9",), with_tract),
    "OpenCV dnn": Runtime(("opencv-python-headless==5.0.0.93",), with_opencv),
    "MNN": Runtime(("MNN==3.6.1",), with_mnn, (PLAIN,)),
    "ncnn": Runtime(("ncnn==1.0.20261020", "pnnx==20261020"), with_ncnn, (PLAIN,)),
    "LiteRT": Runtime(("ai-edge-litert==2.3.0",), with_litert, (PLAIN,), ("onnx2tf==2.6.9",)),
}


# --- in the environment of one runtime


def ask(name: str, bundle: Path, folder: Path) -> None:
    for graph in RUNTIMES[name].graphs:
        try:
            answer = RUNTIMES[name].opened(bundle / graph, folder)
            worst = max(difference(answer, *each) for each in questions(folder, graph))
            print(f"RESULT {graph}\t{worst:.1e}")
        except Exception as error:  # of any runtime: that it fails is the result
            print(f"RESULT {graph}\tno: {first_line(error)}")


def difference(answer: Answer, x: np.ndarray, expected: list[np.ndarray]) -> float:
    """Of probabilities, and of novelty relative to it, as verify.py has it; NaN where one answer is no number."""
    found = [np.asarray(each).reshape(e.shape) for each, e in zip(answer(x), expected, strict=True)]
    return float(max(np.max(np.abs(f - e) / np.maximum(e, 1)) for f, e in zip(found, expected, strict=True)))


def questions(folder: Path, graph: str) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    stored = np.load(folder.parent / f"{graph}.npz")
    for place in range(len(stored.files) // 3):
        yield stored[f"{place}.x"], [stored[f"{place}.{name}"] for name in OUTPUTS]


def first_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) < 160 else text[:160] + "…"


# --- here


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--in", dest="folder", type=Path, default=Path("build/runtimes"))
    parser.add_argument("--only", nargs="*", default=list(RUNTIMES))
    parser.add_argument("--ask")
    options = parser.parse_args()
    bundle, folder = options.bundle.resolve(), options.folder.resolve()
    if options.ask:
        ask(options.ask, bundle, folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    for graph in (WHOLE, PLAIN):
        write_questions(bundle, graph, folder / f"{graph}.npz")
    print("| runtime | version | graph | largest difference |\n|---|---|---|---|")
    for name in options.only:
        own = folder / name.replace(" ", "-").replace("'", "")
        program = made(own, RUNTIMES[name])
        command = [program, __file__, bundle, "--in", own, "--ask", name]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, errors="replace")
        told = [line.removeprefix("RESULT ") for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        said = [line for line in done.stdout.splitlines() if line.startswith("it computes in ")]
        for line in told or [f"all\tno: {(done.stderr or 'it died').strip().splitlines()[-1][:160]}"]:
            graph, result = line.split("\t", 1)
            versions = ", ".join(RUNTIMES[name].packages + RUNTIMES[name].converter)
            print(f"| {name} | {versions} | `{graph}` | {result}{'; ' + said[0] if said else ''} |", flush=True)


def write_questions(bundle: Path, graph: str, path: Path) -> None:
    """What is asked, with onnxruntime's answers; the golden ones where there are some."""
    answer, asked = with_onnxruntime(bundle / graph, path.parent), []
    if graph == WHOLE:
        channels = np.load(bundle / "samples/examples.examples.npy").shape[3]
        rng = np.random.default_rng(0)
        asked = [rng.integers(0, 256, (1, *sides, channels), dtype=np.uint8) for sides in SIDES]
    for each in np.load(bundle / f"samples/examples.{'examples' if graph == WHOLE else 'prepared'}.npy"):
        asked.append(each[None])
    stored = {f"{place}.x": x for place, x in enumerate(asked)}
    for place, x in enumerate(asked):
        stored |= {f"{place}.{name}": each for name, each in zip(OUTPUTS, answer(x), strict=True)}
    np.savez(path, **stored)


def made(own: Path, runtime: Runtime) -> Path:
    """The Python of an environment that has the runtime; made where it is not there."""
    own.mkdir(exist_ok=True)
    if "@" in runtime.packages[0]:
        if not (own / "node_modules").is_dir():
            subprocess.run(["npm", "install", "--silent", "--prefix", own, *runtime.packages], check=True)
        return Path(sys.executable)
    if runtime.converter:
        environment(own / "converter", shutil.which("python3.12") or sys.executable, runtime.converter)
    return environment(own / "runtime", sys.executable, (*runtime.packages, "numpy"))


def environment(folder: Path, python: str, packages: tuple[str, ...]) -> Path:
    program = folder / "bin/python"
    if not (folder / "made").is_file():
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([program, "-m", "pip", "install", "--quiet", *packages], check=True)
        (folder / "made").touch()
    return program


if __name__ == "__main__":
    main()
