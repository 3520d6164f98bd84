"""`metaloom run` as a user calls it: what stands on the terminal, exit codes, signals, a second run."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time

import psutil
import pytest


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_a_run_and_a_second_one(served):
    first = served.command("run")
    assert (first.returncode, first.stderr) == (0, "")
    lines = first.stdout.splitlines()
    assert lines[1:3] == ["prepare", "  stepping to prepare.txt"]
    assert lines[-2].startswith("stages  4 ran (prepare ") and lines[-1].startswith("time ")
    (served.root / "deep/er").mkdir(parents=True)
    served.root = served.root / "deep/er"  # the root is found from below
    second = served.command("run")
    assert (second.returncode, second.stderr) == (0, "")
    assert len(second.stdout.splitlines()) == 3
    assert "stages  everything was cached (4 stages)" in second.stdout


@pytest.mark.slow
def test_quiet_and_overridden(served):
    before = (served.root / "params.yaml").read_bytes()
    done = served.command("run", "--quiet", "--set", "train.n_shot=5", "--set", "methods=[maml, protonet]")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (served.root / "maml.txt").read_text().endswith("5 28\n")
    assert (served.root / "params.yaml").read_bytes() == before


def test_a_failing_stage_is_one_line(served):
    (served.root / "data/bad").touch()
    done = served.command("run")
    assert done.returncode == 1
    assert done.stderr == "error: stage prepare failed: data/bad is bad: remove it\n"
    assert "train@" not in done.stdout


@pytest.mark.slow
def test_progress_bars_see_the_terminal(served):
    """Standard error of a stage is the user's terminal, and the error of the stage is there once."""
    (served.root / "data/bad").touch()
    step = (served.root / "step.py").read_text()
    (served.root / "step.py").write_text("import sys\nsys.stderr.write(f'tty={sys.stderr.isatty()}\\n')\n" + step)
    ours, theirs = pty.openpty()
    process = served.start("run", stderr=theirs, TERM="dumb")
    os.close(theirs)
    code, _, _ = finish(process)
    seen = os.read(ours, 10_000).decode()
    os.close(ours)
    assert code == 1
    assert "tty=True" in seen and seen.count("data/bad is bad: remove it") == 1 and "Traceback" not in seen


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "train.nshot=5"], "did you mean n_shot? Known here: n_shot, "),
        (
            ["--set", "device=tpu"],
            "device: input should be 'auto', 'cpu', 'cuda' or 'mps' (it is 'tpu'; did you mean cpu?)",
        ),
        (["--set", "train.n_shot"], "write KEY=VALUE"),
    ],
)
def test_bad_settings_are_refused_before_anything_starts(standin, arguments, message):
    done = standin.command("run", *arguments, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 2 and done.stdout == ""
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert not (standin.root / "data.dvc").exists()


def test_outside_of_a_project(standin, tmp_path):
    standin.root = tmp_path
    done = standin.command("run")
    assert done.returncode == 2 and "no project at" in done.stderr


def test_settings_that_prefect_refuses_are_one_line(standin):
    done = standin.command("run", PREFECT_LOGGING_LEVEL="odd")
    assert done.returncode == 2 and done.stderr.startswith(
        "error: Prefect refuses its settings (LoggingSettings, level: "
    )
    assert len(done.stderr.splitlines()) == 1


def test_a_server_that_is_away(standin, tmp_path):
    started = time.monotonic()
    done = standin.command("run", PREFECT_API_URL="http://127.0.0.1:9/api", PREFECT_HOME=str(tmp_path))
    assert done.returncode == 2 and time.monotonic() - started < 30
    assert done.stderr.startswith("error: the Prefect server at http://127.0.0.1:9/api does not answer")
    assert "unset PREFECT_API_URL" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(served, number, code):
    (served.root / "slow").touch()
    process = served.start("run")
    step = served.wait_for("maml.txt")
    process.send_signal(number)
    got, _, err = finish(process)
    assert got == code and "Traceback" not in err
    assert served.ended(step)


@pytest.mark.slow
def test_killed_in_the_middle_of_a_stage_and_run_again(served):
    (served.root / "slow").touch()
    process = served.start("run")
    step = served.wait_for("maml.txt")

    refused = served.command("run")
    assert refused.returncode == 2
    assert f"process {process.pid} on " in refused.stderr and "--wait" in refused.stderr
    waiting = served.start("run", "--wait", "60")
    assert any(f"waiting for process {process.pid} on " in line for line in waiting.stdout)

    process.kill()
    finish(process)
    assert served.ended(step)
    (served.root / "slow").unlink()
    code, out, err = finish(waiting)
    assert (code, err) == (0, ""), out
    assert served.steps()[-1] == "maml.txt"
    undisturbed = [(served.root / name).read_bytes() for name in ("maml.txt", "join.txt")]
    served.dvc("repro", "-q", "-f")
    assert [(served.root / name).read_bytes() for name in ("maml.txt", "join.txt")] == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.sweep), (signal.SIGKILL, -9)]
)
def test_without_a_server(standin, tmp_path, number, code):
    """A temporary server starts and is gone afterwards; nothing of it is seen. Ctrl-C is for the whole group."""
    (standin.root / "slow").touch()
    process = standin.start("run", PREFECT_HOME=str(tmp_path / "home"))
    standin.wait_for("maml.txt")
    children = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    assert len(children) >= 3  # the server, DVC, the stage
    os.killpg(process.pid, number)
    got, _, err = finish(process)
    assert got == code and len(err.splitlines()) <= 1
    assert all(standin.ended(child) for child in children)
    if number == signal.SIGINT:
        (standin.root / "slow").unlink()
        done = standin.command("run", PREFECT_HOME=str(tmp_path / "home"))
        assert (done.returncode, done.stderr) == (0, "") and "2 ran" in done.stdout
