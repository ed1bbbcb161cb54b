"""Training: the command ``blockstep train`` and the function ``blockstep.train``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import nn

from ..pipeline.optimization import OptimizationConfig
from .compose import compose
from .folder import RunFolder
from .job import Objects
from .run import run, run_command

__all__ = ["Result", "RunFailedError", "train", "train_command"]


class RunFailedError(RuntimeError):
    """A run ended early; the text names the stage, the rank and the cause."""


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        folder: ``runs/NAME``.
        summary: The content of ``summary.json``; empty on ranks other than 0 of torchrun.
    """

    folder: Path
    summary: dict[str, Any]

    @property
    def test_accuracy(self) -> float | None:
        """Accuracy of the last block's head on the test split, between 0 and 1."""
        return self.summary.get("test_accuracy")

    def load_into(self, network: nn.Module, *, checkpoint: str = "last") -> nn.Module:
        """Load the trained weights into ``network``, a module like the one that was trained.

        Args:
            network: Gets the weights of all blocks and of the classifier.
            checkpoint: ``"last"`` or ``"best"`` (on the validation split).
        """
        from .restore import trained_state

        network.load_state_dict(trained_state(RunFolder(self.folder), network, checkpoint))
        return network


def train_command(overrides: Sequence[str]) -> int:
    """Run ``blockstep train``.

    Returns:
        The exit status.
    """
    return run_command("train", overrides)


def train(
    network: nn.Module | None = None,
    *,
    data: Any = None,
    cuts: Sequence[int] | None = None,
    heads: Any = None,
    overrides: Sequence[str] = (),
    **settings: Any,
) -> Result:
    """Train a network block by block, each block in a process of its own.

    Works from a script (with or without a ``__main__`` guard), a notebook, and under torchrun.

    Args:
        network: An ``nn.Sequential`` (its children are the layers, the last yields the logits) or
            a module with an attribute ``layers`` that names its layers in order. None makes the
            network of the setting ``model``.
        data: Name of a data set; or ``(train, test)``, or a mapping that may also have a
            ``validation``. Each part is ``(x, y)`` of tensors or arrays, or a map-style
            ``torch.utils.data.Dataset``.
        cuts: Layers, from 1, after which the network is cut; None balances measured times.
        heads: One head for all cuts, or a list: ``aux1`` .. ``aux4``, ``mlp_sr``, ``predsim``,
            ``linear``, or ``{"_target_": "package.Head", ...}``.
        overrides: Further settings as on the command line, e.g. ``"wandb.mode=disabled"``.
        settings: Keys of the configuration: ``steps=500`` (short for ``train.steps``),
            ``blocks=3``, ``name="first"``, ...

    Returns:
        The finished run.

    Raises:
        ConfigError: Something cannot be as asked; nothing was started.
        RunFailedError: A stage failed.
        KeyboardInterrupt: Ctrl-C; a checkpoint was written.
    """
    words = [*overrides, *_words(settings)]
    if cuts is not None:
        words.append(_word("cuts", list(cuts)))
    if heads is not None:
        words.append(_word("heads", heads))
    if isinstance(data, str):
        words.append(f"data={data}")
        data = None
    elif isinstance(data, tuple | list):
        train_part, test_part = data
        data = {"train": train_part, "test": test_part}
    config = compose("train", words)
    outcome = run("train", config, Objects(network, data), overrides=words)
    if outcome.status == "interrupted":
        raise KeyboardInterrupt
    if outcome.failure is not None:
        raise RunFailedError(f"{outcome.failure}\n{outcome.failure.traceback}")
    return Result(Path(outcome.folder), outcome.summary or {})


def _words(settings: dict[str, Any]) -> list[str]:
    short = {field.name for field in fields(OptimizationConfig)}
    return [
        _word(f"train.{key}" if key in short else key, value) for key, value in settings.items()
    ]


def _word(key: str, value: Any) -> str:
    """Write a setting as Hydra's grammar has it; JSON is a subset but for the keys of mappings."""
    return f"{key}={_literal(value)}"


def _literal(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_literal(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)
