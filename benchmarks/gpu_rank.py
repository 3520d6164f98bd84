"""The process that `gpu.py` has torchrun start: it trains, and exchanges tensors over NCCL (gloo on a CPU).

python -m torch.distributed.run --standalone --nproc-per-node 1 benchmarks/gpu_rank.py DEVICE FILE
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from gpu_steps import RANK_WORK, Bench, learned

from metaloom.system.device import choose_device
from metaloom.training.ranks import Ranks


def main() -> None:
    device, kept = choose_device(sys.argv[1]), Path(sys.argv[2])
    with Ranks.joined(device) as ranks, tempfile.TemporaryDirectory() as folder:
        trainer = Bench(device, device.type == "cpu", None).trainer("protonet", RANK_WORK, folder, ranks=ranks)
        weights = learned(trainer)
        sums, said = torch.arange(8.0, device=device), [ranks.rank + 7]
        dist.all_reduce(sums)
        dist.broadcast_object_list(said)
        right = sums.tolist() == [ranks.count * each for each in range(8)] and said == [7]
        torch.save({"weights": weights.cpu(), "backend": dist.get_backend(), "exchanged": right}, kept)


if __name__ == "__main__":
    main()
