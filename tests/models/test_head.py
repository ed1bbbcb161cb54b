"""The registry of heads and what every head has to do."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from blockstep.models import HEADS, layer_shapes, make_head
from torch import nn

from tests.models.parts import SMALL, PlainHead, UserHead, inputs, small

SHAPES = [(12, 5, 5), (12, 1, 1), (3, 4, 6), (1, 2, 2), (12,), (1,), (4, 12), (1, 1)]
DIMENSIONS = {"mlp_sr": (3,), "predsim": (1, 3)}
"""Of the outputs that a head takes, where it does not take all."""
CASES = [
    (name, shape)
    for name in HEADS
    for shape in SHAPES
    if len(shape) in DIMENSIONS.get(name, (1, 2, 3))
]


def test_the_heads() -> None:
    """The names of SEDONA's pool, the heads of DGL and PredSim, and the smallest."""
    assert sorted(HEADS) == ["aux1", "aux2", "aux3", "aux4", "linear", "mlp_sr", "predsim"]


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_a_head_gives_logits_and_trains(name: str, shape: tuple[int, ...]) -> None:
    """(B, *shape) to (B, classes) in both modes; every parameter and the input get a gradient.

    But for what PredSim has for its other loss.
    """
    head = make_head(name, shape=shape, classes=7, features=16)
    x = torch.randn(4, *shape, requires_grad=True)
    assert head.eval()(x).shape == (4, 7)
    logits = head.train()(x)
    assert logits.shape == (4, 7)
    logits.square().sum().backward()
    assert x.grad is not None
    missing = [key for key, parameter in head.named_parameters() if parameter.grad is None]
    assert missing == (["embedding.weight"] if name == "predsim" else [])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("name", "shape"), CASES)
def test_no_head_changes_its_input(name: str, shape: tuple[int, ...], training: bool) -> None:
    """The next block learns from the same tensor: its values and its version stay."""
    head = make_head(name, shape=shape, classes=7, features=16).train(training)
    x = torch.randn(4, *shape)
    before, version = x.clone(), x._version
    head(x)
    assert torch.equal(x, before)
    assert x._version == version


@pytest.mark.parametrize("name", SMALL)
def test_every_layer_of_every_network_takes_a_head(name: str) -> None:
    """With the network's own features and reduction, at the first, a middle and the last layer."""
    network = small(name)
    shapes = layer_shapes(network, inputs(name))
    for shape in {shapes[0], shapes[len(shapes) // 2], shapes[-1]}:
        for spec in HEADS:
            if len(shape) in DIMENSIONS.get(spec, (1, 2, 3)):
                head = make_head(
                    spec,
                    shape=shape,
                    classes=5,
                    features=network.features,
                    reduction=network.reduction,
                )
                assert head(torch.randn(3, *shape)).shape == (3, 5)


@pytest.mark.parametrize("shape", [(6, 3, 5), (6,), (4, 6)])
def test_linear_is_a_mean_and_a_linear_layer(shape: tuple[int, ...]) -> None:
    """Over positions or tokens; nothing else."""
    head = make_head("linear", shape=shape, classes=7)
    x = torch.randn(2, *shape)
    pooled = {1: x, 2: x.mean(1), 3: x.mean((2, 3)) if len(shape) == 3 else x}[len(shape)]
    (fc,) = (part for part in head.modules() if isinstance(part, nn.Linear))
    torch.testing.assert_close(head(x), fc(pooled))


@pytest.mark.parametrize("shape", [(), (1, 2, 3, 4)])
def test_other_outputs_have_no_heads(shape: tuple[int, ...]) -> None:
    """The error lists the kinds of outputs there are heads for."""
    with pytest.raises(ValueError, match=r"vectors.*tokens.*images"):
        make_head("aux1", shape=shape, classes=2)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("aux5", "unknown head 'aux5'; did you mean aux[1-4]"),
        ("mlpsr", "did you mean mlp_sr.*known are aux1, aux2, aux3, aux4, mlp_sr, predsim"),
        ("zzz", "unknown head 'zzz'; known are aux1"),
        ("predsin", "unknown head 'predsin'; did you mean predsim"),
    ],
)
def test_unknown_heads(spec: str, message: str) -> None:
    """The error lists the known ones, and the nearest if one is near."""
    with pytest.raises(ValueError, match=message):
        make_head(spec, shape=(4, 2, 2), classes=2)


# --- Users' heads -------------------------------------------------------------------------------

HERE = "tests.models.parts"


def test_a_users_head_gets_what_its_signature_has() -> None:
    """Shape and classes are offered, its own arguments come from the configuration."""
    spec = {"_target_": f"{HERE}.UserHead", "scale": 3.0}
    head = make_head(spec, shape=(4, 2, 2), classes=7)
    assert isinstance(head, UserHead)
    assert (head.scale, head.fc.in_features, head.fc.out_features) == (3.0, 4, 7)


def test_a_users_head_is_tried_and_left_as_it_was() -> None:
    """The trial changes no mode of a part, and makes lazy layers real."""
    head = make_head({"_target_": f"{HERE}.UserHead"}, shape=(4, 2, 2), classes=7)
    assert isinstance(head, UserHead)
    assert head.training
    assert not head.frozen.training
    plain = make_head({"_target_": f"{HERE}.PlainHead"}, shape=(4, 2, 2), classes=7)
    assert isinstance(plain, PlainHead)
    assert isinstance(plain[1], nn.Linear)
    assert plain[1].weight.shape == (7, 16)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"_target_": "no_such_package.Head"}, "no_such_package.Head cannot be imported"),
        ({"_target_": f"{HERE}.NoHead"}, "NoHead cannot be imported.*importable"),
        ({"_target_": "Head"}, "Head cannot be imported"),
        ({"_target_": "math.pi"}, "math.pi is a float"),
        ({"_target_": 5}, "_target_"),
        ({"name": "aux1"}, "neither a name.*nor has a _target_"),
        (None, "None is neither a name"),
        (["aux1"], "is neither a name"),
        ({"_target_": f"{HERE}.UserHead", "sale": 1}, "UserHead cannot be made.*sale"),
        ({"_target_": f"{HERE}.not_a_module"}, "is a int, not a torch.nn.Module"),
        ({"_target_": f"{HERE}.PairHead"}, r"yields tuple for 2 examples.*\(2, 7\)"),
        ({"_target_": f"{HERE}.PlainHead", "outputs": 6}, r"yields \(2, 6\).*\(2, 7\)"),
        ({"_target_": "torch.nn.Linear", "in_features": 9, "out_features": 7}, r"shape \(2, 4, 2"),
    ],
)
def test_users_heads_that_cannot_be_used(spec: Any, message: str) -> None:
    """The error names the target and what is wrong with it."""
    with pytest.raises(ValueError, match=message) as refused:
        make_head(spec, shape=(4, 2, 2), classes=7)
    assert re.search(r"head", str(refused.value))
