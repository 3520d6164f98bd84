from __future__ import annotations

from longest_first import SECONDS, WITH, order
from projects import REPO

LONG = sorted(SECONDS, key=lambda file: -SECONDS[file])


def test_every_worker_begins_with_long_files_and_none_is_torn_apart():
    files = [f"tests/a/test_{n // 10}.py" for n in range(100)] + [file for file in LONG[:7] for _ in range(3)]
    found = order(files, 3)
    assert sorted(found) == list(range(len(files)))
    parts = [found[:40], found[40:80], found[80:]]
    assert [files[part[0]] for part in parts] == LONG[:3]
    for part in parts:
        long = [files[place] in SECONDS for place in part]
        assert long == sorted(long, reverse=True)
    assert all(
        len({number for number, part in enumerate(parts) if files.index(file) in part}) == 1 for file in LONG[:7]
    )


def test_one_worker_alone_and_few_tests_are_all_run():
    for files in ([], LONG[:1], ["tests/a.py", LONG[0]], [LONG[0]] * 5 + ["tests/a.py"]):
        for workers in (1, 3):
            assert sorted(order(files, workers)) == list(range(len(files)))


def test_the_files_are_there():
    assert [file for file in {*SECONDS, *WITH} if not (REPO / file).is_file()] == []
