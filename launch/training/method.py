"""The learning rules: what the configuration must know of each, without loading torch.

How a rule's stages learn is in :mod:`.blocks`, under the same names. A further rule is added in
both places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["METHODS", "Method"]


@dataclass(frozen=True)
class Method:
    """A learning rule.

    Attributes:
        whole: Whether it trains the network as one block.
        decoupling: How it is cut if nothing else is asked for.
        heads: The head of each block but the last if nothing else is asked for; ``none`` where
            the blocks have no losses of their own, and no heads can be asked for.
        fixed_heads: Whether the rule needs what only these heads have, so that no others can be
            asked for.
        feedback: Whether a block learns from the errors of the block behind it, which needs links
            back.
        keeps: What a block keeps of each batch that it has passed on and not yet learned from:
            its ``inputs``, or whole ``graphs`` with the weights; empty for nothing.
        replicas: Whether several ranks may share a stage.
    """

    whole: bool = False
    decoupling: str = "balanced"
    heads: str = "aux1"
    fixed_heads: bool = False
    feedback: bool = False
    keeps: str = ""
    replicas: bool = True


METHODS: Mapping[str, Method] = {
    "decoupled": Method(),
    "sedona": Method(),
    "sedona_continuous": Method(whole=True),
    "dgl": Method(decoupling="uniform", heads="mlp_sr"),
    "predsim": Method(decoupling="uniform", heads="predsim", fixed_heads=True, replicas=False),
    "features_replay": Method(heads="none", feedback=True, keeps="inputs", replicas=False),
    "ddg": Method(heads="none", feedback=True, keeps="graphs", replicas=False),
    "backprop": Method(whole=True, heads="none"),
}
