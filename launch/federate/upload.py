"""What clients upload, beside federated averaging, and what rounding changes in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...models.partitioned import PartitionedModule
from ...search.federated import Population, Traffic, nominal_share

__all__ = ["tensor_rows", "upload_facts", "upload_words"]


def upload_facts(
    traffic: Traffic, population: Population, shares: Sequence[float]
) -> dict[str, Any]:
    """Return the figures of the uploads, for ``summary.json``.

    Args:
        traffic: The bytes of the network.
        population: The clients.
        shares: Of the chunks.

    Returns:
        ``upload_share``: weights that clients send on average, all drawn equally often, as a part
        of what federated averaging sends; ``upload_share_nominal``: by the shares alone (Table 4);
        ``upload_rounding``: by how much rounding to whole entries and clients, and scales and
        biases that exist once per partition, make it larger; bytes of one client by chunk.
    """
    counts = population.counts(len(shares))
    share, nominal = traffic.share(counts), nominal_share(shares)
    return {
        "chunk_clients": counts,
        "upload_share": share,
        "upload_share_nominal": nominal,
        "upload_rounding": share - nominal,
        "client_bytes_up": [traffic.up(k) for k in range(1, len(shares) + 1)],
        "client_bytes_down": traffic.down,
        "fedavg_client_bytes": traffic.plain,
        "psi_bytes": traffic.psi,
    }


def upload_words(facts: dict[str, Any]) -> str:
    """Return the figures in a line."""
    share, nominal = facts["upload_share"], facts["upload_share_nominal"]
    words = f"{share:.2%} of federated averaging's weights"
    if share == nominal == 1:
        return words
    return (
        f"{words} ({nominal:.2%} by the shares, {100 * facts['upload_rounding']:+.4f} points by "
        "rounding)"
    )


def tensor_rows(model: PartitionedModule) -> list[tuple[str, list[int], list[float]]]:
    """Return every partitioned tensor: entries of each partition, and what the shares are exactly.

    A scale or bias of a normalisation layer exists once per partition, and has no exact share.
    """
    rows = []
    owned = [model.parameters_of(k) for k in range(1, len(model) + 1)]
    for name, tensor in model.tensors().items():
        entries = [own[name].numel() if name in own else 0 for own in owned]
        copied = sum(entries) != tensor.numel()
        exact = [] if copied else [share * tensor.numel() for share in model.proportions]
        rows.append((name, entries, exact))
    return rows
