"""Profiles: what they predict, and their files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from blockstep.search import Profile, ProfileError
from hypothesis import given
from hypothesis import strategies as st

HEAD = {"_target_": "package.Head", "width": 2}
# Powers of two: every sum has one reading only.
PROFILE = Profile(
    network="net",
    layers=3,
    batch_size=32,
    device="cpu",
    threads=2,
    heads=("aux1", HEAD),
    forward=(0.5, 0.25, 0.125),
    inner=(1.0, 2.0, 4.0),
    entry=(8.0, 16.0, 32.0),
    update=(64.0, 128.0, 256.0),
    head_seconds=((512.0, 1024.0), (2048.0, None)),
    head_update=((4096.0, 8192.0), (16384.0, None)),
    classifier_seconds=32768.0,
    classifier_update=65536.0,
    boundary_bytes=(1024, 512, 40),
    parameters=(10, 20, 30),
    classifier_parameters=40,
)


def test_a_block_takes_what_its_parts_take():
    """First layer without the gradient of its input, the others with it, optimizers, head."""
    assert PROFILE.block_seconds(1, 1, 0) == 8 + 64 + 512 + 4096
    assert PROFILE.block_seconds(1, 1, 1) == 8 + 64 + 2048 + 16384
    assert PROFILE.block_seconds(1, 2, 0) == 8 + 64 + 2 + 128 + 1024 + 8192
    assert PROFILE.block_seconds(2, 3) == 16 + 128 + 4 + 256 + 32768 + 65536
    assert PROFILE.block_seconds(1, 3) == 8 + 64 + 2 + 128 + 4 + 256 + 32768 + 65536


def test_no_gradient_goes_into_layers_that_do_not_train():
    """Behind layers without parameters the next layer is still the first that learns."""
    silent = dataclasses.replace(PROFILE, parameters=(0, 20, 30))
    assert silent.block_seconds(1, 3) == 8 + 64 + 16 + 128 + 4 + 256 + 32768 + 65536


@pytest.mark.parametrize(
    ("bounds", "head", "message"),
    [
        ((0, 1), 0, "has layers 1-3; there is no block 0-1"),
        ((2, 1), 0, "no block 2-1"),
        ((3, 4), None, "no block 3-4"),
        ((1, 2), None, "head=None .* layer 2 of 3; such a block has one of the heads"),
        ((1, 3), 0, "head=0 .* layer 3 of 3; such a block has the classifier"),
        ((1, 2), 1, "does not fit the output of layer 2"),
    ],
)
def test_impossible_blocks_are_refused(bounds: tuple[int, int], head: int | None, message: str):
    """The error says which layers there are and which head belongs there."""
    with pytest.raises(ProfileError, match=message):
        PROFILE.block_seconds(*bounds, head)


def test_heads_are_found_by_what_they_are():
    """A name or a mapping; fits says where it was measured."""
    assert PROFILE.head_index("aux1") == 0
    assert PROFILE.head_index(dict(HEAD)) == 1
    assert (PROFILE.fits(1, 1), PROFILE.fits(2, 1)) == (True, False)
    with pytest.raises(ProfileError, match="'linear' was not measured"):
        PROFILE.head_index("linear")


def test_round_trip(tmp_path: Path):
    """A file gives back what was written."""
    path = tmp_path / "profile.json"
    PROFILE.save(path)
    assert Profile.load(path) == PROFILE
    assert Profile.load(path).to_json() == path.read_text()
    assert json.loads(path.read_text())["head_seconds"] == [[512.0, 1024.0], [2048.0, None]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"forward": [1.0]}, "forward has 1 items, but there must be 3"),
        ({"inner": [1.0, -1.0, 1.0]}, r"inner\[1\]=-1.0: must be a finite number of at least 0"),
        ({"entry": [1.0, None, 1.0]}, r"entry\[1\]=None: must be a finite number"),
        ({"head_seconds": [[1.0, 1.0]]}, "head_seconds has 1 items, but there must be 2"),
        ({"head_update": [[1.0], [1.0, 1.0]]}, r"head_update\[0\] has 1 items, .* 2"),
        ({"heads": ["aux1", 3]}, r"heads\[1\]=3: must be the name of a head"),
        ({"boundary_bytes": [1, 2, 3.5]}, r"boundary_bytes\[2\]=3.5: must be an integer"),
        ({"layers": 0}, "layers=0"),
        ({"threads": 0}, "threads=0: must be an integer of at least 1"),
        ({"classifier_seconds": "1"}, "classifier_seconds='1'"),
        ({"format": 2}, "format 2, this version reads format 1"),
        ({"extra": 1}, "unknown keys: 'extra'"),
    ],
)
def test_impossible_values_are_named(changes: dict[str, Any], message: str, tmp_path: Path):
    """A refusal has the file, the key and the value."""
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({**json.loads(PROFILE.to_json()), **changes}))
    with pytest.raises(ProfileError, match=rf"profile.json: .*{message}"):
        Profile.load(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from([field.name for field in dataclasses.fields(Profile)])


@given(KEYS, JSON)
def test_any_value_is_read_or_refused(key: str, value: Any):
    """No value of a known key raises anything but ProfileError."""
    text = json.dumps({**json.loads(PROFILE.to_json()), key: value})
    try:
        profile = Profile.from_json(text)
    except ProfileError:
        return
    assert Profile.from_json(profile.to_json()) == profile
