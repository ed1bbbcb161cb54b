"""The networks by name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from typing import Any

from .fixup import FIXUP_DEPTHS, fixup_resnet
from .mlp import mlp, mlp_gelu
from .mnist_cnn import MNIST_CNN_MIN_SIZE, mnist_cnn
from .mobilenet import mobilenetv2
from .network import Network
from .resnet import DEPTHS, resnet, wide_resnet50
from .resnet9 import RESNET9_MIN_SIZE, resnet9
from .transformer import transformer
from .vgg import MIN_SIZE, vgg19
from .wide_resnet import wide_resnet
from .wrn_group_norm import WRN_DEPTHS, wrn

__all__ = ["MIN_SIZES", "NETWORKS", "make_network"]

WIDE = (
    *((16, factor) for factor in (4, 7)),
    *((28, factor) for factor in (2, 3, 4, 5, 7, 8, 10, 12)),
    (34, 8),
)
"""Depth and factor of the wide residual networks that papers of ensembles train on CIFAR."""

NETWORKS: dict[str, Callable[..., Network]] = {
    **{f"resnet{depth}": partial(resnet, depth) for depth in DEPTHS},
    "vgg19": vgg19,
    "mobilenetv2": mobilenetv2,
    **{f"wrn{depth}-{factor}": partial(wide_resnet, depth, factor) for depth, factor in WIDE},
    "wrn50-2": wide_resnet50,
    "mlp": mlp,
    "mlp_gelu": mlp_gelu,
    "mnist_cnn": mnist_cnn,
    **{f"fixup_resnet{depth}": partial(fixup_resnet, depth) for depth in FIXUP_DEPTHS},
    **{f"wrn{depth}": partial(wrn, depth) for depth in WRN_DEPTHS},
    "resnet9": resnet9,
    "transformer": transformer,
}
"""Functions of classes, in_channels, size and options of their own."""

MIN_SIZES = {
    "vgg19": MIN_SIZE,
    "mnist_cnn": MNIST_CNN_MIN_SIZE,
    "resnet9": RESNET9_MIN_SIZE,
}
"""Smallest images, in pixels, of the networks that have such a limit."""


def make_network(
    name: str, *, classes: int, in_channels: int = 3, size: int = 32, **options: Any
) -> Network:
    """Make a network with initial weights from torch's generator.

    Args:
        name: One of ``NETWORKS``, or ``wrnD-K`` with any depth and factor that there are.
        classes: Number of classes.
        in_channels: Channels of the images, where the network takes images.
        size: Height and width of the images, likewise; tokens per example for the transformer.
        options: Further arguments of the network, such as ``width``.

    Raises:
        ValueError: The network or an option is unknown; the known ones are listed.
    """
    make = _maker(name)
    known = inspect.signature(make).parameters
    given = {"classes": classes, "in_channels": in_channels, "size": size}
    fixed = {key: value for key, value in given.items() if key in known}
    if "length" in known:
        fixed["length"] = size
    own = [key for key in known if key not in given]
    for key in options:
        if key not in own:
            close = get_close_matches(key, own, 1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ValueError(
                f"{name} has no option {key}={options[key]}; {hint}it has {', '.join(own)}"
            )
    return make(**{**fixed, **options})


def _maker(name: str) -> Callable[..., Network]:
    if name in NETWORKS:
        return NETWORKS[name]
    if wide := re.fullmatch(r"wrn([1-9]\d{0,3})-([1-9]\d{0,2})", name):
        return partial(wide_resnet, int(wide[1]), int(wide[2]))
    close = get_close_matches(name, NETWORKS, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise ValueError(f"unknown network {name!r}; {hint}known are {', '.join(NETWORKS)}")
