"""Measuring: on a clock that only the measured operations move, and on real networks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from blockstep.models import Network, make_network, network_of
from blockstep.search import Profile, ProfileError, measurement, profile_network
from torch import Tensor, nn

from tests.search.parts import (
    CLASSES,
    WIDTH,
    Clock,
    TickHead,
    TickLayer,
    TickOptimizer,
    tick_loss,
)

HEAD = {"_target_": "tests.search.parts.TickHead"}
BATCH = torch.arange(24.0).reshape(6, WIDTH)
LABELS = torch.arange(6) % CLASSES


@pytest.fixture(autouse=True)
def clock() -> None:
    """Start the clock of the operations, and count heads from zero."""
    Clock.now = 0.0
    TickHead.made = 0


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure with the clock that operations move."""
    monkeypatch.setattr(measurement, "time", SimpleNamespace(perf_counter=lambda: Clock.now))


def ticking() -> Network:
    """Return five layers, of which the first and the third have nothing to train."""
    layers = [
        TickLayer((1.0, 2.0, 0.0), trains=False),
        TickLayer((2.0, 4.0, 8.0)),
        TickLayer((3.0, 5.0, 0.0), trains=False),
        TickLayer((4.0, 8.0, 16.0)),
        TickLayer((5.0, 10.0, 20.0)),
    ]
    return network_of(nn.Sequential(*layers), name="ticking")


def sgd(parameters: Any) -> torch.optim.Optimizer:
    """Make the optimizer that takes known times."""
    return TickOptimizer(parameters, lr=0.1, momentum=0.9)


def measure(network: Network, **changes: Any) -> Profile:
    """Profile the ticking network."""
    arguments: dict[str, Any] = {"heads": [HEAD], "make_optimizer": sgd, "loss": tick_loss}
    return profile_network(network, BATCH, LABELS, **{**arguments, **changes})


def seconds_of_step(network: Network, first: int, last: int, head: nn.Module) -> float:
    """Train a block by hand for one step and read the clock."""
    body = network.body(first, last)
    parameters = [*body.parameters(), *head.parameters()]
    optimizer = sgd(parameters) if parameters else None
    begin = Clock.now
    tick_loss(head(body(BATCH)), LABELS).backward()
    if optimizer is not None:
        optimizer.step()
    return Clock.now - begin


# --- What is measured --------------------------------------------------------------------------


@pytest.mark.usefixtures("exact")
def test_each_part_gets_its_own_time():
    """Forward, forward and backward with and without the input's gradient, optimizer, head."""
    profile = measure(ticking())
    assert profile.forward == (1, 2, 3, 4, 5)
    assert profile.entry == (1, 2 + 8, 3, 4 + 16, 5 + 20)
    assert profile.inner == (1 + 2, 2 + 4 + 8, 3 + 5, 4 + 8 + 16, 5 + 10 + 20)
    assert profile.update == (0, 1024, 0, 1024, 1024)
    assert profile.head_seconds == ((16 + 0.25 + 32 + 64,) * 4,)
    assert profile.head_update == ((1024,) * 4,)
    assert (profile.classifier_seconds, profile.classifier_update) == (0.25, 0)
    assert profile.parameters == (0, 1, 0, 1, 1)
    assert profile.classifier_parameters == 0
    assert profile.boundary_bytes == (6 * WIDTH * 4,) * 5


@pytest.mark.usefixtures("exact")
def test_heads_may_have_a_loss_of_their_own():
    """What it takes counts for the heads, not for the classifier."""

    def twice(head: Any, h: Tensor, labels: Tensor) -> Tensor:
        return tick_loss(head(h), labels) + tick_loss(head(h), labels)

    profile = measure(ticking(), head_loss=twice)
    assert profile.head_seconds == ((2 * (16 + 0.25 + 32 + 64),) * 4,)
    assert profile.classifier_seconds == 0.25


@pytest.mark.usefixtures("exact")
def test_predictions_are_the_times_of_real_steps():
    """Every block that has something to train takes exactly as long as was predicted."""
    network = ticking()
    profile = measure(network)
    for first in range(1, 6):
        for last in range(first, 6):
            if last < 5:
                head, index = TickHead((WIDTH,), CLASSES), 0
            else:
                head, index = nn.Identity(), None
            taken = seconds_of_step(network, first, last, head)
            # The head of a block that has nothing else to train is the one approximation: its
            # gradient of the input, here 32 seconds, is counted although nobody needs it.
            trains = any(profile.parameters[first - 1 : last])
            predicted = profile.block_seconds(first, last, index)
            assert predicted == (taken if trains else taken + 32), (first, last)


@pytest.mark.usefixtures("exact")
def test_the_median_of_the_passes_after_the_warm_up():
    """The first passes do not count, and one slow pass among the others changes nothing."""
    extra = [9999.0, 9999.0, 0.0, 1.0, 9999.0]
    steps = iter(extra)

    class Slowing(TickOptimizer):
        def step(self, closure: Any = None) -> Any:
            Clock.tick(next(steps))
            return super().step(closure)

    one = network_of(nn.Sequential(TickLayer((2.0, 4.0, 8.0))), name="one")
    profile = measure(
        one,
        heads=[],
        make_optimizer=lambda parameters: Slowing(parameters, lr=0.1),
        repeats=3,
        warmup=2,
    )
    assert profile.update == (1024.0 + 1.0,)
    assert list(steps) == []


@pytest.mark.usefixtures("exact")
def test_passes_go_through_all_layers():
    """Layers take turns, so that a drift of the machine hits all alike."""
    order: list[int] = []
    network = ticking()
    for number, layer in enumerate(network.layers):
        layer.register_forward_hook(lambda *_, number=number: order.append(number))
    measure(network, repeats=2, warmup=1)
    look, runs = [0, 1, 2, 3, 4], [number for number in range(5) for _ in range(3)]
    assert order == look + runs * 3


@pytest.mark.usefixtures("exact")
def test_a_head_is_made_once_for_each_shape():
    """All layers have outputs of one shape: one head each serves them all."""
    profile = measure(ticking(), heads=[HEAD, {**HEAD, "factor": 2}])
    assert TickHead.made == 2
    assert profile.head_seconds[1] == (2 * (16 + 32 + 64) + 0.25,) * 4
    assert profile.heads == (HEAD, {**HEAD, "factor": 2})


def test_layers_get_real_activations():
    """What a layer is timed on is what the layer before it yields, unchanged by the timing."""
    seen: list[list[Tensor]] = [[], [], []]
    layers = [nn.Linear(WIDTH, 8), nn.ReLU(inplace=True), nn.Linear(8, CLASSES)]
    for number, layer in enumerate(layers):
        layer.register_forward_pre_hook(lambda _, x, n=number: seen[n].append(x[0].clone()))
    network = network_of(nn.Sequential(*layers))
    expected = [BATCH]
    with torch.no_grad():
        for layer in layers:
            expected.append(layer(expected[-1].clone()))
    for inputs in seen:
        inputs.clear()
    rate = torch.optim.SGD
    profile_network(
        network,
        BATCH,
        LABELS,
        heads=["linear"],
        make_optimizer=lambda parameters: rate(parameters, lr=0.0),
        loss=nn.functional.cross_entropy,
        repeats=2,
    )
    for inputs, truth in zip(seen, expected, strict=False):
        assert len(inputs) == 1 + 3 * 3
        for x in inputs:
            torch.testing.assert_close(x, truth, rtol=0, atol=0)


# --- What is left behind -----------------------------------------------------------------------


def snapshot(network: Network) -> list[Any]:
    """Return everything of a network that training would change, and torch's random state."""
    module = network.module
    return [
        {name: tensor.clone() for name, tensor in module.state_dict().items()},
        [one.training for one in module.modules()],
        [None if p.grad is None else p.grad.clone() for p in module.parameters()],
        [p.requires_grad for p in module.parameters()],
        [id(p) for p in module.parameters()],
        torch.get_rng_state(),
    ]


def equal(left: Any, right: Any) -> bool:
    """Compare to the last bit."""
    if isinstance(left, Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(equal, left, right))
    return left == right


def real_network() -> tuple[Network, Tensor, Tensor]:
    """Return a small convolutional network in a state that is worth restoring, and a batch."""
    torch.manual_seed(0)
    frozen = nn.Conv2d(8, 8, 3, padding=1)
    frozen.weight.requires_grad_(False)
    module = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)),
        nn.Sequential(nn.Dropout(0.5), frozen, nn.BatchNorm2d(8)),
        nn.ReLU(inplace=True),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)),
    )
    x, y = torch.randn(8, 1, 8, 8), torch.randint(10, (8,))
    nn.functional.cross_entropy(module(x), y).backward()
    module[1].eval()
    return network_of(module), x, y


def profile_real(network: Network, x: Tensor, y: Tensor, **changes: Any) -> Profile:
    """Profile it with the usual parts."""
    arguments: dict[str, Any] = {
        "heads": ["aux1"],
        "make_optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
        "loss": nn.functional.cross_entropy,
        "repeats": 1,
    }
    return profile_network(network, x, y, **{**arguments, **changes})


def test_the_network_stays_as_it_was():
    """Weights, statistics, modes, gradients and random numbers are the same to the last bit."""
    network, x, y = real_network()
    batch = x.clone()
    before = snapshot(network)
    profile_real(network, x, y)
    assert equal(snapshot(network), before)
    assert torch.equal(x, batch)


def test_the_network_stays_as_it_was_when_it_fails():
    """The same after an error in the middle."""
    network, x, y = real_network()
    before = snapshot(network)

    def failing(logits: Tensor, labels: Tensor) -> Tensor:
        raise ArithmeticError("no loss today")

    with pytest.raises(ArithmeticError, match="no loss today"):
        profile_real(network, x, y, loss=failing)
    assert equal(snapshot(network), before)


def test_layers_are_timed_in_training_mode():
    """Whatever mode the network was in, the copy trains; heads as well."""
    modes: list[bool] = []
    network, x, y = real_network()
    network.module.eval()
    network.layers[1].register_forward_hook(lambda module, *_: modes.append(module.training))
    profile_real(network, x, y)
    assert modes
    assert all(modes)


def test_real_times_are_positive_and_whole():
    """Each part that does something took some time; the frozen weight does not count."""
    network, x, y = real_network()
    profile = profile_real(network, x, y)
    assert min(*profile.forward, *profile.entry, *profile.inner) > 0
    assert profile.parameters == (8 * 9 + 8 + 16, 8 + 16, 0, 90)
    assert [seconds > 0 for seconds in profile.update] == [True, True, False, True]
    assert profile.boundary_bytes == (8 * 8 * 64 * 4,) * 3 + (8 * 10 * 4,)
    assert (profile.device, profile.batch_size) == ("cpu", 8)
    assert profile.threads == torch.get_num_threads()
    assert Profile.from_json(profile.to_json()) == profile


def test_precision_is_the_callers():
    """Under autocast the boundaries are half as large, and losses are computed there too."""
    network, x, y = real_network()
    profile = profile_real(
        network, x, y, autocast=lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    )
    assert profile.boundary_bytes[-1] == 8 * 10 * 2


def test_our_networks_can_be_profiled():
    """Residual networks with their classifier, and token networks with integers for inputs."""
    network = make_network("resnet18", classes=10, in_channels=1, size=8, width=0.0625)
    x, y = torch.randn(4, 1, 8, 8), torch.randint(10, (4,))
    profile = profile_real(network, x, y, heads=["aux1", "aux4"])
    assert profile.layers == len(network.layers)
    assert profile.classifier_update > 0
    assert all(seconds is not None for row in profile.head_seconds for seconds in row)

    tokens = network_of(nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 8), Mean(), nn.Linear(8, 3)))
    x, y = torch.randint(5, (4, 6)), torch.randint(3, (4,))
    profile = profile_real(tokens, x, y, heads=["linear"])
    assert profile.boundary_bytes == (4 * 6 * 8 * 4, 4 * 6 * 8 * 4, 4 * 8 * 4, 4 * 3 * 4)


class Mean(nn.Module):
    """The mean over tokens."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) to (B, C)."""
        return x.mean(1)


# --- What is refused ---------------------------------------------------------------------------


def test_a_head_that_does_not_fit_everywhere():
    """A head for images is not measured on vectors; the others are null, never invented."""
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 12), nn.Linear(12, 10)
    )
    x, y = torch.randn(8, 1, 8, 8), torch.randint(10, (8,))
    profile = profile_real(network_of(module), x, y, heads=["mlp_sr", "linear"])
    assert [seconds is None for seconds in profile.head_seconds[0]] == [False, False, True, True]
    assert [seconds is None for seconds in profile.head_update[0]] == [False, False, True, True]
    assert None not in profile.head_seconds[1]


def test_a_head_that_fits_nowhere_is_refused():
    """The reason is the one that the head gives."""
    network, x, y = real_network()
    with pytest.raises(ProfileError, match=r"'aux9' fits after no layer of .*unknown head 'aux9'"):
        profile_real(network, x, y, heads=["aux1", "aux9"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(5, 3), r"layer 2 \(Linear\) fails on \(6, 4\) torch.float32"),
        (lambda: Returning(lambda x: (x, x)), r"layer 2 \(Returning\) returns tuple"),
        (lambda: Returning(lambda x: x.argmax(-1)), r"layer 2 \(Returning\) returns torch.int64"),
    ],
)
def test_layers_that_fail_are_named(make: Callable[[], nn.Module], message: str):
    """The error has the layer's number, its class and what it got or returned."""
    network = network_of(nn.Sequential(nn.Linear(4, 4), make()), name="net")
    with pytest.raises(ProfileError, match=f"net: {message}"):
        profile_real(network, BATCH, LABELS)


class Returning(nn.Module):
    """A layer that returns what it should not."""

    def __init__(self, result: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.result = result

    def forward(self, x: Tensor) -> Any:
        """Return anything."""
        return self.result(x)


def test_there_is_something_to_take_a_median_of():
    """No passes, no times."""
    with pytest.raises(ProfileError, match="repeats=0, warmup=1: give at least 1 and 0"):
        measure(ticking(), repeats=0)
    with pytest.raises(ProfileError, match="repeats=5, warmup=-1"):
        measure(ticking(), warmup=-1)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_gpu_the_network_stays_where_it_was():
    """A network in main memory is timed on the batch's device; both generators are restored."""
    network, x, y = real_network()
    before, there = snapshot(network), torch.cuda.get_rng_state()
    profile = profile_real(network, x.cuda(), y.cuda())
    assert equal(snapshot(network), before)
    assert torch.equal(torch.cuda.get_rng_state(), there)
    assert profile.device == torch.cuda.get_device_name()


def test_copies_share_no_clock():
    """The clock of these tests is one, although the network is copied."""
    layer = TickLayer((1.0, 2.0, 3.0))
    copy.deepcopy(layer)(BATCH)
    assert Clock.now == 1.0
