"""The methods of ``blockstep superweight``: what each needs to be told, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["METHODS", "Method"]


@dataclass(frozen=True)
class Method:
    """A way to train an ensemble.

    Attributes:
        text: What it is, in a few words.
        templates: Whether a budget is divided among templates. For the others a budget is a limit
            that their weights must not exceed.
        equal: Whether all members must be the same network.
        alone: Whether there is exactly one member in ``members``.
        joint: Whether all members are one network, so that one rank trains them.
    """

    text: str
    templates: bool = False
    equal: bool = False
    alone: bool = False
    joint: bool = False


METHODS: Mapping[str, Method] = {
    "superweight": Method("SuperWeights: templates, combined by coefficients", templates=True),
    "deep": Method("a deep ensemble: members that share nothing"),
    "batch_ensemble": Method("BatchEnsemble: rank-one members", equal=True, joint=True),
    "mimo": Method("MIMO: an input and an output for each member", equal=True, joint=True),
    "ssn": Method("ShapeShifter networks: banks by depth", templates=True),
    "slimmable": Method("a slimmable network, at several widths", alone=True, joint=True),
    "us": Method("a universally slimmable network", alone=True, joint=True),
    "single": Method("one network by itself", alone=True),
    "hard_sharing": Method("equal weights in layers of one name", templates=True),
}
"""In the order of the documentation."""
