"""How fast steps follow each other."""

from __future__ import annotations

import pytest
from blockstep.launch.partition import pace as module
from blockstep.launch.partition.pace import Pace


def test_evaluations_and_warm_up_do_not_count(monkeypatch: pytest.MonkeyPatch):
    """Ten steps of warm-up, then steps of two seconds, half of each waited."""
    now = 100.0
    monkeypatch.setattr(module.time, "perf_counter", lambda: now)
    pace, waited = Pace(start=5), 0.0
    assert pace.interval(8)["images_per_second"] is None
    for step in range(6, 19):
        now += 9.0 if step <= 15 else 2.0
        waited += 0.0 if step <= 15 else 1.0
        pace.step(step, waited)
        if step == 17:
            now += 50.0  # an evaluation, for which others are waited for
            waited += 30.0
            pace.resume(waited)
    totals = pace.totals(8)
    assert 0 <= (totals.pop("cpu") or 0.0) < 0.1
    assert totals == {"images_per_second": 4.0, "busy": 1.0, "wait_in": 1.0}
    interval = pace.interval(8)
    assert interval["images_per_second"] == pytest.approx(13 * 8 / (10 * 9 + 3 * 2))
    assert pace.interval(8)["busy"] is None
