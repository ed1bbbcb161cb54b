"""What blocks cost, against the profile's own sums."""

from __future__ import annotations

import dataclasses

import pytest
from blockstep.search import ProfileError
from blockstep.search.decoupling import NO_HEAD
from blockstep.search.prediction.costs import Costs
from blockstep.search.prediction.measurements import Measurements
from hypothesis import given
from hypothesis import strategies as st

from tests.search.prediction.parts import measurements, profile, storage

SECONDS = st.floats(0.0, 8.0)


@given(st.data())
def test_a_block_takes_what_the_profile_says(data: st.DataObject):
    """Forward, backward and update together are the profile's sum, with and without a head, with
    and without errors that come from behind; frozen layers in front get no gradient."""
    layers = data.draw(st.integers(1, 5))
    row = st.lists(SECONDS, min_size=layers, max_size=layers).map(tuple)
    found = dataclasses.replace(
        profile(layers),
        forward=(0.0,) * layers,
        inner=data.draw(row),
        entry=data.draw(row),
        update=data.draw(row),
        parameters=data.draw(
            st.lists(st.sampled_from([0, 5]), min_size=layers, max_size=layers).map(tuple)
        ),
    )
    first = data.draw(st.integers(1, layers))
    last = data.draw(st.integers(first, layers))
    costs = Costs(Measurements((found,)), scale=2.0)
    index = None if last == layers else 0
    own = costs.block((first, last), "aux1", 32, alone=True)
    assert own.seconds * 2 == pytest.approx(found.block_seconds(first, last, index))
    back = costs.block((first, last), NO_HEAD, 32, alone=False)
    assert back.seconds * 2 == pytest.approx(found.block_seconds(first, last, feedback=True))


def test_the_parts_of_a_block():
    """Forward of the layers and a third of the classifier; backward begins at the classifier."""
    costs = Costs(measurements(2, seconds=1 / 32))
    block = costs.block((1, 2), NO_HEAD, 32, alone=True)
    assert block.forward == pytest.approx(2 + 0.25)
    assert [piece.seconds for piece in block.backward] == pytest.approx([0.5, 2.0, 1.0])
    assert [piece.nbytes for piece in block.backward] == [400, 400, 400]
    assert block.update == pytest.approx(0.25 * 2 + 0.125)


def test_bytes():
    """Boundaries and activations grow with the batch, weights do not; heads are counted where they
    are."""
    costs = Costs(measurements(3), optimizer_copies=1)
    assert costs.boundary(1, 10) == 640
    assert costs.input_bytes(1, 10) == 70
    assert costs.activations((1, 1), NO_HEAD, 10) == 10 * (7 + 1000)
    assert costs.activations((2, 2), "mlp_sr", 10) == 10 * (64 + 1000 + 100)
    assert costs.activations((2, 3), "aux1", 10) == 10 * (64 + 2000 + 10)
    assert costs.parameters((1, 2), "aux1") == 230
    assert costs.weights((1, 2), "aux1") == 230 * 4 * 3
    assert costs.parameters((2, 3), "aux1") == 300
    unknown = Costs(Measurements((profile(3),)))
    assert unknown.activations((1, 1), NO_HEAD, 10) is None
    assert unknown.parameters((1, 1), "aux1") == 100


def test_unknown_heads_are_refused():
    """One that was not measured, and one that does not fit."""
    costs = Costs(measurements(3))
    with pytest.raises(ProfileError, match="'linear' was not measured"):
        costs.block((1, 1), "linear", 32, alone=True)
    narrow = dataclasses.replace(profile(3), head_seconds=((None, 1.0),) * 2)
    with pytest.raises(ProfileError, match="does not fit the output of layer 1"):
        Costs(Measurements((narrow,), storage(3))).block((1, 1), "aux1", 32, alone=True)


def test_cuts():
    """Balanced by the times at the batch, or uniform."""
    costs = Costs(measurements(6))
    assert costs.cuts("uniform", 3, NO_HEAD, 32) == (2, 4)
    assert costs.bounds((2, 4)) == [(1, 2), (3, 4), (5, 6)]
    # The first layer needs no gradient of its input, so the first block has room for one more.
    assert len(costs.cuts("balanced", 3, "aux1", 32)) == 2
