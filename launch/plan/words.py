"""The words for the ways to train that a plan compares; read without loading torch."""

from __future__ import annotations

from collections.abc import Mapping

from ..training.method import METHODS

__all__ = ["DECOUPLED", "DEFAULT_METHODS", "HEADLESS", "WORDS"]

HEADLESS: Mapping[str, str] = {
    "backprop": "one device",
    "ddp": "the whole network on each device, gradients averaged",
    "gpipe": "torch's pipeline: all micro-batches forward, then all back",
    "1f1b": "torch's pipeline: forward and backward in turn",
    "interleaved_1f1b": "torch's pipeline: 1F1B with two stages per device",
    "features_replay": "errors travel back one step late, forwards are repeated",
    "ddg": "errors travel back one step late, graphs and weights are kept",
}
"""Those without auxiliary heads."""

DECOUPLED = tuple(
    name for name, method in METHODS.items() if not method.whole and name not in HEADLESS
)
"""Methods of ``blockstep train`` whose blocks have losses of their own."""

WORDS = (*HEADLESS, *DECOUPLED)
"""All of them."""

DEFAULT_METHODS = (*HEADLESS, "dgl", "sedona")
