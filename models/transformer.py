"""A small pre-norm transformer encoder that classifies sequences of tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .auxiliary import TokenMean
from .network import Network

__all__ = ["transformer"]


class Embedding(nn.Module):
    """Token and position embeddings, added."""

    def __init__(self, vocabulary: int, length: int, channels: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, channels)
        self.positions = nn.Parameter(torch.randn(length, channels) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T) integers to (B, T, C)."""
        if x.is_floating_point() or x.dim() != 2 or x.shape[1] > len(self.positions):
            raise ValueError(
                f"the transformer takes (B, T) integers, T at most {len(self.positions)}, not "
                f"{x.dtype} of shape {tuple(x.shape)}; give tokens, and length= their number"
            )
        return self.tokens(x) + self.positions[: x.shape[1]]


class Transformer(nn.Module):
    """Embedding, encoder blocks, and a classifier on the mean token."""

    def __init__(
        self,
        *,
        vocabulary: int,
        length: int,
        channels: int,
        attention_heads: int,
        depth: int,
        dropout: float,
        classes: int,
    ) -> None:
        super().__init__()
        self.embedding = Embedding(vocabulary, length, channels)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                channels,
                attention_heads,
                dim_feedforward=4 * channels,
                dropout=dropout,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(depth)
        )
        self.classifier = nn.Sequential(
            nn.LayerNorm(channels), TokenMean(), nn.Linear(channels, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, T) integers to logits (B, classes)."""
        x = self.embedding(x)
        for block in self.blocks:
            x = block(x)
        return self.classifier(x)


def transformer(
    *,
    classes: int,
    vocabulary: int = 256,
    length: int = 128,
    channels: int = 128,
    attention_heads: int = 4,
    depth: int = 4,
    dropout: float = 0.0,
    width: float = 1.0,
) -> Network:
    """Make a transformer that can be cut after its embedding and after each encoder block.

    Args:
        classes: Number of classes.
        vocabulary: Number of different tokens.
        length: Longest sequence.
        channels: Width of a token, before ``width``.
        attention_heads: Heads of each attention; they divide the width of a token.
        depth: Number of encoder blocks.
        dropout: Probability in the encoder blocks.
        width: Factor of ``channels``.

    Raises:
        ValueError: The attention heads do not divide the width.
    """
    wide = round(channels * width)
    if wide < 1 or wide % attention_heads:
        raise ValueError(
            f"a token of {wide} channels cannot be divided among attention_heads={attention_heads}"
        )
    module = Transformer(
        vocabulary=vocabulary,
        length=length,
        channels=wide,
        attention_heads=attention_heads,
        depth=depth,
        dropout=dropout,
        classes=classes,
    )
    layers = (module.embedding, *module.blocks)
    return Network("transformer", module, layers, module.classifier, features=4 * wide)
