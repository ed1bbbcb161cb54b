"""The checkpoints of a search: its state, and a file for each snapshot of its memory.

    step-100/   search.pt   snapshot-7.pt   snapshot-8.pt   snapshot-9.pt
                                     |               |
    step-200/   search.pt   snapshot-8.pt   snapshot-9.pt   snapshot-10.pt   <- only this is new

A snapshot never changes once it is made, so the next checkpoint takes its file over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...pipeline.checkpoint import CheckpointError, Checkpoints, Shard
from ...search.sedona import Search
from ...search.snapshots import Snapshot

__all__ = ["SearchCheckpoints"]

STATE = "search.pt"


class SearchCheckpoints:
    """Writes and reads the checkpoints of one search.

    Args:
        checkpoints: Those of the run.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self._step = 0
        self._known: Mapping[str, Shard] = {}

    def write(self, step: int, search: Search) -> list[Shard]:
        """Write everything that the checkpoint before does not have, and take the rest over.

        Args:
            step: Steps of both phases that are done.
            search: Where it stands.

        Returns:
            All files of the checkpoint.

        Raises:
            CheckpointError: A file cannot be written.
        """
        snapshots = search.snapshots
        shards = {}
        for snapshot in snapshots:
            name = _name(snapshot.number)
            shards[name] = self._taken_over(step, name) or self._checkpoints.write(
                step, name, snapshot.state_dict()
            )
        order = [snapshot.number for snapshot in snapshots]
        content = {"search": search.state_dict(), "snapshots": order}
        state = self._checkpoints.write(step, STATE, content)
        self._step, self._known = step, shards
        return [state, *shards.values()]

    def read(self, step: int, search: Search) -> None:
        """Let a search continue from the checkpoint after ``step``.

        Raises:
            CheckpointError: A file is missing or damaged; it is named.
        """
        checkpoint = self._checkpoints.read(self._checkpoints.path(step))
        content: dict[str, Any] = checkpoint.load(STATE)
        snapshots = [
            Snapshot.from_state(checkpoint.load(_name(number))) for number in content["snapshots"]
        ]
        search.load_state_dict(content["search"], snapshots)
        self._step = step
        self._known = {shard.name: shard for shard in checkpoint.shards if shard.name != STATE}

    def _taken_over(self, step: int, name: str) -> Shard | None:
        if name not in self._known:
            return None
        try:
            return self._checkpoints.take_over(step, self._known[name], source=self._step)
        except CheckpointError:
            # Somebody removed the file, or the disk has lost it: it is written again.
            return None


def _name(number: int) -> str:
    return f"snapshot-{number}.pt"
