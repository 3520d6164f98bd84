"""Bundles and models from a stranger: each is refused in one line, whatever is in them."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from bundles import change_json, change_model, reseal
from onnx import helper, numpy_helper
from projects import run_here

from metaloom.cli.app import app
from metaloom.cli.app import main as command_line
from metaloom.cli.project import trained_or_champion
from metaloom.errors import MetaloomError
from metaloom.handoff.bundle.inspect import lines
from metaloom.handoff.bundle.predict import predict
from metaloom.handoff.bundle.stranger import limited, usable
from metaloom.handoff.metadata import read_metadata
from metaloom.handoff.shipped.verify import HERE, main, verify
from metaloom.learner import Learner
from metaloom.versioning.of_run import _hash_now, check_of_run

ELSEWHERE = onnx.TensorProto(name="hidden", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
ELSEWHERE.external_data.add(key="location", value="/etc/passwd")
HERE_ALL = onnx.TensorProto(name="plain", data_type=1, dims=[1], float_data=[1.0])
SPARSE = [
    onnx.SparseTensorProto(values=ELSEWHERE, indices=HERE_ALL, dims=[4]),
    onnx.SparseTensorProto(values=HERE_ALL, indices=ELSEWHERE, dims=[4]),
]


def graph_of(**parts: object) -> onnx.GraphProto:
    return onnx.GraphProto(name="inner", **parts)


def on_node(model: onnx.ModelProto, **value: object) -> None:
    model.graph.node[0].attribute.append(onnx.AttributeProto(name="more", **value))


PLACES: dict[str, Callable[[onnx.ModelProto], object]] = {
    "initializer": lambda m: m.graph.initializer.append(ELSEWHERE),
    "sparse values": lambda m: m.graph.sparse_initializer.append(SPARSE[0]),
    "sparse indices": lambda m: m.graph.sparse_initializer.append(SPARSE[1]),
    "attribute": lambda m: on_node(m, t=ELSEWHERE),
    "attributes": lambda m: on_node(m, tensors=[HERE_ALL, ELSEWHERE]),
    "sparse attribute": lambda m: on_node(m, sparse_tensor=SPARSE[0]),
    "sparse attributes": lambda m: on_node(m, sparse_tensors=[SPARSE[1]]),
    "subgraph": lambda m: on_node(m, g=graph_of(initializer=[ELSEWHERE])),
    "sparse in subgraphs": lambda m: on_node(m, graphs=[graph_of(), graph_of(sparse_initializer=[SPARSE[1]])]),
    "attribute in a subgraph": lambda m: on_node(
        m, g=graph_of(node=[onnx.NodeProto(attribute=[onnx.AttributeProto(name="value", t=ELSEWHERE)])])
    ),
    "function": lambda m: m.functions.append(
        onnx.FunctionProto(name="f", node=[onnx.NodeProto(attribute=[onnx.AttributeProto(name="value", t=ELSEWHERE)])])
    ),
    "training": lambda m: m.training_info.append(onnx.TrainingInfoProto(algorithm=graph_of(initializer=[ELSEWHERE]))),
}


@pytest.mark.parametrize("place", PLACES)
def test_weights_in_another_file_are_found_wherever_they_hide(bundle: Path, place: str):
    change_model(bundle, PLACES[place])
    reseal(bundle)
    (problem,) = verify(bundle).problems
    words = {"function": "defines functions of its own", "training": "carries what is for training"}
    assert problem == f"model.onnx: {words.get(place, 'keeps weights (hidden) in another file')}"


def test_the_last_of_repeated_fields_counts_as_for_every_reader(bundle: Path):
    """Protocol buffers let a later value replace an earlier one: 0 before 1 hides where the data are."""
    tensor = onnx.TensorProto(name="hidden", data_type=1, data_location=onnx.TensorProto.DEFAULT)
    later = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL)
    hidden = tensor.SerializeToString() + b"\x70\x00" + later.SerializeToString()
    attribute = b"\x2a" + bytes([len(hidden)]) + hidden
    node = b"\x2a" + bytes([len(attribute)]) + attribute
    graph = b"\x0a" + bytes([len(node)]) + node
    data = (bundle / "model.onnx").read_bytes()
    model = onnx.load_from_string(data)
    assert onnx.NodeProto.FromString(node).attribute[0].t.data_location == onnx.TensorProto.EXTERNAL
    whole = model.graph.SerializeToString() + graph
    model.ClearField("graph")
    size, length = len(whole), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    (bundle / "model.onnx").write_bytes(model.SerializeToString() + b"\x3a" + length + bytes([size]) + whole)
    reseal(bundle)
    assert verify(bundle).problems == ["model.onnx: keeps weights (hidden) in another file"]


def behind(model: onnx.ModelProto, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]) -> None:
    """Add what runs before the answer is given: its result, a single 0, is added to `novelty`."""
    last = next(node for node in model.graph.node if "novelty" in node.output)
    last.output[list(last.output).index("novelty")] = "honest"
    model.graph.node.extend([*nodes, helper.make_node("Add", ["honest", "nothing"], ["novelty"])])
    model.graph.initializer.extend(constants)


def endless(model: onnx.ModelProto) -> None:
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["going"]), helper.make_node("Identity", ["zero"], ["still"])],
        "body",
        [value("turn", 7, []), value("go", 9, []), value("zero", 1, [])],
        [value("going", 9, []), value("still", 1, [])],
    )
    first = helper.make_node("ReduceMin", ["honest"], ["least"], keepdims=0)
    zero = helper.make_node("Sub", ["least", "least"], ["start"])
    forever = helper.make_node("Loop", ["turns", "yes", "start"], ["nothing"], body=body)
    constants = {"turns": np.array(2**62), "yes": np.array(True)}
    behind(model, [first, zero, forever], [numpy_helper.from_array(v, k) for k, v in constants.items()])


def huge(model: onnx.ModelProto, size: int) -> None:
    shape = numpy_helper.from_array(np.array([size], np.int64), "shape")
    zeros = helper.make_node("ConstantOfShape", ["shape"], ["zeros"])
    behind(model, [zeros, helper.make_node("ReduceMax", ["zeros"], ["nothing"], keepdims=0)], [shape])


def refusal(bundle: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main([str(bundle), *options]) == 1
    out, err = capsys.readouterr()
    assert out == "" and all(line.startswith("not verified: ") for line in err.splitlines()), err
    return err


def test_an_endless_loop_is_ended(bundle: Path, capsys: pytest.CaptureFixture[str]):
    change_model(bundle, endless)
    reseal(bundle)
    assert "to check it takes more than 2 s" in refusal(bundle, capsys, "--seconds", "2")


@pytest.mark.parametrize("size", [784 * 2**40 // 4, 4 * 2**30 // 4])
def test_a_graph_that_wants_too_much_memory_is_refused(bundle: Path, capsys: pytest.CaptureFixture[str], size: int):
    change_model(bundle, lambda model: huge(model, size))
    reseal(bundle)
    refusal(bundle, capsys, "--gigabytes", "2")


def test_a_whole_bundle_passes_within_the_limits_and_without(bundle: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(bundle), "--seconds", "100", "--gigabytes", "4"]) == 0
    within = capsys.readouterr().out
    assert main([str(bundle), HERE]) == 0
    assert within == capsys.readouterr().out and within.startswith("verified: ")
    assert main([str(bundle), "--seconds", "soon"]) == main([str(bundle), "--gigabytes", "nan"]) == 2


def test_verify_keeps_to_limits_of_the_user_s_own_and_of_the_system(bundle: Path):
    """A hard limit, as `ulimit -d` sets it, cannot be raised, and no system counts to 10²¹ bytes."""
    command = f"ulimit -d 6000000; python -m metaloom.handoff.shipped.verify {bundle}"
    for options in ("", "--seconds 1e12 --gigabytes 1e12"):
        assert run_here(bundle, "sh", "-c", f"{command} {options}").stdout.startswith("verified: ")


DEEP = b"[" * 200_000 + b"]" * 200_000
WRONG: dict[str, Callable[[Path], object]] = {
    "deep labels": lambda b: (b / "labels.json").write_bytes(DEEP),
    "deep metadata": lambda b: (b / "metadata.json").write_bytes(DEEP),
    "a format of many digits": lambda b: change_json(b / "metadata.json", lambda v: v.update(format="9" * 5000)),
    "an archive as a sample": lambda b: np.savez((b / "samples/examples.examples.npy").open("wb"), a=np.zeros(2)),
    "an empty sample": lambda b: (b / "samples/examples.examples.npy").write_bytes(b""),
    "words as answers": lambda b: np.save(b / "samples/examples.novelty.npy", np.full(8, "x")),
    "a sample of a petabyte": lambda b: (b / "samples/examples.examples.npy").write_bytes(petabyte()),
    "a name that a terminal obeys": lambda b: (b / "x\x1b[2Jy").write_text(""),
}


def petabyte() -> bytes:
    about = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000000,), }".ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(about).to_bytes(2, "little") + about


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line(bundle: Path, capsys: pytest.CaptureFixture[str], name: str):
    WRONG[name](bundle)
    if "terminal" not in name:
        reseal(bundle)
    assert main([str(bundle), HERE]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("not verified: ") and "Traceback" not in err and "\x1b" not in err


def without(*keys: str) -> Callable[[dict], None]:
    def change(value: dict) -> None:
        for key in keys[:-1]:
            value = value[key]
        del value[keys[-1]]

    return change


INCOMPLETE = [
    ("input", "shift"), ("input", "image_size"), ("learner", "network"), ("learner", "method"), ("provenance",),
    ("metrics",), ("task",), ("learner", "network", "width"),
]  # fmt: skip


@pytest.mark.parametrize("keys", INCOMPLETE, ids=".".join)
def test_incomplete_metadata_is_one_line(bundle: Path, shapes: Path, keys: tuple[str, ...]):
    change_json(bundle / "metadata.json", without(*keys))
    reseal(bundle)
    said = []
    for ask in (
        lambda: predict(bundle, [shapes / "domain0/class0/0.png"]),
        lambda: list(lines(bundle, read_metadata(usable(bundle, []).metadata), [])),
    ):
        try:
            ask()
        except MetaloomError as error:
            said.append(str(error))
    assert said and all("\n" not in each for each in said)


@pytest.mark.parametrize(
    ("key", "value"), [("image_size", "wide"), ("channels", [1]), ("fit", "fill"), ("kind", ["pictures"])]
)
def test_a_setting_of_another_type_is_one_line(bundle: Path, shapes: Path, key: str, value: object):
    change_json(bundle / "metadata.json", lambda v: v["input"].update({key: value}))
    reseal(bundle)
    with pytest.raises(MetaloomError, match="kind|what it says of pictures"):
        predict(bundle, [shapes / "domain0/class0/0.png"])


@pytest.mark.parametrize(
    "content",
    [b"[1]", b'"x"', b"null", DEEP, b"\xff\xfe", b'{"format": 1, "method": []}', b'{"format": 1, "method": {}}'],
    ids=range(7),
)
def test_a_learner_json_that_is_none_is_one_line(model: Path, tmp_path: Path, content: bytes):
    folder = Path(shutil.copytree(model, tmp_path / "protonet"))
    (folder / "learner.json").write_bytes(content)
    with pytest.raises(MetaloomError, match=r"learner\.json") as error:
        Learner.load(folder)
    assert "\n" not in str(error.value)


def test_weights_that_are_not_the_runs_are_refused(
    repo: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(repo / name, tmp_path)
    folder = Path(shutil.copytree(model, tmp_path / "artifacts/models/protonet"))
    out = {"path": "artifacts/models/protonet", "md5": _hash_now(folder)}
    (tmp_path / "dvc.lock").write_text(json.dumps({"stages": {"train@protonet": {"outs": [out]}}}))
    monkeypatch.chdir(tmp_path)
    assert trained_or_champion("protonet") == Path("artifacts/models/protonet")

    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    for look in (lambda: trained_or_champion("protonet"), lambda: check_of_run(folder)):
        with pytest.raises(MetaloomError, match="protonet is not what the run has left there .* `dvc checkout --force"):
            look()


def test_the_hash_is_dvcs(repo: Path, tmp_path: Path):
    (tmp_path / "folder/below").mkdir(parents=True)
    (tmp_path / "folder/b.txt").write_text("b")
    (tmp_path / "folder/below/a.txt").write_text("a")
    run_here(tmp_path, "dvc", "init", "-q", "--no-scm")
    run_here(tmp_path, "dvc", "add", "-q", "folder")
    assert f"md5: {_hash_now(tmp_path / 'folder')}" in (tmp_path / "folder.dvc").read_text()


ASKED = ("predict", "inspect", "bench")


@pytest.mark.parametrize("command", ASKED)
@pytest.mark.parametrize(
    "name", ["deep labels", "deep metadata", "an archive as a sample", "a sample of a petabyte", "784 TiB"]
)
def test_who_asks_a_strangers_bundle_gets_an_answer_or_one_line(
    bundle: Path, shapes: Path, capsys: pytest.CaptureFixture[str], command: str, name: str
):
    if name == "784 TiB":
        change_model(bundle, lambda model: huge(model, 784 * 2**40 // 4))
    else:
        WRONG[name](bundle)
    reseal(bundle)
    harmless = ("sample" in name and command != "bench") or (name == "784 TiB" and command == "inspect")
    files = [str(shapes / "domain0/class0/0.png")] if command == "predict" else []
    with pytest.raises(SystemExit) as ended:
        command_line(lambda: app([command, str(bundle), *files]))
    out, err = capsys.readouterr()
    assert ended.value.code == (0 if harmless else 2)
    assert harmless or (out == "" and err.startswith("error: ") and err.count("\n") == 1), err


@pytest.mark.parametrize("limit", ["--seconds", "--gigabytes"])
@pytest.mark.parametrize("value", ["inf", "1e12"])
def test_a_limit_that_the_system_cannot_keep_is_refused(
    bundle: Path, capsys: pytest.CaptureFixture[str], limit: str, value: str
):
    with pytest.raises(SystemExit) as ended:
        command_line(lambda: app(["inspect", str(bundle), limit, value]))
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and out == "" and err.count("\n") == 1
    assert f"{limit} {value.replace('12', '+12')}" in err and "give numbers above 0, up to 1e+09" in err


def test_a_limit_of_the_user_s_own_stays(bundle: Path):
    """A limit of memory, as `ulimit -S -d` sets it."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    own = 6 * 10**9
    resource.setrlimit(resource.RLIMIT_DATA, (own, before[1]))
    try:
        with limited(bundle):
            assert resource.getrlimit(resource.RLIMIT_DATA)[0] == own
        with limited(bundle, gigabytes=4):
            assert resource.getrlimit(resource.RLIMIT_DATA)[0] == 4 * 10**9
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] == own
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (endless, ("--seconds", "3"), "takes more than 3 s: a graph of it may have no end"),
        (lambda model: huge(model, 4 * 2**30 // 4), ("--gigabytes", "2"), "it may take 2 GB of memory"),
    ],
)
def test_a_prediction_ends_within_its_limits(bundle: Path, shapes: Path, change, options: tuple[str, ...], words: str):
    change_model(bundle, change)
    reseal(bundle)
    picture = str(shapes / "domain0/class0/0.png")
    done = run_here(bundle, "metaloom", "predict", str(bundle), picture, *options, check=False)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1 and words in done.stderr
