"""Names and texts are UTF-8 under a locale that is not."""

from __future__ import annotations

import subprocess

import pytest

from metaloom.versioning.data import version_dataset

ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.fixture(scope="session")
def latin(tmp_path_factory):
    """A locale of Latin-1, made where the system can."""
    folder = tmp_path_factory.mktemp("locales")
    command = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", folder / "latin"]
    try:
        done = subprocess.run(command, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no localedef here")
    if done.returncode:
        pytest.skip("no sources of locales here")
    return {"LC_ALL": "latin", "LOCPATH": str(folder), "PYTHONUTF8": "0"}


@pytest.mark.slow
@pytest.mark.parametrize("locale", ["ascii", "latin"])
def test_a_run_reads_the_same_as_elsewhere(standin, locale, request):
    """With a name in data/, a comment in params.yaml, a commit and a line that are no ASCII."""
    environment = ASCII if locale == "ascii" else request.getfixturevalue("latin")
    root = standin.root
    (root / "data/größe é").write_text("2\n")
    (root / "params.yaml").write_text("# größer → ナ\n" + (root / "params.yaml").read_text(), encoding="utf-8")
    step = (root / "step.py").read_text().replace('"stepping to"', '"stepping →"')
    (root / "step.py").write_text(step, encoding="utf-8")
    standin.git("commit", "-qam", "größer → ナ")
    version = version_dataset(root).md5
    done = standin.command("run", **environment)
    assert done.returncode == 0, done.stderr
    assert f"version {version[:8]}, unchanged" in done.stdout and "stepping → prepare.txt" in done.stdout
    assert (root / "prepare.txt").read_text().startswith("1\n2\n")
