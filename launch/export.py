"""``blockstep export``: the trained network as a plain PyTorch state_dict."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from ..models.hyperparameters import AUGMENTATIONS, Psi
from .options import read_options, run_folder, run_program
from .restore import Restored, export_path, restore

__all__ = ["export_command"]

KEYS = {"run": None, "checkpoint": ("last", "best"), "data.root": None}


def export_command(words: Sequence[str]) -> int:
    """Write ``DIR/model.pt``: the network with its classifier, without the other heads.

    A command whose runs have other weights exports them itself.
    """
    own = run_program(words).export
    if own is not None:
        return own(words)
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
    if restored.psi is not None:
        print(_belongs(restored.psi))
    print(_how_to_load(restored, path))
    return 0


def _belongs(psi: Psi) -> str:
    """Say which hyperparameters are part of what was written."""
    if psi.kind in AUGMENTATIONS:
        copies = "one changed copy" if psi.samples == 1 else f"{psi.samples} changed copies"
        return (
            f"it has the {psi.kind} changes of images in it (change.*), drawn anew in each call, "
            f"in evaluation too, and answers from {copies} of each image; the network is network.*"
        )
    if psi.kind == "mask":
        return (
            "it multiplies its inputs by the mask's probabilities (change.*); the network is "
            "network.*"
        )
    if psi.kind == "dropout":
        return "its dropouts have the rates that were found (*.keep); evaluation drops nothing"
    return f"the hyperparameters ({psi.kind}) are parameters of the network itself"


def _how_to_load(restored: Restored, path: Path) -> str:
    model = restored.config.model
    if "_target_" in model:
        name = str(model["_target_"]).rpartition(".")[2]
        make = f"network = {name}(...)  # {model['_target_']}"
    else:
        options = {key: value for key, value in model.items() if key not in ("name", "weights")}
        data = restored.data
        size = data.shape[-1] if len(data.shape) == 3 else 1
        given = {"classes": data.classes, "in_channels": data.shape[0], "size": size}
        known = {**given, **{key: value for key, value in options.items() if value}}
        arguments = ", ".join(f"{key}={value!r}" for key, value in known.items())
        make = (
            "from blockstep.models import make_network\n"
            f"network = make_network({model['name']!r}, {arguments}).module"
        )
    if restored.psi is not None and restored.psi.kind != "none":
        shape = tuple(restored.data.shape)
        make = (
            f"from blockstep.models import Network\n{make}\n"
            "network = Network('own', network, (network,), torch.nn.Identity())"
            if "_target_" in model
            else make.removesuffix(".module")
        )
        make += (
            "\nfrom blockstep.models.hyperparameters import Psi, attach\n"
            f"network = attach(network, {restored.psi!r}, shape={shape}).module"
        )
    return f"\nimport torch\n{make}\nnetwork.load_state_dict(torch.load({str(path)!r}))\n"
