from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from metaloom.system import optimisers

ALONE = """
import sys, torch
from metaloom.system.optimisers import SGD, Adam
for make in (Adam, SGD):
    weight = torch.ones(3, requires_grad=True)
    optimiser = make([weight], lr=0.1)
    weight.sum().backward()
    optimiser.step()
    optimiser.load_state_dict(optimiser.state_dict())
    optimiser.zero_grad()
assert "torch._dynamo" not in sys.modules
"""


@pytest.mark.parametrize("name, options", [("Adam", {}), ("Adam", {"fused": True}), ("SGD", {"momentum": 0.9})])
def test_they_make_torch_s_steps_to_the_bit(name: str, options: dict):
    made = []
    for optimiser in (getattr(torch.optim, name), getattr(optimisers, name)):
        weight = torch.linspace(-1, 1, 7).requires_grad_()
        stepping = optimiser([weight], lr=0.03, **options)
        for _ in range(5):
            stepping.zero_grad()
            weight.pow(4).sum().backward()
            stepping.step()
        made.append(weight.detach())
    assert torch.equal(*made) and not torch.equal(made[0], torch.linspace(-1, 1, 7))


def test_they_do_not_import_torch_s_compiler():
    subprocess.run([sys.executable, "-c", ALONE], check=True)
