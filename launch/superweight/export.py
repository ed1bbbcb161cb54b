"""``blockstep export`` of an ensemble: its members as plain PyTorch state_dicts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..options import read_options, run_folder
from .members import member_specs
from .restore import RestoredEnsemble, restore_ensemble

__all__ = ["export_members"]

KEYS = {"run": None, "checkpoint": ("last", "best"), "data.root": None}


def export_members(words: Sequence[str]) -> int:
    """Write ``DIR/member-K.pt``: each member with its own weights, as if it were alone.

    Members that are one network (BatchEnsemble, MIMO, slimmable) are written as that, in
    ``DIR/model.pt``.
    """
    options = read_options("export", words, KEYS)
    folder = run_folder("export", options)
    which = options.get("checkpoint", "last")
    restored = restore_ensemble(
        folder, which, device=torch.device("cpu"), data_root=options.get("data.root")
    )
    training = restored.training
    for member in range(training.ensemble.count):
        state = training.ensemble.plain_state(member)
        if state is None:
            path = folder.path / "model.pt"
            _write(path, training.ensemble.module.state_dict())
            kind = type(training.ensemble.module).__name__
            print(f"{path}: all {training.ensemble.count} members, as a {kind}")
            return 0
        path = folder.path / f"member-{member + 1}.pt"
        _write(path, state)
        print(f"{path}: {restored.job.names[member]} after step {training.step} ({which})")
        print(_how_to_load(restored, member, path))
    return 0


def _write(path: Path, state: Mapping[str, Tensor]) -> None:
    part = path.with_suffix(".part")
    torch.save(dict(state), part)
    os.replace(part, path)


def _how_to_load(restored: RestoredEnsemble, member: int, path: Path) -> str:
    spec: dict[str, Any] = member_specs(restored.job.config)[member]
    if "_target_" in spec:
        make = f"network = {str(spec['_target_']).rpartition('.')[2]}(...)  # {spec['_target_']}"
    else:
        data = restored.data
        options = {k: v for k, v in spec.items() if k not in ("name", "weights")}
        arguments = "".join(f", {key}={value!r}" for key, value in options.items())
        make = (
            "from blockstep.models import make_network\n"
            f"network = make_network({spec['name']!r}, classes={data.classes}, "
            f"in_channels={data.shape[0]}, size={data.shape[-1]}{arguments}).module"
        )
    return f"\nimport torch\n{make}\nnetwork.load_state_dict(torch.load({str(path)!r}))\n"
