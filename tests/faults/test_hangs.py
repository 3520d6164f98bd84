"""A stage that hangs is ended after its limit, with a state and a line that say which; remotes: `test_remotes.py`."""

from __future__ import annotations

import pytest

from metaloom.pipeline.child import reproduce_in_child, run_module
from metaloom.system.limits import HungError, Watch


class Clock:
    """Time, and the processor's seconds, as a test gives them."""

    def __init__(self) -> None:
        self.now, self.used = 1000.0, 0.0

    def watch(self, total: float, stall: float) -> Watch:
        return Watch(total, stall, clock=lambda: self.now, used=lambda _: self.used)


@pytest.mark.parametrize("sign", ["line", "work", "nothing", "a thread that polls"])
def test_a_stage_stalls_when_it_neither_writes_nor_works(sign):
    clock = Clock()
    watch = clock.watch(total=0, stall=1800)
    for _ in range(60):
        clock.now += 60
        if sign == "line":
            watch.heard()
        clock.used += {"work": 1.0, "a thread that polls": 0.05}.get(sign, 0)
        if watch.overdue(1):
            break
    if sign in ("line", "work"):
        assert watch.hung is None
        return
    assert 1000 + 1800 < clock.now < 1000 + 2 * 1800 and watch.hung.state == "Stalled"
    assert str(watch.hung) == (
        "ended, as it had neither written a line nor used the processor for 30 min (limits.stall_minutes)"
    )


def test_a_stage_that_works_on_has_its_time():
    clock = Clock()
    watch = clock.watch(total=3600, stall=1800)
    for _ in range(60):
        clock.now, clock.used = clock.now + 60, clock.used + 60
        assert not watch.overdue(1)
    clock.now, clock.used = clock.now + 1, clock.used + 1
    assert watch.overdue(1) and watch.hung.state == "TimedOut"
    assert str(watch.hung) == "ended after 60 min (limits.stage_minutes)"


def test_without_limits_nobody_looks():
    assert Watch(0, 0).every == 0 and not Clock().watch(0, 0).overdue(1)


@pytest.mark.slow
def test_a_stage_that_hangs_is_ended(standin):
    (standin.root / "slow").touch()
    for name in ("prepare", "train@protonet"):
        reproduce_in_child(standin.root, name, print, print)
    with pytest.raises(
        HungError, match=r"^stage train@maml: ended, as .* \(limits.stall_minutes\); the next run goes on"
    ):
        reproduce_in_child(standin.root, "train@maml", print, print, watch=Watch(total=0, stall=10))
    assert standin.ended(standin.wait_for("maml.txt"))
    (standin.root / "slow").unlink()
    reproduce_in_child(standin.root, "train@maml", print, print)


def test_measuring_that_hangs_is_ended(tmp_path):
    (tmp_path / "hanging.py").write_text("import time\nprint('measuring', flush=True)\ntime.sleep(600)\n")
    heard = []
    with pytest.raises(HungError, match=r"^hanging: ended after .* \(limits.stage_minutes\); the next run goes on"):
        run_module(tmp_path, "hanging", [], heard.append, print, Watch(total=2, stall=0))
    assert heard == ["measuring"]


@pytest.mark.slow
def test_the_flow_says_which(served):
    """By its settings, and with its state."""
    from flows import pipeline

    (served.root / "slow").touch()
    stalled = pipeline.pipeline(str(served.root), overrides={"limits.stall_minutes": 0.2}, return_state=True)
    assert stalled.name == "Stalled" and stalled.message.startswith("stage train@maml: ended, as it had neither")
    late = pipeline.pipeline(str(served.root), overrides={"limits.stage_minutes": 0.1}, return_state=True)
    assert late.name == "TimedOut" and late.message.startswith("stage train@maml: ended after 0.1 min")


@pytest.mark.slow
def test_the_settings_are_read_once_for_all_stages(served, monkeypatch):
    from flows import pipeline

    read, asked = pipeline.load_settings, []
    monkeypatch.setattr(pipeline, "load_settings", lambda path: asked.append(path) or read(path))
    assert pipeline.pipeline(str(served.root), return_state=True).is_completed()
    assert len(asked) == 1


def test_a_remote_that_is_silent_is_no_reason_to_try_again(served, monkeypatch):
    from flows import pipeline

    asked = []

    def silent(*_, **__):
        asked.append(1)
        raise HungError("the remote has been silent for too long", "TimedOut")

    monkeypatch.setattr(pipeline, "make_version", silent)
    state = pipeline.pipeline(str(served.root), return_state=True)
    assert (state.name, state.message, len(asked)) == ("TimedOut", "the remote has been silent for too long", 1)
