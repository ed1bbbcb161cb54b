"""What arrives from other ranks, kept until the rank that needs it has come so far.

    link from rank 1 --> thread --> [ 41 | 42 | 45 ]   <-- take(bound=43): 41, 42
    link from rank 3 --> thread --> [ 44 ]                 45 and 44 wait: they are of later steps

A rank never uses what is newer than its own step, or its results would depend on who is faster
even where no staleness is allowed. A thread for each link takes what comes, so that a rank that
waits for one link does not hold up another. Room is bounded: a rank that is far ahead waits.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from torch import Tensor

from ...pipeline.link import Inlet, LinkClosedError
from ...pipeline.message import Kind, Message
from ...pipeline.worker import RemoteError

__all__ = ["Arrivals", "Ledger", "Source"]


class Ledger:
    """Which updates of something are still missing here.

    All ranks know from the seed at which steps a partition, or the hyperparameters, are updated.
    """

    def __init__(self) -> None:
        self._missing: deque[int] = deque()

    @property
    def next(self) -> int | None:
        """The step of the oldest missing update; None if none is known to be."""
        return self._missing[0] if self._missing else None

    def expect(self, step: int) -> None:
        """Note that there is an update at a step, later than all before."""
        self._missing.append(step)

    def arrived(self, step: int) -> None:
        """Note that all updates up to a step are here."""
        while self._missing and self._missing[0] <= step:
            self._missing.popleft()

    def age(self, bound: int) -> int:
        """Return by how many steps what is here lies behind ``bound``."""
        missing = self.next
        return 0 if missing is None or missing > bound else bound - missing + 1


class Arrivals:
    """All that arrives at one rank.

    Attributes:
        horizon: The last step that the rank may do, as far as is known.
        stopped: Whether the rank that moves the horizon on has stopped.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.horizon = 0
        self.stopped = False
        self._error: Exception | None = None

    def fail(self, error: Exception) -> None:
        """Let whoever waits here raise an error; the first one counts."""
        with self.changed:
            self._error = self._error or error
            self.changed.notify_all()

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Wait, holding ``changed``, until something is so.

        Raises:
            LinkClosedError, RemoteError: Another rank is gone or has failed.
        """
        while not ready():
            if self._error is not None:
                raise self._error
            self.changed.wait()


class Source:
    """What comes over one link.

    Args:
        inlet: The link.
        arrivals: Of the rank.
        newest: Whether an update makes earlier ones needless, as it does for weights.
        room: Updates of later steps that are kept at most.
        leads: Whether the rank at the other end moves the horizon on.
    """

    def __init__(
        self,
        inlet: Inlet,
        arrivals: Arrivals,
        *,
        newest: bool,
        room: int,
        leads: bool = False,
    ) -> None:
        self._inlet = inlet
        self._arrivals = arrivals
        self._newest = newest
        self._leads = leads
        self._room = room
        self._kept: deque[Message] = deque()
        self._bound = 0
        threading.Thread(target=self._run, daemon=True).start()

    def allow(self, bound: int) -> None:
        """Say, holding ``changed``, up to which step updates can be used now."""
        if bound > self._bound:
            self._bound = bound
            self._arrivals.changed.notify_all()

    def take(self) -> list[tuple[int, tuple[Tensor, ...]]]:
        """Return, holding ``changed``, what came and can be used, with its steps, in order."""
        found = []
        while self._kept and self._kept[0].step <= self._bound:
            message = self._kept.popleft()
            found.append((message.step, message.tensors))
        if found:
            self._arrivals.changed.notify_all()
        return found[-1:] if self._newest else found

    def _run(self) -> None:
        try:
            while True:
                message = self._inlet.get()
                if message.kind == Kind.STOP:
                    return self._end()
                if message.kind == Kind.ERROR:
                    raise RemoteError(message.text)
                self._keep(message)
        except (LinkClosedError, RemoteError) as error:
            self._arrivals.fail(error)

    def _end(self) -> None:
        """Note the end of the rank that moves the horizon on: all others end where it does.

        Another rank may end before this one has heard of the last horizon.
        """
        with self._arrivals.changed:
            self._arrivals.stopped = self._arrivals.stopped or self._leads
            self._arrivals.changed.notify_all()

    def _keep(self, message: Message) -> None:
        arrivals = self._arrivals
        with arrivals.changed:
            if message.kind == Kind.HORIZON:
                arrivals.horizon = max(arrivals.horizon, message.step)
            elif message.kind in (Kind.VALUES, Kind.GRADIENT):
                while message.step > self._bound and self._ahead() >= self._room:
                    arrivals.changed.wait()
                if self._newest and message.step <= self._bound:
                    self._kept.clear()  # all that is kept is older
                self._kept.append(message)
            arrivals.changed.notify_all()

    def _ahead(self) -> int:
        return sum(message.step > self._bound for message in self._kept)
