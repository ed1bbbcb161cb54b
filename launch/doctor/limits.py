"""Which values only a check of the machine has."""

from __future__ import annotations

from ..limits import CHOICES, Limits, Range, check_values
from ..refusal import Refusals, closest, shown
from .config import DoctorConfig

__all__ = ["LIMITS", "check_doctor"]

TEXTS = ("runs", "data.root")


def check_doctor(config: DoctorConfig, refusals: Refusals) -> None:
    """Note every impossible value of a configuration whose types are right."""
    check_values(config, LIMITS, TEXTS, refusals)
    for relation in LIMITS.relations:
        relation(config, refusals)


def _names(config: DoctorConfig, refusals: Refusals) -> None:
    # Imported here: the commands are made of their limits.
    from ..commands import choices

    known = choices("data")
    for name in config.data.names or ():
        if name not in known:
            refusals.add(
                "data.names",
                config.data.names,
                f"{shown(name)} is no data set with a name; choose of {', '.join(known)}"
                f"{closest(name, known)}",
            )


LIMITS = Limits(
    choices={key: CHOICES[key] for key in ("device", "wandb.mode")},
    ranges={"ranks": Range(low=2, high=64)},
    relations=(_names,),
)
