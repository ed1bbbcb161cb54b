"""The file of a Pareto front, beside the decoupling that was chosen from it.

    {"format": 1, "network": "resnet50", "layers": 16, "blocks": 4, "prefer": "balanced",
     "device": "NVIDIA H200", "batch_size": 128, "bandwidth": null, "seconds": 0.0413,
     "explanation": ["K=4: ...", ...],
     "choices": [{"cuts": [10, 11, 12], "heads": ["aux4", "aux4", "aux4"], "alpha": 2.71,
                  "speedup": 1.65, "slowest": 0.025, "bytes": [...],
                  "alpha_lost": 0.0, "speedup_gained": 0.0, "chosen": false}, ...]}

It says under which conditions the times were measured, because they hold under no others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .decoupling import Decoupling, DecouplingError
from .jsonfile import Format
from .pareto import Choice, choose, explain
from .profile import Profile

__all__ = ["front_from_json", "front_to_json", "load_front", "save_front"]

FORMAT = Format(
    what="Pareto front",
    version=1,
    required=frozenset({"network", "layers", "blocks", "choices"}),
    optional=frozenset(
        {"prefer", "device", "batch_size", "bandwidth", "seconds", "explanation"},
    ),
    error=DecouplingError,
)

_KEYS = {field.name for field in dataclasses.fields(Choice)}


def front_to_json(
    front: Sequence[Choice],
    *,
    profile: Profile,
    bandwidth: float | None = None,
    prefer: str = "accuracy",
) -> str:
    """Return the text of the file of a front.

    Args:
        front: As ``front`` returned it.
        profile: What it was predicted from.
        bandwidth: Of the links, in bytes per second; None if they take no time.
        prefer: Which choice was taken.
    """
    chosen, first = choose(front, prefer), front[0]
    choices = [
        {
            **{key: getattr(one, key) for key in sorted(_KEYS)},
            "alpha_lost": first.alpha - one.alpha,
            "speedup_gained": one.speedup - first.speedup,
            "chosen": one is chosen,
        }
        for one in front
    ]
    return FORMAT.dumps(
        {
            "network": profile.network,
            "layers": profile.layers,
            "blocks": len(first.cuts) + 1,
            "prefer": prefer,
            "device": profile.device,
            "batch_size": profile.batch_size,
            "bandwidth": bandwidth,
            "seconds": profile.block_seconds(1, profile.layers),
            "explanation": explain(front),
            "choices": choices,
        }
    )


def front_from_json(text: str) -> list[Choice]:
    """Read what :func:`front_to_json` returned.

    Raises:
        DecouplingError: It is not the file of a front; the message has the key and the value.
    """
    values = FORMAT.parse(text)
    network = FORMAT.text("network", values["network"])
    layers = FORMAT.integer("layers", values["layers"], low=1)
    blocks = FORMAT.integer("blocks", values["blocks"], low=1)
    read = partial(_choice, network=network, layers=layers, blocks=blocks)
    found = list(FORMAT.sequence("choices", values["choices"], read))
    if not found:
        raise FORMAT.refusal("choices", found, "a list of at least one choice")
    return found


def save_front(
    path: Path | str,
    front: Sequence[Choice],
    *,
    profile: Profile,
    bandwidth: float | None = None,
    prefer: str = "accuracy",
) -> None:
    """Write the file of a front atomically; the arguments are those of :func:`front_to_json`.

    Raises:
        OSError: It cannot be written; an older file stays as it was.
    """
    text = front_to_json(front, profile=profile, bandwidth=bandwidth, prefer=prefer)
    FORMAT.save(path, text)


def load_front(path: Path | str) -> list[Choice]:
    """Read the file of a front. Nothing in it is executed, and at most 1 MiB of it is read.

    Raises:
        DecouplingError: It is missing, too large, or not the file of a front; the file is named.
    """
    return FORMAT.load(path, front_from_json)


def _choice(key: str, value: Any, *, network: str, layers: int, blocks: int) -> Choice:
    """Return a choice whose every value was checked."""
    if not isinstance(value, Mapping) or not value.keys() >= _KEYS:
        raise FORMAT.refusal(key, value, f"an object with the keys {', '.join(sorted(_KEYS))}")
    try:
        found = Decoupling(network, layers, value["cuts"], value["heads"])
    except DecouplingError as error:
        raise DecouplingError(f"{key}: {error}") from error
    if found.blocks != blocks:
        raise DecouplingError(
            f"{key} makes {found.blocks} blocks, but the front is for {blocks}; "
            f"{blocks} blocks need {blocks - 1} cuts"
        )
    alpha, speedup, slowest = (
        FORMAT.number(f"{key}.{name}", value[name], low=0.0)
        for name in ("alpha", "speedup", "slowest")
    )
    size = partial(FORMAT.integer, low=0)
    sizes = FORMAT.sequence(f"{key}.bytes", value["bytes"], size, length=blocks - 1)
    return Choice(found.cuts, found.heads, alpha, speedup, slowest, sizes)
