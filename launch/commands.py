"""Which commands have a configuration of their own, and the files of ``conf/`` it is made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from typing import Any

from .config import TrainConfig
from .dashboard.config import DashboardConfig
from .dashboard.limits import check_dashboard, infer_dashboard
from .doctor.config import DoctorConfig
from .doctor.limits import check_doctor
from .federate.config import FederateConfig
from .federate.limits import check_federate
from .partition.config import PartitionConfig
from .partition.limits import check_partition, infer_partition
from .plan.config import PlanConfig
from .plan.limits import check_plan, infer_plan
from .refusal import ConfigError, Refusals, closest
from .search.config import SearchConfig
from .search.limits import check_search
from .superweight.config import SuperWeightConfig, infer_superweight
from .superweight.limits import check_superweight
from .training.limits import check_train, infer_train

__all__ = [
    "BROUGHT",
    "COMMANDS",
    "CONF",
    "PRESET",
    "Command",
    "choices",
    "conf_text",
    "find_command",
]

CONF = f"{__package__}.conf"
"""The package that holds the YAML files."""

PRESET = "preset"
"""The key of every command that chooses its preset."""


@dataclass(frozen=True)
class Command:
    """A command with a configuration of its own.

    Attributes:
        config: The dataclass of the configuration.
        primary: Its file in ``conf/``, without ``.yaml``.
        check: Notes impossible values of a configuration whose types are right.
        groups: The keys that choose a file of ``conf/KEY/``, with the choice of the primary file.
        infer: Settles what follows from the keys that were typed (their dotted paths).
    """

    config: type
    primary: str
    check: Callable[[Any, Refusals], None]
    groups: Mapping[str, str] = field(default_factory=dict)
    infer: Callable[[Any, set[str]], None] = lambda config, given: None

    @property
    def presets(self) -> str:
        """The folder of ``conf/`` with the files that the key ``preset`` chooses from.

        Such a file is put over all others, and may also choose others. Its name stays under the
        key.
        """
        return f"{PRESET}/{self.primary}"

    @property
    def has_presets(self) -> bool:
        """Whether the command has the key ``preset``."""
        return any(one.name == PRESET for one in fields(self.config))


COMMANDS: Mapping[str, Command] = {
    "train": Command(
        TrainConfig,
        "train",
        check_train,
        groups={"model": "resnet18", "data": "digits"},
        infer=infer_train,
    ),
    "search": Command(
        SearchConfig,
        "search",
        check_search,
        groups={"model": "resnet50", "data": "cifar10"},
    ),
    "partition": Command(
        PartitionConfig,
        "partition",
        check_partition,
        groups={"model": "fixup_resnet8", "data": "cifar10", "psi": "affine"},
        infer=infer_partition,
    ),
    "federate": Command(
        FederateConfig,
        "federate",
        check_federate,
        groups={"model": "mnist_cnn", "data": "digits"},
    ),
    "superweight": Command(
        SuperWeightConfig,
        "superweight",
        check_superweight,
        groups={"model": "wrn28-10", "data": "cifar100"},
        infer=infer_superweight,
    ),
    "plan": Command(
        PlanConfig,
        "plan",
        check_plan,
        groups={"model": "resnet50", "data": "cifar10"},
        infer=infer_plan,
    ),
    "dashboard": Command(DashboardConfig, "dashboard", check_dashboard, infer=infer_dashboard),
    "doctor": Command(DoctorConfig, "doctor", check_doctor),
}


BROUGHT: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("data", "input_selection"): {"model": "mlp_gelu", "psi": "mask"},
}
"""Choices that bring those of other groups with them, unless these are typed: vectors have another
network than images."""


def find_command(name: str) -> Command:
    """Return the entry of a command.

    Raises:
        ConfigError: There is no such command with a configuration.
    """
    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        raise ConfigError(
            f"{name}: there is no such command; choose one of {known}{closest(name, COMMANDS)}"
        )
    return COMMANDS[name]


def choices(group: str) -> list[str]:
    """Return the names of the files in ``conf/GROUP/``: what ``GROUP=NAME`` may choose."""
    folder = files(CONF).joinpath(group)
    names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    found = [name.removesuffix(".yaml") for name in names if name.endswith(".yaml")]
    return sorted(found, key=_natural)


def conf_text(path: str) -> str:
    """Return the text of a file of ``conf/``, e.g. ``model/resnet18``, without ``.yaml``."""
    return files(CONF).joinpath(f"{path}.yaml").read_text(encoding="utf-8")


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort resnet18 before resnet101."""
    return [(int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]
