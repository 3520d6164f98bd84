"""The GPU benchmark on a CPU, in small: its steps run, its fence holds, and it reads Omniglot's archives."""

from __future__ import annotations

import importlib
import io
import json
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

CHEAP = (
    pytest.param("ceilings", marks=pytest.mark.slow),
    pytest.param("parity: protonet", marks=pytest.mark.slow),
    pytest.param("parity: maml, 2 inner steps", marks=pytest.mark.slow),
    pytest.param("parity: shared, heads by domain", marks=pytest.mark.slow),
    "parity: protonet, mlp",
    pytest.param("bits: shared", marks=pytest.mark.slow),
    pytest.param("a graph that cannot be captured", marks=pytest.mark.slow),
    pytest.param("torchrun with one process", marks=pytest.mark.slow),
    "rate: protonet, bf16",
    pytest.param("rate: maml, k=1, 4 tasks, tf32", marks=pytest.mark.slow),
    pytest.param("alone: protonet, tf32", marks=pytest.mark.slow),
    "count: maml, k=2, 4 tasks",
)
ALPHABETS = {"background": ("Latin", "Hebrew", "Mkhedruli_(Georgian)"), "evaluation": ("Tengwar", "Kannada")}
CHARACTERS, DRAWINGS = 3, 4


@pytest.fixture
def gpu(repo, monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(repo / "benchmarks"))
    return importlib.import_module("gpu")


@pytest.fixture
def plan(gpu):
    return dict(gpu.plan(gpu.Bench(torch.device("cpu"), True, None)))


@pytest.mark.parametrize("name", CHEAP)
def test_a_step_runs_small(name, gpu, plan):
    done = gpu.fenced(name, plan[name])
    assert done["ok"], done
    assert all(value >= 0 for value in done.values() if isinstance(value, float))
    assert gpu.line(done).startswith(f"| {name} | ok | ")


def test_what_needs_a_gpu_is_left_out_and_says_why(gpu, plan):
    left_out = {name: step for name, step in plan.items() if isinstance(step, str)}
    assert left_out["images on the host: protonet"] == "there is one memory"
    assert left_out["rate: protonet, tf32, graph"] == "it needs CUDA"
    assert (
        gpu.line(gpu.fenced("step: maml", left_out["step: maml"]))
        == "| step: maml | left out | left out it counts kernels |  |"
    )
    assert not any(name.startswith(("parity", "bits", "count")) for name in left_out)


def test_what_is_written_out_takes_fewer_operators_than_torch_s_second_derivatives(gpu, plan, monkeypatch):
    ours = plan["count: maml, k=2, 4 tasks"]()
    monkeypatch.setattr("metaloom.networks.layers.beyond_cpu", lambda x: False)
    assert ours["kernels"] < 0.7 * plan["count: maml, k=2, 4 tasks"]()["kernels"]


def test_all_adds_precisions_and_forms_and_leaves_out_none(gpu):
    on_gpu = gpu.Bench(torch.device("cuda"), False, None)
    short, whole = dict(gpu.plan(on_gpu)), dict(gpu.plan(replace(on_gpu, everything=True)))
    assert set(short) < set(whole)
    assert "rate: maml, k=5, 32 tasks, bf16" in set(whole) - set(short)
    assert "alone: maml, k=5, 32 tasks, tf32, graph, unfused" in short


@pytest.mark.slow
def test_untimed_steps_run_in_processes_of_their_own(gpu, monkeypatch):
    monkeypatch.setattr(gpu, "AT_ONCE", 2)
    bench = gpu.Bench(torch.device("cpu"), True, None)
    wanted = {"ceilings", "parity: protonet, mlp", "bits: protonet"}
    found = list(gpu.results(bench, wanted.__contains__, at_once=True))
    assert [each["step"] for each in found] == ["parity: protonet, mlp", "bits: protonet", "ceilings"]
    assert all(each["ok"] for each in found), found


def test_a_step_that_fails_costs_only_itself(gpu):
    def failing():
        raise RuntimeError("tensors on two\n  devices")

    done = gpu.fenced("a step", failing)
    assert not done["ok"]
    assert done["error"] == "RuntimeError: tensors on two devices"
    assert "FAILED" in gpu.line(done)


def test_a_step_that_takes_too_long_ends_and_those_after_the_limit_are_left_out(gpu, monkeypatch):
    done = gpu.fenced("a step", lambda: time.sleep(20), until=time.time() + 0.1)
    assert (done["ok"], done["error"]) == (False, "TimeoutError: it took longer than 0 s")
    assert done["seconds"] < 10
    monkeypatch.setattr(gpu, "plan", lambda bench: [("one", lambda: {}), ("two", lambda: {})])
    bench = gpu.Bench(torch.device("cpu"), True, None)
    late = list(gpu.results(bench, lambda name: True, at_once=False, seconds=0))
    assert [each["left out"] for each in late] == ["the time is up: give more --seconds"] * 2


def test_a_line_of_json_for_each_step_comes_before_the_table(gpu, monkeypatch, tmp_path, capsys):
    """With no time at all every step is left out."""
    out = tmp_path / "lines.jsonl"
    monkeypatch.setattr(
        "sys.argv", ["gpu.py", "--device", "cpu", "--seconds", "0", "--only", "rate: ", "--out", str(out)]
    )
    gpu.main()
    machine, *lines = capsys.readouterr().out.splitlines()
    assert machine == f"small, on a CPU, torch {torch.__version__}"
    lines, (blank, _, _, *rows) = lines[: lines.index("")], lines[lines.index("") :]
    done = [json.loads(line) for line in lines]
    assert not blank and len(rows) == len(done)
    assert out.read_text().splitlines() == lines
    assert {each["left out"] for each in done} == {"the time is up: give more --seconds", "it needs CUDA"}


def test_the_most_telling_steps_come_first(gpu):
    """Parity and bits, then the rates and peers of the targets and Omniglot, then all else."""
    names = list(dict(gpu.plan(gpu.Bench(torch.device("cuda"), False, Path()))))
    order = sorted(names, key=gpu.ranked)
    places = [order.index(name) for name in ("parity: gru", "rate: maml, k=5, 4 tasks, tf32, graph") if name in order]
    assert order[0].startswith("parity: ")
    omniglot, ceilings = order.index("Omniglot, 10 s"), order.index("ceilings")
    assert all(place < omniglot < ceilings for place in places) and places
    assert order.index("peers: MAML second order, k=5, 4 tasks, tf32") < omniglot
    unknown = [words for words in gpu.FIRST if not any(name.startswith(words) for name in names)]
    assert not unknown


def test_a_step_counts_more_than_its_loss_and_backward(gpu, plan):
    found = plan["count: maml, k=1, 4 tasks"]()
    assert found["kernels"] <= 120  # its target
    assert 0 < found["kernels of a step"] - found["kernels"] < 120


@pytest.mark.slow
def test_weights_that_are_not_the_same_again_are_told_apart(gpu, monkeypatch):
    """In bits: a trainer whose seed is another in every run."""
    bench = gpu.Bench(torch.device("cpu"), True, None)
    seeds, plain = iter(range(10)), gpu.Bench.trainer
    monkeypatch.setattr(gpu.Bench, "trainer", lambda *args, **rest: plain(*args, **rest, seed=next(seeds)))
    found = gpu.repeated(bench, "protonet", deterministic=False)
    assert not found["again bits"] and found["again"] > 0


def test_peers_that_are_not_installed_are_left_out_and_named(gpu, monkeypatch):
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    own = dict(gpu.plan(gpu.Bench(torch.device("cpu"), True, None)))
    left_out = [step for name, step in own.items() if name.startswith("peers: ")]
    assert left_out == ["none of higher, torchopt, learn2learn, easyfsl is installed"] * 2


@pytest.mark.sweep
def test_a_peer_that_is_installed_takes_its_turns_on_the_device(gpu, plan, monkeypatch):
    """One that is written here: MAML by torch's own functional call."""
    contenders = importlib.import_module("contenders")

    def by_hand(network, rate, steps, first_order):
        def task(support_x, support_y, query_x, query_y, share):
            fast = dict(network.named_parameters())
            for _ in range(steps):
                loss = cross_entropy(torch.func.functional_call(network, fast, (support_x,)), support_y)
                slopes = torch.autograd.grad(loss, list(fast.values()), create_graph=not first_order)
                fast = {name: w - rate * slope for (name, w), slope in zip(fast.items(), slopes, strict=True)}
            loss = cross_entropy(torch.func.functional_call(network, fast, (query_x,)), query_y)
            (loss * share).backward()
            return loss.detach()

        return task

    monkeypatch.setattr(contenders.peers, "MAML_PEERS", {"by hand": by_hand})
    (work,) = (work for _, work in contenders.works("cpu", quick=True) if work.method == "maml")
    here, absent = contenders.present(replace(work, queries=1, width=contenders.WIDTH), torch.float64)
    assert [each.name for each in here] == ["metaloom", "metaloom, plain layers", "by hand"] and not absent
    assert all(contenders.disagreement(here[0], other) < 1e-6 for other in here[1:])
    done = gpu.beside_peers(gpu.Bench(torch.device("cpu"), True, None), replace(work, queries=1), "float32")
    assert done["× the fastest"] == done["metaloom tasks/s"] / done["by hand tasks/s"]


@pytest.fixture
def archives(tmp_path):
    rng = np.random.default_rng(0)
    for part, alphabets in ALPHABETS.items():
        with zipfile.ZipFile(tmp_path / f"omniglot_images_{part}.zip", "w") as archive:
            for name in (
                f"{a}/character{c:02}/{d}" for a in alphabets for c in range(CHARACTERS) for d in range(DRAWINGS)
            ):
                file = io.BytesIO()
                Image.fromarray(rng.integers(0, 256, (35, 35), dtype=np.uint8)).save(file, "png")
                archive.writestr(f"images_{part}/{name}.png", file.getvalue())
    return tmp_path


def test_omniglot_is_read_class_by_class_and_split_by_alphabet(gpu, archives):
    work = importlib.import_module("gpu_work").Work
    recipe = {"train.select_on": "3w1s", "episodes.settings": "[3w1s]", "baselines.settings": "[3w1s]"}
    made = work.omniglot(archives, recipe | {"episodes.n_query": "2", "episodes.validation": "5"})
    splits = made.classes.groupby("split")["domain"].agg(set).to_dict()
    assert splits["train"] == {"background/Latin"}
    assert splits["validation"] == {"background/Hebrew", "background/Mkhedruli_(Georgian)"}
    assert splits["test"] == {"evaluation/Tengwar", "evaluation/Kannada"}
    assert made.examples.shape == (5 * CHARACTERS * DRAWINGS, 28, 28, 1)
    assert (made.classes["first"] == np.arange(5 * CHARACTERS) * DRAWINGS).all()
    assert (made.classes["count"] == DRAWINGS).all()
    assert made.validation.support.shape == (5, 3, 1) and made.validation.query.shape == (5, 3, 2)
    heldout = made.classes.loc[made.classes["split"] == "validation", "first"]
    assert set(made.validation.rows // DRAWINGS) <= set(heldout // DRAWINGS)
