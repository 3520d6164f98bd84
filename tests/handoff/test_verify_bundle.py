from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from bundles import change_json, change_model, reseal
from onnx.reference import ReferenceEvaluator

from metaloom.config import Settings
from metaloom.handoff.adapting.one import adapt_to
from metaloom.handoff.shipped import verify as shipped
from metaloom.handoff.shipped.verify import check_files, main, verify
from metaloom.methods import METHOD_CLASSES


def the_problem(bundle: Path) -> str:
    problems = verify(bundle).problems
    assert len(problems) == 1, problems
    assert "\n" not in problems[0]
    return problems[0]


def test_a_whole_bundle_verifies(bundle: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(bundle)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("verified") and out.count("\n") == 1 and "4 classes, 24 golden examples" in out
    assert "model.onnx, adapt.onnx, learn.onnx, classify.onnx within" in out


def test_another_execution_provider(bundle: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(bundle), "--provider", "CPUExecutionProvider"]) == 0
    assert main(["--provider", "OpenVINOExecutionProvider", str(bundle)]) == 1
    assert "has no OpenVINOExecutionProvider here, only " in capsys.readouterr().err
    assert main([str(bundle), "--provider"]) == 2


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """float32 with so many bits after the point, halves to even, as oneDNN and tensor cores round."""
    dropped = 23 - bits
    whole = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    whole = (whole + (1 << (dropped - 1)) - 1 + ((whole >> dropped) & 1)) >> dropped << dropped
    return whole.astype(np.uint32).view(np.float32)


class Rounding:
    """A session that multiplies what it has rounded first, or whose convolutions alone do."""

    def __init__(self, form: Callable[[np.ndarray], np.ndarray], conv_alone: bool = False):
        self.form, self.conv_alone = form, conv_alone

    def __call__(self, *_: object, **__: object) -> Rounding:
        return self

    def run(self, outputs: list[str], asked: dict[str, np.ndarray]) -> list[np.ndarray]:
        weights = shipped._factors()[1]
        with np.errstate(all="ignore"):
            product = self.form(asked["rows"]) @ self.form(weights)
            maps = np.einsum("rihw,io->rohw", self.form(asked["maps"]), self.form(weights))
        return [asked["rows"] @ weights if self.conv_alone else product, maps]


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (lambda x: rounded(x, 7), "X multiplies in bfloat16 (MatMul and Conv): products differ by up to 3.9e-03"),
        (lambda x: rounded(x, 10), "X multiplies in TF32 (MatMul and Conv): products differ by up to 4.9e-04"),
        (lambda x: x.astype(np.float16), "X multiplies in float16 (MatMul and Conv): products differ by up to 4.9e-04"),
        (lambda x: rounded(x, 13), "X multiplies in less than float32, 13 of 23 bits (MatMul and Conv)"),
        (lambda x: rounded(x, 20), ""),  # as an algorithm for convolutions that rounds between
    ],
)
def test_a_provider_that_computes_in_less_than_float32_is_said(
    form: Callable[[np.ndarray], np.ndarray], words: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shipped.onnxruntime, "InferenceSession", Rounding(form))
    said = shipped.precision_of.__wrapped__("X")
    assert said.startswith(words) and bool(said) == bool(words)
    assert not said or said.endswith("remedy: its options, if it has one that asks for float32; or another provider")


def test_one_operator_may_compute_in_less_and_known_providers_have_a_remedy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shipped.onnxruntime, "InferenceSession", Rounding(lambda x: rounded(x, 10), conv_alone=True))
    said = shipped.precision_of.__wrapped__("CUDAExecutionProvider")
    assert "TF32 (Conv): " in said and said.endswith('remedy: its option "use_tf32": "0"')


def test_the_graph_that_asks_is_onnx_and_float32_gives_every_bit():
    graph = onnx.load_model_from_string(shipped.multiplying())
    onnx.checker.check_model(graph, full_check=True)
    by_reference = ReferenceEvaluator(graph).run(None, shipped.asked_products())
    assert shipped.precision_in_words("X", dict(zip(shipped.MULTIPLYING, by_reference, strict=True))) == ""
    assert shipped.precision_of("CPUExecutionProvider") == ""


def test_verify_prints_the_precision_whatever_else_it_finds(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """onnxruntime itself computes in float16 here: the graph says so."""
    graph = onnx.load_model_from_string(shipped.multiplying())
    for node in list(graph.graph.node):
        casts = [onnx.helper.make_node("Cast", [name], [f"{name}.half"], to=10) for name in node.input]
        back = onnx.helper.make_node("Cast", [f"{node.output[0]}.half"], [node.output[0]], to=1)
        node.input[:], node.output[:] = [each.output[0] for each in casts], back.input
        graph.graph.node.extend([*casts, back])
    half = float16_in_order(graph)
    monkeypatch.setattr(shipped, "multiplying", lambda: half)
    shipped.precision_of.cache_clear()
    words = "precision: CPUExecutionProvider multiplies in float16 (MatMul and Conv): products differ by up to 4.9e-04"
    for exit_code in (0, 1):
        assert main([str(bundle), "--here"]) == exit_code
        assert words in capsys.readouterr().out
        np.save(bundle / "samples/examples.novelty.npy", np.load(bundle / "samples/examples.novelty.npy") + 1)
        reseal(bundle)
    shipped.precision_of.cache_clear()


def float16_in_order(graph: onnx.ModelProto) -> bytes:
    """Its nodes in an order in which they can run: casts to float16, what computes, casts back."""
    order = {"Cast": 0, "MatMul": 1, "Conv": 1}
    nodes = sorted(
        graph.graph.node, key=lambda node: 2 if node.output[0] in shipped.MULTIPLYING else order[node.op_type]
    )
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    return graph.SerializeToString()


def test_sha256sum_reads_the_checksums(bundle: Path):
    done = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=bundle, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_file_is_guarded(bundle: Path):
    for path in sorted(path for path in bundle.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        changed = bytearray(whole)
        changed[len(whole) // 2] ^= 1
        path.write_bytes(changed)
        assert check_files(bundle), path
        path.write_bytes(whole)
    assert not check_files(bundle)


def test_changed_missing_and_extra_files_are_named(bundle: Path):
    labels = (bundle / "labels.json").read_bytes()
    (bundle / "labels.json").write_bytes(labels.replace(b"class0", b"class9"))
    (bundle / "samples" / "one_pixel.examples.npy").unlink()
    (bundle / "notes.txt").write_text("x")
    assert sorted(verify(bundle).problems) == [
        "labels.json: its content has changed (checksum differs)",
        "notes.txt: not listed in SHA256SUMS",
        "samples/one_pixel.examples.npy: missing",
    ]


def test_a_link_is_no_file(bundle: Path, tmp_path: Path):
    (bundle / "model.onnx").rename(tmp_path / "model.onnx")
    (bundle / "model.onnx").symlink_to(tmp_path / "model.onnx")
    assert the_problem(bundle) == "model.onnx: a link, where a file should be"


@pytest.mark.parametrize("line", ["nonsense", "0" * 64 + "  ../secret", "0" * 64 + "  /etc/passwd"])
def test_checksums_stay_inside_the_bundle(bundle: Path, line: str):
    (bundle / "SHA256SUMS").write_text(line + "\n")
    assert the_problem(bundle) == "SHA256SUMS: line 1 is no checksum of a file in the bundle"


def test_what_is_no_bundle(tmp_path: Path):
    assert "no such folder" in the_problem(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert "is no bundle" in the_problem(tmp_path / "empty")
    (tmp_path / "empty" / "SHA256SUMS").touch()
    assert verify(tmp_path / "empty").problems == [
        f"{n}: missing" for n in ("model.onnx", "labels.json", "metadata.json")
    ]


def test_exit_codes(bundle: Path, capsys: pytest.CaptureFixture[str]):
    (bundle / "labels.json").unlink()
    assert main([str(bundle)]) == 1
    assert capsys.readouterr().err == "not verified: labels.json: missing\n"
    assert main(["a", "b"]) == 2
    assert main(["--help"]) == 2


RESEALED = {
    "newer format": ("metadata.json", lambda v: v.update(format="4"), "format 4 is newer"),
    "older format": (
        "metadata.json",
        lambda v: v.update(format="2"),
        "format 2 is older than this verifier knows (3); use its own verify.py",
    ),
    "no format": ("metadata.json", lambda v: v.pop("format") and None, "no JSON object with a format"),
    "no metadata": ("metadata.json", lambda v: [1], "no JSON object"),
    "loose tolerance": ("metadata.json", lambda v: v["graphs"]["model.onnx"].update(tolerance=1.0), "tolerance is 1.0"),
    "no graphs": ("metadata.json", lambda v: v.update(graphs={}), "graphs does not name model.onnx"),
    "an unknown graph": ("metadata.json", lambda v: v["graphs"].update({"x.onnx": {}}), "graphs does not name"),
    "other opset": (
        "metadata.json",
        lambda v: v["onnx"].update(opset=17),
        "its opset is 18, metadata.json says 17",
    ),
    "other IR": ("metadata.json", lambda v: v["onnx"].update(ir_version=8), "its ir_version is 9"),
    "other channels": (
        "metadata.json",
        lambda v: v["input"]["shape"].__setitem__(3, 3),
        "its input is examples tensor(uint8) [any, any, any, 1]",
    ),
    "another type": (
        "metadata.json",
        lambda v: v["input"].update(type="float32"),
        "its input is examples tensor(uint8) [any, any, any, 1], not examples tensor(float)",
    ),
    "no type": ("metadata.json", lambda v: v["input"].update(type="pixels"), "input.type is no type"),
    "no shape": ("metadata.json", lambda v: v["input"].pop("shape") and None, "input.shape is no list"),
    "a shape of nothing": ("metadata.json", lambda v: v["input"].update(shape=["batch", 0]), "neither a size nor"),
    "a label less": ("labels.json", lambda v: v.pop() and None, "3 labels for 4 probabilities"),
    "a label twice": ("labels.json", lambda v: [v[0], *v[:3]], "stands there twice"),
    "labels no list": ("labels.json", lambda v: dict.fromkeys(v, 1), "no list of class names"),
}


@pytest.mark.parametrize("name, change, words", RESEALED.values(), ids=RESEALED)
def test_wrong_values_are_found_behind_right_checksums(bundle: Path, name: str, change: Callable, words: str):
    change_json(bundle / name, change)
    reseal(bundle)
    assert words in the_problem(bundle)


def test_other_weights_fail_the_golden_samples(bundle: Path):
    def swap(model: onnx.ModelProto) -> None:
        bias = next(each for each in model.graph.initializer if each.name == "head_bias")
        bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias)[::-1].copy(), "head_bias"))

    change_model(bundle, swap)
    reseal(bundle)
    problems = verify(bundle).problems
    assert problems and all("answers differ by" in problem for problem in problems)


@pytest.mark.parametrize("name", ["adapt.onnx", "learn.onnx", "classify.onnx"])
def test_every_graph_is_checked(bundle: Path, name: str):
    whole = (bundle / name).read_bytes()
    (bundle / name).write_bytes((bundle / "model.onnx").read_bytes())
    reseal(bundle)
    assert all(problem.startswith(f"{name}: its ") for problem in verify(bundle).problems) and verify(bundle).problems
    (bundle / name).write_bytes(whole.replace(b"MatMul", b"MatMuL"))
    reseal(bundle)
    assert verify(bundle).problems[0].startswith(f"{name}: onnxruntime")
    (bundle / name).unlink()
    reseal(bundle)
    assert the_problem(bundle) == f"{name}: missing"


def test_a_graph_that_learns_something_else_is_found(bundle: Path):
    model = onnx.load(bundle / "learn.onnx")
    weights = next(each for each in model.graph.initializer if len(each.dims) == 4)
    weights.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weights), weights.name))
    (bundle / "learn.onnx").write_bytes(model.SerializeToString())
    reseal(bundle)
    assert all("classify.onnx: on samples/" in problem for problem in verify(bundle).problems)
    assert verify(bundle).problems


def test_a_foreign_operator_is_refused_before_a_runtime_sees_it(bundle: Path):
    def foreign(model: onnx.ModelProto) -> None:
        model.graph.node[0].domain = "evil.ops"
        model.opset_import.append(onnx.helper.make_opsetid("evil.ops", 1))

    change_model(bundle, foreign)
    reseal(bundle)
    problems = verify(bundle).problems
    assert len(problems) == 2 and all("evil.ops" in problem for problem in problems)


def test_weights_outside_the_file_are_refused(bundle: Path):
    def outside(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/passwd")

    change_model(bundle, outside)
    reseal(bundle)
    assert "keeps weights" in the_problem(bundle) and "in another file" in the_problem(bundle)


def test_weights_outside_are_found_in_subgraphs_too(bundle: Path):
    def nested(model: onnx.ModelProto) -> None:
        tensor = onnx.TensorProto(name="hidden", data_location=onnx.TensorProto.EXTERNAL, data_type=1)
        branch = onnx.helper.make_graph([], "branch", [], [], initializer=[tensor])
        model.graph.node[0].attribute.append(onnx.helper.make_attribute("then_branch", branch))

    change_model(bundle, nested)
    reseal(bundle)
    assert "keeps weights (hidden) in another file" in the_problem(bundle)


@pytest.mark.parametrize("data", [b"", b"no onnx at all", b"\xff" * 40, b"\x0a\xff\xff\xff\x7f"])
def test_what_is_no_graph(bundle: Path, data: bytes):
    (bundle / "model.onnx").write_bytes(data)
    reseal(bundle)
    assert the_problem(bundle).startswith("model.onnx: ")


def test_a_cut_graph_is_refused_at_any_place(bundle: Path):
    data = (bundle / "model.onnx").read_bytes()
    for length in range(1, len(data), len(data) // 12):
        (bundle / "model.onnx").write_bytes(data[:length])
        reseal(bundle)
        assert verify(bundle).problems, length


def test_bad_samples(bundle: Path):
    np.save(bundle / "samples" / "one_pixel.probabilities.npy", np.zeros((1, 3), np.float32))
    (bundle / "samples" / "examples.examples.npy").write_bytes(b"x")
    (bundle / "samples" / "long.examples.npy").unlink()
    np.save(bundle / "samples" / "not_square.examples.npy", np.zeros((2, 3, 3, 1), np.float32))
    reseal(bundle)
    problems = verify(bundle).problems
    assert len(problems) == 4 and all(problem.startswith("samples") for problem in problems)
    for path in (bundle / "samples").iterdir():
        path.unlink()
    reseal(bundle)
    assert "samples: there are none for adapt.onnx" in verify(bundle).problems


@pytest.mark.parametrize(
    "header",
    [b"{'descr': '<f4', 'shape': (", b"{1: 2, 'a': 3}", b"{'descr': (), 'fortran_order': False, 'shape': (1,)}"],
)
def test_samples_with_a_damaged_header_are_named(bundle: Path, header: bytes):
    (bundle / "samples" / "examples.examples.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    )
    reseal(bundle)
    assert "samples/examples: cannot be read" in the_problem(bundle)


def test_a_list_of_checksums_that_is_a_link_or_endless_is_refused(bundle: Path, tmp_path: Path):
    sums = bundle / "SHA256SUMS"
    shutil.copy(sums, tmp_path / "sums")
    sums.unlink()
    sums.symlink_to(tmp_path / "sums")
    assert the_problem(bundle).startswith("SHA256SUMS: a link")
    sums.unlink()
    with sums.open("wb") as file:
        file.truncate(2**34)
    assert the_problem(bundle).startswith("SHA256SUMS: a link, or far too large")


def test_pickled_samples_are_not_opened(bundle: Path):
    np.save(bundle / "samples" / "examples.examples.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    reseal(bundle)
    assert "samples/examples: cannot be read" in the_problem(bundle)


def test_the_copy_in_the_bundle_runs_alone(bundle: Path, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-I", str(bundle / "verify.py")], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"verified: {bundle}: 4 classes") and done.stderr == ""
    assert {path.name for path in bundle.iterdir()} == {
        "MODEL_CARD.md", "SHA256SUMS", "adapt.onnx", "classify.onnx", "example.py", "labels.json", "learn.onnx",
        "metadata.json", "model.onnx", "samples", "verify.py"
    }  # fmt: skip


def receiver(venv: Path, version: str) -> str:
    """The Python of an environment that has onnxruntime of a version, numpy, and nothing else of ours."""
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True, capture_output=True)
    wanted = [f"onnxruntime=={version}", f"numpy=={np.__version__}"]
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", *wanted]
    installed = subprocess.run(pip, capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"pip cannot install onnxruntime here: {installed.stderr.strip().splitlines()[-1]}")
    listed = subprocess.run([*pip[:3], "list"], capture_output=True, text=True).stdout.lower()
    assert "torch" not in listed and "pillow" not in listed and "metaloom" not in listed
    return pip[0]


@pytest.mark.slow
def test_a_receiver_needs_onnxruntime_and_numpy_alone(bundle: Path, tmp_path: Path):
    python = receiver(tmp_path / "venv", onnxruntime.__version__)
    done = subprocess.run([python, "verify.py"], cwd=bundle, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("verified"), done.stderr


OPERATORS = ("protonet", "ridge", "maml", "bank")  # whose graphs have all operators; the sweep takes the others


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(OPERATORS, marks=pytest.mark.slow),
        pytest.param([name for name in METHOD_CLASSES if name not in OPERATORS], marks=pytest.mark.sweep),
    ],
)
def test_a_runtime_two_years_old_takes_every_method_s_graphs(
    names: list[str],
    make_learner: Callable,
    save_model: Callable,
    shapes: Path,
    tiny_settings: Settings,
    tmp_path: Path,
):
    """onnxruntime 1.20.1 is of November 2024 (https://pypi.org/project/onnxruntime/#history)."""
    python = receiver(tmp_path / "venv", "1.20.1")
    for name in names:
        steps = {"inner_steps": 2} if name in ("maml", "reptile") else {}
        settings = tiny_settings.model_copy(update={name: tiny_settings.method(name).model_copy(update=steps)})
        model = save_model(make_learner(name, settings), tmp_path / name)
        bundle = tmp_path / f"bundle_of_{name}"
        adapt_to(shapes / "domain0", bundle, model, settings, lambda done, text: None)
        done = subprocess.run([python, "verify.py"], cwd=bundle, capture_output=True, text=True)
        assert done.returncode == 0 and "adapt.onnx" in done.stdout, (name, done.stderr)
