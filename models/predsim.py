"""PredSim's head (Nøkland and Eidnes, ICML 2019): a predictor and, beside it, a similarity map.

    h --> pool --> flatten --> linear --> logits            forward: the prediction loss
     \\--> 3x3 convolution ---------------> (B, C, H, W)     similarity: the similarity loss

The two losses are mixed in :mod:`blockstep.pipeline.predsim`. Without the second one the head is a
plain predictor, and the convolution learns nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from .initialization import ZeroLinear

__all__ = ["PredSim"]


class PredSim(nn.Module):
    """The head for images (B, C, H, W), and for vectors (B, C) with a linear map.

    The predictor's weight begins at zero. It pools as little as leaves it ``inputs`` numbers:
    the height and the width of what is averaged double in turns, height first. Where such a
    window does not divide the image, we average over parts of nearly equal size, while the
    authors' windows leave out the last rows and columns and average padding; the number of
    parameters is the same. SEDONA's Table 1 counts ``inputs=1024``, its appendix D.2 says 2,048
    for full width and 512 for a quarter.

    Args:
        shape: Of the block's output: (C, H, W) or (C,).
        classes: Number of classes.
        inputs: Numbers that the predictor gets at most, if pooling to one position leaves no
            more than that. Vectors are not pooled.

    Raises:
        ValueError: The output is neither of images nor of vectors.
    """

    def __init__(self, shape: Sequence[int], classes: int, inputs: int) -> None:
        super().__init__()
        channels = shape[0]
        self.pool: nn.Module = nn.Identity()
        self.embedding: nn.Module
        if len(shape) == 3:
            side = _pooled((channels, shape[1], shape[2]), inputs)
            if side != (shape[1], shape[2]):
                self.pool = nn.AdaptiveAvgPool2d(side)
            self.embedding = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            width = channels * side[0] * side[1]
        elif len(shape) == 1:
            self.embedding = nn.Linear(channels, channels, bias=False)
            width = channels
        else:
            raise ValueError(
                "the head predsim is for images (B, C, H, W) and vectors (B, C), not for "
                f"(B, {', '.join(map(str, shape))}): its authors say nothing of others"
            )
        self.predictor = ZeroLinear(width, classes)

    def forward(self, h: Tensor) -> Tensor:
        """From the block's output to the predictor's logits (B, classes)."""
        return self.predictor(self.pool(h).flatten(1))

    def similarity(self, h: Tensor) -> Tensor:
        """From the block's output to what the similarity loss compares, of the same shape."""
        return self.embedding(h)


def _pooled(shape: tuple[int, int, int], inputs: int) -> tuple[int, int]:
    """Return height and width after the pooling: C * height * width <= inputs, or one position."""
    channels, *sides = shape
    window, left = [1, 1], list(sides)
    for turn in itertools.cycle((0, 1)):
        if channels * left[0] * left[1] <= inputs or left == [1, 1]:
            break
        window[turn] *= 2
        left[turn] = -(-sides[turn] // window[turn])
    return left[0], left[1]
