"""Subnetworks: what they compute, what they ignore, and which partition learns."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from blockstep.models.partitioned import PartitionedModule, exact_sizes, partition
from torch import Tensor, nn

from tests.models.partitioned.nets import THIRDS, fixup, images, jitter, norms

Y = torch.tensor([0, 2, 1, 1])

SETTINGS = [
    (make, kind, defaults)
    for make in (norms, fixup)
    for kind in ("random", "node")
    for defaults in ("initial", "zero", "seeded")
]


AFFINE = re.compile(r"^(norm|body\.1)\.|(^|\.)(scale\.scale|bias\d[ab]?\.bias)$")
"""Names of norms' scales and biases and of FixUp's scalars in the two networks."""


def by_hand(made: PartitionedModule, original: nn.Module, k: int) -> nn.Module:
    """Build subnetwork k entry by entry, from the assignment and the partitions' parameters."""
    network = copy.deepcopy(original)
    parts = [made.parameters_of(number) for number in range(1, len(made) + 1)]
    assigned = iter(made.weights.assigned())
    used = [0] * len(parts)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if AFFINE.search(name):
                rows = torch.stack([own[name] for own in parts[:k]])
                multiply = name.endswith(("weight", "scale"))
                parameter.copy_(rows.prod(0) if multiply else rows.sum(0))
                continue
            flat, owners = parameter.view(-1), next(assigned).flatten()
            for number, own in enumerate(parts):
                mine = owners == number
                count = int(mine.sum())
                default = made.weights.defaults.of(number) if number else flat
                if number >= k:
                    begin = used[number]
                    flat[mine] = default[begin : begin + count] if default.dim() else default
                elif count:
                    flat[mine] = own[name]
                used[number] += count
    return network


@pytest.mark.parametrize(("make", "kind", "defaults"), SETTINGS)
def test_subnetworks_are_those_built_by_hand(
    make: Callable[[], nn.Module], kind: str, defaults: str
) -> None:
    """Partitions 1..k where they belong, defaults elsewhere, products and sums for the rest."""
    original = make()
    made = partition(original, THIRDS, seed=3, kind=kind, defaults=defaults)
    jitter(made)
    x = images()
    for k in (3, 1, 2):
        expected = by_hand(made, original, k)
        assert torch.equal(made(x, subnetwork=k), expected(x)), k
        plain = copy.deepcopy(original)
        plain.load_state_dict(made.subnetwork_state(k))
        assert torch.equal(plain(x), expected(x))


@pytest.mark.parametrize("kind", ["random", "node"])
def test_the_network_begins_as_it_was(kind: str) -> None:
    """With initial defaults every subnetwork is the network, bit for bit."""
    original = norms()
    made = partition(original, THIRDS, seed=0, kind=kind)
    for k in (1, 2, 3):
        assert torch.equal(made(images(), subnetwork=k), original(images()))


def test_sizes_are_exact() -> None:
    """Of every weight each partition has its share; of every norm all."""
    original = norms()
    made = partition(original, THIRDS, seed=0)
    assert made.get_buffer("weights.assignment").dtype == torch.uint8
    assert len(made.get_buffer("weights.assignment")) == 6 * 18 + 6 + 8 * 27 + 33 * 12 + 13 * 3
    for name, parameter in original.named_parameters():
        sizes = [len(made.parameters_of(k).get(name, [])) for k in (1, 2, 3)]
        norm = name.startswith(("norm.", "body.1."))
        assert sizes == ([len(parameter)] * 3 if norm else exact_sizes(parameter.numel(), THIRDS))
    owners = made.weights.assigned()[0]
    assert not torch.equal(owners.flatten().sort().values, owners.flatten())


def test_the_assignment_is_of_the_seed() -> None:
    """The same seed gives the same, another seed another one."""
    one, two, other = (
        partition(norms(), THIRDS, seed=seed).get_buffer("weights.assignment") for seed in (1, 1, 2)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("make", [norms, fixup])
def test_a_subnetwork_does_not_depend_on_later_partitions(make: Callable[[], nn.Module]) -> None:
    """Whatever partition 3 holds, even infinity, subnetwork 2 gives the same bits."""
    made = partition(make(), THIRDS, seed=0)
    jitter(made)
    before = made(images(), subnetwork=2)
    with torch.no_grad():
        for parameter in made.parameters_of(3).values():
            parameter.fill_(float("inf"))
    assert torch.equal(made(images(), subnetwork=2), before)
    assert not made(images(), subnetwork=3).isfinite().all()


@pytest.mark.parametrize(("make", "kind", "defaults"), SETTINGS[::2])
def test_gradients_are_those_of_the_whole_tensors(
    make: Callable[[], nn.Module], kind: str, defaults: str
) -> None:
    """A partition's gradient is that of plain autograd through the network built by hand."""
    original = make()
    made = partition(original, THIRDS, seed=0, kind=kind, defaults=defaults).double()
    original = original.double()
    jitter(made)
    x = images().double()
    for k in (2, 3):
        made.zero_grad(set_to_none=True)
        F.cross_entropy(made(x, subnetwork=k, learning=k), Y).backward()
        for j in set(range(1, 4)) - {k}:
            assert all(value.grad is None for value in made.parameters_of(j).values())
        loss = F.cross_entropy(by_hand(made, original, k)(x), Y)
        for name, parameter in made.parameters_of(k).items():
            assert parameter.grad is not None, name
            direction = torch.randn_like(parameter)
            with torch.no_grad():
                parameter.add_(direction, alpha=1e-6)
                moved = F.cross_entropy(by_hand(made, original, k)(x), Y)
                parameter.sub_(direction, alpha=1e-6)
            expected = (moved - loss) / 1e-6
            found = (parameter.grad * direction).sum()
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_all_partitions_learn_unless_told() -> None:
    """By default a subnetwork's partitions all get gradients, and later ones none."""
    made = partition(norms(), THIRDS, seed=0)
    made(images(), subnetwork=2).sum().backward()
    for k, learns in ((1, True), (2, True), (3, False)):
        grads = [value.grad is not None for value in made.parameters_of(k).values()]
        assert all(grads) if learns else not any(grads)
    made.zero_grad()
    assert not made(images(), subnetwork=2, learning=()).requires_grad
    with pytest.raises(ValueError, match=r"partitions \[3\] cannot learn through subnetwork 2"):
        made(images(), subnetwork=2, learning=3)
    for wrong in (0, 4):
        with pytest.raises(ValueError, match=rf"no subnetwork or partition {wrong}; .* 1-3"):
            made(images(), subnetwork=wrong)


OPTIMIZERS: list[Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = [
    lambda own: torch.optim.Adam(own, lr=0.1, weight_decay=0.1),
    lambda own: torch.optim.AdamW(own, lr=0.1, weight_decay=0.1, foreach=True),
    lambda own: torch.optim.Adam(own, lr=0.1, fused=True),
    lambda own: torch.optim.SGD(own, lr=0.1, momentum=0.9, weight_decay=0.1),
]


@pytest.mark.parametrize("make", OPTIMIZERS, ids=["adam", "adamw", "fused", "sgd"])
def test_partitions_not_drawn_stay_bit_identical(make: Any) -> None:
    """One stock optimizer over everything: momentum and decay leave them, steps count by draw."""
    made = partition(fixup(), THIRDS, seed=0)
    optimizer = make(list(made.parameters()))
    twin = copy.deepcopy(made)
    for k in (1, 2, 2, 3, 1):
        before = {j: [v.clone() for v in made.values_of(j)] for j in (1, 2, 3)}
        optimizer.zero_grad()
        F.cross_entropy(made(images(), subnetwork=k, learning=k), Y).backward()
        optimizer.step()
        for j in (1, 2, 3):
            same = [torch.equal(a, b) for a, b in zip(before[j], made.values_of(j), strict=True)]
            assert all(same) if j != k else not any(same)
        # What is kept between calls never differs from what is composed anew.
        for j in (1, 2, 3):
            twin.load_values(j, made.values_of(j))
        twin.refresh()
        for j in (2, 1, 3):
            assert torch.equal(made(images(), subnetwork=j), twin(images(), subnetwork=j))
    if not isinstance(optimizer, torch.optim.SGD):
        steps = [{int(optimizer.state[v]["step"]) for v in p.values()} for p in made.partitions]  # pyright: ignore
        assert steps == [{2}, {2}, {1}]


def test_values_travel_as_a_list() -> None:
    """What values_of() returns can be loaded elsewhere; what does not fit is refused whole."""
    one, two = partition(norms(), THIRDS, seed=0), partition(norms(), THIRDS, seed=0)
    jitter(one)
    two(images())
    for k in (1, 2, 3):
        two.load_values(k, [value.clone() for value in one.values_of(k)])
    assert torch.equal(one(images()), two(images()))
    values = [value + 1 for value in one.values_of(2)]
    with pytest.raises(ValueError, match=r"partition 2 has \d+ tensors, not 3"):
        one.load_values(2, values[:3])
    with pytest.raises(ValueError, match=r"partition 2: \S+ has shape .* another seed"):
        one.load_values(2, [*values[:-1], torch.zeros(99)])
    assert torch.equal(one(images()), two(images()))


def test_copies_and_state_dicts() -> None:
    """A copy is on its own; a state_dict carries the assignment and the defaults."""
    made = partition(norms(), THIRDS, seed=0)
    jitter(made)
    first = made(images(), subnetwork=2)
    twin = copy.deepcopy(made)
    jitter(made)
    assert torch.equal(twin(images(), subnetwork=2), first)
    assert not torch.equal(made(images(), subnetwork=2), first)
    jitter(network := norms())
    other = partition(network, THIRDS, seed=9)
    assert not torch.equal(other(images(), subnetwork=2), first)
    other.load_state_dict(twin.state_dict())
    assert torch.equal(other(images(), subnetwork=2), first)
    changed = copy.deepcopy(twin).double()
    torch.testing.assert_close(changed(images().double(), subnetwork=2).float(), first)


def test_inference_mode_leaves_nothing_behind() -> None:
    """A first call in it, and later ones, do not keep the network from learning."""
    made, other = (partition(norms(), THIRDS, seed=0) for _ in range(2))
    with torch.inference_mode():
        made(images(), subnetwork=1)
    for one in (made, other):
        one(images(), subnetwork=2, learning=2).sum().backward()
    with torch.inference_mode():
        made(images())
    pairs = zip(made.parameters_of(2).values(), other.parameters_of(2).values(), strict=True)
    for one, expected in pairs:
        assert one.grad is not None
        assert torch.equal(one.grad, expected.grad)  # pyright: ignore[reportArgumentType]


def test_two_subnetworks_in_one_graph() -> None:
    """What one call composed is not written over by the next while a graph needs it."""
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    made = partition(network, [0.5, 0.5], seed=0, hyperparameters=["0"])
    jitter(made)
    x = torch.randn(3, 4)
    grads = []
    for k in (1, 2):
        (grad,) = torch.autograd.grad(
            made(x, subnetwork=k, learning=()).pow(2).sum(), [made.hyperparameters()["0.weight"]]
        )
        grads.append(grad)
    made.zero_grad()
    losses: list[Tensor] = [made(x, subnetwork=k, learning=()).pow(2).sum() for k in (1, 2)]
    torch.stack(losses).sum().backward()
    torch.testing.assert_close(made.hyperparameters()["0.weight"].grad, sum(grads))


def test_hypergradients_against_finite_differences() -> None:
    """Layers as hyperparameters: the derivative of subnetwork k's loss, the partitions fixed."""
    made = partition(norms(), THIRDS, seed=0, hyperparameters=["body"]).double()
    jitter(made)
    psi, x = made.hyperparameters(), images().double()
    assert list(psi) == [
        f"body.{name}" for name in ("0.weight", "0.bias", "1.weight", "1.bias", "3.weight")
    ]

    def loss() -> Tensor:
        return F.cross_entropy(made(x, subnetwork=2, learning=()), Y)

    grads = torch.autograd.grad(loss(), list(psi.values()))
    for value, grad in zip(psi.values(), grads, strict=True):
        direction = torch.randn_like(value)
        ends = []
        for step in (1e-6, -2e-6):
            with torch.no_grad():
                value.add_(direction, alpha=step)
            ends.append(loss().item())
        with torch.no_grad():
            value.add_(direction, alpha=1e-6)
        expected = (ends[0] - ends[1]) / 2e-6
        assert (grad * direction).sum().item() == pytest.approx(expected, rel=1e-5, abs=1e-9)
    assert all(value.grad is None for value in made.partitions.parameters())
