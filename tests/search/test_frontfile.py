"""The file of a Pareto front."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from blockstep.search import DecouplingError, Profile
from blockstep.search.frontfile import front_from_json, front_to_json, load_front, save_front
from blockstep.search.pareto import choose, front
from hypothesis import given
from hypothesis import strategies as st

HEAD = {"_target_": "package.Head", "width": 2}
PROFILE = Profile(
    network="net",
    layers=4,
    batch_size=32,
    device="cpu",
    threads=2,
    heads=("aux1", HEAD),
    forward=(1.0,) * 4,
    inner=(1.0, 2.0, 4.0, 4.0),
    entry=(1.0, 2.0, 4.0, 4.0),
    update=(0.0,) * 4,
    head_seconds=((0.5,) * 3, (1.0,) * 3),
    head_update=((0.0,) * 3,) * 2,
    classifier_seconds=0.5,
    classifier_update=0.0,
    boundary_bytes=(400, 200, 100, 10),
    parameters=(1,) * 4,
    classifier_parameters=1,
)
ALPHA = [(1.0, 0.0), (0.5, 0.0), (0.0, 0.0)]
FRONT = front(PROFILE, ALPHA, ("aux1", HEAD, "aux1"), 2, bandwidth=1000.0)
TEXT = front_to_json(FRONT, profile=PROFILE, bandwidth=1000.0, prefer="speed")


def test_round_trip(tmp_path: Path):
    """A file gives back every choice exactly."""
    path = tmp_path / "front.json"
    save_front(path, FRONT, profile=PROFILE, bandwidth=1000.0, prefer="speed")
    assert len(FRONT) > 1
    assert load_front(path) == FRONT
    assert path.read_text() == TEXT


def test_the_file_says_what_was_measured_and_chosen():
    """Device, batch and bandwidth are the conditions; each choice has its cost."""
    values = json.loads(TEXT)
    conditions = {key: values[key] for key in ("network", "layers", "blocks", "device")}
    assert conditions == {"network": "net", "layers": 4, "blocks": 2, "device": "cpu"}
    assert (values["batch_size"], values["bandwidth"], values["seconds"]) == (32, 1000.0, 11.5)
    assert values["prefer"] == "speed"
    chosen = [one for one in values["choices"] if one["chosen"]]
    assert [tuple(one["cuts"]) for one in chosen] == [choose(FRONT, "speed").cuts]
    assert chosen[0]["alpha_lost"] == FRONT[0].alpha - FRONT[-1].alpha
    assert chosen[0]["speedup_gained"] == FRONT[-1].speedup - FRONT[0].speedup
    assert values["explanation"][0].startswith("K=2: ")


def change(**changes: Any) -> str:
    """Return the file with other values in its first choice."""
    values = json.loads(TEXT)
    values["choices"][0].update(changes)
    return json.dumps(values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cuts": [4]}, r"choices\[0\]: a cut after layer 4, but 'net' has 4 layers"),
        ({"cuts": [1, 2], "heads": ["aux1"] * 2}, r"choices\[0\] makes 3 blocks, .* is for 2"),
        ({"heads": [3]}, r"choices\[0\]: heads\[0\]=3: must be the name of a head"),
        ({"alpha": -1}, r"choices\[0\].alpha=-1: must be a finite number of at least 0"),
        ({"speedup": None}, r"choices\[0\].speedup=None: must be"),
        ({"bytes": [1, 2]}, r"choices\[0\].bytes has 2 items, but there must be 1"),
        ({"bytes": [-1]}, r"choices\[0\].bytes\[0\]=-1: must be an integer of at least 0"),
    ],
)
def test_impossible_values_are_named(changes: dict[str, Any], message: str, tmp_path: Path):
    """A refusal has the file, the key and the value."""
    path = tmp_path / "front.json"
    path.write_text(change(**changes))
    with pytest.raises(DecouplingError, match=rf"front.json: {message}"):
        load_front(path)


def test_a_front_without_choices_is_refused():
    """There is always one: that which was taken."""
    with pytest.raises(DecouplingError, match=r"choices=\[\]: must be a list of at least one"):
        front_from_json(json.dumps({**json.loads(TEXT), "choices": []}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@given(st.sampled_from(sorted(json.loads(TEXT))), JSON)
def test_any_value_is_read_or_refused(key: str, value: Any):
    """No value of a known key raises anything but DecouplingError."""
    text = json.dumps({**json.loads(TEXT), key: value})
    try:
        found = front_from_json(text)
    except DecouplingError:
        return
    assert found == FRONT


@given(st.sampled_from(["cuts", "heads", "alpha", "speedup", "slowest", "bytes"]), JSON)
def test_any_choice_is_read_or_refused(key: str, value: Any):
    """No value in a choice raises anything but DecouplingError."""
    message = ""
    try:
        front_from_json(change(**{key: value}))
    except DecouplingError as error:
        message = str(error)
    assert len(message) < 1000
