"""The diffs that CONTRIBUTING shows are of today's code."""

from __future__ import annotations

import re

from shown import blocks


def test_every_added_line_of_a_diff_is_in_its_file(repo, pages):
    diffs = blocks(pages[repo / "CONTRIBUTING.md"], "diff")
    assert len(diffs) >= 5
    for diff in diffs:
        files = re.split(r"^\+\+\+ b/(.+)\n", diff, flags=re.MULTILINE)[1:]
        assert files
        for name, added in zip(files[::2], files[1::2], strict=True):
            there = (repo / name).read_text(encoding="utf-8").splitlines()
            for line in added.splitlines():
                assert line == "…" or (line[0] == "+" and line[1:] in there), f"{name}: {line}"


def test_ci_calls_the_commands_that_it_names(repo, pages):
    run = (repo / ".ci/run").read_text(encoding="utf-8")
    called = re.findall(r"^make ([\w-]+)", run, re.MULTILINE)
    assert called
    shown = re.findall(r"^make ([\w-]+)", pages[repo / "CONTRIBUTING.md"], re.MULTILINE)
    assert set(called) <= set(shown)
