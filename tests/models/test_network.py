"""Networks as layers: cuts, names of weights, users' modules, shapes."""

from __future__ import annotations

import copy
import itertools
import re
from typing import Any

import pytest
import torch
from blockstep.models import Network, check_whole, layer_shapes, make_network, network_of
from torch import Tensor, nn

from tests.models.parts import SMALL, inputs, small


def in_pieces(network: Network, x: Tensor, cuts: list[int]) -> Tensor:
    """Run the network as blocks with these cuts."""
    bounds = [0, *cuts, len(network.layers)]
    for before, last in itertools.pairwise(bounds):
        x = network.body(before + 1, last)(x)
    return network.classifier(x)


# --- Cutting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", SMALL)
def test_the_pieces_give_the_logits_of_the_whole(name: str, training: bool) -> None:
    """Cut anywhere, the layers and the classifier compute what the module does, bit for bit."""
    network, x = small(name), inputs(name)
    layers = len(network.layers)
    network.module.train(training)
    whole = network.module(x)
    assert whole.shape == (3, 5)
    some = sorted({max(1, layers // 3), layers - 1})
    for cuts in ([], [1], some, list(range(1, layers))):
        assert torch.equal(in_pieces(network, x, cuts), whole), cuts


@pytest.mark.parametrize("name", SMALL)
def test_the_pieces_have_the_gradients_of_the_whole(name: str) -> None:
    """Nothing is changed in place that a backward pass needs."""
    network, x = small(name), inputs(name)
    network.module(x).square().sum().backward()
    whole = [parameter.grad for parameter in network.module.parameters()]
    network.module.zero_grad()
    in_pieces(network, x, [1]).square().sum().backward()
    for (key, parameter), expected in zip(network.module.named_parameters(), whole, strict=True):
        assert expected is not None, key
        assert parameter.grad is not None, key
        assert torch.equal(parameter.grad, expected), key


@pytest.mark.parametrize(("first", "last"), [(0, 1), (2, 1), (1, 9), (-1, 2)])
def test_bodies_that_do_not_exist(first: int, last: int) -> None:
    """The error has what was asked and what there is."""
    network = small("resnet18")
    with pytest.raises(ValueError, match=f"resnet18 has layers 1-8.*{first}-{last}"):
        network.body(first, last)


def test_a_body_is_made_of_the_networks_own_modules() -> None:
    """Training a body trains the network."""
    network = small("resnet18")
    body = network.body(2, 4)
    assert [*body] == [*network.layers[1:4]]
    assert [one is other for one, other in zip(body, network.layers[1:4], strict=True)] == [
        True
    ] * 3


# --- Names of weights ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_the_parts_have_the_state_of_the_whole(name: str) -> None:
    """Body and classifier together have exactly the names and tensors of the state_dict."""
    network = small(name)
    body = network.state_of(network.body(1, len(network.layers)))
    head = network.state_of(network.classifier)
    assert not body.keys() & head.keys()
    expected = network.module.state_dict()
    assert (body | head).keys() == expected.keys()
    assert all(
        (body | head)[key].data_ptr() == tensor.data_ptr() for key, tensor in expected.items()
    )


@pytest.mark.parametrize("name", SMALL)
def test_blocks_have_disjoint_states(name: str) -> None:
    """Each weight belongs to one layer."""
    network = small(name)
    keys = [key for layer in network.layers for key in network.state_of(layer)]
    assert len(keys) == len(set(keys))
    union = network.state_of(network.body(1, len(network.layers)))
    assert set(keys) == set(union)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "transformer"])
def test_names_survive_moving_a_part(name: str) -> None:
    """A part that moved (its buffers are new tensors) keeps its names, and its own values."""
    network = small(name)
    part = network.body(1, 2)
    before = network.state_of(part)
    part.to(torch.float64)
    after = network.state_of(part)
    assert list(after) == list(before)
    for key, tensor in after.items():
        assert tensor.data_ptr() == network.module.state_dict()[key].data_ptr()
        assert tensor.dtype == (torch.float64 if before[key].is_floating_point() else torch.int64)
    part.to("meta")
    assert {tensor.device.type for tensor in network.state_of(part).values()} == {"meta"}


def test_names_survive_a_copy_of_the_network() -> None:
    """A deep copy names its own parts and refuses those of the original."""
    network = small("resnet18")
    copied = copy.deepcopy(network)
    assert copied.state_of(copied.body(1, 3)).keys() == network.state_of(network.body(1, 3)).keys()
    with pytest.raises(ValueError, match="not a copy"):
        copied.state_of(network.body(1, 1))


def test_buffers_that_are_not_saved_have_no_name() -> None:
    """As in a state_dict, a non-persistent buffer is left out."""
    layer = nn.Linear(2, 2)
    layer.register_buffer("kept", torch.ones(1))
    layer.register_buffer("scratch", torch.ones(1), persistent=False)
    network = network_of(nn.Sequential(layer, nn.Linear(2, 2)))
    assert [*network.state_of(network.body(1, 1))] == ["0.weight", "0.bias", "0.kept"]


def test_a_module_of_two_names_has_both() -> None:
    """A state_dict repeats a module that has two names; so does its part."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(2, 2)
            self.same = self.one
            self.layers = ["one"]

    network = network_of(Twice())
    assert network.state_of(network.body(1, 1)).keys() == network.module.state_dict().keys()


@pytest.mark.parametrize("name", ["resnet18", "vgg19", "mlp", "transformer"])
def test_loading_is_the_inverse_of_naming(name: str) -> None:
    """Block after block, the weights of one network become those of another."""
    source, target = small(name), small(name)
    for tensor in source.module.state_dict().values():
        tensor.add_(1)
    half = len(source.layers) // 2
    for part in (lambda n: n.body(1, half), lambda n: n.body(half + 1, len(n.layers))):
        target.load_into(part(target), source.state_of(part(source)))
    target.load_into(target.classifier, source.state_of(source.classifier))
    for key, tensor in source.module.state_dict().items():
        assert torch.equal(target.module.state_dict()[key], tensor), key


def test_loading_refuses_what_does_not_fit() -> None:
    """Missing and unexpected names and both shapes are in the error, and nothing was copied."""
    network = small("resnet18")
    part = network.body(2, 2)
    before = {key: tensor.clone() for key, tensor in network.state_of(part).items()}
    good = {key: tensor + 1 for key, tensor in before.items()}
    wrong: list[tuple[dict[str, Tensor], str]] = [
        (good | {"fc.bias": torch.ones(5)}, r"unknown \['fc.bias'\]"),
        ({k: v for k, v in good.items() if k != "layer1.1.bn2.bias"}, r"lack \['layer1.1.bn2.bias"),
        (good | {"layer1.1.bn2.bias": torch.ones(7)}, r"shape \(4,\), the weights have \(7,\)"),
    ]
    for state, message in wrong:
        with pytest.raises(ValueError, match=message):
            network.load_into(part, state)
    for key, tensor in network.state_of(part).items():
        assert torch.equal(tensor, before[key]), key


# --- Users' modules -----------------------------------------------------------------------------


class Named(nn.Module):
    """A module that names its layers."""

    def __init__(self, layers: Any = ("stem", "blocks.0"), classifier: Any = "fc") -> None:
        super().__init__()
        self.stem = nn.Linear(4, 3)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(3, 3), nn.ReLU())])
        self.fc = nn.Linear(3, 2)
        self.layers = list(layers) if isinstance(layers, tuple) else layers
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks[0](self.stem(x)))


def test_a_sequential_is_its_children() -> None:
    """The last child yields the logits, so nothing follows it."""
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    network = network_of(module)
    assert network.layers == tuple(module)
    assert isinstance(network.classifier, nn.Identity)
    assert (network.name, network.features, network.reduction) == ("Sequential", 512, 4)
    x = torch.randn(3, 4)
    assert torch.equal(in_pieces(network, x, [1]), module(x))


def test_one_object_used_twice_is_two_layers() -> None:
    """A ReLU without weights may occur again; no child is lost."""
    relu = nn.ReLU()
    module = nn.Sequential(nn.Linear(4, 4), relu, nn.Linear(4, 4), relu, nn.Linear(4, 2))
    network = network_of(module)
    x = torch.randn(3, 4)
    assert len(network.layers) == 5
    assert torch.equal(in_pieces(network, x, [2]), module(x))


def test_a_module_names_its_layers() -> None:
    """Dotted names lead to the layers; ``classifier`` to what follows them."""
    module = Named()
    network = network_of(module, name="mine")
    assert network.name == "mine"
    assert network.layers == (module.stem, module.blocks[0])
    assert network.classifier is module.fc
    assert network_of(module).name == "Named"
    x = torch.randn(3, 4)
    assert torch.equal(in_pieces(network, x, [1]), module(x))


def test_the_classifier_may_be_the_last_layer() -> None:
    """Without a classifier the last layer yields the logits."""
    network = network_of(Named(("stem", "blocks.0", "fc"), None))
    assert len(network.layers) == 3
    assert isinstance(network.classifier, nn.Identity)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(), "Sequential has no layers"),
        (Named(()), "Named has no layers"),
        (nn.Linear(2, 2), "Linear is not an nn.Sequential.*layers is missing"),
        (Named("stem"), "layers is str, not a list"),
        (Named([1, 2]), "layers is list, not a list of names"),
        (Named(nn.ModuleList([nn.Linear(2, 2)])), "layers is ModuleList, not a list of names"),
        (
            Named(("stem", "blocks.7")),
            "Named.layers names 'blocks.7'.*children are stem, blocks, fc",
        ),
        (Named(("stem", "")), "Named.layers names ''"),
        (Named(classifier="head"), "Named.classifier names 'head'.*children are stem"),
        (Named(("blocks.0",)), r"parameter stem.weight \(2 in all\) is in no layer"),
        (Named(classifier=None), r"parameter fc.weight \(2 in all\) is in no layer"),
        (Named(("stem", "blocks.0", "stem")), "stem.weight is in layer 1 and in layer 3"),
        (Named(("stem", "blocks", "blocks.0")), "blocks.0.0.weight is in layer 2 and in layer 3"),
        (Named(("stem", "blocks.0", "fc")), "fc.weight is in layer 3 and in the classifier"),
        (
            nn.Sequential(*[nn.BatchNorm1d(2, affine=False)] * 2),
            "buffer 0.running_mean is in layer",
        ),
    ],
)
def test_modules_that_cannot_be_cut(module: nn.Module, message: str) -> None:
    """The error says what is wrong and where, before anything trains."""
    with pytest.raises(ValueError, match=message):
        network_of(module)


def test_a_tied_weight_is_refused() -> None:
    """Two modules that share a parameter cannot be in two layers."""
    module = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    module[2].weight = module[0].weight
    with pytest.raises(ValueError, match=r"0\.weight is in layer 1 and in layer 3"):
        network_of(module)


# --- Shapes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_shapes_are_those_of_the_layers_outputs(batch: int) -> None:
    """Of one example, whatever the batch; nothing of the network changes."""
    network = small("resnet18")
    network.layers[3].eval()
    modes = [module.training for module in network.module.modules()]
    before = copy.deepcopy(network.module.state_dict())
    shapes = layer_shapes(network, inputs("resnet18", batch=batch))
    assert [tuple(shape) for shape in shapes] == [
        *[(4, 8, 8)] * 2,
        *[(8, 4, 4)] * 2,
        *[(16, 2, 2)] * 2,
        *[(32, 1, 1)] * 2,
    ]
    assert [module.training for module in network.module.modules()] == modes
    for key, tensor in network.module.state_dict().items():
        assert torch.equal(tensor, before[key])


def test_shapes_of_tokens_and_vectors() -> None:
    """Layers of other networks make (T, C) and (C,)."""
    assert set(layer_shapes(small("transformer"), inputs("transformer"))) == {torch.Size((6, 16))}
    assert set(layer_shapes(small("mlp"), inputs("mlp"))) == {torch.Size((32,))}


class Pair(nn.Module):
    """A layer that returns two tensors."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Total(nn.Module):
    """A layer that forgets which example is which."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum((0, 1))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Linear(9, 2), "layer 2 (Linear) fails on an input of shape (2, 4)"),
        (Pair(), "layer 2 (Pair) makes a tuple of an input of shape (2, 4)"),
        (Total(), "layer 2 (Total) makes () of an input of shape (2, 4)"),
    ],
)
def test_a_layer_that_fails_is_named(layer: nn.Module, message: str) -> None:
    """Its number, its type and what it was given; the modes are restored."""
    network = network_of(nn.Sequential(nn.Linear(4, 4), layer))
    with pytest.raises(ValueError, match=re.escape(message)):
        layer_shapes(network, torch.zeros(2, 4))
    assert network.module.training


def test_shapes_of_the_large_stem() -> None:
    """ResNet-50 at 224 pixels, without computing: 256 channels of 56 x 56 after layer 1."""
    with torch.device("meta"):
        network = make_network("resnet50", classes=10, size=224)
        shapes = layer_shapes(network, torch.empty(2, 3, 224, 224))
    assert shapes[0] == (256, 56, 56)
    assert shapes[-1] == (2048, 7, 7)


class Hidden(nn.Module):
    """Its forward does something between the layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = ["first", "second"]
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu())


def test_forward_that_does_more_than_its_layers_is_refused() -> None:
    """A functional ReLU between the layers would be lost by cutting, so it is refused."""
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="logits that differ by up to"):
        check_whole(network_of(Hidden()), torch.randn(5, 3))


def test_sequential_is_the_sum_of_its_layers() -> None:
    """A Sequential passes the same check."""
    check_whole(network_of(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))), torch.randn(5, 3))
