"""Several ranks that share a stage: each learns from its part of a batch, all take one step.

    replica 1   rows 0-2 --> forward, backward --+                  +--> optimizer step
    replica 2   rows 3-5 --> forward, backward --+-- sum of all ----+--> optimizer step
    replica 3   rows 6-7 --> forward, backward --+    gradients     +--> optimizer step

The gradients are averaged by torch's DistributedDataParallel while the backward pass goes on. It
takes their plain mean, so the loss of a part is weighed by the examples in it: the gradient is that
of the mean over the whole batch, also where the parts are of different sizes. Replicas begin equal
and stay equal. Batch normalisation sees its own part; its running statistics are replica 1's.
Stages may differ in their number of replicas, so their ranks are plain process groups: a DeviceMesh
is a grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .edge import new_group
from .link import LinkClosedError

__all__ = [
    "Compute",
    "OneReplica",
    "Replicas",
    "Team",
    "form_teams",
    "replica_label",
    "tells_of_lost_rank",
]

Compute = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""From a block's input and labels to its output, its logits and its loss."""

_GLOO = "gloo"
"""Stands in every error of a gloo collective, in the name of a source file: such errors have no
type of their own."""


def tells_of_lost_rank(error: RuntimeError) -> bool:
    """Return whether an error of a collective says that another rank is gone."""
    return isinstance(error, dist.DistError) or _GLOO in str(error)


def replica_label(stage: int, replica: int, replicas: int) -> str:
    """Return what messages call a replica: ``stage 1``, or ``stage 1 replica 2`` of several."""
    return f"stage {stage}" if replicas == 1 else f"stage {stage} replica {replica}"


@dataclass(frozen=True)
class Team:
    """The ranks of one stage, as one of them sees them.

    Attributes:
        words: Group for what is counted or told, always gloo: it stays on the host.
        gradients: Group for gradients and buffers: the same one, or NCCL between GPUs.
    """

    words: dist.ProcessGroup
    gradients: dist.ProcessGroup


def form_teams(stages: Sequence[Sequence[int]], *, backend: str = "gloo") -> Team | None:
    """Create the groups of all stages that have several ranks. Every rank calls this alike.

    Args:
        stages: The ranks of each stage.
        backend: Of the gradients: ``"gloo"`` or ``"nccl"``.

    Returns:
        The team of this rank; None if it has its stage for itself.
    """
    team = None
    for ranks in stages:
        if len(ranks) == 1:
            continue
        words = new_group(list(ranks), "gloo")
        gradients = words if backend == "gloo" else new_group(list(ranks), backend)
        if dist.get_rank() in ranks:
            team = Team(words, gradients)
    return team


class OneReplica:
    """A stage that one rank has for itself: there is nobody to agree with."""

    number = 1
    count = 1
    trained_bytes = 0.0
    """Bytes that this rank has sent to average gradients, as a ring does it."""

    def averaging(self, compute: Compute, modules: Mapping[str, nn.Module]) -> Compute:
        """Return ``compute`` such that the gradients of its loss are averaged over replicas."""
        return compute

    def part(self, *, last: bool) -> AbstractContextManager[Any]:
        """Return what is entered for a part of a step; gradients are averaged in the last."""
        return nullcontext()

    def weighed(self, loss: Tensor, *, rows: int, total: int) -> Tensor:
        """Return the loss of ``rows`` examples as its share of the mean over ``total``."""
        return loss

    def level(self, modules: Sequence[nn.Module]) -> None:
        """Give every replica the buffers of the first, such as running statistics."""

    def added(self, numbers: Tensor) -> Tensor:
        """Return the sum of a vector over all replicas, on the host."""
        return numbers.cpu()

    def meet(self) -> None:
        """Wait until all replicas have come here."""

    def together(self) -> AbstractContextManager[Any]:
        """Return what is entered to do something that ends only when all replicas do it."""
        return nullcontext()

    def join(self, metric: Any) -> None:
        """Let a torchmetrics metric be of these replicas' examples, and of no others."""
        _reach(metric, None)


class Replicas(OneReplica):
    """What one of several replicas does together with the others.

    Args:
        team: The groups of the stage's ranks.
        stage: The stage that they share.
        number: Which one this is, from 1.
        count: How many there are.
        tell: Told ``wait_replicas`` when it waits for the others, ``busy`` when no more.
    """

    def __init__(
        self,
        team: Team,
        *,
        stage: int,
        number: int,
        count: int,
        tell: Callable[[str], None] = lambda state: None,
    ) -> None:
        self.number = number
        self.count = count
        self._team = team
        self._label = replica_label(stage, number, count)
        self._tell = tell
        self._parallel: DistributedDataParallel | None = None

    def averaging(self, compute: Compute, modules: Mapping[str, nn.Module]) -> Compute:
        """See :meth:`OneReplica.averaging`.

        Parameters that a step does not use are looked for. That allows them, also where replicas
        differ in them; and DistributedDataParallel then keeps to the division of the gradients that
        it begins with, so the sums of a resumed run are those of one that never stopped.
        """
        with self.together():
            self._parallel = DistributedDataParallel(
                _Computation(compute, modules),
                process_group=self._team.gradients,
                find_unused_parameters=True,
            )
        # Torch compares annotations with types, and those of this file are texts.
        self._parallel.register_comm_hook(None, lambda state, bucket: self._average(bucket))
        return self._parallel

    @contextmanager
    def part(self, *, last: bool) -> Iterator[None]:
        """See :meth:`OneReplica.part`."""
        assert self._parallel is not None
        with self._errors(), nullcontext() if last else self._parallel.no_sync():
            yield
        self._tell("busy")

    def weighed(self, loss: Tensor, *, rows: int, total: int) -> Tensor:
        """See :meth:`OneReplica.weighed`; the mean over replicas divides by their number."""
        weight = self.count * rows / total
        return loss if weight == 1.0 else loss * weight

    def level(self, modules: Sequence[nn.Module]) -> None:
        """See :meth:`OneReplica.level`."""
        with self.together(), torch.no_grad():
            for module in modules:
                for buffer in module.buffers():
                    dist.broadcast(buffer, group=self._team.gradients, group_src=0)

    def added(self, numbers: Tensor) -> Tensor:
        """See :meth:`OneReplica.added`."""
        numbers = numbers.to("cpu", copy=True)
        with self.together():
            dist.all_reduce(numbers, group=self._team.words)
        return numbers

    def meet(self) -> None:
        """See :meth:`OneReplica.meet`."""
        self.added(torch.zeros(1))

    def join(self, metric: Any) -> None:
        """See :meth:`OneReplica.join`."""
        _reach(metric, self._team.words)

    @contextmanager
    def together(self) -> Iterator[None]:
        """See :meth:`OneReplica.together`."""
        self._tell("wait_replicas")
        with self._errors():
            yield
        self._tell("busy")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Tell the end of another replica from an error of this one."""
        try:
            yield
        except RuntimeError as error:
            if tells_of_lost_rank(error):
                raise LinkClosedError(f"{self._label}: another replica is gone: {error}") from error
            raise

    def _average(self, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        """Average a part of the gradients, as DistributedDataParallel does by itself."""
        if bucket.is_last():
            # All is computed: what follows is waiting.
            self._tell("wait_replicas")
        buffer = bucket.buffer()
        ring = 2 * (self.count - 1) / self.count
        self.trained_bytes += ring * buffer.numel() * buffer.element_size()
        sums = dist.all_reduce(buffer.div_(self.count), group=self._team.gradients, async_op=True)
        assert sums is not None
        return sums.get_future().then(lambda done: done.value()[0])


class _Computation(nn.Module):
    """What a block computes in a step, as one module.

    Args:
        compute: The computation.
        modules: All that learns in it.
    """

    def __init__(self, compute: Compute, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self._compute = compute
        self.parts = nn.ModuleDict(modules)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, logits, loss = self._compute(x, y)
        # Nothing is learned through the others, so no parameter is used because of them.
        return h.detach(), logits.detach(), loss


def _reach(metric: Any, group: dist.ProcessGroup | None) -> None:
    """Let a torchmetrics metric join the ranks of ``group``: by itself it waits for all ranks."""
    parts = metric.modules() if isinstance(metric, nn.Module) else [metric]
    for part in parts:
        if hasattr(part, "distributed_available_fn"):
            part = cast(Any, part)
            part.distributed_available_fn = (lambda: False) if group is None else (lambda: True)
            part.process_group = group
