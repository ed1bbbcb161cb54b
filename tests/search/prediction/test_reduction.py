"""The ring all-reduce, and what of it hides behind backward."""

from __future__ import annotations

import pytest
from blockstep.search.prediction.link import Wire
from blockstep.search.prediction.reduction import (
    FIRST_BUCKET,
    LATER_BUCKETS,
    Piece,
    parallel_seconds,
    ring_seconds,
)
from hypothesis import given
from hypothesis import strategies as st

MIB = 1 << 20


def test_the_ring():
    """2 (r - 1) messages of a share of 1 / r; nobody to agree with, nothing to say."""
    wire = Wire(0.5, 10.0)
    assert ring_seconds(120.0, 4, wire) == pytest.approx(6 * (0.5 + 3.0))
    assert ring_seconds(120.0, 1, wire) == 0.0
    assert ring_seconds(0.0, 4, wire) == 0.0


def test_buckets_leave_as_soon_as_they_are_full():
    """The first after 1 MiB, later ones after 25, the rest at the end of backward."""
    wire = Wire(0.0, float(MIB))  # A ring of two takes a second per MiB.
    pieces = [Piece(1.0, FIRST_BUCKET), Piece(30.0, LATER_BUCKETS), Piece(1.0, MIB)]
    # 1 s forward; bucket 1 at 2-3 s; bucket 2 at 32-57 s; bucket 3 then, 58 s.
    both = parallel_seconds(1.0, pieces, 4.0, replicas=2, wire=wire)
    assert both == pytest.approx(58.0 + 4.0)
    apart = parallel_seconds(1.0, pieces, 4.0, replicas=2, wire=wire, overlap=0.0)
    assert apart == pytest.approx(1.0 + 32.0 + 27.0 + 4.0)
    assert parallel_seconds(1.0, pieces, 4.0, replicas=1, wire=wire) == pytest.approx(37.0)


@given(
    st.lists(st.builds(Piece, st.floats(0.0, 5.0), st.floats(0.0, 60.0 * MIB)), max_size=6),
    st.integers(2, 8),
    st.floats(0.0, 1.0),
)
def test_hiding_never_costs(pieces: list[Piece], replicas: int, overlap: float):
    """At least the computation, at most computation and all rings one after the other."""
    wire = Wire(0.001, 1e7)
    compute = 1.0 + sum(piece.seconds for piece in pieces) + 0.5
    found, apart = (
        parallel_seconds(1.0, pieces, 0.5, replicas=replicas, wire=wire, overlap=share)
        for share in (overlap, 0.0)
    )
    assert compute - 1e-9 <= found <= apart + 1e-9
