"""What computes networks on a CPU: machine code where it works, torch's layers where not, and a line that says so."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from numba.core.errors import LoweringError
from typer.testing import CliRunner

from metaloom.cli.app import app
from metaloom.errors import MetaloomError
from metaloom.networks import build_network, cpu, engine, ran_by
from metaloom.networks.bilinear import Convolution
from metaloom.networks.cpu import TILED, convolve_and_pool, measured

CPU = torch.device("cpu")
NO_NUMBA = """
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numba", "llvmlite"):
            raise ModuleNotFoundError(f"No module named '{name}'")

sys.meta_path.insert(0, Refusing())
"""
A_NETWORK = """
import torch
import metaloom.methods
from metaloom.networks import Conv4, ran_by

assert "numba" not in sys.modules
net = Conv4(shape=(1, 16, 16), width=16, norm="group")
z, _ = net(net.init(torch.Generator().manual_seed(0)), torch.ones(2, 1, 16, 16))
assert z.isfinite().all()
print(ran_by("conv4", torch.device("cpu")))
"""


@pytest.fixture(autouse=True)
def fresh():
    """No engine is known yet, and none wanted."""
    before = os.environ.pop(engine.ENGINE, None)
    engine._machine_code.cache_clear()
    yield
    engine._machine_code.cache_clear()
    os.environ.pop(engine.ENGINE, None)
    os.environ |= {engine.ENGINE: before} if before else {}


def in_a_process(code: str, source: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(source)} | variables
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)


def test_without_numba_torch_s_layers_are_taken_and_a_line_says_so(repo):
    done = in_a_process(NO_NUMBA + A_NETWORK, repo / "src")
    assert done.returncode == 0, done.stderr
    said, ran = done.stdout.splitlines()
    assert said.startswith("engine: torch's layers alone")
    assert "No module named 'numba'" in said
    assert ran == f"cpu, torch {torch.__version__}"


def test_where_numba_is_told_not_to_compile_torch_s_layers_are_taken(repo):
    done = in_a_process("import sys\n" + A_NETWORK, repo / "src", NUMBA_DISABLE_JIT="1")
    assert done.returncode == 0, done.stderr
    assert "numba does not work here (NUMBA_DISABLE_JIT is set)" in done.stdout


@pytest.mark.slow
def test_where_machine_code_cannot_be_kept_torch_s_layers_are_taken(repo, tmp_path):
    """An install that cannot be written, and no home: a file is where each folder would be."""
    shutil.copytree(repo / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "src/metaloom/networks/cpu/__pycache__").touch()
    nowhere = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "IPYTHONDIR"), "/dev/null")
    done = in_a_process("import sys\n" + A_NETWORK, tmp_path / "src", NUMBA_CACHE_DIR="", **nowhere)
    assert done.returncode == 0, done.stderr
    said, ran = done.stdout.splitlines()
    assert "no folder to keep machine code in: set NUMBA_CACHE_DIR to one that can be written" in said
    assert ran.startswith("cpu, torch")


@pytest.fixture
def wrong(monkeypatch):
    """Machine code whose sums are off by a hundredth."""

    def slightly_off(*given, **how):
        maps, total, squares = convolve_and_pool(*given, **how)
        return maps, total * 1.01, squares

    monkeypatch.setattr("metaloom.networks.cpu.convolve_and_pool", slightly_off)


def test_machine_code_that_computes_something_else_is_not_taken(wrong, capsys):
    assert engine.machine_code() is None
    assert engine.machine_code() is None
    (said,) = capsys.readouterr().out.splitlines()
    assert said.endswith("numba does not work here (its convolution is not torch's)")


def test_an_error_of_our_own_kernels_does_not_become_a_slow_run(monkeypatch):
    def broken(*given, **how):
        raise IndexError("a part too many")

    monkeypatch.setattr("metaloom.networks.cpu.convolve_and_pool", broken)
    with pytest.raises(IndexError, match="a part too many"):
        engine.machine_code()


def test_a_processor_that_numba_cannot_compile_for_gets_torch_s_layers(monkeypatch, capsys):
    def uncompiled(*given, **how):
        raise LoweringError("no such instruction")

    monkeypatch.setattr("metaloom.networks.cpu.convolve_and_pool", uncompiled)
    assert engine.machine_code() is None
    assert "numba does not work here (LoweringError: " in capsys.readouterr().out


def test_the_first_call_may_be_one_for_inference():
    """Where the self-test's own gradients would be refused."""
    with torch.inference_mode():
        assert engine.machine_code() is not None


def test_an_engine_that_is_asked_for_is_had_or_refused(wrong, monkeypatch):
    engine.choose_engine("numba")
    with pytest.raises(MetaloomError, match="engine is numba, which does not work here .*: give `--set engine=auto`"):
        engine.machine_code()
    monkeypatch.undo()
    engine.choose_engine("numba")
    assert engine.machine_code() is not None
    engine.choose_engine("torch")
    assert engine.machine_code() is None
    monkeypatch.setenv(engine.ENGINE, "cuda")
    with pytest.raises(MetaloomError, match="METALOOM_ENGINE is cuda: write one of auto, torch, numba"):
        engine.machine_code()


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_both_engines_compute_the_same(norm, twice, settings):
    net = build_network(settings.network.model_copy(update={"width": 16}), norm, (1, 28, 28))
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.stack([each.double(), each.double() + 0.1]).requires_grad_()
        for name, each in net.init(generator).items()
    }
    x = torch.randn(2, 3, 1, 28, 28, generator=generator, dtype=torch.float64)
    found = []
    for name in ("numba", "torch"):
        engine.choose_engine(name)
        z, _ = net(weights, x, twice=twice)
        gradients = torch.autograd.grad(z.sin().sum(), list(weights.values()), create_graph=twice)
        found.append([z, *gradients])
        if twice:
            slope = sum(each.square().sum() for each in gradients)
            found[-1] += torch.autograd.grad(slope, list(weights.values()))
    for ours, torch_s in zip(*found, strict=True):
        torch.testing.assert_close(ours, torch_s, rtol=1e-7, atol=1e-8 * float(torch_s.detach().abs().max()) + 1e-12)


def test_kernels_that_do_not_fit_are_refused_before_machine_code_reads_beyond_them():
    x, kernels = torch.ones(4, 3, 8, 8), torch.ones(2, 16, 3, 3, 3)
    for wrong_x, wrong_kernels in ((x, torch.ones(2, 16, 4, 3, 3)), (torch.ones(5, 3, 8, 8), kernels)):
        with pytest.raises(ValueError, match="do not fit x"):
            Convolution.apply(wrong_x, wrong_kernels, TILED)
        with pytest.raises(ValueError, match="do not fit x"):
            inspect.unwrap(convolve_and_pool)(wrong_x, None, None, wrong_kernels, True, False)


def test_kernels_of_another_type_than_x_are_refused():
    with pytest.raises(ValueError, match=r"kernels are torch.float32 and x is torch.float64"):
        Convolution.apply(torch.ones(4, 3, 8, 8, dtype=torch.float64), torch.ones(2, 16, 3, 3, 3), TILED)


def test_a_checkpoint_is_of_the_engine_that_ran(monkeypatch):
    assert ran_by("mlp", CPU) == "cpu"
    assert ran_by("conv4", torch.device("cuda")) == "cuda"
    by_machine_code = ran_by("conv4", CPU)
    assert measured.chosen().name in by_machine_code
    monkeypatch.setattr("metaloom.networks.cpu.chosen", lambda: "another 1.0")
    assert ran_by("conv4", CPU) != by_machine_code
    engine.choose_engine("torch")
    assert ran_by("conv4", CPU) == f"cpu, torch {torch.__version__}"


@pytest.fixture
def blas(monkeypatch, tmp_path):
    """Two libraries and our own code with rates made up, and an empty cache folder."""
    rates = {"torch": 100.0, "scipy": 120.0, measured.OWN: 50.0}
    monkeypatch.setattr(measured, "BLAS", {name: lambda function: 1 for name in rates})
    monkeypatch.setattr(measured, "activate", SimpleNamespace(stats=SimpleNamespace(cache_path=str(tmp_path))))
    monkeypatch.setattr(measured, "measure", lambda there: dict(rates))
    monkeypatch.setattr(measured, "_keep_to_one_thread", lambda: None)
    return rates, measured.chosen.__wrapped__


def test_the_faster_library_multiplies_and_stays_chosen(blas):
    rates, chosen = blas
    first = chosen()
    assert first.name == "scipy"
    rates["torch"] = 300.0  # another measurement would say so; what is kept counts
    assert chosen() == first
    assert json.loads(first.file.read_text()) == rates | {"torch": 100.0}
    first.file.write_text("{")
    assert chosen().name == "torch"


def test_torch_s_library_stays_where_another_is_hardly_faster(blas):
    rates, chosen = blas
    rates["scipy"] = 109.0
    assert chosen().name == "torch"


def test_a_processor_and_a_version_are_measured_for_themselves(blas, monkeypatch):
    rates, chosen = blas
    first = chosen()
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_name", lambda: "another")
    rates["torch"] = 300.0
    other = chosen()
    assert (first.name, other.name) == ("scipy", "torch")
    assert first.file != other.file


def test_our_own_multiplies_where_it_is_the_fastest(blas):
    rates, chosen = blas
    rates[measured.OWN] = 130.0
    assert str(chosen()) == f"numba {cpu.NUMBA}"


def test_our_own_multiplies_where_there_is_no_library(blas, monkeypatch):
    rates, chosen = blas
    absent = dict.fromkeys(("torch", "scipy"), lambda function: 0)
    monkeypatch.setattr(measured, "BLAS", absent | {measured.OWN: lambda function: 1})
    monkeypatch.setattr(measured, "measure", lambda there: {name: rates[name] for name in there})
    assert chosen().name == measured.OWN


def test_what_is_measured_are_products():
    """A million million a second is beyond any processor, a million below."""
    rates = measured.measure({name: find("sgemm") for name, find in measured.BLAS.items() if find("sgemm")})
    assert rates
    assert all(0.001 < rate < 1e4 for rate in rates.values())


def test_a_command_shows_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["engine"]).output
    assert shown.startswith("engine: numba ")
    assert str(measured.chosen().file) in shown
    Path("params.yaml").write_text("engine: torch\n")
    Path("dvc.yaml").touch()
    engine._machine_code.cache_clear()
    assert CliRunner().invoke(app, ["engine"]).output == f"engine: torch {torch.__version__}\n"
    Path("params.yaml").write_text("engine: cuda\n")
    with pytest.raises(MetaloomError, match="^params.yaml: engine is cuda: write one of auto, torch, numba$"):
        CliRunner().invoke(app, ["engine"], catch_exceptions=False)
    Path("params.yaml").write_text("seed: 0\n")  # of an earlier version
    assert CliRunner().invoke(app, ["engine"]).output.startswith("engine: numba ")
