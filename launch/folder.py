"""The folder of a run: ``runs/NAME/`` and the names of the files in it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..pipeline.checkpoint import Checkpoints, write_atomically
from .refusal import ConfigError

__all__ = ["RunFolder", "default_name", "existing_parent"]

MAX_JSON_BYTES = 64 << 20


def default_name(command: str) -> str:
    """Return COMMAND-DATE-TIME of now."""
    return f"{command}-{datetime.now():%Y%m%d-%H%M%S}"


def existing_parent(path: Path) -> Path:
    """Return the nearest folder that exists: where the disk is that ``path`` will be on."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


@dataclass(frozen=True)
class RunFolder:
    """Where everything of a run is.

    Attributes:
        path: ``runs/NAME``.
    """

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def decoupling(self) -> Path:
        """The cuts and heads; every rank and every resume reads them here."""
        return self.path / "decoupling.json"

    @property
    def measured(self) -> Path:
        """What was timed before training; a resume does not time it again."""
        return self.path / "measured.json"

    @property
    def profile(self) -> Path:
        """What each layer and head cost when a search timed them."""
        return self.path / "profile.json"

    @property
    def pareto(self) -> Path:
        """What the cuts of a search cost in accuracy and in speed."""
        return self.path / "pareto.json"

    @property
    def psi(self) -> Path:
        """The hyperparameters that a partitioned training found."""
        return self.path / "psi.json"

    @property
    def ranks(self) -> Path:
        """Rank, pid and host of every process, in a training its stage."""
        return self.path / "ranks.json"

    @property
    def metrics(self) -> Path:
        """One JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def summary(self) -> Path:
        """The results, written last."""
        return self.path / "summary.json"

    @property
    def gradients(self) -> Path:
        """How far the local gradients point where backpropagation points."""
        return self.path / "gradients.json"

    @property
    def model(self) -> Path:
        """A trained network as a plain state_dict."""
        return self.path / "model.pt"

    @property
    def trace(self) -> Path:
        """Spans of every stage, for Perfetto."""
        return self.path / "trace.json"

    @property
    def report(self) -> Path:
        """The page of the run."""
        return self.path / "report.html"

    @property
    def stop_request(self) -> Path:
        """Exists once ``blockstep stop`` asked the run to end."""
        return self.path / "stop"

    @property
    def checkpoints(self) -> Checkpoints:
        """The run's checkpoints."""
        return Checkpoints(self.path / "checkpoints")

    @property
    def samples(self) -> Path:
        """Real images, as they are and as the learned augmentation changes them."""
        return self.path / "augmentation.png"

    def picture(self, name: str) -> Path:
        """A picture of what was found."""
        return self.path / f"{name}.svg"

    def log(self, rank: int) -> Path:
        """What ``rank`` printed."""
        return self.path / f"rank{rank}.log"

    def create(self) -> None:
        """Make the folder.

        Raises:
            ConfigError: It exists already, or cannot be made.
        """
        try:
            self.path.mkdir(parents=True)
        except FileExistsError:
            raise ConfigError(
                f"the run {self.path} exists already; choose another name=..., or continue it "
                "with resume=auto"
            ) from None
        except OSError as error:
            raise ConfigError(
                f"cannot make the run's folder {self.path}: {error}; choose another runs=FOLDER"
            ) from error

    def write_json(self, path: Path, value: Any) -> None:
        """Write ``value`` to one of the files, atomically."""
        write_atomically(path, json.dumps(value, indent=1))

    def read_json(self, path: Path) -> Any:
        """Read one of the JSON files.

        Raises:
            ConfigError: It is missing, too large, or not JSON; the file is named.
        """
        try:
            if path.stat().st_size > MAX_JSON_BYTES:
                raise ConfigError(f"{path} is larger than {MAX_JSON_BYTES} bytes")
            return json.loads(path.read_text())
        except FileNotFoundError:
            raise ConfigError(
                f"{path} is missing; is {self.path} the folder of a run that has ended?"
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from error
