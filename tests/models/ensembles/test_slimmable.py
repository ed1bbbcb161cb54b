"""Slimmable networks against narrow networks with the same weights."""

from __future__ import annotations

import pytest
import torch
from blockstep.models import Network, make_network
from blockstep.models.ensembles import Slimmable, Universal
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


def network(name: str, width: float) -> Network:
    """Make a network, always with the same weights."""
    torch.manual_seed(0)
    return make_network(name, classes=3, width=width)


def narrow(name: str, full: nn.Module, width: float) -> nn.Module:
    """Make a narrower network out of the first channels of a full one."""
    made = network(name, width).module
    weights = full.state_dict()
    for key, parameter in made.named_parameters():
        cut = tuple(slice(0, size) for size in parameter.shape)
        parameter.data.copy_(weights[key][cut])
    return made


def images(size: int = 8) -> tuple[Tensor, Tensor]:
    """Make images and labels."""
    torch.manual_seed(1)
    return torch.randn(6, 3, size, size), torch.arange(6) % 3


@pytest.mark.parametrize(("name", "size"), [("wrn16-4", 8), ("resnet50", 8), ("vgg19", 32)])
def test_every_width_is_a_narrow_network(name: str, size: int) -> None:
    """Logits, gradients and the norms' own statistics."""
    x, y = images(size)
    slim = Slimmable(network(name, 0.25).module, [1.0, 0.5])
    full = network(name, 0.25).module
    members = [narrow(name, full, 0.25), narrow(name, full, 0.125)]
    assert torch.allclose(slim(x), torch.stack([member(x) for member in members]), atol=1e-4)
    slim.backward(x, y, cross_entropy)
    for member in members:
        cross_entropy(member(x), y).backward()
    stem = "features.0.0" if name == "vgg19" else "conv1"
    ours = slim.network.get_parameter(f"{stem}.layer.weight")
    expected = members[0].get_parameter(f"{stem}.weight").grad
    half = members[1].get_parameter(f"{stem}.weight").grad
    assert expected is not None
    assert half is not None
    expected[: len(half)] += half
    assert ours.grad is not None
    assert torch.allclose(ours.grad, expected, atol=1e-4)
    slim.eval()
    with torch.no_grad():
        for number, member in enumerate(members):
            assert torch.allclose(slim.run(number, x), member.eval()(x), atol=1e-3)


def test_depthwise_convolutions_have_the_channels_that_come() -> None:
    """MobileNetV2 at half its width runs and has gradients everywhere."""
    x, y = images(16)
    slim = Slimmable(network("mobilenetv2", 0.5).module, [0.5, 1.0])
    slim.backward(x, y, cross_entropy)
    assert slim(x).shape == (2, 6, 3)
    assert all(one.grad is not None for one in slim.parameters())


def test_the_sandwich() -> None:
    """Four widths a step; all but the widest learn from its predictions, not from labels."""
    x, y = images()
    slim = Universal(network("wrn16-4", 0.5).module, [0.5, 1.0], multiple=2)
    with torch.no_grad():
        slim._state.width = 1.0
        target = slim.network(x).softmax(-1)
        slim._state.width = 0.5
        expected = cross_entropy(slim.network(x), target)
    losses = slim.backward(x, y, cross_entropy)
    assert len(losses) == 4
    assert torch.allclose(losses[1], expected)
    assert all(one.grad is not None for one in slim.parameters())


def test_statistics_are_taken_afterwards() -> None:
    """The mean over an epoch's batches, for each member; training leaves them alone."""
    x, y = images()
    slim = Universal(network("wrn16-4", 0.5).module, [1.0, 0.5], multiple=2)
    slim.backward(x, y, cross_entropy)
    norm = slim.network.get_submodule("layer1.0.bn1")
    assert torch.equal(norm.means, torch.zeros_like(norm.means))  # pyright: ignore[reportArgumentType]
    slim.calibrate(lambda: [x[:3], x[3:]])
    assert slim.training
    conv = slim.network.get_submodule("conv1")
    with torch.no_grad():
        for member, width in enumerate(slim.widths):
            slim._state.width = width
            means = [conv(part).mean((0, 2, 3)) for part in (x[:3], x[3:])]
            expected = torch.stack(means).mean(0)
            assert torch.allclose(norm.means[member, : len(expected)], expected, atol=1e-6)  # pyright: ignore[reportIndexIssue]


def test_widths_that_do_not_exist() -> None:
    """Shares of the channels; a universal network has its whole width among them."""
    with pytest.raises(ValueError, match=r"widths=\[0\.0\]"):
        Slimmable(network("wrn16-4", 0.25).module, [0.0])
    with pytest.raises(ValueError, match=r"must contain 1"):
        Universal(network("wrn16-4", 0.25).module, [0.5])
    grouped = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2))
    with pytest.raises(ValueError, match="2 groups"):
        Slimmable(grouped, [1.0])
