"""A plugin of pytest: files whose tests take minutes begin, one after the other in each worker of pytest-xdist.

`--dist worksteal` gives every worker a like number of tests, in their order, and those that have none left take from
the end of another's. A test of five minutes near the end would keep one worker busy after the others are done.
"""

from __future__ import annotations

import pytest

# seconds of a file's longest tests in `make test-slow`, as CI prints them (--durations); those above a minute
SECONDS = {
    "tests/workers/test_workers.py": 470,  # with test_methods_at_once.py
    "tests/e2e/test_fleet_command.py": 380,
    "tests/e2e/test_retraining.py": 290,
    "tests/handoff/test_verify_bundle.py": 190,
    "tests/e2e/test_pictures_behind_an_encoder.py": 160,
    "tests/e2e/test_texts_behind_an_encoder.py": 150,
    "tests/training/test_distributed.py": 110,
    "tests/e2e/test_texts.py": 110,
    "tests/flows/test_events.py": 125,
    "tests/retraining/test_thirty_nights.py": 70,
    "tests/flows/test_retrain.py": 70,
    "tests/e2e/test_killed.py": 65,
    "tests/handoff/test_adapt_command.py": 61,
    "tests/faults/test_read_only.py": 60,
    "tests/handoff/test_learning_graphs.py": 54,
}
# files of which one waits for the server that another has: in two workers of pytest-xdist one would do nothing
WITH = {"tests/workers/test_methods_at_once.py": "tests/workers/test_workers.py"}


@pytest.hookimpl(trylast=True)  # when those that are not asked for have been left out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    files = [WITH.get(file, file) for file in (item.nodeid.partition("::")[0] for item in items)]
    items[:] = [items[place] for place in order(files, workers)]


def order(files: list[str], workers: int) -> list[int]:
    """In which order to run tests of these files.

    Args:
        files: of each test, its file; tests of one stand together.
        workers: how many take a like part of the order each.

    Returns:
        Places in `files`. Each worker's part begins with long files, so dealt out that all have as much to do.
    """
    hands: list[list[int]] = [[] for _ in range(workers)]
    seconds = [0] * workers
    for file in sorted(SECONDS.keys() & set(files), key=lambda each: (-SECONDS[each], each)):
        least = seconds.index(min(seconds))
        seconds[least] += SECONDS[file]
        hands[least] += [place for place, each in enumerate(files) if each == file]
    others = [place for place, file in enumerate(files) if file not in SECONDS]
    left = len(files)
    for number, hand in enumerate(hands):
        part = max(left // (workers - number), len(hand))
        taken = part - len(hand)
        hand += others[:taken]
        del others[:taken]
        left -= part
    return [place for hand in hands for place in hand]
