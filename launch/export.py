"""``blockstep export``: the trained network as a plain PyTorch state_dict."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from .options import read_options, run_folder
from .restore import Restored, export_path, restore

__all__ = ["export_command"]

KEYS = {"run": None, "checkpoint": ("last", "best"), "data.root": None}


def export_command(words: Sequence[str]) -> int:
    """Write ``DIR/model.pt``: the network with its classifier, without the other heads."""
    options = read_options("export", words, KEYS)
    folder = run_folder("export", options)
    which = options.get("checkpoint", "last")
    restored = restore(folder, which, data_root=options.get("data.root"))
    path = export_path(folder)
    part = path.with_suffix(".part")
    torch.save(restored.network.module.state_dict(), part)
    os.replace(part, path)
    step = restored.checkpoint.step
    print(f"{path}: {restored.network.name} after step {step} ({which} checkpoint)")
    print(_how_to_load(restored, path))
    return 0


def _how_to_load(restored: Restored, path: Path) -> str:
    model = restored.config.model
    if "_target_" in model:
        name = str(model["_target_"]).rpartition(".")[2]
        make = f"network = {name}(...)  # {model['_target_']}"
    else:
        options = {key: value for key, value in model.items() if key not in ("name", "weights")}
        arguments = ", ".join(f"{key}={value!r}" for key, value in options.items() if value)
        data = restored.data
        make = (
            "from blockstep.models import make_network\n"
            f"network = make_network({model['name']!r}, classes={data.classes}, "
            f"in_channels={data.shape[0]}, size={data.shape[-1]}, {arguments}).module"
        )
    return f"\nimport torch\n{make}\nnetwork.load_state_dict(torch.load({str(path)!r}))\n"
