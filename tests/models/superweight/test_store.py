"""Generated weights and their gradients, held against the plain formula."""

from __future__ import annotations

import pytest
import torch
from blockstep.models.superweight import Sharing, SuperWeights, Use, allocate, depth_bins
from blockstep.models.superweight.store import _Generation
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.models.superweight.parts import uses_with

SHAPES = [(4, 3), (6, 6), (3, 8), (6, 6), (4, 3), (2, 9)]


def store_of(sharing: Sharing, uses: list[Use], budget: int = 4000) -> SuperWeights:
    """Make SuperWeights in float64 with random parameters."""
    torch.manual_seed(0)
    store = SuperWeights(uses, sharing, allocate(sharing, uses, budget), dtype=torch.float64)
    for parameter in store.parameters():
        torch.nn.init.normal_(parameter)
    return store


def expected(store: SuperWeights, use: Use) -> Tensor:
    """Return a weight by the formula: each slot's combination, block by block."""
    (cluster,) = (
        number
        for number, groups in enumerate(store.sharing.clusters)
        if any(use.key in group for group in groups)
    )
    layout = store.sharing.layouts(store.uses)[cluster]
    weight = torch.zeros(use.shape, dtype=torch.float64)
    known = {one.key: one for one in store.uses}
    for block in layout.blocks(use.shape):
        groups = [
            group
            for group in store.sharing.clusters[cluster]
            if any(block.slot in layout.slots(known[key].shape) for key in group)
        ]
        (row,) = (place for place, group in enumerate(groups) if use.key in group)
        alpha = store.coefficients[f"{cluster}_{block.slot}"][row]
        vector = (alpha[:, None] * store.templates[f"{cluster}_{block.slot}"]).sum(0)
        height, breadth = block.extent
        part = vector[block.start : block.start + height * breadth * 9].view(height, breadth, 3, 3)
        part = part[: block.shown[0], : block.shown[1]]
        top, left = block.rows[0], block.columns[0]
        full = torch.zeros_like(weight)
        full[top : top + block.shown[0], left : left + block.shown[1]] = part
        weight = weight + full
    return weight


def two_members() -> tuple[list[Use], dict[str, Sharing]]:
    """Return six weights of two members, and ways to share them."""
    uses = [
        Use(number % 2, f"layer{number // 2}.weight", (*shape, 3, 3), "3x3")
        for number, shape in enumerate(SHAPES)
    ]
    uses.sort(key=lambda use: use.member)
    own, union = depth_bins(uses, 1), depth_bins(uses, 1, nesting="union")
    shared = own.with_shared_coefficients()
    # The rows of member 0 do not follow each other, and a group is in both members.
    mixed = Sharing((tuple((uses[a].key, uses[b].key) for a, b in ((0, 4), (1, 3), (2, 5))),))
    return uses, {"own": own, "union": union, "shared": shared, "mixed": mixed}


@pytest.mark.parametrize("kind", ["own", "union", "shared", "mixed"])
def test_weights_and_gradients_by_the_formula(kind: str) -> None:
    """The value and all gradients are those that autograd finds for the plain formula."""
    uses, sharings = two_members()
    store = store_of(sharings[kind], uses)
    loss = torch.zeros((), dtype=torch.float64)
    plain = torch.zeros((), dtype=torch.float64)
    for member in (0, 1):
        own = [use for use in uses if use.member == member]
        for use, weight in zip(own, store.generate(member), strict=True):
            reference = expected(store, use)
            assert torch.allclose(weight, reference, rtol=1e-12, atol=1e-12)
            probe = torch.randn_like(weight)
            loss, plain = loss + (weight * probe).sum(), plain + (reference * probe).sum()
    names, parameters = zip(*store.named_parameters(), strict=True)
    ours = torch.autograd.grad(loss, parameters)
    theirs = torch.autograd.grad(plain, parameters)
    for name, one, other in zip(names, ours, theirs, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12), name
        assert one.abs().max() > 0, name


def test_gradients_by_finite_differences() -> None:
    """Of templates and coefficients, in float64, for wider, taller and cropped weights."""
    uses = uses_with([(2, 1), (3, 3), (1, 5)])
    uses = [Use(0, f"{use.member}", (*use.shape[:2], 1, 2), "1x2") for use in uses]
    for sharing in (depth_bins(uses, 1), depth_bins(uses, 1, own_coefficients=False)):
        store = store_of(sharing, uses, 60)
        recipe = store.recipes[0]
        parameters = [
            parameter.detach().requires_grad_() for parameter in store._parameters_of(recipe)
        ]

        def made(*parameters: Tensor, store: SuperWeights = store) -> tuple[Tensor, ...]:
            return _Generation.apply(store, store.recipes[0], *parameters)  # pyright: ignore[reportReturnType]

        assert torch.autograd.gradcheck(made, parameters)


def test_flow_adds_what_autograd_would() -> None:
    """From gradients of weights, twice, and with a weight that had none."""
    uses, sharings = two_members()
    store = store_of(sharings["mixed"], uses)
    weights = store.generate(0)
    gradients: list[Tensor | None] = [torch.randn_like(weight) for weight in weights]
    gradients[1] = None
    used = [(w, g) for w, g in zip(weights, gradients, strict=True) if g is not None]
    torch.autograd.backward([w for w, _ in used], [g for _, g in used])
    found = {name: p.grad.clone() for name, p in store.named_parameters() if p.grad is not None}
    store.zero_grad()
    store.flow(0, gradients)
    store.flow(0, gradients)
    for name, parameter in store.named_parameters():
        if name in found:
            assert parameter.grad is not None
            assert torch.allclose(parameter.grad, 2 * found[name], rtol=1e-12)
        else:
            assert parameter.grad is None


def test_what_each_use_contributes_to_shared_coefficients() -> None:
    """The contributions add up to the gradient of the shared row."""
    uses, sharings = two_members()
    store = store_of(sharings["shared"], uses)
    total = {name: torch.zeros_like(p[0]) for name, p in store.coefficients.items()}
    for member in (0, 1):
        gradients = [torch.randn(u.shape, dtype=torch.float64) for u in store.recipes[member].uses]
        store.flow(member, gradients)
        for by_slot in store.coefficient_gradients(member, gradients).values():
            for name, vector in by_slot.items():
                total[name] += vector
    for name, parameter in store.coefficients.items():
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad[0], total[name], rtol=1e-10)


def test_separated_coefficients_begin_as_copies() -> None:
    """No weight changes; afterwards each group has a gradient of its own."""
    uses, sharings = two_members()
    store = store_of(sharings["shared"], uses)
    before = [weight for member in (0, 1) for weight in store.generate(member)]
    replaced = store.regroup(sharings["mixed"])
    after = [weight for member in (0, 1) for weight in store.generate(member)]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert max(len(new) for _, new, _ in replaced) == 3
    assert all(torch.equal(old[index], new) for old, new, index in replaced)
    store.flow(0, [torch.randn_like(weight) for weight in before[:3]])
    rows = store.coefficients["0_0"].grad
    assert rows is not None
    assert not torch.equal(rows[0], rows[1])
    with pytest.raises(ValueError, match="groups can only be divided"):
        store.regroup(sharings["shared"])
    with pytest.raises(ValueError, match="within the clusters of now only"):
        store.regroup(sharings["union"])


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=5),
    st.sampled_from(["chain", "union"]),
    st.booleans(),
    st.integers(0, 3),
)
def test_any_shapes(shapes: list[tuple[int, int]], nesting: str, own: bool, templates: int) -> None:
    """Every weight is the formula's, whatever the shapes, the nesting and the budget."""
    uses = uses_with(shapes)
    sharing = depth_bins(uses, 1, own_coefficients=own, nesting=nesting)
    store = store_of(sharing, uses, (1 + templates) * sum(use.numel for use in uses))
    for member, use in enumerate(uses):
        (weight,) = store.generate(member)
        assert torch.allclose(weight, expected(store, use), rtol=1e-12, atol=1e-12)


def test_an_allocation_for_another_sharing() -> None:
    """Is refused with both numbers of slots."""
    uses = uses_with([(2, 2), (3, 3)])
    other = allocate(depth_bins(uses, 1), uses, 1000)
    apart = Sharing(tuple(((use.key,),) for use in uses))
    with pytest.raises(ValueError, match=r"clusters have \[1, 1\] slots, the allocation has \[2\]"):
        SuperWeights(uses, apart, other)
