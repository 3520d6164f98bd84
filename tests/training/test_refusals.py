"""Bad devices, too little memory, files of another network or version: one clear error, nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from trainers import trainer

from metaloom.errors import MetaloomError
from metaloom.learner import Learner
from metaloom.networks import Conv4
from metaloom.stages import train
from metaloom.system.device import check_device, explained_out_of_memory

FOLDERS = ("artifacts/dataset", "artifacts/splits", "artifacts/plan.json")


def the_cpu_allocator_s_own_error() -> Exception:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    return raised.value


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough memory: you tried to ..."),
        the_cpu_allocator_s_own_error(),
    ],
)
def test_out_of_memory_names_a_remedy(error):
    with pytest.raises(MetaloomError, match="out of memory: do less"), explained_out_of_memory("do less"):
        raise error


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes"), explained_out_of_memory("do less"):
        raise RuntimeError("shapes do not fit")


def test_training_out_of_memory_says_which_settings_to_lower(project, monkeypatch):
    """In the stage itself, whose memory ends in the third step; the outputs of the run before are untouched."""
    from metaloom.stages import plan, prepare, split

    monkeypatch.chdir(project)
    prepare.main("data", "artifacts/dataset")
    plan.main("artifacts/dataset", "budget.yaml", "artifacts/plan.json", "splits.yaml")
    split.main("artifacts/dataset", "artifacts/plan.json", "splits.yaml", "artifacts/splits")
    model = Path("artifacts/models/protonet")
    model.mkdir(parents=True)
    (model / "learner.json").write_text("the last good one")
    call, calls = Conv4.__call__, []

    def full(self, *args, **options):
        calls.append(1)
        if len(calls) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return call(self, *args, **options)

    monkeypatch.setattr(Conv4, "__call__", full)
    expected = r"out of memory: lower protonet.tasks_per_step, protonet.n_way or train.n_query, or network.width"
    with pytest.raises(MetaloomError, match=expected):
        train.main("protonet", *FOLDERS, str(model), "metrics.json")
    assert (model / "learner.json").read_text() == "the last good one"
    assert [path.name for path in model.parent.iterdir()] == ["protonet"]


def test_devices():
    assert check_device("cpu") == check_device(torch.device("cpu")) == torch.device("cpu")
    absent = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(MetaloomError, match=f"device {absent} is not available here"):
        check_device(absent)


def test_a_learner_on_a_device_that_is_not_there(tiny_settings, tmp_path):
    trainer("protonet", tiny_settings, tmp_path).learner.save(tmp_path)
    with pytest.raises(MetaloomError, match="is not available here"):
        Learner.load(tmp_path, f"cuda:{torch.cuda.device_count()}")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("network", "name", "transformer"),
        ("network", "heads", 4),
        ("method", "name", "simple_cnaps"),
        ("method", "steps", None),
        ("method", "a_new_setting", 1),
        ("input", "shift", None),
    ],
)
def test_a_learner_of_another_version(section, key, value, tiny_settings, tmp_path):
    trainer("protonet", tiny_settings, tmp_path).learner.save(tmp_path)
    config = json.loads((tmp_path / "learner.json").read_text())
    config[section][key] = value
    (tmp_path / "learner.json").write_text(json.dumps(config))
    with pytest.raises(MetaloomError, match="learner.json was written by another version .* train again"):
        Learner.load(tmp_path)


def test_a_checkpoint_of_another_network_or_program_is_started_afresh(tiny_settings, tmp_path):
    """The fingerprint of a run holds its network, settings and version; a file without one is nobody's."""
    few = tiny_settings.model_copy(update={"protonet": tiny_settings.protonet.model_copy(update={"steps": 4})})
    trainer("protonet", few, tmp_path).run()
    narrow = few.model_copy(update={"network": few.network.model_copy(update={"width": 4})})
    seen: list[int] = []
    other = trainer("protonet", narrow, tmp_path, fingerprint="two", on_step=lambda step, loss: seen.append(step))
    assert other.run().params.weights["0.conv"].shape[0] == 4
    save_file({"x": torch.zeros(1)}, tmp_path / "protonet.safetensors")
    trainer("protonet", few, tmp_path, on_step=lambda step, loss: seen.append(step)).run()
    assert seen == [1, 2, 3, 4] * 2
