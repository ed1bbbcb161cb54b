"""The check that every label names a class."""

from __future__ import annotations

from torch import Tensor

from .error import DataError

__all__ = ["check_labels"]


def check_labels(labels: Tensor, classes: int, *, source: str) -> None:
    """Refuses labels outside ``0 .. classes - 1``.

    Args:
        labels: int64 (N,).
        classes: number of classes.
        source: where the labels come from, for the message.

    Raises:
        DataError: a label is outside; the message says which one.
    """
    outside = (labels < 0) | (labels >= classes)
    if not outside.any():
        return
    index = int(outside.nonzero()[0])
    raise DataError(
        f"{source}: the label of example {index} (counted from 0) is {int(labels[index])}, "
        f"but the {classes} classes are 0..{classes - 1}"
    )
