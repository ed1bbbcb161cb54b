"""PredSim's head."""

from __future__ import annotations

import pytest
import torch
from blockstep.models import flops, macs_thop, make_head, make_network, parameters
from blockstep.models.predsim import PredSim
from torch import Tensor, nn
from torch.nn import functional as F


class Both(nn.Module):
    """What PredSim computes in training: logits and what is compared."""

    def __init__(self, head: PredSim) -> None:
        super().__init__()
        self.head = head

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) to logits and maps."""
        return self.head(h), self.head.similarity(h)


@pytest.mark.parametrize(
    ("inputs", "count", "share", "work", "thop"),
    [
        (1024, 10_462_184, 23.485, 23.723, 23.624),
        (2048, 11_486_184, 25.783, 23.736, 23.638),
    ],
)
def test_table_1(inputs: int, count: int, share: float, work: float, thop: float) -> None:
    """The row of SEDONA's Table 1 (23.48 %, 23.63 %) is pooled to 1024; its D.2 says 2048."""
    with torch.device("meta"):
        network = make_network("resnet101", classes=1000, size=224)
        x, h = torch.empty(1, 3, 224, 224), torch.empty(1, 1024, 14, 14)
        head = make_head("predsim", shape=(1024, 14, 14), classes=1000, features=inputs)
    assert isinstance(head, PredSim)
    assert parameters(head) == count
    whole, both = network.module, Both(head)
    assert 100 * count / parameters(whole) == pytest.approx(share, abs=5e-4)
    assert 100 * flops(both, h) / flops(whole, x) == pytest.approx(work, abs=5e-4)
    assert 100 * macs_thop(both, h) / macs_thop(whole, x) == pytest.approx(thop, abs=5e-4)


@pytest.mark.parametrize(
    ("shape", "inputs", "pooled"),
    [
        ((1024, 14, 14), 1024, (1, 1)),
        ((1024, 14, 14), 2048, (1, 2)),
        ((1024, 14, 14), 4096, (2, 2)),
        ((64, 32, 32), 512, (2, 4)),
        ((128, 16, 16), 512, (2, 2)),
        ((256, 8, 8), 512, (1, 2)),
        ((512, 4, 4), 512, (1, 1)),
        ((512, 4, 4), 100, (1, 1)),
        ((8, 4, 4), 128, (4, 4)),
        ((8, 4, 4), 127, (2, 4)),
        ((2, 3, 5), 20, (2, 5)),
        ((2, 3, 5), 19, (2, 3)),
        ((2, 3, 5), 11, (1, 3)),
        ((2, 1, 8), 9, (1, 4)),
        ((5, 1, 1), 5, (1, 1)),
    ],
)
def test_the_pooling_rule(
    shape: tuple[int, int, int], inputs: int, pooled: tuple[int, int]
) -> None:
    """Height, then width, then height ... halve, rounded up, until it is few enough."""
    head = PredSim(shape, classes=3, inputs=inputs)
    assert head.predictor.in_features == shape[0] * pooled[0] * pooled[1]
    assert head(torch.randn(2, *shape)).shape == (2, 3)


@pytest.mark.parametrize(("inputs", "window"), [(6 * 16, 1), (6 * 8, (2, 1)), (6, 4), (12, (4, 2))])
def test_the_forward_pass_by_hand(inputs: int, window: int | tuple[int, int]) -> None:
    """A mean over windows, flattened, and a linear layer; beside it a 3x3 convolution."""
    torch.manual_seed(0)
    head = make_head("predsim", shape=(6, 4, 4), classes=3, features=inputs)
    assert isinstance(head, PredSim)
    nn.init.normal_(head.predictor.weight)
    nn.init.normal_(head.predictor.bias)
    h = torch.randn(2, 6, 4, 4)
    logits = F.linear(
        F.avg_pool2d(h, window).reshape(2, -1), head.predictor.weight, head.predictor.bias
    )
    torch.testing.assert_close(head(h), logits)
    weight = head.state_dict()["embedding.weight"]
    torch.testing.assert_close(head.similarity(h), F.conv2d(h, weight, padding=1))


def test_vectors() -> None:
    """Nothing is pooled, and the similarity's map is linear, without a bias."""
    head = make_head("predsim", shape=(7,), classes=3, features=2)
    assert isinstance(head, PredSim)
    nn.init.normal_(head.predictor.weight)
    h = torch.randn(4, 7)
    torch.testing.assert_close(head(h), h @ head.predictor.weight.T)
    torch.testing.assert_close(head.similarity(h), h @ head.state_dict()["embedding.weight"].T)
    assert parameters(head) == 7 * 7 + 7 * 3 + 3


def test_it_begins_without_a_prediction() -> None:
    """The predictor is zero, made by name or directly; the convolution has Kaiming's weights."""
    torch.manual_seed(0)
    named = make_head("predsim", shape=(64, 8, 8), classes=10, features=512)
    assert isinstance(named, PredSim)
    for head in (named, PredSim((64, 8, 8), 10, 512)):
        assert not head(torch.randn(3, 64, 8, 8)).any()
    weight = named.state_dict()["embedding.weight"]
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


def test_tokens_are_refused() -> None:
    """By shape, and with the kinds that there are."""
    with pytest.raises(ValueError, match=r"predsim is for images .* and vectors .* \(B, 5, 8\)"):
        make_head("predsim", shape=(5, 8), classes=3)
