"""Measurements at several batch sizes, what lies between them, and their file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from blockstep.search import ProfileError
from blockstep.search.prediction.measurements import Measurements, blend
from hypothesis import given
from hypothesis import strategies as st

from tests.search.prediction.parts import measurements, profile, storage

MIXED_HEAD = {"_target_": "package.Head", "width": 2}


def test_between_and_outside_measured_batches():
    """A straight line; outside, the last one goes on within reason."""
    assert blend([8], [4.0], 16) == 8.0
    assert blend([8, 16], [4.0, 6.0], 12) == 5.0
    assert blend([8, 16], [4.0, 6.0], 32) == 10.0
    assert blend([8, 16, 32], [4.0, 6.0, 14.0], 24) == 10.0
    # Never more per example than the largest, never less in all.
    assert blend([8, 16], [1.0, 6.0], 32) == 12.0
    assert blend([8, 16], [6.0, 5.0], 32) == 5.0
    # Never less per example than the smallest, never more in all.
    assert blend([8, 16], [4.0, 6.0], 4) == 3.0
    assert blend([8, 16], [4.0, 12.0], 4) == 2.0
    assert blend([8, 16], [4.0, 3.0], 4) == 4.0


@given(
    st.dictionaries(st.integers(1, 64), st.floats(0.1, 100.0), min_size=1, max_size=5),
    st.integers(1, 500),
)
def test_measured_values_are_kept_and_others_lie_near(points: dict[int, float], batch: int):
    """At a measured size the value is the measured one; between two it lies between theirs."""
    sizes = sorted(points)
    values = [points[size] for size in sizes]
    for size, value in zip(sizes, values, strict=True):
        assert blend(sizes, values, size) == pytest.approx(value)
    found = blend(sizes, values, batch)
    assert found >= 0
    if sizes[0] <= batch <= sizes[-1]:
        assert min(values) - 1e-9 <= found <= max(values) + 1e-9


def test_a_profile_at_another_batch():
    """Seconds are blended, bytes are proportional, the rest stays."""
    found = measurements(3, sizes=(8, 16)).at(12)
    assert found.batch_size == 12
    assert found.forward == (12.0,) * 3
    assert found.boundary_bytes == (64 * 12,) * 3
    assert found.update == (0.25,) * 3
    assert measurements(3, sizes=(8,)).at(64).update == (0.25,) * 3
    assert found.head_seconds == ((3.0,) * 2,) * 2
    assert found.parameters == (100,) * 3
    assert measurements(3, sizes=(8, 16)).at(16) == profile(3, batch=16)
    with pytest.raises(ProfileError, match="batch=0"):
        measurements(3).at(0)


def test_heads_that_do_not_fit_stay_unmeasured():
    """None at every size is None between them; a head may be a mapping."""
    rows = ((None, 1.0), (2.0, 3.0))
    profiles = tuple(
        dataclasses.replace(
            profile(3, batch=size), heads=("aux1", MIXED_HEAD), head_seconds=rows, head_update=rows
        )
        for size in (4, 8)
    )
    assert Measurements(profiles).at(6).head_seconds == rows


def test_round_trip(tmp_path: Path):
    """A file gives back what was written; so does the profile that a search wrote."""
    found = dataclasses.replace(measurements(3, sizes=(16, 8)), contention=1.25)
    path = tmp_path / "file.json"
    found.save(path)
    assert Measurements.load(path) == found
    assert found.batch_sizes == (8, 16)
    profile(3).save(path)
    assert Measurements.load(path) == Measurements((profile(3),))


def test_what_does_not_belong_together():
    """Profiles of different networks, and lists of wrong lengths, are refused."""
    with pytest.raises(ProfileError, match="at least one"):
        Measurements(())
    other = dataclasses.replace(profile(3, batch=8), network="other")
    with pytest.raises(ProfileError, match="profiles of network=other and network=net"):
        Measurements((profile(3), other))
    short = dataclasses.replace(storage(3), layers=(1,))
    with pytest.raises(ProfileError, match=r"storage.layers has 1 items, but there must be 3"):
        Measurements((profile(3),), short)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"profiles": [3]}, r"profiles\[0\]=3: must be an object"),
        ({"profiles": []}, "at least one"),
        ({"storage": {}}, "storage={}: must be null, or an object of inputs"),
        ({"storage": 1}, "storage=1"),
        ({"contention": 0.5}, "contention=0.5: must be a finite number of at least 1"),
        ({"extra": 1}, "unknown keys: 'extra'"),
        ({"format": 2}, "format 2"),
    ],
)
def test_impossible_files(changes: dict[str, Any], message: str, tmp_path: Path):
    """A refusal has the file, the key and the value."""
    path = tmp_path / "file.json"
    path.write_text(json.dumps({**json.loads(measurements(2).to_json()), **changes}))
    with pytest.raises(ProfileError, match=rf"file.json: .*{message}"):
        Measurements.load(path)


KEYS = st.sampled_from(["inputs", "layers", "classifier", "heads", "head_parameters"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)


@given(KEYS, JSON)
def test_any_value_is_read_or_refused(key: str, value: Any):
    """No value raises anything but ProfileError."""
    values = json.loads(measurements(2).to_json())
    values["storage"][key] = value
    try:
        Measurements.from_json(json.dumps(values))
    except ProfileError:
        return


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', "[" * 100_000])
def test_other_files_are_refused(text: str):
    """What is neither of both is refused as what it is not."""
    with pytest.raises(ProfileError):
        Measurements.from_json(text)
