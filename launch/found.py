"""Retraining with hyperparameters that were found: ``train psi=FILE``.

Mlodozeniec et al. (ICLR 2023), appendix G. They are put into the network and stay as they are; the
weights are trained from the beginning, by any method.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from ..models import Network
from ..models.hyperparameters import AUGMENTATIONS, Psi, attach, put
from ..search.psifile import load_psi
from .config import TrainConfig
from .folder import RunFolder
from .job import Task
from .refusal import ConfigError

__all__ = ["adopt_psi", "keep_psi", "psi_in", "with_psi"]

SAMPLES = 20
"""Changed copies of each image that are averaged, as where they were found."""


def with_psi(config: TrainConfig, network: Network, task: Task) -> Network:
    """Put what ``psi`` names into a network; without it return the network as it is.

    Raises:
        ConfigError: The file, the network and the data do not fit each other.
        PsiError: The file cannot be read.
    """
    if config.psi is None:
        return network
    values = load_psi(config.psi)
    psi = _psi(config, values)
    try:
        attached = attach(network, psi, shape=task.shape)
        for parameter in put(attached.module, psi, values):
            parameter.requires_grad_(False)
    except ValueError as error:
        raise ConfigError(f"psi={config.psi}: {error}") from error
    return attached


def psi_in(config: TrainConfig) -> Psi | None:
    """Return what ``psi`` puts into the network of a training; None: nothing."""
    return None if config.psi is None else _psi(config, load_psi(config.psi))


def _psi(config: TrainConfig, values: dict[str, Any]) -> Psi:
    ((kind, inner),) = values.items()
    samples = config.psi_samples
    if kind not in AUGMENTATIONS:
        if samples is not None:
            raise ConfigError(
                f"psi_samples={samples}: {config.psi} has {kind}, which changes no images; leave "
                "it out"
            )
        return Psi(kind, layers=tuple(inner) if kind == "layers" else ())
    if samples is None:
        samples = SAMPLES if config.blocks == 1 else 1
    if samples > 1 and config.blocks > 1:
        raise ConfigError(
            f"psi_samples={samples}: the mean over changed copies cannot be cut into blocks="
            f"{config.blocks}; give psi_samples=1, or method=backprop"
        )
    symmetric = kind != "affine_ranges" or "shear_y" not in inner
    return Psi(kind, samples=samples, symmetric=symmetric)


def adopt_psi(config: TrainConfig, folder: RunFolder) -> None:
    """Copy the file into the run's folder: what was found there may change or go."""
    if config.psi is None:
        return
    shutil.copyfile(Path(config.psi), folder.psi)
    config.psi = str(folder.psi)


def keep_psi(config: TrainConfig, folder: RunFolder) -> TrainConfig:
    """Return the configuration of a run with the file where it is now, in the run's folder.

    Raises:
        ConfigError: Another file was asked for on a resume.
    """
    if config.psi is None:
        return config
    if Path(config.psi).name != folder.psi.name or not folder.psi.exists():
        raise ConfigError(
            f"psi={config.psi}: {folder.path} has its own, which cannot change; begin a new run "
            "with another name"
        )
    return dataclasses.replace(config, psi=str(folder.psi))
