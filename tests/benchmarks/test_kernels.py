"""What `benchmarks/kernels.py` times is what a step does, for one image as for many; never its figures."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F

from metaloom.networks.cpu import passes


@pytest.fixture
def kernels(repo, monkeypatch) -> ModuleType:
    """The benchmark, each of whose works is done once and takes so many microseconds as it is told images."""
    monkeypatch.syspath_prepend(str(repo / "benchmarks"))
    module = importlib.import_module("kernels")
    monkeypatch.setattr(module, "microseconds", lambda work, images: (work(), images)[1])
    return module


@pytest.mark.parametrize("images", [1, 12])
def test_its_passes_are_a_block_s_convolutions(images, kernels, monkeypatch):
    """One image is one part, whose kernel comes as it is; of more the parts share a kernel's tiles."""
    forms, results = [], []

    def convolve(x, kernel, form, y):
        passes.convolve(x, kernel, form, y)
        forms.append(form)
        results.append([torch.from_numpy(each).permute(0, 3, 1, 2).clone() for each in (x, y)])

    monkeypatch.setattr(kernels, "convolve", convolve)
    torch.manual_seed(0)
    timed = kernels.passes(1, images)
    torch.manual_seed(0)
    kernel = torch.randn(1, kernels.WIDTH, kernels.WIDTH, 3, 3)[0]
    (x, y), (d_y, d_x) = results
    assert forms == ([passes.OWN, passes.LEADS_BACK] if images == 1 else [passes.TILES] * 2)
    for ours, by_torch in ((y, F.conv2d(x, kernel, padding=1)), (d_x, F.conv_transpose2d(d_y, kernel, padding=1))):
        torch.testing.assert_close(ours, by_torch, rtol=0, atol=1e-4 * float(by_torch.abs().max()))
    assert set(timed.values()) == {max(1, images // 4)}  # of a part, a quarter of them


@pytest.mark.parametrize(("images", "taken"), [(1, 12), (20, 18)])
def test_its_step_is_of_whole_classes(images, taken, kernels):
    assert kernels.step(images) == taken


def test_what_the_parts_gain_is_measured_for_one_image_too(kernels):
    assert (kernels.gains(1)["gain"] == 1).all()
