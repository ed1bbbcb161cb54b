"""Tensors in the places of a module's parameters and buffers, for one call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

__all__ = ["Place", "placed"]

Place = tuple[nn.Module, str]
"""A module and the name of one of its parameters or buffers, which is None between calls."""


@contextmanager
def placed(
    parameters: Iterable[tuple[Place, Tensor]], buffers: Iterable[tuple[Place, Tensor]]
) -> Iterator[None]:
    """Put tensors where a module looks for its own, as ``torch.func.functional_call`` does.

    That function looks every name up in every call; here the places are known.

    Args:
        parameters: What stands in the place of parameters.
        buffers: What stands in the place of buffers.
    """
    used: list[tuple[dict[str, Tensor | None], str]] = []
    try:
        for (module, name), tensor in parameters:
            module._parameters[name] = tensor  # pyright: ignore[reportArgumentType]
            used.append((module._parameters, name))  # pyright: ignore[reportArgumentType]
        for (module, name), tensor in buffers:
            module._buffers[name] = tensor
            used.append((module._buffers, name))
        yield
    finally:
        for owner, name in used:
            owner[name] = None
