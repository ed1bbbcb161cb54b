"""Parameters and floating-point work of a module, by two conventions.

``flops`` is torch's own counter: two per multiply-add of convolutions and matrix products.
``macs_thop`` adds two per element of each batch norm's output to the multiply-adds of convolutions
and linear layers; it is the convention under which SEDONA's Table 1 comes out exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .mode import evaluating

__all__ = ["flops", "macs_thop", "parameters"]


def parameters(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def flops(module: nn.Module, example: Tensor) -> int:
    """Return the floating-point operations of one forward pass.

    Args:
        module: The module; it may be on the meta device.
        example: Its input, on the same device.
    """
    # The counter cannot see into the fused kernels that evaluation would take.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            evaluating(module),
            torch.no_grad(),
            sdpa_kernel(SDPBackend.MATH),
            FlopCounterMode(display=False) as counter,
        ):
            module(example)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return counter.get_total_flops()


def macs_thop(module: nn.Module, example: Tensor) -> int:
    """Return multiply-adds of convolutions and linear layers plus 2 per batch-norm element.

    Args:
        module: The module; it may be on the meta device.
        example: Its input, on the same device.
    """
    elements = 0

    def count(part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal elements
        elements += 2 * output.numel()

    norms = (nn.BatchNorm1d, nn.BatchNorm2d)
    hooks = [
        part.register_forward_hook(count) for part in module.modules() if isinstance(part, norms)
    ]
    try:
        return flops(module, example) // 2 + elements
    finally:
        for hook in hooks:
            hook.remove()
