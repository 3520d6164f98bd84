from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from metaloom.errors import MetaloomError
from metaloom.system.device import choose_device, finish, keep_freed_memory, tf32

FAULTS = """
import resource, sys, torch
from metaloom.system.device import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
torch.set_num_threads(1)
for _ in range(10):
    torch.ones(16_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(16_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

KEPT = """
import psutil, torch
from metaloom.system.device import keep_freed_memory, return_freed_memory
def resident():
    return psutil.Process().memory_info().rss // 2**20
keep_freed_memory()
before = resident()
torch.ones(64 * 2**20)
kept = resident()
return_freed_memory()
print(kept - before, resident() - before)
"""


def test_auto_takes_what_is_there():
    assert choose_device("cpu") == torch.device("cpu")
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert choose_device("auto").type == best


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device that the test wants absent")
def test_a_device_that_is_not_there():
    with pytest.raises(MetaloomError, match="device: cuda is not available here .*cpu.*; set device: auto"):
        choose_device("cuda")


def allowed() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


def test_float32_on_a_gpu_is_ieee_s(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with tf32(True):
        assert choose_device("auto").type == "cuda"
        assert allowed() == (False, False)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


@pytest.mark.parametrize("wanted", [True, False])
def test_tf32_ends_with_its_block(wanted):
    before = allowed()
    with pytest.raises(KeyError), tf32(wanted):
        assert allowed() == (wanted, wanted)
        raise KeyError
    assert allowed() == before


@pytest.mark.parametrize("kind", ["cuda", "mps", "cpu"])
def test_a_clock_waits_for_a_device_that_works_by_itself(kind, monkeypatch):
    waited = []
    for each in ("cuda", "mps"):
        monkeypatch.setattr(f"torch.{each}.synchronize", lambda each=each: waited.append(each))
    finish(torch.device(kind))
    assert waited == [kind] * (kind != "cpu")


@pytest.mark.slow
@pytest.mark.skipif(not keep_freed_memory(), reason="this C library has no mallopt")
def test_freed_memory_is_kept():
    """Ten blocks of 64 MB one after the other: page faults for all of them, or for none."""
    kept, returned = (
        int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "return")
    )
    assert kept < returned / 2


@pytest.mark.skipif(not keep_freed_memory(), reason="this C library has no mallopt")
def test_kept_memory_can_be_returned():
    """A block of 256 MB that was freed: resident until it is returned."""
    done = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, check=True)
    kept, returned = map(int, done.stdout.split())
    assert kept > 200 and returned < 50
