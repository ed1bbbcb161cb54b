"""Lines about back ends and links, from what the ranks wrote; and ranks that fail."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from blockstep.launch.doctor import links
from blockstep.launch.doctor.finding import Level
from blockstep.launch.doctor.links import ADVICE, Ranks, judge
from blockstep.launch.doctor.rank import Reports, take_part

from tests.launch.runs import alive, wait_for
from tests.world import World


def pair(first: int, second: int, latency: float = 1e-4, bandwidth: float = 1e9) -> dict[str, Any]:
    """What the lower rank of a pair writes."""
    return {
        "event": "pair",
        "ranks": [first, second],
        "latency": latency,
        "bandwidth": bandwidth,
        "how": "gloo",
    }


def trying(what: str) -> dict[str, Any]:
    """What a rank writes before it tries something."""
    return {"event": "trying", "what": what}


GLOO = [trying("gloo"), {"event": "gloo", "ranks": 2}]


def job(rank: int, folder: str) -> list[dict[str, Any]]:
    """Take part as one of the world's ranks; return what was written."""
    path = Path(folder) / f"rank{rank}.jsonl"
    take_part(rank, 3, Reports(path), wanted="cpu")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_three_ranks_measure_three_pairs(world: World, tmp_path: Path):
    """Over real links: gloo works, and each pair has a latency and a bandwidth."""
    findings = judge(world.run(job, str(tmp_path)), "")
    subjects = [finding.subject for finding in findings]
    assert subjects == ["gloo", "link 0-1", "link 0-2", "link 1-2"]
    assert findings[0].figures == {"ranks": 3}
    for finding in findings[1:]:
        assert 0 < finding.figures["latency_seconds"] < 1
        assert finding.figures["bytes_per_second"] > 1e6


def test_good_links_are_well():
    """One line for each, with latency in microseconds and bandwidth in MB/s."""
    gloo, one = judge([[*GLOO, trying("links"), pair(0, 1)], GLOO], "")
    assert gloo.line() == "ok    gloo                2 processes summed over it"
    assert one.line() == "ok    link 0-1            100 us, 1,000 MB/s, gloo"


def test_slow_links_are_told():
    """Those that are slow in themselves, and those that are far slower than the others."""
    pairs = [pair(0, 1), pair(0, 2, latency=4e-4), pair(1, 2), pair(0, 3, bandwidth=2e8)]
    found = {one.subject: one for one in judge([[*GLOO, *pairs, pair(1, 3)]], "")}
    assert found["link 0-1"].level is Level.OK
    assert "far slower than the others" in found["link 0-2"].advice
    assert "median 100 us, 1,000 MB/s" in found["link 0-3"].advice
    (_, alone) = judge([[*GLOO, pair(0, 1, latency=0.01)]], "")
    assert (alone.level, "stages will wait" in alone.advice) == (Level.WARN, True)


@pytest.mark.parametrize(
    ("events", "subject", "well"),
    [
        ([], "gloo", []),
        ([trying("gloo")], "gloo", []),
        ([*GLOO, trying("nccl")], "NCCL", ["gloo"]),
        ([*GLOO, trying("links"), pair(0, 1)], "links", ["gloo", "link 0-1"]),
    ],
)
def test_what_was_tried_last_has_failed(
    events: list[dict[str, Any]], subject: str, well: list[str]
):
    """What was found before counts; the line has the problem and what to do."""
    findings = judge([events, events[:1]], "rank 1 ended with status 1: boom")
    failed = [finding for finding in findings if finding.level is Level.FAIL]
    assert [finding.subject for finding in findings if finding.level is Level.OK] == well
    ((found),) = failed
    assert (found.subject, found.text) == (subject, "rank 1 ended with status 1: boom")
    assert found.advice == ADVICE[subject.lower()]


def test_nccl_is_told():
    """With the number of GPUs that took part."""
    events = [*GLOO, trying("nccl"), {"event": "nccl", "ranks": 1}, trying("links")]
    assert judge([events], "")[1].line().endswith("1 process summed over it")


def run_instead(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let every rank run other code."""
    start = links.subprocess.Popen

    def other(command: list[str], **options: Any) -> Any:
        return start([sys.executable, "-c", code, *command[3:]], **options)

    monkeypatch.setattr(links.subprocess, "Popen", other)


def test_a_rank_that_fails_is_named(monkeypatch: pytest.MonkeyPatch):
    """With its status and its last words; the other, which waits, is ended soon after."""
    code = (
        "import sys, time\n"
        "if sys.argv[1] == '1':\n"
        "    print('no such interface: lo', file=sys.stderr); sys.exit(3)\n"
        "time.sleep(60)"
    )
    run_instead(monkeypatch, code)
    monkeypatch.setattr(links, "GRACE_SECONDS", 0.2)
    with Ranks(2, wanted="cpu") as ranks:
        (finding,) = ranks.findings()
        pids = [process.pid for process in ranks._processes]
        folder = ranks._folder
    assert finding.text == "rank 1 ended with status 3: no such interface: lo"
    assert (finding.level, finding.subject) == (Level.FAIL, "gloo")
    assert not folder.exists()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_ranks_that_hang_are_named(monkeypatch: pytest.MonkeyPatch):
    """After a while, all that have not ended; half a line that was written does no harm."""
    code = (
        "import pathlib, sys, time\n"
        "path = pathlib.Path(sys.argv[3]) / f'rank{sys.argv[1]}.jsonl'\n"
        'path.write_text(\'{"event": "trying", "what": "gloo"}\\n{"ev\')\n'
        "time.sleep(60)"
    )
    run_instead(monkeypatch, code)
    monkeypatch.setattr(links, "SECONDS", 1.0)
    monkeypatch.setattr(links, "SECONDS_PER_PAIR", 0.0)
    begin = time.monotonic()
    with Ranks(2, wanted="cpu") as ranks:
        (finding,) = ranks.findings()
    assert time.monotonic() - begin < 10
    assert "rank(s) 0, 1 did not end within 1 s" in finding.text


def test_ranks_end_with_their_parent(tmp_path: Path):
    """A doctor that is killed leaves nobody behind."""
    code = (
        "import sys, time\n"
        "from blockstep.launch.doctor import links\n"
        "ranks = links.Ranks(2, wanted='cpu')\n"
        "print(*[process.pid for process in ranks._processes], flush=True)\n"
        "time.sleep(60)"
    )
    parent = links.subprocess.Popen(
        [sys.executable, "-c", code], stdout=links.subprocess.PIPE, cwd=tmp_path
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not any(map(alive, pids)), limit=30, text="the end of the ranks")
