"""Signs of life, and who is to blame when a run does not go on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import types
from collections.abc import Sequence
from typing import Any

import pytest
import torch.distributed as dist
from blockstep.pipeline import watchdog
from blockstep.pipeline.feed import StopRequest
from blockstep.pipeline.mailbox import LocalMailbox
from blockstep.pipeline.watchdog import ORPHANED, Pulse, Watch, order, ordered, stacks
from blockstep.pipeline.worker import Activity

from tests.pipeline.parts import Blocked, serve, until

LABELS = ("stage 1 (rank 0)", "stage 2 (rank 1)", "stage 3 (rank 2)")
START, TIMEOUT = 600.0, 60.0


class Scene:
    """Ranks whose pulses are written by hand, and a clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.perf_counter()
        monkeypatch.setattr(watchdog, "time", types.SimpleNamespace(perf_counter=lambda: self.now))
        self.store = dist.HashStore()
        self.watch = Watch(self.store, LABELS, start_timeout=START, timeout=TIMEOUT)
        self._beats = 0

    def see(
        self,
        *pulses: tuple[str, float] | None,
        turns: int = 5,
        step: int = 40,
        ended: Sequence[int] = (),
    ) -> Any:
        """Let each rank tell its state and for how long; return what the watch concludes."""
        self._beats += 1
        for rank, pulse in enumerate(pulses):
            if pulse is not None:
                state, seconds = pulse
                told = {
                    "beat": self._beats,
                    "state": state,
                    "step": step - rank,
                    "seconds": seconds,
                    "turns": turns,
                    "ended": rank in ended,
                }
                self.store.set(f"pulse/{rank}", json.dumps(told))
        self.watch.look()
        return self.watch.examine()


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Three ranks."""
    return Scene(monkeypatch)


WORKS = ("busy", 0.5)
WAITS = ("wait_in", 2.0)


def test_a_run_that_works_does_not_hang(scene: Scene) -> None:
    """Ranks that compute and wait within the limits are left alone for ever."""
    for _ in range(100):
        scene.now += 30.0
        assert scene.see(WORKS, ("wait_out", 59.0), ("wait_in", 59.0)) is None


def test_a_silent_rank_is_found(scene: Scene) -> None:
    """A rank whose pulse stops is named after the timeout, with its step and what others do."""
    assert scene.see(WORKS, WAITS, WAITS) is None
    scene.now += 59.0
    assert scene.see(WORKS, None, WAITS) is None
    scene.now += 2.0
    hang = scene.see(WORKS, None, WAITS)
    assert hang.rank == 1
    assert hang.text.startswith("stage 2 (rank 1) has given no sign of life for 61 s, at step 39")
    assert "pipeline.timeout=60" in hang.text
    assert "stage 1 (rank 0) computes since 0 s, at step 40" in hang.text
    assert "stage 3 (rank 2) waits for input since 2 s, at step 38" in hang.text


def test_a_pulse_that_says_the_same_is_no_sign_of_life(scene: Scene) -> None:
    """The old pulse that is still in the store does not keep a dead rank alive."""
    scene.see(WORKS, WORKS, WORKS)
    for _ in range(7):
        scene.now += 10.0
        scene.watch.look()
    hang = scene.watch.examine()
    assert hang is not None
    assert hang.rank == 0


def test_a_rank_that_computes_too_long_is_found(scene: Scene) -> None:
    """The rank that computes is to blame, not those that wait for it even longer."""
    hang = scene.see(("wait_out", 100.0), ("busy", 61.0), ("wait_in", 500.0))
    assert hang.rank == 1
    assert hang.text.startswith("stage 2 (rank 1) computes since 61 s, at step 39")


def test_a_replica_is_not_blamed_for_the_one_that_it_waits_for(scene: Scene) -> None:
    """Of replicas, the one that still computes holds up the others; if none does, it is all."""
    hang = scene.see(("wait_replicas", 100.0), ("busy", 62.0), ("wait_in", 99.0))
    assert hang is not None
    assert hang.rank == 1
    assert "stage 1 (rank 0) waits for the other replicas of its stage since 100 s" in hang.text
    assert scene.see(("wait_replicas", 100.0), ("busy", 30.0), ("wait_in", 99.0)) is None
    hang = scene.see(("wait_replicas", 100.0), ("wait_replicas", 99.0), ("wait_in", 98.0))
    assert hang is not None
    assert "and all others wait" in hang.text


def test_a_deadlock_is_found(scene: Scene) -> None:
    """When all wait beyond the timeout, the one that waits longest is named."""
    assert scene.see(("wait_in", 59.0), ("wait_in", 70.0), ("wait_out", 65.0)) is None
    hang = scene.see(("wait_in", 61.0), ("wait_in", 75.0), ("wait_out", 70.0))
    assert hang.rank == 1
    assert "stage 2 (rank 1)" in hang.text
    assert "all others wait" in hang.text


def test_one_that_computes_explains_the_others_waiting(scene: Scene) -> None:
    """Waiting beyond the timeout is no hang while somebody computes within it."""
    assert scene.see(("busy", 30.0), ("wait_in", 500.0), ("wait_in", 500.0)) is None


def test_starting_may_take_longer(scene: Scene) -> None:
    """Until every rank has done its first steps, the generous limit holds, and is named."""
    scene.now += START - 1.0
    assert scene.see(("busy", 599.0), ("starting", 590.0), None, turns=1) is None
    scene.now += 2.0
    hang = scene.see(("busy", 599.0), ("starting", 592.0), None, turns=1)
    assert hang.rank == 2
    assert "no sign of life" in hang.text
    assert "pipeline.start_timeout=600" in hang.text
    assert "stage 2 (rank 1) is starting since 592 s" in hang.text


def test_a_rank_that_never_starts_to_work_is_found(scene: Scene) -> None:
    """A rank that is alive but still starting after the generous limit is named."""
    scene.now += START + 5.0
    hang = scene.see(("wait_out", 400.0), ("starting", 601.0), ("wait_in", 400.0), turns=0)
    assert hang.rank == 1
    assert hang.text.startswith("stage 2 (rank 1) is starting since 601 s")


def test_a_rank_that_stops_while_it_starts_is_found(scene: Scene) -> None:
    """However long the first step may take, a process that lives gives signs of life."""
    assert scene.see(("busy", 1.0), ("starting", 1.0), ("starting", 1.0), turns=1) is None
    scene.now += 61.0
    hang = scene.see(("busy", 62.0), None, ("starting", 62.0), turns=1)
    assert hang.rank == 1
    assert "no sign of life for 61 s" in hang.text
    assert "pipeline.timeout=60" in hang.text


def test_one_late_rank_keeps_the_generous_limit_for_all(scene: Scene) -> None:
    """A stage that compiles behind others that work already is given its time."""
    scene.now += 300.0
    scene.see(("wait_out", 200.0), ("wait_out", 200.0), None)
    assert scene.see(("wait_out", 200.0), ("wait_out", 200.0), ("busy", 250.0), turns=1) is None


def test_a_rank_that_said_goodbye_may_be_silent(scene: Scene) -> None:
    """A first stage that ends long before the others is not missed."""
    scene.see(("done", 0.0), WORKS, WORKS, ended=[0])
    for _ in range(100):
        scene.now += 30.0
        assert scene.see(None, WORKS, WAITS) is None


def test_a_rank_that_is_done_but_said_no_goodbye_is_missed(scene: Scene) -> None:
    """A rank that dies after its last step is silent like any other."""
    scene.see(("done", 0.0), WORKS, WORKS)
    scene.now += 59.0
    assert scene.see(None, WORKS, WAITS) is None
    scene.now += 2.0
    hang = scene.see(None, WORKS, WAITS)
    assert (hang.rank, hang.step) == (0, 40)
    assert "no sign of life" in hang.text


def test_ranks_that_wait_for_one_that_is_done_are_found(scene: Scene) -> None:
    """A stop that was lost leaves the later stages waiting: that is a hang, and theirs."""
    assert scene.see(("done", 700.0), ("wait_in", 500.0), ("wait_in", 500.0)) is None
    hang = scene.see(("done", 900.0), ("wait_in", 601.0), ("wait_in", 700.0))
    assert hang.rank == 2
    assert "stage 1 (rank 0) is done" in hang.text


def test_a_run_that_is_over_does_not_hang(scene: Scene) -> None:
    """When all are done nothing is found, however long ago that was."""
    for _ in range(50):
        scene.now += 60.0
        assert scene.see(*[("done", 60.0)] * 3) is None
    scene.see(*[("done", 60.0)] * 3, ended=range(3))
    scene.now += 10 * START
    assert scene.watch.examine() is None


def test_the_watch_describes_every_rank(scene: Scene) -> None:
    """describe() has one line per rank, also for those that have not started."""
    scene.see(("starting", 1.0), ("wait_out", 2.0), None)
    assert scene.watch.describe() == [
        "stage 1 (rank 0) is starting since 1 s, at step 40",
        "stage 2 (rank 1) waits for room in its link since 2 s, at step 39",
        "stage 3 (rank 2) has not started",
    ]
    assert [scene.watch.step_of(rank) for rank in range(3)] == [40, 39, 0]


class Rank:
    """One rank with a fast pulse."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *activities: Activity) -> None:
        monkeypatch.setattr(watchdog, "PULSE_SECONDS", 0.01)
        self.store = dist.HashStore()
        self.stop = StopRequest()
        self.mailbox = LocalMailbox()
        activities = activities or (Activity(since=time.perf_counter()),)
        self.pulse = Pulse(self.store, 4, activities, stop=self.stop, post=self.mailbox)

    def told(self) -> dict[str, Any]:
        """Return its last pulse."""
        return json.loads(self.store.get("pulse/4"))


def test_a_pulse_tells_what_the_stage_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """State, step, turns and seconds of the activity are in the store, anew at each beat."""
    activity = Activity()
    activity.enter("busy", time.perf_counter() - 100.0, step=7)
    activity.turns = 3
    rank = Rank(monkeypatch, activity)
    first = rank.told()
    assert (first["state"], first["step"], first["turns"]) == ("busy", 7, 3)
    assert 100.0 <= first["seconds"] < 110.0
    activity.enter("wait_out", time.perf_counter())
    until(lambda: rank.told()["state"] == "wait_out")
    assert rank.told()["beat"] > first["beat"]
    assert rank.told()["step"] == 7
    rank.pulse.end()


def test_the_stage_that_changed_last_stands_for_its_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where stages take turns, the rank does what the stage at hand does."""
    stages = Activity(), Activity()
    stages[0].enter("wait_in", 1.0, step=5)
    stages[1].enter("busy", 2.0, step=4)
    rank = Rank(monkeypatch, *stages)
    assert (rank.told()["state"], rank.told()["step"]) == ("busy", 4)
    rank.pulse.end()


def test_the_last_beat_tells_how_a_rank_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """end() beats once more, so that a rank that is done is seen to be done."""
    monkeypatch.setattr(watchdog, "PULSE_SECONDS", 3600.0)
    activity = Activity(since=time.perf_counter())
    store = dist.HashStore()
    pulse = Pulse(store, 0, [activity], stop=StopRequest(), post=LocalMailbox())
    until(lambda: store.check(["pulse/0"]))
    activity.enter("done", time.perf_counter(), step=9)
    pulse.end()
    told = json.loads(store.get("pulse/0"))
    assert (told["state"], told["step"], told["ended"]) == ("done", 9, True)


def test_an_ended_pulse_is_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """After end() nothing is written any more."""
    rank = Rank(monkeypatch)
    rank.pulse.end()
    beat = rank.told()["beat"]
    time.sleep(0.05)
    assert rank.told()["beat"] == beat


def test_a_stop_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordered stop sets the rank's stop request."""
    rank = Rank(monkeypatch)
    until(lambda: rank.store.check(["pulse/4"]))
    assert not rank.stop.is_set()
    order(rank.store, "stop")
    until(rank.stop.is_set)
    rank.pulse.end()


def test_stacks_are_posted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ordered stacks are posted once, with the line at which every thread is."""
    rank = Rank(monkeypatch)

    def hold_here_please() -> None:
        until(rank.stop.is_set)

    held = Blocked(hold_here_please)
    assert held.waits()
    order(rank.store, "stacks")
    beat = rank.told()["beat"]
    until(lambda: rank.told()["beat"] > beat + 5)
    order(rank.store, "stop")
    held.result()
    rank.pulse.end()
    (report,) = rank.mailbox.take()
    assert (report["event"], report["rank"]) == ("stacks", 4)
    assert "hold_here_please" in report["text"]
    assert "MainThread" in report["text"]


def test_orders_have_values() -> None:
    """An order is None until it is given, then its value."""
    store = dist.HashStore()
    assert ordered(store, "alone") is None
    order(store, "alone", "3")
    assert ordered(store, "alone") == "3"
    assert ordered(store, "stop") is None


def test_stacks_name_the_threads() -> None:
    """stacks() shows this very function under the main thread."""
    text = stacks()
    assert "thread MainThread:" in text
    assert "test_stacks_name_the_threads" in text


ORPHAN = """
import sys, time
import torch.distributed as dist
from blockstep.pipeline import watchdog
from blockstep.pipeline.feed import StopRequest
from blockstep.pipeline.mailbox import LocalMailbox
from blockstep.pipeline.worker import Activity
watchdog.PULSE_SECONDS = 0.05
store = dist.TCPStore("127.0.0.1", int(sys.argv[1]), is_master=False, wait_for_workers=False)
watchdog.Pulse(store, 0, [Activity()], stop=StopRequest(), post=LocalMailbox())
time.sleep(30)
"""


def test_a_rank_whose_store_died_ends() -> None:
    """When the store does not answer any more, the rank ends with status 14 at once."""
    server = serve()
    command = [sys.executable, "-c", ORPHAN, str(server.port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as rank:
        deadline = time.perf_counter() + 60.0
        while not server.check(["pulse/0"]):
            assert rank.poll() is None
            assert time.perf_counter() < deadline
            time.sleep(0.05)
        del server
        assert rank.wait(25.0) == ORPHANED == 14
