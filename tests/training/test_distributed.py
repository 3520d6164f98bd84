"""Several processes that train together. torchrun starts this file, as a module, for its part that trains."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from projects import REPO, TINY, free_port
from safetensors.torch import load_file, save_file
from trainers import Killed, tensors_of, trainer

from metaloom.config import METHODS, Settings, load_settings
from metaloom.errors import MetaloomError
from metaloom.methods import METHOD_CLASSES
from metaloom.stages import run_stage
from metaloom.tasks.limits import check_shares
from metaloom.training.checkpoint import State
from metaloom.training.launch import FRESH_STORE, begin, launch
from metaloom.training.ranks import ALONE, Ranks, check_processes

CPU = torch.device("cpu")
MOMENTS = (2, 7, 13)  # before the first checkpoint, between two, after the last
ONE_BY_ONE = [("protonet", moment) for moment in MOMENTS] + [(name, 7) for name in METHOD_CLASSES if name != "protonet"]
OTHERS = [(name, moment) for name in METHOD_CLASSES for moment in MOMENTS if (name, moment) not in ONE_BY_ONE]
SHORT = {f"{name}.{key}": value for name in METHODS for key, value in {"steps": 14, "tasks_per_step": 2}.items()}


def settings_of() -> Settings:
    return load_settings(REPO / "params.yaml", TINY | SHORT | {"protonet.n_way": 5, "protonet.norm": "batch"})


# --- what runs in each of the processes


def work(mode: str, folder: str, names: str) -> None:
    torch.set_num_threads(1)
    begin()
    with Ranks.joined(CPU) as ranks:
        for name in names.split(","):
            killed(Path(folder), name, ranks)
        if mode == "error":
            refuse(ranks)
        means_by_hand(ranks)
        end_together(Path(folder), ranks)
        for name in METHOD_CLASSES if mode == "whole" else ():
            undisturbed_run = trainer(name, settings_of(), Path(folder) / "whole", ranks=ranks).run()
            keep(undisturbed_run, Path(folder) / f"{name}.whole", ranks)
        for name, moment in ONE_BY_ONE if mode == "whole" else OTHERS:
            taken_up_again(Path(folder), name, moment, ranks)


def taken_up_again(folder: Path, name: str, moment: int, ranks: Ranks) -> None:
    """A run that ends at a step and goes on."""

    def kill(step: int, loss: float) -> None:
        if step == moment:
            raise Killed

    made = trainer(name, settings_of(), folder / str(moment), ranks=ranks)
    with pytest.raises(Killed):
        replace(made, on_step=kill).run()
    keep(made.run(), folder / f"{name}.{moment}", ranks)


def killed(folder: Path, name: str, ranks: Ranks) -> None:
    """A run whose second process is killed once."""
    mark, done = folder / f"{name}.mark", folder / f"{name}.killed"

    def kill(step: int, loss: float) -> None:
        if ranks.rank == 1 and step == 7 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    if not done.exists():
        keep(trainer(name, settings_of(), folder, ranks=ranks, on_step=kill).run(), done, ranks)


def refuse(ranks: Ranks) -> None:
    if ranks.rank == 1:
        raise MetaloomError("the second process has something to say")
    ranks.agreed(lambda: None)
    means_by_hand(ranks)  # waits for the other, in vain


def means_by_hand(ranks: Ranks) -> None:
    leaves = [torch.zeros(2), torch.zeros(3), torch.zeros(1)]
    leaves[0].grad = torch.tensor([1.0, 2.0]) * (1 + 2 * ranks.rank)
    leaves[1].grad = torch.full((3,), 4.0) if ranks.first else None
    other = ranks.average(leaves, [torch.tensor(float(ranks.rank))])
    assert leaves[0].grad.tolist() == [2, 4]
    assert leaves[1].grad is not None and leaves[1].grad.tolist() == [2, 2, 2]
    assert leaves[2].grad is None
    assert [float(each) for each in other] == [0.5]
    assert ranks.agreed(lambda: ranks.rank) == 0


def end_together(folder: Path, ranks: Ranks) -> None:
    """A budget of seconds is measured by one clock."""
    made = trainer("protonet", settings_of(), folder / "seconds", ranks=ranks)
    state = replace(made, settings=made.settings.model_copy(update={"max_seconds": 0.2})).run()
    ours = (state.step, state.seconds, state.history)
    assert ranks.agreed(lambda: ours) == ours


def on_machines(folder: str, machine: str) -> None:
    """One of two machines, each with a folder of its own; the second is lost once, with all that runs on it."""
    torch.set_num_threads(1)
    begin()
    own, mark = Path(folder, machine), Path(folder, "lost")
    with Ranks.joined(CPU) as ranks:

        def lose(step: int, loss: float) -> None:
            if machine == "second" and step == 7 and not mark.exists():
                mark.touch()
                os.kill(os.getppid(), signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGKILL)

        made = trainer("protonet", settings_of(), own, ranks=ranks, on_step=lose)
        keep(made.run(), Path(folder, "lost.weights"), ranks)
        alone = trainer("protonet", settings_of(), own / "whole", ranks=ranks)
        keep(alone.run(), Path(folder, "whole.weights"), ranks)


def keep(state: State, path: Path, ranks: Ranks) -> None:
    if ranks.first:
        tensors = {k: v.detach() for k, v in state.params.weights.items()} | {
            f"best/{k}": v for k, v in tensors_of(state).items()
        }
        save_file(tensors, f"{path}.part", {"history": json.dumps(state.history)})
        Path(f"{path}.part").rename(path)


# --- the tests


def processes(mode: str, folder: Path, names: list[str]) -> None:
    here = Path(__file__).parent
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(here), str(here.parent), str(REPO / "src")]))
        launch(Path(__file__).stem, [mode, str(folder), ",".join(names)], 2)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """Every method trained by two processes, after one run that was disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    processes("whole", folder, ["protonet"])
    return folder


def assert_same(one: Path, other: Path) -> None:
    a, b = load_file(one), load_file(other)
    assert a.keys() == b.keys()
    for key, value in a.items():
        assert torch.equal(value, b[key]), key


@pytest.fixture(scope="module")
def at_other_moments(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("others")
    processes("others", folder, ["protonet"])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("name", "moment"), ONE_BY_ONE)
def test_two_processes_that_are_taken_up_again_end_bit_identical(name, moment, undisturbed):
    assert_same(undisturbed / f"{name}.whole", undisturbed / f"{name}.{moment}")


@pytest.mark.sweep
@pytest.mark.parametrize(("name", "moment"), OTHERS)
def test_at_every_moment_too(name, moment, undisturbed, at_other_moments):
    assert_same(undisturbed / f"{name}.whole", at_other_moments / f"{name}.{moment}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["protonet", "maml"])
def test_two_processes_give_the_weights_of_one(name, undisturbed, tmp_path):
    alone = trainer(name, settings_of(), tmp_path).run()
    together = load_file(undisturbed / f"{name}.whole")
    start = trainer(name, settings_of(), tmp_path).learner.params.detached().weights
    for key, value in alone.params.weights.items():
        moved = float((value.detach() - start[key]).abs().max())
        # where every embedding shares the last shift its gradient is rounding alone, of which Adam makes whole steps
        share = 1.0 if key == "3.shift" else 0.02
        torch.testing.assert_close(together[key], value.detach(), rtol=0, atol=share * moved + 1e-7, msg=key)
    for key, value in alone.best.statistics.items():
        torch.testing.assert_close(together[f"best/s/{key}"], value, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_process_that_is_killed_is_started_again_with_all_others(undisturbed):
    assert (undisturbed / "protonet.mark").exists()
    assert_same(undisturbed / "protonet.whole", undisturbed / "protonet.killed")


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["maml", "bank"], marks=pytest.mark.slow),  # of one trainer each
        pytest.param([name for name in METHOD_CLASSES if name not in ("maml", "bank")], marks=pytest.mark.sweep),
    ],
)
def test_the_same_for_other_methods_and_an_error_for_the_user_comes_through(names, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr("metaloom.training.launch.RESTARTS", len(names) + 1)
    with pytest.raises(MetaloomError, match="^the second process has something to say$"):
        processes("error", tmp_path, names)
    for name in names:
        assert (tmp_path / f"{name}.mark").exists()
        assert_same(undisturbed / f"{name}.whole", tmp_path / f"{name}.killed")


def machine(folder: Path, name: str, port: int) -> subprocess.Popen[bytes]:
    """torchrun on one of two machines, as a user starts it by hand."""
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent), str(REPO / "src")])
    place = ["--nnodes=2", "--nproc-per-node=1", "--max-restarts=2", "--local-addr=127.0.0.1"]
    meeting = ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=two"]
    meeting += [f"--rdzv-conf=is_host={int(name == 'first')},keep_alive_interval=1,keep_alive_max_attempt=2"]
    (folder / name).mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *place, *meeting, __file__, "machines", str(folder), name],
        env=os.environ | FRESH_STORE | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


@pytest.mark.slow
def test_a_machine_that_is_lost_and_comes_back_takes_up_the_first_one_s_step(tmp_path):
    """The second has no checkpoint: only the first process writes it."""
    port = free_port()
    first, second = (machine(tmp_path, name, port) for name in ("first", "second"))
    try:
        assert second.wait(120) == -signal.SIGKILL
        second = machine(tmp_path, "second", port)
        assert (first.wait(120), second.wait(120)) == (0, 0)
    finally:
        for each in (first, second):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(each.pid, signal.SIGKILL)
            each.wait()
    assert not (tmp_path / "second/protonet.safetensors").exists()
    assert_same(tmp_path / "whole.weights", tmp_path / "lost.weights")


@pytest.mark.parametrize(("processes", "tasks", "nearest"), [(2, 1, 2), (2, 5, 4), (3, 10, 9), (4, 11, 12), (8, 2, 8)])
def test_tasks_that_cannot_be_shared_out_equally(processes, tasks, nearest):
    message = f"maml.tasks_per_step is {tasks}, which {processes} processes .* nearest that works is {nearest}$"
    with pytest.raises(MetaloomError, match=message):
        check_shares(processes, "maml", tasks)
    check_shares(processes, "maml", nearest)


def test_devices_that_cannot_serve_the_processes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    check_processes(1, torch.device("cuda"))
    check_processes(64, CPU)
    with pytest.raises(MetaloomError, match="train.processes is 2, but there are 1 GPUs"):
        check_processes(2, torch.device("cuda"))
    with pytest.raises(MetaloomError, match="mps serves one process"):
        check_processes(2, torch.device("mps"))


def test_processes_draw_the_same_episodes_and_take_their_own(tmp_path):
    def drawn(ranks: Ranks) -> torch.Tensor:
        made = trainer("maml", settings_of(), tmp_path, ranks=ranks)
        return made.draw(torch.Generator().manual_seed(3)).query_x

    torch.testing.assert_close(torch.cat([drawn(Ranks(0, 2)), drawn(Ranks(1, 2))]), drawn(ALONE), rtol=0, atol=0)


def test_dropout_differs_between_processes_and_is_the_same_again():
    def draws(rank: int, step: int) -> list[float]:
        return torch.rand(4, generator=Ranks(rank, 2).own(torch.Generator(), CPU, 0, step)).tolist()

    assert draws(0, 3) == draws(0, 3)
    assert draws(0, 3) != draws(1, 3)
    assert draws(0, 3) != draws(0, 4)
    alone = torch.Generator()
    assert ALONE.own(alone, CPU, 0, 3) is alone


if __name__ == "__main__":
    if sys.argv[1] == "machines":
        on_machines(*sys.argv[2:])
    else:
        sys.exit(run_stage(work))
