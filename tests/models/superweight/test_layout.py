"""Nested shapes, held against concatenation as the paper's code describes it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from blockstep.models.superweight import Layout
from blockstep.models.superweight.layout import Shape
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

SHAPES = st.lists(
    st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6, unique=True
).map(lambda pairs: [(*pair, 2) for pair in pairs])


def concatenated(shapes: Sequence[Shape], vectors: Sequence[Tensor]) -> list[Tensor]:
    """Return the weight of every shape, from the smallest, by cutting and concatenating."""
    first, *others = shapes
    weight = vectors[0].view(first)
    made = [weight]
    for (out, inputs, *kernel), vector in zip(others, vectors[1:], strict=True):
        covered_out, covered_in = weight.shape[:2]
        if inputs > covered_in:
            height = min(covered_out, out)
            size = height * (inputs - covered_in) * math.prod(kernel)
            columns = vector[:size].view(height, inputs - covered_in, *kernel)
            weight = torch.cat([weight[:height], columns], 1)
            rows = vector[size:]
        else:
            weight, rows = weight[:, :inputs], vector
        if out > covered_out:
            rows = rows.view(out - covered_out, inputs, *kernel)
            weight = torch.cat([weight, rows], 0)
        made.append(weight)
    return made


def composed(layout: Layout, shape: Shape, vectors: Sequence[Tensor]) -> Tensor:
    """Return the weight of a shape by its blocks; what no block fills stays not a number."""
    weight = torch.full(shape, torch.nan)
    for block in layout.blocks(shape):
        height, breadth = block.extent
        size = height * breadth * layout.kernel
        part = vectors[block.slot][block.start : block.start + size]
        part = part.view(height, breadth, *shape[2:])[: block.shown[0], : block.shown[1]]
        (top, _), (left, _) = block.rows, block.columns
        target = weight[top : top + block.shown[0], left : left + block.shown[1]]
        assert target.isnan().all()
        target.copy_(part)
    return weight


@given(SHAPES)
def test_a_chain_is_nested_concatenation(shapes: list[Shape]) -> None:
    """Wider, taller, lower and narrower shapes, in any number."""
    layout = Layout.of(shapes)
    assert layout.shapes == tuple(sorted(shapes, key=lambda s: (math.prod(s), s)))
    vectors = [torch.randn(size) for size in layout.sizes]
    assert min(layout.sizes) > 0
    for shape, expected in zip(layout.shapes, concatenated(layout.shapes, vectors), strict=True):
        assert torch.equal(composed(layout, shape, vectors), expected)
        assert layout.slots(shape) == tuple(range(layout.shapes.index(shape) + 1))


@given(SHAPES)
def test_a_union_has_every_place_once(shapes: list[Shape]) -> None:
    """Equal places of two shapes are the same number; nothing is generated that none shows."""
    layout = Layout.of(shapes, "union")
    vectors = [torch.randn(size) for size in layout.sizes]
    made = {shape: composed(layout, shape, vectors) for shape in layout.shapes}
    for one in shapes:
        for other in shapes:
            out, inputs = min(one[0], other[0]), min(one[1], other[1])
            assert torch.equal(made[one][:out, :inputs], made[other][:out, :inputs])
    covered = {(r, c) for out, inputs, _ in shapes for r in range(out) for c in range(inputs)}
    assert sum(layout.sizes) == 2 * len(covered)
    assert sum(layout.sizes) <= sum(Layout.of(shapes).sizes)
    for shape in shapes:
        assert set(layout.slots(shape)) == {block.slot for block in layout.blocks(shape)}


def test_by_hand() -> None:
    """(2, 1), then wider and taller, then wider and lower: columns first, then rows."""
    layout = Layout.of([(2, 1), (3, 3), (2, 5)])
    assert layout.sizes == (2, 2 * 2 + 1 * 3, 2 * 2)
    vectors = [torch.arange(2.0), 10 + torch.arange(7.0), 20 + torch.arange(4.0)]
    assert composed(layout, (3, 3), vectors).tolist() == [[0, 10, 11], [1, 12, 13], [14, 15, 16]]
    lower = [[0, 10, 11, 20, 21], [1, 12, 13, 22, 23]]
    assert composed(layout, (2, 5), vectors).tolist() == lower


def test_what_cannot_be_laid_out() -> None:
    """Mixed kernels and unknown nestings."""
    with pytest.raises(ValueError, match=r"one kernel size, not of \[\(1, 1\), \(3, 3\)\]"):
        Layout.of([(2, 2, 3, 3), (2, 2, 1, 1)])
    with pytest.raises(ValueError, match="nesting='chian': valid are chain, union"):
        Layout.of([(2, 2)], "chian")
