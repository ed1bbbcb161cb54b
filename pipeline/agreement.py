"""One early end for several replicas of the first stage: each has a feed, all must end as one.

    replica 1   step n | asked to stop; tells "the last step is n + 2" | step n + 1 | step n + 2 |
    replica 2   step n - 1 | looks | step n | looks | step n + 1 | looks | step n + 2 | looks: end

A request to stop reaches every rank at a moment of its own, so the first replica decides, and the
others look in the store before each step. They cannot look too early. A replica that has finished
step n + 2 has averaged the gradients of step n + 1 with the first (on a GPU the host may be one
step ahead of its device, and no more, see :class:`~blockstep.pipeline.worker.Stopwatch`), so the
first had begun step n + 1; and it told the last step before that.
"""

from __future__ import annotations

import torch.distributed as dist

from .feed import StopRequest
from .watchdog import order, ordered

__all__ = ["AgreedStop"]

LAST_STEP = "last_step"
STEPS_AHEAD = 2


class AgreedStop:
    """An early end at the same step in every replica of the first stage.

    Args:
        store: A client of its own.
        request: What this rank was asked; only that of the first replica counts. Whoever is asked
            orders it for all, see :class:`~blockstep.pipeline.watchdog.Pulse`.
        first: Whether this rank is the first replica.
    """

    def __init__(self, store: dist.Store, request: StopRequest, *, first: bool) -> None:
        self._store = store
        self._request = request
        self._first = first
        self._last: int | None = None
        self._looked = -1

    def due(self, step: int) -> bool:
        """Whether the run ends after ``step``, which is done; see :meth:`Stop.due`."""
        if self._last is None and self._first:
            self._last = self._decide(step)
        elif self._last is None and step > self._looked:
            # Once per step is enough: each look is a question to the store.
            self._looked = step
            self._last = self._look()
        return self._last is not None and step >= self._last

    def _decide(self, step: int) -> int | None:
        if not self._request.is_set():
            return None
        last = step + STEPS_AHEAD
        order(self._store, LAST_STEP, str(last))
        return last

    def _look(self) -> int | None:
        told = ordered(self._store, LAST_STEP)
        return None if told is None else int(told)
