"""Hyperparameters put into networks, read out, and put back."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from blockstep.models import Network, make_network
from blockstep.models.hyperparameters import (
    AffineGenerators,
    Averaged,
    Hyperparameter,
    Psi,
    attach,
    found,
    put,
)
from torch import Tensor, nn

IMAGE = (1, 8, 8)
KINDS = [
    Psi("affine", samples=3),
    Psi("affine_ranges", samples=2),
    Psi("affine_ranges", samples=2, symmetric=False),
    Psi("augerino", samples=2, training_samples=1),
    Psi("mask"),
    Psi("dropout"),
    Psi("layers", layers=("classifier", "hidden.0.0.weight")),
]


def cnn() -> Network:
    """Make the same small network every time."""
    torch.manual_seed(0)
    return make_network("mnist_cnn", classes=3, in_channels=1, size=8, width=0.2, dropout=0.3)


def move(module: nn.Module, psi: Psi) -> None:
    """Give every hyperparameter numbers of its own."""
    torch.manual_seed(1)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, Hyperparameter):
                for tensor in part.parameters():
                    tensor.add_(torch.rand_like(tensor) * 0.3)
        if psi.kind == "layers":
            for name, tensor in module.named_parameters():
                if name.startswith("classifier"):
                    tensor.add_(1)


def draw(module: nn.Module, *, training: bool) -> Tensor:
    torch.manual_seed(2)
    return module.train(training)(torch.rand(4, *IMAGE))


@pytest.mark.parametrize("psi", KINDS, ids=lambda psi: f"{psi.kind}-{psi.symmetric}")
def test_what_was_found_gives_the_same_answers_in_another_network(psi: Psi):
    """Through JSON: the random changes and the logits are equal, and the parameters are told."""
    one, other = attach(cnn(), psi, shape=IMAGE), attach(cnn(), psi, shape=IMAGE)
    move(one.module, psi)
    values = json.loads(json.dumps(found(one.module, psi)))
    assert list(values) == [psi.kind]
    before = draw(other.module, training=True)
    changed = put(other.module, psi, values)
    assert {id(one) for one in changed} <= {id(one) for one in other.module.parameters()}
    for training in (True, False):
        pair = draw(one.module, training=training), draw(other.module, training=training)
        assert torch.allclose(*pair, atol=1e-5)
    assert not torch.allclose(before, draw(one.module, training=True), atol=1e-4)


def test_a_network_is_cut_as_before_unless_copies_are_averaged():
    """A mean over copies is one layer; one changed copy, a mask, dropout leave the layers."""
    layers = len(cnn().layers)
    for psi in (Psi("mask"), Psi("dropout"), Psi("affine", samples=1), Psi("none")):
        network = attach(cnn(), psi, shape=IMAGE)
        assert len(network.layers) == layers
        h = torch.rand(2, *IMAGE)
        torch.manual_seed(0)
        whole = network.module.eval()(h)
        torch.manual_seed(0)
        for layer in network.layers:
            h = layer.eval()(h)
        assert torch.equal(network.classifier.eval()(h), whole)
    averaged = attach(cnn(), Psi("affine", samples=4), shape=IMAGE)
    assert (len(averaged.layers), averaged.layers[0]) == (1, averaged.module)


def test_learned_dropout_is_in_the_layers_too():
    """The layers that a block is made of have the parts that the whole has."""
    network = attach(cnn(), Psi("dropout"), shape=IMAGE)
    inside = {id(one) for layer in network.layers for one in layer.parameters()}
    learned = [one for name, one in network.module.named_parameters() if name.endswith("keep")]
    assert len(learned) == 4
    assert {id(one) for one in learned} <= inside


def test_settings_reach_the_modules():
    """Initial values, the rotation's own, temperature, samples."""
    psi = Psi("affine", samples=4, training_samples=2, initial=0.2, rotation=1.0)
    module = attach(cnn(), psi, shape=IMAGE).module
    assert isinstance(module, Averaged)
    assert (module.samples, module.training_samples) == (4, 2)
    assert isinstance(module.change, AffineGenerators)
    expected = torch.tensor([0.2, 0.2, 1.0, 0.2, 0.2, 0.2])
    assert torch.equal(module.change.ranges.detach(), expected)
    mask: Any = attach(cnn(), Psi("mask", temperature=0.7, initial=1.0), shape=IMAGE).module
    assert (mask.change.temperature, mask.change.mask.shape) == (0.7, IMAGE)


@pytest.mark.parametrize(
    ("psi", "values", "told"),
    [
        (Psi("mask"), {"affine": {}}, "there is affine, not mask"),
        (Psi("mask"), {"mask": [0.0] * 5}, r"mask has shape \(5,\), the network's has \(1, 8, 8\)"),
        (Psi("mask"), {"mask": "x"}, "mask is not made of numbers"),
        (Psi("affine"), {"affine": {"rotation": 1.0}}, r"it must have \['rotation', 'scale_x'"),
        (Psi("augerino"), {"augerino": [1]}, "augerino has list"),
        (Psi("dropout"), {"dropout": {"a": 0.5}}, "the network has"),
        (Psi("layers", layers=("classifier",)), {"layers": {}}, "classifier.bias"),
    ],
)
def test_values_of_something_else_are_refused(psi: Psi, values: dict[str, Any], told: str):
    """With both: what there is, and what there must be."""
    module = attach(cnn(), psi, shape=IMAGE).module
    with pytest.raises(ValueError, match=told):
        put(module, psi, values)


def test_rates_and_widths_out_of_range_are_refused():
    """A rate of one drops everything; a width is above zero."""
    module = attach(cnn(), Psi("dropout"), shape=IMAGE).module
    rates = found(module, Psi("dropout"))
    rates["dropout"]["hidden.0.3"] = 1.0
    with pytest.raises(ValueError, match=r"between 0 and 1"):
        put(module, Psi("dropout"), rates)
    module = attach(cnn(), Psi("augerino"), shape=IMAGE).module
    widths = found(module, Psi("augerino"))
    widths["augerino"]["shear"] = 0.0
    with pytest.raises(ValueError, match="above 0"):
        put(module, Psi("augerino"), widths)


def test_images_are_needed_for_affine_changes():
    """Vectors are refused with what to choose instead."""
    network = make_network("mlp_gelu", classes=2, in_channels=5, size=1)
    with pytest.raises(ValueError, match=r"\(5,\); choose psi=mask"):
        attach(network, Psi("affine"), shape=(5,))
