"""Where the raw images live, what of them is in memory, and how training sees them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.ndimage
import torch
from trainers import trainer, turned

from metaloom.data.packed import Dataset
from metaloom.kinds.pictures.augment import distorted, seen
from metaloom.kinds.pictures.kind import Pictures
from metaloom.learner.placement import picked, placed


@pytest.fixture
def packed(tmp_path) -> Dataset:
    """64 MiB of images in a file."""
    images = np.lib.format.open_memmap(tmp_path / "examples.npy", mode="w+", dtype=np.uint8, shape=(65536, 32, 32, 1))
    images[:] = np.arange(65536, dtype=np.uint32).astype(np.uint8)[:, None, None, None]
    images.flush()
    del images
    return Dataset(np.load(tmp_path / "examples.npy", mmap_mode="c"), pd.DataFrame(), {}, Pictures(32, 1))


def mapped_mib(file: str) -> float:
    """Resident memory of a mapped file."""
    text = Path("/proc/self/smaps").read_text()
    regions = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", text)
    sizes = [re.search(r"(?m)^Rss:\s+(\d+) kB", each) for each in regions if file in each.split("\n", 1)[0]]
    return sum(int(size[1]) for size in sizes if size) / 1024


linux = pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads Linux's table of mapped files")


@linux
def test_pages_that_were_read_are_given_back(packed, tmp_path):
    images = placed(torch.from_numpy(packed.examples), torch.device("cpu"))
    assert images.data_ptr() == packed.examples.ctypes.data  # no copy
    assert mapped_mib(f"{tmp_path}/examples.npy") < 1
    before = int(images.sum(dtype=torch.long))
    assert mapped_mib(f"{tmp_path}/examples.npy") > 60
    packed.let_go()
    assert mapped_mib(f"{tmp_path}/examples.npy") < 1
    assert int(images.sum(dtype=torch.long)) == before


def test_images_in_memory_have_nothing_to_give_back():
    Dataset(np.zeros((2, 4, 4, 1), np.uint8), pd.DataFrame(), {}, Pictures(32, 1)).let_go()


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


@pytest.mark.parametrize("quarters", [1, 4])
def test_views_are_numpy_s(quarters):
    images = torch.randint(0, 256, (2, 2 * quarters, 3, 6, 6, 1), dtype=torch.uint8)
    views = torch.stack([torch.randperm(2 * quarters), torch.randperm(2 * quarters)])
    got = seen(images, views, quarters)
    for task, way in np.ndindex(2, 2 * quarters):
        mirrored, quarter = divmod(int(views[task, way]), quarters)
        expected = np.rot90(images[task, way].numpy(), quarter, axes=(1, 2))
        np.testing.assert_array_equal(got[task, way].numpy(), expected[:, :, ::-1] if mirrored else expected)


def test_distortions_are_scipy_s():
    """A smooth picture, away from its edges: the splines of scipy and torch's lines agree there."""
    rows, columns = np.mgrid[:41, :41]
    picture = np.sin(rows / 9) + np.cos(columns / 7)
    chances = torch.rand(3, 6, generator=torch.Generator().manual_seed(0))
    got = distorted(torch.from_numpy(picture).float().expand(3, 1, 41, 41), chances, 0.8)
    turn, wider, higher, shear, right, down = (0.8 * (2 * chances.double().numpy() - 1)).T
    turn, half = np.radians(15 * turn), 20.5
    for one in range(3):
        rotation = [[np.cos(turn[one]), -np.sin(turn[one])], [np.sin(turn[one]), np.cos(turn[one])]]
        of_xy = np.array(rotation) @ [[1.2 ** wider[one], 0.2 * shear[one]], [0, 1.2 ** higher[one]]]
        of_yx, shift = of_xy[::-1, ::-1], 0.2 * half * np.array([down[one], right[one]])
        expected = scipy.ndimage.affine_transform(picture, of_yx, 20 - of_yx @ [20, 20] + shift)
        np.testing.assert_allclose(got[one, 0, 12:29, 12:29], expected[12:29, 12:29], atol=0.01)
    still = torch.full((1, 6), 0.5)
    torch.testing.assert_close(distorted(got[:1], still, 1.0), got[:1], rtol=0, atol=1e-5)


def test_distortion_leaves_validation_alone(tiny_settings, tmp_path):
    train = tiny_settings.train.model_copy(update={"distortion": 1.0})
    made = trainer("protonet", tiny_settings, tmp_path, settings=train)
    plain = trainer("protonet", tiny_settings, tmp_path)
    drawn, undistorted = (each.draw(torch.Generator().manual_seed(0)).support_x for each in (made, plain))
    assert drawn.shape == undistorted.shape and (drawn != undistorted).float().mean() > 0.5
    answers = [each.learner.answer(each.examples, each.validation) for each in (made, plain)]
    torch.testing.assert_close(*answers, rtol=0, atol=0)


@pytest.mark.parametrize("changed", [{}, {"rotations": True, "mirror": True}])
def test_episodes_of_images_on_the_host_are_on_the_device(changed, tiny_settings, tmp_path):
    train = tiny_settings.train.model_copy(update={"distortion": 0.5 if changed else 0.0})
    made = turned(trainer("protonet", tiny_settings, tmp_path, settings=train), **changed)
    learner = replace(made.learner, params=made.learner.params.to("meta"))
    episodes = replace(made, learner=learner).draw(torch.Generator())
    assert all(getattr(episodes, name).is_meta for name in ("support_x", "support_y", "query_x", "query_y"))
    assert not made.examples.is_meta
    assert learner.answer(made.examples, made.validation).is_meta


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_training_on_a_gpu_with_images_on_the_host(tiny_settings, tmp_path):
    made = trainer("protonet", tiny_settings, tmp_path)
    learner = replace(made.learner, params=made.learner.params.to("cuda"))
    rows = made.draw(torch.Generator().manual_seed(0)).query_x
    host = replace(made, learner=learner).draw(torch.Generator().manual_seed(0)).query_x
    torch.testing.assert_close(host.cpu(), rows, rtol=0, atol=0)
    assert replace(made, learner=learner).run().step == tiny_settings.protonet.steps
