"""Training steps beside higher, torchopt, learn2learn and easyfsl, in turns, in one run: about five minutes.

python benchmarks/speed.py [--quick] [--only TEXT] [--learn2learn learn2learn-0.2.0.tar.gz]

conv4-64, 28×28 grey, 5-way 1-shot, 25 queries, one inner step, two or five, two threads. A step is the query loss of a
meta-batch and its gradient; drawing episodes and the optimiser are the same for all and are left out. Peers: `pip
install -e '.[bench]'`; learn2learn does not build, so its source archive is read, or downloaded where none is given.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import peers
import torch
from arithmetic import ConvPeak, conv4_macs, maml_macs, training_macs
from contenders import OURS, PLAIN, SIZE, WIDTH, Contender, Work, contender, disagreement, present, seconds
from measure import machine

from metaloom.networks.engine import described
from metaloom.system.device import keep_freed_memory

THREADS = 2
MANY_STEPS = 5, 4  # inner steps, and the tasks of a meta-batch then
NARROWER = 32  # channels; with turns as accurate as WIDTH without, at as many steps: benchmarks/ablations.py
TOLERANCE = 1e-6  # in float64, of loss and meta-gradient
NOTES = {
    "group": f"norm group: the same mathematics: each peer's loss and gradient are ours to {TOLERANCE:.0e} (float64)",
    "peak": "of conv peak: the multiply-adds of the plain algorithm over the time. We take fewer: convolutions by "
    "Winograd's tiles, and MAML's first step in closed form, as the head starts at zero and so moves alone (for all)",
    "narrower": "our conv4-… with turns: not the same mathematics, but as accurate at as many steps",
    "batch": "norm batch: peers normalise queries by the queries' own statistics; in MAML we do by the support's (one "
    "pass more, so that no prediction depends on its neighbours), in ProtoNet by those of the whole task",
}


@dataclass(frozen=True)
class Row:
    title: str
    unit: str
    amount: int  # tasks or images a step
    macs: int  # multiply-adds of one of them
    work: Work

    @property
    def same(self) -> bool:
        """Whether we have the peers' network."""
        return self.work.width == WIDTH

    def narrower(self) -> Row:
        """We with our fastest network that is as accurate, the peers as they are."""
        return replace(self, work=replace(self.work, width=NARROWER, turns=True))


def rows(quick: bool) -> list[Row]:
    network = conv4_macs(1, WIDTH, SIZE)
    tasks, ways = (2, 6) if quick else (8, 60)
    made = []
    for norm in ("group", "batch"):
        for steps, order in itertools.product((1, 2) if norm == "group" else (1,), (False, True)):
            rate = 0.4 if steps == 1 else 0.1
            work = Work("maml", norm, tasks, ways=5, queries=5, inner_steps=steps, rate=rate, first_order=order)
            title = f"MAML {'first' if order else 'second'} order{'' if steps == 1 else ', two inner steps'}"
            made.append(Row(title, "tasks/s", tasks, maml_macs(5, 25, steps, order, network), work))
        if norm == "group":
            many = min(tasks, MANY_STEPS[1])
            work = Work("maml", norm, many, ways=5, queries=5, inner_steps=MANY_STEPS[0], rate=0.1)
            title = "MAML second order, five inner steps"
            made.append(Row(title, "tasks/s", many, maml_macs(5, 25, MANY_STEPS[0], False, network), work))
        images = ways * 6
        made.append(Row("ProtoNet", "images/s", images, training_macs(*network), Work("protonet", norm, 1, ways, 5)))
    return made + [row.narrower() for row in made if row.work.method == "protonet" and row.work.norm == "group"]


def compare(row: Row, rounds: int, peak: ConvPeak) -> list[str]:
    """Lines of the table for one row; raises SystemExit where a peer computes something else than we do."""
    if row.work.norm == "group" and row.same:
        check(row)
    here, absent = present(row.work)
    rates, peaks = turns(here, row.amount, rounds, peak)
    name = f"{row.title}, {row.work.norm}"
    if not row.same:
        return [_line(f"{name}, our conv4-{row.work.width} with turns", row, OURS, rates, peaks)]
    return [_line(name, row, each.name, rates, peaks) for each in here] + [
        f"| {name} | {who} | {why} | | | |" for who, why in absent.items()
    ]


def check(row: Row) -> None:
    """In float64, as rounding in float32 now and then moves a max-pool's choice to its neighbour."""
    (ours, *others), _ = present(replace(row.work, tasks=1), torch.float64)
    for other in others:
        difference = disagreement(ours, other)
        if not difference < TOLERANCE:
            raise SystemExit(f"{row.title}: {other.name} and we differ by {difference:.1e}: not the same mathematics")


def turns(
    here: list[Contender], amount: int, rounds: int, peak: ConvPeak
) -> tuple[dict[str, list[float]], list[float]]:
    """Everyone's rates and the machine's conv peak, a figure a round; each round is a turn of everyone."""
    rates, peaks = defaultdict(list), []
    for each in here:  # warm up
        each.step()
    for _ in range(rounds):
        peaks.append(peak())
        for each in here:
            torch.set_num_threads(THREADS)  # our worker threads set theirs, which some libraries take for everyone's
            rates[each.name].append(amount / seconds(each, torch.device("cpu")))
    return rates, peaks


def _line(name: str, row: Row, who: str, rates: dict[str, list[float]], peaks: list[float]) -> str:
    own = rates[who]
    fastest = [
        max(values) for values in zip(*(rates[peer] for peer in rates if peer not in (OURS, PLAIN)), strict=True)
    ]
    ratio = statistics.median(a / b for a, b in zip(own, fastest, strict=True)) if fastest else float("nan")
    share = statistics.median(rate * row.macs / limit for rate, limit in zip(own, peaks, strict=True))
    over_plain = [a / b for a, b in zip(own, rates.get(PLAIN, []), strict=False)]
    rate = f"{statistics.median(own):.1f} {row.unit} ({min(own):.1f}–{max(own):.1f})"
    plain = f"{statistics.median(over_plain):.2f}" if over_plain else ""
    return f"| {name} | {who} | {rate} | {ratio:.2f} | {plain} | {f'{share:.0%}' if row.same else ''} |"


def memory(archive: Path | None, quick: bool) -> list[str]:
    """Lines of the memory table: each figure is a process of its own."""
    few, many = (1, 2) if quick else (1, 20)
    lines = [f"| second order, group | {few} inner step | {many} inner steps | growth |", "|---|---|---|---|"]
    names = [OURS, "higher"] if quick else [OURS, f"{OURS}, recompute", *peers.MAML_PEERS]
    for name in names:
        found = [_child(archive, "--memory", name, str(steps), *(["--quick"] * quick)) for steps in (few, many)]
        if "absent" in found[0]:
            lines.append(f"| {name} | {found[0]['absent']} | | |")
            continue
        shown = [f"{each['peak']:.0f} MiB ({each['peak'] - each['before']:.0f} for the steps)" for each in found]
        lines.append(f"| {name} | {shown[0]} | {shown[1]} | {found[1]['peak'] / found[0]['peak']:.2f}× |")
    return lines


def memory_of(name: str, steps: int, quick: bool) -> dict[str, float | str]:
    """Peak resident memory of this process after two meta-batches, and what it held before, in MiB."""
    work = Work("maml", "group", 4, ways=5, queries=1 if quick else 5, inner_steps=steps, rate=0.01)
    try:
        alone = contender(name.split(",")[0], replace(work, recompute="recompute" in name))
    except peers.Absent as reason:
        return {"absent": str(reason)}
    if name.startswith(OURS):
        described()  # makes the engine ready, as the peers' libraries are by now
    before = _resident("VmRSS")
    for _ in range(2):
        alone.forget()
        alone.step()
    return {"before": before, "peak": _resident("VmHWM")}


def _resident(field: str) -> float:
    """Of Linux's own account: getrusage's peak includes the process that this one was forked from."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith(field)).split()[1]) / 1024


def as_shipped(rounds: int) -> dict[str, str]:
    """The second-order row without metaloom's malloc setting, in a process that never set it."""
    row = next(row for row in rows(quick=rounds == 1) if row.title == "MAML second order")
    return {"lines": "\n".join(compare(row, rounds, ConvPeak()))}


def _child(archive: Path | None, *arguments: str) -> dict:
    command = [sys.executable, __file__, *arguments, *(["--learn2learn", archive] if archive else ["--offline"])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def report(archive: Path | None, quick: bool, only: str) -> None:
    rounds, peak = (1, ConvPeak()) if quick else (12, ConvPeak())
    keep_freed_memory()
    print(f"{machine()}, {THREADS} threads; {', '.join(map(_version, (*peers.MAML_PEERS, 'easyfsl')))}")
    print(f"Our engine: {described()}; plain layers are ours by torch's own operators.")
    print(f"Median of {rounds} rounds (min–max); in a round everyone has a turn. malloc keeps freed memory, for all.\n")
    print("| row | who | rate | × the fastest peer | × our plain layers | of conv peak |\n|---|---|---|---|---|---|")
    for row in (row for row in rows(quick) if only in f"{row.title}, {row.work.norm}"):
        print("\n".join(compare(row, rounds, peak)), flush=True)
    print(f"\nconv peak, 64→64 3×3 forward: {2 * peak.best / 1e9:.0f} GFLOP/s at best\n" + "\n".join(NOTES.values()))
    if only:
        return
    print("\nWithout that malloc setting (our own training sets it):\n")
    print(_child(archive, "--as-shipped", *(["--quick"] * quick))["lines"])
    if Path("/proc/self/status").is_file():
        print("\nPeak memory of a process, four tasks a step:\n")
        print("\n".join(memory(archive, quick)))


def _version(name: str) -> str:
    try:
        return f"{name} {peers.LEARN2LEARN if name == 'learn2learn' else version(name)}"
    except PackageNotFoundError:
        return f"no {name}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke test: one round of tiny steps, no download")
    parser.add_argument("--learn2learn", type=Path, metavar="SDIST", help="learn2learn's source archive")
    parser.add_argument("--offline", action="store_true", help="download nothing")
    parser.add_argument("--only", default="", metavar="TEXT", help="the rows whose title and norm have this, alone")
    parser.add_argument("--memory", nargs=2, metavar=("WHO", "STEPS"), help=argparse.SUPPRESS)
    parser.add_argument("--as-shipped", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        archive = options.learn2learn
        if archive is None and not (options.quick or options.offline):
            archive = peers.download_learn2learn(folder)
        if archive is not None:
            peers.place_learn2learn(archive, Path(folder))
        if options.memory:
            keep_freed_memory()
            print(json.dumps(memory_of(options.memory[0], int(options.memory[1]), options.quick)))
        elif options.as_shipped:
            print(json.dumps(as_shipped(1 if options.quick else 5)))
        else:
            report(archive, options.quick, options.only)


if __name__ == "__main__":
    main()
