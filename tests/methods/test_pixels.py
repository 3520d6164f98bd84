"""Where the raw images live, and what of them is in memory."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_training import trainer

from metaloom.data.packed import Dataset
from metaloom.methods.pixels import picked, placed


@pytest.fixture
def packed(tmp_path) -> Dataset:
    """64 MiB of images in a file."""
    images = np.lib.format.open_memmap(tmp_path / "images.npy", mode="w+", dtype=np.uint8, shape=(65536, 32, 32, 1))
    images[:] = np.arange(65536, dtype=np.uint32).astype(np.uint8)[:, None, None, None]
    images.flush()
    del images
    return Dataset(np.load(tmp_path / "images.npy", mmap_mode="c"), pd.DataFrame(), {})


def mapped_mib(file: str) -> float:
    """Resident memory of a mapped file."""
    text = Path("/proc/self/smaps").read_text()
    regions = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", text)
    sizes = [re.search(r"(?m)^Rss:\s+(\d+) kB", each) for each in regions if file in each.split("\n", 1)[0]]
    return sum(int(size[1]) for size in sizes if size) / 1024


linux = pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads Linux's table of mapped files")


@linux
def test_pages_that_were_read_are_given_back(packed, tmp_path):
    images = placed(torch.from_numpy(packed.images), torch.device("cpu"))
    assert images.data_ptr() == packed.images.ctypes.data  # no copy
    assert mapped_mib(f"{tmp_path}/images.npy") < 1
    before = int(images.sum(dtype=torch.long))
    assert mapped_mib(f"{tmp_path}/images.npy") > 60
    packed.let_go()
    assert mapped_mib(f"{tmp_path}/images.npy") < 1
    assert int(images.sum(dtype=torch.long)) == before


def test_images_in_memory_have_nothing_to_give_back():
    Dataset(np.zeros((2, 4, 4, 1), np.uint8), pd.DataFrame(), {}).let_go()


def test_images_that_would_fill_a_gpu_stay_on_the_host(monkeypatch):
    images = torch.zeros(10, 4, 4, 1, dtype=torch.uint8)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * images.nbytes - 1, 10**9))
    assert placed(images, torch.device("cuda")) is images
    assert placed(images, torch.device("meta")).is_meta


def test_images_on_the_host_travel_alone():
    """The meta device stands for a GPU: what is drawn goes there, by rows that are drawn on the host."""
    images = torch.zeros(10, 4, 4, 1, dtype=torch.uint8)
    rows = torch.tensor([[3, 4], [9, 0]])
    assert picked(images, rows, torch.device("meta")).is_meta
    assert picked(images, rows, torch.device("meta")).shape == (2, 2, 4, 4, 1)
    images[4] = 7
    assert picked(images, rows, torch.device("cpu"))[0, 1].unique().tolist() == [7]


@pytest.mark.parametrize("rotations", [False, True])
def test_episodes_of_images_on_the_host_are_on_the_device(rotations, tiny_settings, tmp_path):
    train = tiny_settings.train.model_copy(update={"rotations": rotations})
    made = trainer("protonet", tiny_settings, tmp_path, settings=train)
    learner = replace(made.learner, params=made.learner.params.to("meta"))
    episodes = replace(made, learner=learner).draw(torch.Generator())
    assert all(getattr(episodes, name).is_meta for name in ("support_x", "support_y", "query_x", "query_y"))
    assert not made.images.is_meta
    assert learner.answer(made.images, made.validation).is_meta


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_training_on_a_gpu_with_images_on_the_host(tiny_settings, tmp_path):
    made = trainer("protonet", tiny_settings, tmp_path)
    learner = replace(made.learner, params=made.learner.params.to("cuda"))
    rows = made.draw(torch.Generator().manual_seed(0)).query_x
    host = replace(made, learner=learner).draw(torch.Generator().manual_seed(0)).query_x
    torch.testing.assert_close(host.cpu(), rows, rtol=0, atol=0)
    assert replace(made, learner=learner).run().step == tiny_settings.protonet.steps
