"""Tests of how `blockstep plan` measures a network."""

from __future__ import annotations

import pytest
import torch
from blockstep.launch.assembly import build_data, build_heads
from blockstep.launch.compose import compose
from blockstep.launch.data import DataError
from blockstep.launch.job import Objects, Task
from blockstep.launch.plan.source import SHAPES, make_source
from blockstep.launch.plan.storage import measure_storage
from blockstep.launch.plan.timing import batch_sizes, measure
from blockstep.launch.training.forecast import saved_bytes
from blockstep.models import make_network
from blockstep.search import Decoupling
from blockstep.search.decoupling import NO_HEAD
from blockstep.search.prediction.costs import Costs
from blockstep.search.prediction.measurements import Measurements

from tests.search.prediction.parts import profile

TASK = Task("cifar10", 10, (3, 32, 32), "float32", {})
SMALL = [
    *("model=resnet18", "model.width=0.125", "data=digits", "train.batch_size=8", "devices=2"),
    "measure.beside=0",
]


def test_the_batches_that_are_measured():
    """The batch and its halves, as far as replicas and their micro-batches need."""
    assert batch_sizes(128, 4) == [8, 16, 32, 64, 128]
    assert batch_sizes(100, 2) == [12, 25, 50, 100]
    assert batch_sizes(4, 8) == [2, 4]
    assert batch_sizes(1, 8) == [1]


@pytest.mark.parametrize("name", ["digits", "fashion_mnist", "mnist", "cifar10"])
def test_shapes_are_those_of_the_data_sets(name: str):
    """Where the files are here, they have the shape and the classes that are timed."""
    config = compose("plan", [f"data={name}", "data.download=false"])
    try:
        data = build_data(config, Objects(), torch.device("cpu"))
    except DataError:
        pytest.skip("its files are not here")
    assert (tuple(data.shape), data.classes) == SHAPES[name]
    data.close()


def test_inputs_are_random_and_always_the_same():
    """Of the size that is asked for, or that the network needs."""
    source = make_source(compose("plan", ["data=imagenet", "data.size=64"]))
    x, y = source.batch(3)
    assert x.shape == (3, 3, 64, 64)
    assert y.shape == (3,)
    assert torch.equal(x, source.batch(3)[0])
    padded = make_source(compose("plan", ["model=vgg19", "data=digits"]))
    assert padded.task.shape == (1, 32, 32)
    assert "padded" in padded.notes[0]
    own = compose("plan", ["data._target_=tests.launch.plan.test_timing.own_data"])
    assert make_source(own).task.shape == (5,)


def own_data() -> dict:
    """Make a data set of vectors."""
    x, y = torch.randn(40, 5), torch.arange(40) % 3
    return {"train": (x, y), "test": (x, y)}


class Narrow(torch.nn.Module):
    """A head that fits nowhere."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        raise ValueError(f"{shape} is too wide")


@pytest.mark.parametrize(("name", "cut"), [("resnet18", 4), ("resnet50", 8), ("vgg19", 10)])
def test_layers_add_up_to_blocks(name: str, cut: int):
    """What autograd keeps of a block, measured as a whole by the dry run, is the sum of its layers
    and its input to 5 %: the dry run also counts what does not grow with the batch."""
    network = make_network(name, classes=10, in_channels=3, size=32, width=0.25)
    layers = len(network.layers)
    stored, outputs = measure_storage(network, ["aux1"], TASK, precision="float32")
    found = Measurements((profile(layers, heads=["aux1"]),), stored)
    costs = Costs(found)
    decoupling = Decoupling(network.name, layers, (cut,), ("aux1",))
    (head,) = build_heads(network, decoupling, TASK, 0)
    first, h = saved_bytes(network.body(1, cut), head, TASK.example(2))
    assert costs.activations((1, cut), "aux1", 2) == pytest.approx(first, rel=0.05)
    second, _ = saved_bytes(network.body(cut + 1, layers), network.classifier, h)
    own = (costs.activations((cut + 1, layers), NO_HEAD, 2) or 0) - costs.input_bytes(cut + 1, 2)
    assert own + h.numel() * 4 == pytest.approx(second, rel=0.05)
    assert outputs[cut - 1] == h.numel() * 4 // 2
    assert stored.head_parameters[0][cut - 1] == sum(one.numel() for one in head.parameters())


def test_storage_leaves_the_network_as_it_is():
    """Modes and statistics; half precision keeps fewer bytes; heads that do not fit are None."""
    network = make_network("resnet18", classes=10, in_channels=3, size=32, width=0.25)
    network.module.train()
    before = {name: value.clone() for name, value in network.module.state_dict().items()}
    full, _ = measure_storage(network, [], TASK, precision="float32")
    half, outputs = measure_storage(network, [], TASK, precision="float16")
    assert sum(half.layers) < 0.8 * sum(full.layers)
    assert all(module.training for module in network.module.modules())
    for name, value in network.module.state_dict().items():
        assert torch.equal(value, before[name])
    head = {"_target_": "tests.launch.plan.test_timing.Narrow"}
    refused, _ = measure_storage(network, [head], TASK, precision="float32")
    assert refused.heads[0][0] is None
    assert refused.heads[0] == refused.head_parameters[0] == (None,) * (len(outputs) - 1)
    assert len(outputs) == len(network.layers)


def test_measuring_a_small_network():
    """All sizes within the time; more time than there is leaves out the largest."""
    config = compose("plan", [*SMALL, "measure.repeats=1"])
    found, notes = measure(config, ["aux1"])
    assert found.batch_sizes == (2, 4, 8)
    assert notes == []
    assert config.train.threads is not None
    assert all(seconds > 0 for one in found.profiles for seconds in one.inner)
    hasty = compose("plan", [*SMALL, "measure.repeats=1", "measure.seconds=0.001"])
    found, notes = measure(hasty, ["aux1"])
    assert found.batch_sizes == (2,)
    assert "timed with at most 2 of 8 examples" in notes[0]


def test_a_step_beside_another_process():
    """Contention is at least 1, told, and not measured where it is given."""
    words = [*SMALL[:-1], "measure.repeats=1", "measure.seconds=0.001", "measure.beside=1"]
    found, notes = measure(compose("plan", words), [])
    assert found.contention >= 1
    assert f"beside 1 process(es) that train, a step took {found.contention:.2f}x" in notes[-1]
    found, notes = measure(compose("plan", [*words, "contention=1.5"]), [])
    assert found.contention == 1
    assert len(notes) == 1


def test_a_cpu_times_half_precision_in_full():
    """And says so; the bytes are those of half precision."""
    config = compose("plan", [*SMALL, "train.precision=float16", "measure.seconds=0.001"])
    found, notes = measure(config, [])
    assert "float16 was timed in float32" in notes[0]
    full, _ = measure(compose("plan", [*SMALL, "measure.seconds=0.001"]), [])
    assert found.largest.boundary_bytes[0] * 2 == full.largest.boundary_bytes[0]
