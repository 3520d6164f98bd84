"""`metaloom engine`: what computes the networks on this machine's processor."""

from __future__ import annotations

from metaloom.config import PARAMS, read_params
from metaloom.errors import MetaloomError
from metaloom.versioning.project import root_above


def engine() -> None:
    """Show the engine of networks on this processor, and what multiplies its matrices.

    The libraries and our own code (numba) are measured once per processor and version. In a project its
    setting `engine` decides. The first time after an installation machine code is compiled, which takes a while.
    """
    from metaloom.networks.engine import ENGINES, choose_engine, described, machine_code

    root = root_above()
    if root is not None:
        wanted = read_params(root / PARAMS)["engine"]
        if wanted not in ENGINES:
            raise MetaloomError(f"{PARAMS}: engine is {wanted}: write one of {', '.join(ENGINES)}")
        choose_engine(wanted)
    code = machine_code()
    print(f"engine: {described()}")
    if code is not None:
        choice = code.chosen()
        rates = ", ".join(f"{name} {rate:.0f}" for name, rate in choice.rates.items())
        print(f"products of matrices, GFLOP/s on a thread: {rates}")
        print(f"kept in {choice.file}: without it they are measured again")
