"""Augerino: ranges of augmentation learned from the training loss (Benton et al., 2020).

    loss = cross-entropy - strength * ||w||_2,  w = softplus(raw) the widths

Without a bound that loss falls for ever. The safe variant drops the last term, and its gradient,
once a width has reached 10 (Mlodozeniec et al., ICLR 2023, appendix E).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .affine import Affine

__all__ = ["Augerino"]

LIMIT = 10.0

GENERATORS = (
    ((0, 0, 0.1), (0, 0, 0), (0, 0, 0)),  # translation along x, in tenths
    ((0, 0, 0), (0, 0, 0.1), (0, 0, 0)),  # translation along y, in tenths
    ((0, -1, 0), (1, 0, 0), (0, 0, 0)),  # rotation
    ((1, 0, 0), (0, 1, 0), (0, 0, 0)),  # scaling of both axes
    ((1, 0, 0), (0, -1, 0), (0, 0, 0)),  # stretching of one axis, shrinking of the other
    ((0, 1, 0), (1, 0, 0), (0, 0, 0)),  # shear
)


class Augerino(Affine):
    """T = exp(sum_i u_i w_i G_i), u uniform in [-1/2, 1/2]^6, w = softplus(raw).

    Args:
        initial: All six raw widths at first.
        rotation: The raw width of the rotation at first; None: as the others.
    """

    NAMES = ("translate_x", "translate_y", "rotation", "scale", "stretch", "shear")

    def __init__(self, *, initial: float = 0.0, rotation: float | None = None) -> None:
        super().__init__()
        raw = torch.full((6,), float(initial))
        if rotation is not None:
            raw[2] = rotation
        self.raw = nn.Parameter(raw)
        self.register_buffer("generators", torch.tensor(GENERATORS), persistent=False)

    @property
    def widths(self) -> Tensor:
        """The six widths."""
        return F.softplus(self.raw)

    def draw(self, count: int) -> Tensor:
        """See :meth:`~.affine.Affine.draw`."""
        widths = self.widths
        u = torch.rand(count, 6, device=widths.device, dtype=widths.dtype) - 0.5
        algebra = torch.einsum("bi,ijk->bjk", u * widths, self.get_buffer("generators"))
        return torch.matrix_exp(algebra)[:, :2]

    def penalty(self, strength: float = 0.01, *, safe: bool = False) -> Tensor:
        """Return what is added to the loss: a negative number that falls as the widths grow.

        Args:
            strength: Factor of the norm.
            safe: Whether it is 0 once a width has reached 10.
        """
        widths = self.widths
        bounded = (widths.detach() < LIMIT).all() if safe else True
        return -strength * widths.norm() * bounded

    def readable(self) -> dict[str, list[float]]:
        """Return the width of each change; a rotation of width w goes w / 2 radians each way."""
        return dict(zip(self.NAMES, self.widths.detach()[:, None].tolist(), strict=True))
