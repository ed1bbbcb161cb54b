"""The decouplings that SEDONA's authors published (Pyeon et al., ICLR 2021, appendix D.3).

Each table ranks layers by the learned weight of cutting after them, and names the head with the
largest weight there. K blocks are made by cutting after the K - 1 best layers. The authors'
released weights agree with the tables up to K = 8; ResNet-152 beyond its tenth layer does not
follow from them (differences of less than 0.001), so there the printed table is the only source.
"""

from __future__ import annotations

from typing import NamedTuple

from .decoupling import Decoupling, DecouplingError
from .jsonfile import shown

__all__ = ["PUBLISHED", "published"]


class _Table(NamedTuple):
    layers: int
    """How many layers the network has."""
    ranking: tuple[int, ...]
    """Layers, the best one to cut after first."""
    heads: tuple[int, ...]
    """For each of them the i of its head Aux i."""


_TABLES = {
    "resnet152": _Table(  # Table 10
        layers=50,
        ranking=(11, 13, 17, 19, 22, 23, 25, 26, 28, 29, 49, 31, 48, 38, 37, 36),
        heads=(4, 4, 4, 3, 2, 4, 2, 2, 4, 2, 4, 2, 4, 4, 4, 4),
    ),
    "resnet101": _Table(  # Table 11
        layers=33,
        ranking=(7, 11, 12, 22, 25, 27, 28, 29, 19, 32, 31, 30, 26, 24, 23, 20),
        heads=(4, 4, 4, 4, 4, 4, 4, 4, 4, 3, 2, 4, 4, 4, 4, 4),
    ),
    "resnet50": _Table(  # Table 12
        layers=16,
        ranking=(10, 12, 11, 13, 15, 14, 9, 6, 5, 2, 8, 4, 3, 1, 7),
        heads=(4, 4, 4, 4, 4, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1),
    ),
    "vgg19": _Table(  # Table 13
        layers=16,
        ranking=(6, 13, 14, 15, 12, 11, 8, 9, 7, 10, 4, 5, 2, 1, 3),
        heads=(4, 1, 1, 1, 1, 2, 1, 4, 1, 4, 1, 1, 1, 1, 1),
    ),
}

PUBLISHED = tuple(sorted(_TABLES))
"""Names of the networks that have a table."""


def published(network: str, blocks: int) -> Decoupling:
    """Return the published decoupling of a network.

    Args:
        network: One of :data:`PUBLISHED`.
        blocks: From 2 to one more than the table has layers: 16 for ``resnet50`` and ``vgg19``,
            17 for ``resnet101`` and ``resnet152``.

    Raises:
        DecouplingError: There is no table for the network, or it does not reach that far.
    """
    if network not in _TABLES:
        raise DecouplingError(
            f"no decoupling of {shown(network)} was published; there are {', '.join(PUBLISHED)}"
        )
    table = _TABLES[network]
    most = len(table.ranking) + 1
    if not 2 <= blocks <= most:
        raise DecouplingError(
            f"blocks={blocks}, but the published table of {network} ranks {most - 1} layers, "
            f"enough for 2 to {most} blocks; give blocks between 2 and {most}"
        )
    best = sorted(list(zip(table.ranking, table.heads, strict=True))[: blocks - 1])
    return Decoupling(
        network,
        table.layers,
        cuts=tuple(layer for layer, _ in best),
        heads=tuple(f"aux{head}" for _, head in best),
        ranking=table.ranking,
    )
