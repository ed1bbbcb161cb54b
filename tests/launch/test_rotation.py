"""Tests of `blockstep.launch.rotation`."""

from __future__ import annotations

from pathlib import Path

from blockstep.launch.rotation import Rotation


def test_a_long_log_becomes_its_predecessor(tmp_path: Path):
    """The writer goes on in the emptied file; an older predecessor is replaced."""
    log, other = tmp_path / "rank0.log", tmp_path / "rank1.log"
    rotation = Rotation([log, other], most_bytes=10, look_seconds=0.0)
    with log.open("ab", buffering=0) as file:
        for text in (b"first, and long", b"second, as long", b"third"):
            file.write(text)
            rotation.look()
    assert log.read_bytes() == b"third"
    assert (tmp_path / "rank0.log.1").read_bytes() == b"second, as long"
    assert not other.exists()


def test_logs_are_looked_at_now_and_then(tmp_path: Path):
    """Not at every poll."""
    log = tmp_path / "rank0.log"
    log.write_bytes(b"long enough")
    Rotation([log], most_bytes=10, look_seconds=1000.0).look()
    assert log.read_bytes() == b"long enough"
