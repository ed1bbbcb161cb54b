"""The Pareto front against trying every set of cuts."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from blockstep.models import layer_shapes, make_network
from blockstep.search import DecouplingError, Profile, ProfileError
from blockstep.search.balance import best_cuts
from blockstep.search.discretization import cut_weights, discretize, ranking
from blockstep.search.pareto import Choice, activation_bytes, adopt, choose, explain, front

NEAR = 1e-12


@dataclass(frozen=True)
class Case:
    """A network, what was learned of it, and what is asked."""

    profile: Profile
    alpha: list[tuple[float, float]]
    heads: tuple[str, ...]
    blocks: int
    bandwidth: float | None

    def front(self) -> list[Choice]:
        """Return what is tested."""
        return front(self.profile, self.alpha, self.heads, self.blocks, bandwidth=self.bandwidth)


def make_profile(
    numbers: random.Random, layers: int, *, levels: int, gaps: float, silent: float
) -> Profile:
    """Return a profile of random whole seconds up to ``levels``: few levels make many ties.

    Args:
        numbers: Draws.
        layers: How many layers.
        levels: The largest time.
        gaps: Share of the places where a head does not fit.
        silent: Share of the layers without parameters.
    """

    def times(count: int) -> tuple[float, ...]:
        return tuple(float(numbers.randint(1, levels)) for _ in range(count))

    fits = [[numbers.random() >= gaps for _ in range(layers - 1)] for _ in range(2)]
    return Profile(
        network="net",
        layers=layers,
        batch_size=8,
        device="cpu",
        threads=1,
        heads=("aux1", "aux2"),
        forward=times(layers),
        inner=times(layers),
        entry=times(layers),
        update=times(layers),
        head_seconds=tuple(
            tuple(float(numbers.randint(1, levels)) if one else None for one in row) for row in fits
        ),
        head_update=tuple(tuple(1.0 if one else None for one in row) for row in fits),
        classifier_seconds=1.0,
        classifier_update=0.0,
        boundary_bytes=tuple(numbers.randint(1, 40) for _ in range(layers)),
        parameters=tuple(int(numbers.random() >= silent) for _ in range(layers)),
        classifier_parameters=numbers.randint(0, 1),
    )


def make_case(seed: int) -> Case:
    """Return a small random case; every kind of tie and gap comes up."""
    numbers = random.Random(seed)
    layers = numbers.randint(1, 10)
    profile = make_profile(
        numbers,
        layers,
        levels=numbers.choice([1, 3, 1000, 1000]),
        gaps=numbers.choice([0.0, 0.3]),
        silent=numbers.choice([0.0, 0.4]),
    )
    values = numbers.choice([[0.0], [-1.0, 0.0, 1.0], [numbers.gauss(0, 2) for _ in range(20)]])
    alpha = [(numbers.choice(values), numbers.choice(values)) for _ in range(layers - 1)]
    if numbers.random() < 0.5:
        # Near the input, where cuts make the last block slow: many choices are on the front.
        alpha.sort(key=lambda pair: pair[1] - pair[0])
    heads = tuple(numbers.choice(["aux1", "aux2"]) for _ in range(layers - 1))
    bandwidth = numbers.choice([None, 1.0, 4.0])
    return Case(profile, alpha, heads, numbers.randint(1, layers), bandwidth)


def slowest(case: Case, cuts: Sequence[int]) -> float | None:
    """Return the seconds of the slowest block or link, block by block; None if impossible."""
    profile, ends = case.profile, (0, *cuts, case.profile.layers)
    seconds = []
    for start, end in itertools.pairwise(ends):
        if end == profile.layers:
            if not any(profile.parameters[start:]) and not profile.classifier_parameters:
                return None
            seconds.append(profile.block_seconds(start + 1, end))
            continue
        head = profile.heads.index(case.heads[end - 1])
        if profile.head_seconds[head][end - 1] is None:
            return None
        seconds.append(profile.block_seconds(start + 1, end, head))
        if case.bandwidth is not None:
            seconds.append(profile.boundary_bytes[end - 1] / case.bandwidth)
    return max(seconds)


def brute_force(case: Case) -> list[tuple[tuple[int, ...], float, float]]:
    """Return cuts, sum of alpha and slowest of the front, by comparing all with all."""
    weights = torch.tensor(case.alpha, dtype=torch.float64).reshape(-1, 2).softmax(1)[:, 0].tolist()
    tried = []
    for cuts in itertools.combinations(range(1, case.profile.layers), case.blocks - 1):
        seconds = slowest(case, cuts)
        if seconds is not None:
            tried.append((cuts, math.fsum(weights[cut - 1] for cut in cuts), seconds))
    kept = []
    for cuts, total, seconds in tried:
        better = any(
            (other >= total - NEAR and time < seconds) or (other > total + NEAR and time <= seconds)
            for _, other, time in tried
        )
        # `tried` is in lexicographic order.
        known = any(abs(other - total) < NEAR and time == seconds for _, other, time in kept)
        if not better and not known:
            kept.append((cuts, total, seconds))
    return sorted(kept, key=lambda one: -one[1])


@pytest.mark.parametrize("start", range(0, 1200, 150))
def test_the_front_is_what_trying_everything_finds(start: int):
    """Cuts, sums and seconds of random networks: gaps, ties, slow links, silent layers."""
    for seed in range(start, start + 150):
        case = make_case(seed)
        expected = brute_force(case)
        if not expected:
            with pytest.raises(DecouplingError, match=f"blocks={case.blocks}: net has no cuts"):
                case.front()
            continue
        found = case.front()
        assert [one.cuts for one in found] == [cuts for cuts, _, _ in expected], seed
        assert [one.slowest for one in found] == [seconds for _, _, seconds in expected]
        assert [one.alpha for one in found] == pytest.approx([sum_ for _, sum_, _ in expected])
        whole = case.profile.block_seconds(1, case.profile.layers)
        for one in found:
            assert one.speedup == whole / one.slowest
            assert one.heads == tuple(case.heads[cut - 1] for cut in one.cuts)
            assert one.bytes == tuple(case.profile.boundary_bytes[cut - 1] for cut in one.cuts)


def test_random_cases_cover_what_they_should():
    """The test above would be empty without fronts of many choices, and without impossible ones."""
    sizes = [len(brute_force(make_case(seed))) for seed in range(1200)]
    assert min(sizes) == 0
    assert max(sizes) >= 6
    assert sum(size >= 3 for size in sizes) >= 80


# --- Networks as large as real ones ---------------------------------------------------------------


def large_case(seed: int, *, bandwidth: float | None = None) -> Case:
    """Return a network of 50 layers that is to be cut into 16 blocks."""
    numbers = random.Random(seed)
    profile = make_profile(numbers, 50, levels=1_000_000, gaps=0.0, silent=0.0)
    alpha = [(numbers.gauss(0, 1), numbers.gauss(0, 1)) for _ in range(49)]
    heads = tuple(numbers.choice(["aux1", "aux2"]) for _ in range(49))
    return Case(profile, alpha, heads, 16, bandwidth)


@pytest.mark.parametrize("bandwidth", [None, 20e-6])
def test_both_ends_agree_with_other_ways_to_find_them(bandwidth: float | None):
    """The first choice is the ranking's, the last is as fast as the balanced cuts."""
    case = large_case(1, bandwidth=bandwidth)
    found = case.front()
    assert len(found) > 10
    first = found[0]
    assert first.cuts == tuple(sorted(ranking(case.alpha)[:15]))
    assert first.slowest == slowest(case, first.cuts)

    def cost(start: int, end: int) -> float:
        if end == 50:
            return case.profile.block_seconds(start, end)
        seconds = case.profile.block_seconds(start, end, int(case.heads[end - 1] == "aux2"))
        link = case.profile.boundary_bytes[end - 1] / bandwidth if bandwidth else 0.0
        return max(seconds, link)

    assert found[-1].slowest == slowest(case, best_cuts(50, 16, cost))
    for before, after in itertools.pairwise(found):
        assert before.alpha > after.alpha
        assert before.speedup < after.speedup


def test_the_first_choice_is_that_of_the_discretization():
    """Accuracy is the paper's choice: the cuts and heads that discretize finds."""
    case = large_case(2)
    beta = [[float(head == "aux1"), float(head == "aux2")] for head in case.heads]
    found = discretize(case.alpha, beta, network="net", heads=("aux1", "aux2"), blocks=16)
    best = choose(case.front(), "accuracy")
    assert (best.cuts, best.heads) == (found.cuts, found.heads)


def test_equal_sums_are_equal_in_whatever_order_they_are_added():
    """Ten layers that weigh 0.1 or 0.3: 0.1 + 0.3 and 0.3 + 0.1 are one point of the front."""
    numbers = random.Random(3)
    profile = make_profile(numbers, 11, levels=10_000, gaps=0.0, silent=0.0)
    alpha = [(math.log(0.1 / 0.9), 0.0), (math.log(0.3 / 0.7), 0.0)] * 5
    sums = [one.alpha for one in front(profile, alpha, ("aux1",) * 10, 6)]
    assert len(sums) == len({round(one, 6) for one in sums})


# --- Links ----------------------------------------------------------------------------------------


def even_profile(**changes: object) -> Profile:
    """Return four equal layers with a light head, whose outputs become smaller."""
    values: dict[str, object] = {
        "network": "net",
        "layers": 4,
        "batch_size": 8,
        "device": "cpu",
        "threads": 1,
        "heads": ("aux1",),
        "forward": (1.0,) * 4,
        "inner": (4.0,) * 4,
        "entry": (4.0,) * 4,
        "update": (0.0,) * 4,
        "head_seconds": ((0.0,) * 3,),
        "head_update": ((0.0,) * 3,),
        "classifier_seconds": 0.0,
        "classifier_update": 0.0,
        "boundary_bytes": (400, 200, 100, 10),
        "parameters": (1,) * 4,
        "classifier_parameters": 1,
    }
    return Profile(**{**values, **changes})  # pyright: ignore[reportArgumentType]


def test_a_slow_link_sets_the_pace():
    """Without links 16 s / 8 s; 200 bytes at 10 bytes/s take 20 s; sizes can be given."""
    profile, alpha, heads = even_profile(), [(0.0, 1.0), (1.0, 0.0), (0.0, 1.0)], ("aux1",) * 3
    (free,) = front(profile, alpha, heads, 2)
    assert (free.cuts, free.speedup, free.slowest, free.bytes) == ((2,), 2.0, 8.0, (200,))
    slow = front(profile, alpha, heads, 2, bandwidth=10.0)
    assert [(one.cuts, one.slowest, one.speedup) for one in slow] == [
        ((2,), 20.0, 0.8),
        ((3,), 12.0, 16 / 12),
    ]
    halved = front(profile, alpha, heads, 2, sizes=(200, 100, 50, 5), bandwidth=10.0)
    assert [(one.cuts, one.slowest) for one in halved] == [((2,), 10.0)]


def test_bytes_follow_from_the_shapes():
    """Published boundary traffic: ResNet-101 in four blocks, 256 images, float32: 784 MiB."""
    network = make_network("resnet101", classes=10, in_channels=3, size=224, width=0.0625)
    shapes = layer_shapes(network, torch.zeros(1, 3, 224, 224))
    full = [(shape[0] * 16, *shape[1:]) for shape in shapes]
    sizes = activation_bytes(full, batch_size=256)
    assert sum(sizes[cut - 1] for cut in (7, 11, 12)) == 784 * 2**20
    halves = activation_bytes(full, batch_size=256, element_size=2)
    assert [2 * size for size in halves] == list(sizes)


# --- Choosing -------------------------------------------------------------------------------------


def at(*points: tuple[float, float]) -> list[Choice]:
    """Return a made-up front of (alpha, speedup)."""
    return [
        Choice((place,), ("aux1",), alpha, speedup, 1 / speedup, (8,))
        for place, (alpha, speedup) in enumerate(points, start=1)
    ]


def test_each_preference_has_its_choice():
    """The first, the last, and the one that gains more than it loses."""
    points = at((3.0, 1.0), (2.9, 1.8), (2.0, 2.0))
    assert [choose(points, name).cuts for name in ("accuracy", "balanced", "speed")] == [
        (1,), (2,), (3,)
    ]  # fmt: skip
    assert choose(points).cuts == (1,)


def test_the_knee_has_no_units():
    """A factor or an offset in either axis changes no choice."""
    numbers = random.Random(4)
    for _ in range(100):
        alphas = sorted((numbers.random() for _ in range(6)), reverse=True)
        speeds = sorted(1 + numbers.random() for _ in range(6))
        plain = at(*zip(alphas, speeds, strict=True))
        scaled = at(*((5 + 3 * a, 0.5 + 7 * s) for a, s in zip(alphas, speeds, strict=True)))
        assert choose(plain, "balanced").cuts == choose(scaled, "balanced").cuts


def test_the_knee_is_the_farthest_point_above_the_line_between_the_ends():
    """The definition in words and the geometric one, by cross products, agree."""
    numbers = random.Random(5)
    for _ in range(100):
        alphas = sorted((numbers.random() for _ in range(6)), reverse=True)
        speeds = sorted(1 + numbers.random() for _ in range(6))
        found = at(*zip(alphas, speeds, strict=True))

        def above(one: Choice, first: Choice = found[0], last: Choice = found[-1]) -> float:
            along = (last.alpha - first.alpha, last.speedup - first.speedup)
            to = (one.alpha - first.alpha, one.speedup - first.speedup)
            return along[1] * to[0] - along[0] * to[1]

        best = choose(found, "balanced")
        assert above(best) == pytest.approx(max(0.0, *map(above, found)))
        assert above(best) >= -1e-12


def test_without_a_knee_the_paper_s_choice_stays():
    """Where every choice loses a larger share than it gains, or only the ends are there."""
    assert choose(at((3.0, 1.0), (1.5, 1.1), (1.0, 2.0)), "balanced").cuts == (1,)
    assert choose(at((3.0, 1.0), (2.0, 2.0)), "balanced").cuts == (1,)
    assert choose(at((3.0, 1.0)), "balanced").cuts == (1,)
    assert choose(at((3.0, 1.0)), "speed").cuts == (1,)


def test_impossible_preferences_are_refused():
    """The known ones are listed; an empty front has no choice."""
    with pytest.raises(ValueError, match="'fast': must be one of accuracy, balanced, speed"):
        choose(at((1.0, 1.0)), "fast")
    with pytest.raises(ValueError, match="no choices"):
        choose([])


def test_each_choice_is_told_with_its_cost():
    """Alpha lost and speed gained, against the paper's choice."""
    points = at((3.0, 1.0), (2.99, 1.3), (2.4, 1.5), (1.5, 1.6))
    assert explain(points) == [
        "K=2: 4 choices between accuracy and speed",
        "accuracy: cuts 1 (aux1): alpha 3.000, speedup 1.00x",
        "balanced: cuts 2 (aux1): alpha 2.990, speedup 1.30x; 0.01 less alpha (0.3%), 30.0% faster",
        "speed: cuts 4 (aux1): alpha 1.500, speedup 1.60x; 1.5 less alpha (50.0%), 60.0% faster",
    ]
    assert [line.split(":")[0] for line in explain(points, every=True)[1:]] == [
        "accuracy", "balanced", "between", "speed"
    ]  # fmt: skip
    assert explain(at((3.0, 1.0)))[1].startswith("accuracy, balanced, speed: cuts 1")


def test_a_choice_takes_the_place_of_the_paper_s():
    """In the decoupling itself and under its number of blocks; the rest stays."""
    alpha, beta = [(2.0, 0.0), (1.0, 0.0), (0.0, 0.0)], [[0.0]] * 3
    found = discretize(alpha, beta, network="net", heads=("aux1",), blocks=2)
    choice = Choice((3,), ("aux1",), 0.5, 2.0, 1.0, (8,))
    changed = adopt(found, [choice])
    assert (found.cuts, changed.cuts) == ((1,), (3,))
    assert changed.for_blocks(3).cuts == found.for_blocks(3).cuts
    assert changed.for_blocks(3).for_blocks(2).cuts == (3,)
    assert (changed.alpha, changed.ranking) == (found.alpha, found.ranking)
    other = adopt(found, [Choice((2, 3), ("aux1",) * 2, 1.0, 2.0, 1.0, (8, 8))])
    assert other.cuts == (1,)
    assert other.for_blocks(3).cuts == (2, 3)


# --- What is refused ------------------------------------------------------------------------------


def test_what_does_not_belong_together_is_refused():
    """Another network's alpha, heads or bytes; heads that were not measured; no bandwidth."""
    profile, alpha, heads = even_profile(), [(0.0, 0.0)] * 3, ("aux1",) * 3
    with pytest.raises(DecouplingError, match=r"alpha is for 3 layers, but .* 'net' has 4"):
        front(profile, alpha[:2], heads, 2)
    with pytest.raises(DecouplingError, match="heads is for 5 layers"):
        front(profile, alpha, ("aux1",) * 4, 2)
    with pytest.raises(DecouplingError, match="sizes is for 3 layers"):
        front(profile, alpha, heads, 2, sizes=(1, 2, 3))
    with pytest.raises(DecouplingError, match="blocks=5, but the network has 4 layers"):
        front(profile, alpha, heads, 5)
    with pytest.raises(ProfileError, match="'aux2' was not measured"):
        front(profile, alpha, ("aux1", "aux2", "aux1"), 2)
    for bandwidth in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="must be above 0 bytes per second"):
            front(profile, alpha, heads, 2, bandwidth=bandwidth)
    nothing = even_profile(inner=(0.0,) * 4, entry=(0.0,) * 4)
    with pytest.raises(ValueError, match="takes 0 seconds per step when cut after"):
        front(nothing, alpha, heads, 2)


def test_one_block_is_backpropagation():
    """Nothing is cut, nothing is gained."""
    (whole,) = front(even_profile(), [(1.0, 0.0)] * 3, ("aux1",) * 3, 1)
    assert (whole.cuts, whole.alpha, whole.speedup, whole.bytes) == ((), 0.0, 1.0, ())


def test_weights_are_those_of_the_discretization():
    """The sum of alpha is that of cut_weights, to more digits than any search can tell."""
    case = large_case(6)
    for choice in case.front()[:5]:
        weights = cut_weights(case.alpha)
        expected = math.fsum(weights[cut - 1] for cut in choice.cuts)
        assert choice.alpha == pytest.approx(expected, abs=1e-12)
