"""Data sets whose examples are made one by one, in worker processes.

    order -> [ (split, key, number), .. ] --> worker: fetch each, stack --> device: prepare
             one list per batch               several batches ahead

A key holds all that a worker needs to make an example, and the number seeds its randomness, so
which worker makes a batch, and when, changes nothing. Batches come back in their order.
"""

from __future__ import annotations

import pickle
import signal
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ...pipeline.seed import derive
from .dataset import DataSet, Facts, Selection
from .error import DataError
from .labels import check_labels
from .part import Fetch, StreamPart
from .preparation import Preparation

__all__ = ["StreamData"]

AHEAD = 2  # batches per worker


class StreamData(DataSet[StreamPart]):
    """A data set that is read while training; implements :class:`~.data.Data`.

    Args:
        parts: ``train``, ``test``, and ``validation`` where there is one.
        facts: what is known about the data set.
        preparation: from the examples to the inputs of a network.
        seed: the run's seed.
        device: where batches go.
        workers: processes that make examples; 0: this one does. They start with the first batch,
            by spawn: a fork would inherit locks that another thread holds at that moment, and
            a fork server's children outlive a trainer that is killed.
    """

    def __init__(
        self,
        parts: Mapping[str, StreamPart],
        facts: Facts,
        *,
        preparation: Preparation,
        seed: int,
        device: torch.device,
        workers: int,
    ) -> None:
        super().__init__(parts, facts, preparation=preparation, seed=seed, device=device)
        self._workers = workers
        self._fetches = {split: part.fetch for split, part in parts.items()}
        self._idle: list[_Crew] = []
        self._closed = False

    def example(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """See :meth:`.data.Data.example`. Starts no workers."""
        indices = torch.arange(batch_size) % self.sizes["train"]
        requests = self._requests([Selection("train", indices)])
        x, y = next(_Crew(self._fetches, workers=0, pin=False).batches(requests))
        return self._preparation.evaluate(x.to(self._device)), y.to(self._device)

    def close(self) -> None:
        """Ends the workers that are idle now, and the others when their iterator is closed."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _batches(self, selections: Iterable[Selection]) -> Iterator[tuple[Tensor, Tensor]]:
        if self._closed:
            raise DataError(f"data set {self.name}: it has been closed")
        pin = self._device.type == "cuda"
        crew = self._idle.pop() if self._idle else _Crew(self._fetches, self._workers, pin=pin)
        reusable = False
        try:
            for x, y in crew.batches(self._requests(selections)):
                check_labels(y, self.classes, source=f"data set {self.name}")
                yield (
                    x.to(self._device, non_blocking=pin),
                    y.to(self._device, non_blocking=pin),
                )
            reusable = True
        except GeneratorExit:
            reusable = True
            raise
        finally:
            # After an error a worker may be gone.
            if reusable and not self._closed:
                self._idle.append(crew)
            else:
                crew.close()

    def _requests(self, selections: Iterable[Selection]) -> Iterator[list[Request]]:
        for split, indices, epoch in selections:
            keys = self._parts[split].keys
            yield [
                Request(split, keys[index], self._number(epoch, index))
                for index in indices.tolist()
            ]

    def _number(self, epoch: int | None, index: int) -> int | None:
        return None if epoch is None else derive(self._seed, "example", epoch, index)


class Request(NamedTuple):
    """One example that a worker is to make; see :class:`~.part.Fetch`."""

    split: str
    key: Any
    number: int | None


class _Crew:
    """Worker processes that stay alive from one iteration to the next.

    Args:
        fetches: makes examples of each split.
        workers: how many processes; 0: none.
        pin: whether batches come in page-locked memory, for faster copies to a GPU.
    """

    def __init__(self, fetches: Mapping[str, Fetch], workers: int, *, pin: bool) -> None:
        self._plan = _Plan()
        several = {
            "multiprocessing_context": "spawn",
            "persistent_workers": True,
            "prefetch_factor": AHEAD,
            "worker_init_fn": _ignore_interrupt,
        }
        self._loader: DataLoader[Any] | None = DataLoader(
            _Bench(fetches),
            batch_size=None,
            sampler=self._plan,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=pin,
            generator=torch.Generator(),  # else every iteration draws from torch's own
            **(several if workers else {}),
        )

    def batches(self, requests: Iterator[list[Request]]) -> Iterator[tuple[Tensor, Tensor]]:
        """One batch per list of requests."""
        self._plan.requests = requests
        for batch in self._started():
            if isinstance(batch, DataError):
                # A new one: to raise the local would tie this frame, and the workers, to itself.
                raise DataError(str(batch))
            yield batch

    def close(self) -> None:
        """Ends the processes; they end with the last reference to the loader."""
        self._loader = None

    def _started(self) -> Iterator[Any]:
        assert self._loader is not None  # nobody uses a crew after closing it
        try:
            return iter(self._loader)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise DataError(
                f"the data set cannot be sent to worker processes: {error}; make it picklable "
                "(no lambdas, open files or local classes), or give data.workers=0"
            ) from error


class _Plan(Sampler[list[Request]]):
    """What is requested in the current iteration."""

    def __init__(self) -> None:
        self.requests: Iterator[list[Request]] = iter(())

    def __iter__(self) -> Iterator[list[Request]]:
        return self.requests


class _Bench(Dataset[Any]):
    """Where a worker makes batches."""

    def __init__(self, fetches: Mapping[str, Fetch]) -> None:
        self._fetches = dict(fetches)

    def __getitem__(self, requests: list[Request]) -> tuple[Tensor, Tensor] | DataError:
        """A batch; what is wrong with the data comes back as a value and is raised over there."""
        try:
            examples = [self._fetches[split](key, number) for split, key, number in requests]
            shapes = {tuple(x.shape) for x, _ in examples}
            if len(shapes) > 1:
                raise DataError(f"examples of one batch have different shapes: {sorted(shapes)}")
        except DataError as error:
            return error
        inputs, labels = zip(*examples, strict=True)
        return torch.stack(inputs), torch.tensor(labels, dtype=torch.int64)


def _as_it_is(batch: Any) -> Any:
    return batch


def _ignore_interrupt(worker: int) -> None:
    """Ctrl-C reaches all processes; the one that trains ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
