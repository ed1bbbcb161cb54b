"""The stage that trains one gradient-isolated block of a network from its own local loss.

                 +--------------------- block k ----------------------+
    x (detached) | body --> h --> head --> logits --> loss            | h.detach(), y
    ------------>|  ^       ^       ^                   |             |------------->
    y            |  +-------+-------+---- backward -----+             |
                 +----------------------------------------------------+

No gradient leaves the block. The last block's head is the classifier, so one block is plain
backpropagation. Greedy block-wise learning: SEDONA (Pyeon et al., ICLR 2021), section 2;
Decoupled Greedy Learning (Belilovsky et al., ICML 2020), Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .message import Kind, Message, dense
from .meter import LossMeter
from .optimization import OptimizationConfig, Schedule
from .optimizer import make_optimizer
from .replicas import OneReplica, replica_label
from .seed import derive, set_seed

__all__ = ["Block", "Criterion", "Examination", "InPlaceHeadError", "Metric", "Place", "autocast"]

Criterion = Callable[[Tensor, Tensor], Tensor]
"""From logits (B, classes) and labels (B,) to a scalar: the mean loss over the batch."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context of forward passes in ``precision``; nothing changes for float32."""
    dtype = DTYPES[precision]
    enabled = dtype != torch.float32
    return torch.autocast(device.type, dtype=dtype if enabled else None, enabled=enabled)


class Metric:
    """What an evaluation metric must do; any ``torchmetrics`` metric does."""

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Take in a batch."""

    def compute(self) -> Any:
        """Return the value over all batches."""

    def reset(self) -> None:
        """Forget them."""


class InPlaceHeadError(RuntimeError):
    """A head changed the activations that the next block learns from."""


@dataclass(frozen=True)
class Place:
    """Where a block stands.

    Attributes:
        index: Its number, from 1.
        blocks: How many there are.
        device: Where it computes.
        seed: The run's seed.
    """

    index: int
    blocks: int
    device: torch.device
    seed: int

    @property
    def last(self) -> bool:
        """Whether its head is the classifier."""
        return self.index == self.blocks

    @property
    def feeds_ensemble(self) -> bool:
        """Whether its head is one of the last two, without being the last."""
        return self.index == self.blocks - 1


class Block:
    """A block with its head, its optimizer, its schedule, its scaler and its random numbers.

    Args:
        body: The layers of the block.
        head: From the body's output to logits (B, classes).
        place: Which block it is, and where it computes.
        config: The ``train.*`` keys.
        criterion: The local loss.
        examiner: The loss that evaluations report; by default the local loss.
        metrics: Further metrics of an evaluation, by name.
        extra: Further modules that only the training needs, by name; they learn with the block.
        replicas: The ranks that train this block together; None where there is only this one.
    """

    def __init__(
        self,
        body: nn.Module,
        head: nn.Module,
        *,
        place: Place,
        config: OptimizationConfig,
        criterion: Criterion,
        examiner: Criterion | None = None,
        metrics: Mapping[str, Any] | None = None,
        extra: Mapping[str, nn.Module] | None = None,
        replicas: OneReplica | None = None,
    ) -> None:
        self.index = place.index
        self.place = place
        self.replicas = replicas or OneReplica()
        self._config = config
        self.body, self.head = body, head
        self.modules = {"body": body, "head": head, **(extra or {})}
        for module in self.modules.values():
            module.to(place.device)
            if config.channels_last:
                module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._criterion = criterion
        self._examiner = examiner or criterion
        self.parameters = [
            parameter
            for module in self.modules.values()
            for parameter in module.parameters()
            if parameter.requires_grad
        ]
        self.optimizer = make_optimizer(self.parameters, config)
        self._schedule = Schedule(config)
        self._scaler = torch.amp.GradScaler(
            place.device.type, enabled=config.precision == "float16"
        )
        forward = torch.compile(self.compute) if config.compile else self.compute
        self._forward = self.replicas.averaging(forward, self.modules)
        self._probed = not config.compile or place.last
        self._meter = LossMeter(
            replica_label(place.index, self.replicas.number, self.replicas.count)
        )
        self._examination = Examination(metrics or {}, self.replicas)

    def step(self, message: Message) -> Message:
        """Learn from (x, y); return (h, y) for the next block."""
        self._schedule.apply(self.optimizer, message.step)
        output = self._learn(message)
        return Message(Kind.BATCH, message.step, (dense(output), dense(message.tensors[1])))

    def again(self, message: Message, *, use: int) -> None:
        """See :meth:`~blockstep.pipeline.replay.ReplayStage.again`."""
        self._learn(message, "use", use)

    def _learn(self, message: Message, *occasion: int | str) -> Tensor:
        """Learn from (x, y) at the rate that is set; return h.

        Args:
            message: The batch.
            occasion: What else the random numbers are for, besides its step.
        """
        x, y = message.tensors
        self._probe(x)
        self._seed(message.step, *occasion)
        for module in self.modules.values():
            module.train()
        self.optimizer.zero_grad(set_to_none=True)
        outputs: list[Tensor] = []
        total = torch.zeros((), device=y.device)
        correct = torch.zeros((), device=y.device, dtype=torch.int64)
        parts = list(self._parts(self._enter(x), y))
        for number, (part, labels) in enumerate(parts, start=1):
            with self.replicas.part(last=number == len(parts)):
                h, logits, loss = self._forward(part, labels)
                share = len(labels) / len(y)
                if share != 1.0:
                    loss = loss * share
                weighed = self.replicas.weighed(loss, rows=len(y), total=message.total or len(y))
                self._scaler.scale(weighed).backward()
            outputs.append(h.detach())
            total += loss.detach()
            correct += (logits.detach().argmax(-1) == labels).sum()
        self._update()
        rate = self.optimizer.param_groups[0]["lr"]
        self._meter.add(step=message.step, lr=rate, loss=total, correct=correct, count=len(y))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def evaluate(self, message: Message) -> Message:
        """Take part in an evaluation; the last two heads vote together (SEDONA, section 4.3).

        A ``SAMPLE`` carries (x, y) and, on its way to the last block, the log-softmax of the head
        before it.
        """
        if message.kind == Kind.EVALUATE:
            # What is evaluated is what is saved.
            self.replicas.level(list(self.modules.values()))
            self._examination.begin(message.text)
            # The same in all blocks: threads of one process share what they draw from.
            set_seed(derive(self.place.seed, "evaluate", message.text), self.place.device)
            return message
        if message.kind == Kind.EVALUATED:
            self._examination.end(message.step)
            return message
        x, y, *earlier = message.tensors
        if not len(y):
            # A short batch that has nothing for this replica; not every module takes nothing.
            return message
        self.body.eval()
        self.head.eval()
        with torch.no_grad(), self._autocast():
            h = self.body(self._arrange(x))
            logits = self.head(h)
            loss = self._examiner(logits, y)
        own = logits.float().log_softmax(-1)
        self._examination.add(logits, y, loss=loss, vote=own + earlier[0] if earlier else None)
        vote = [dense(own)] if self.place.feeds_ensemble else []
        return Message(Kind.SAMPLE, message.step, (dense(h), dense(y), *vote))

    def evaluation(self) -> dict[str, Any]:
        """See :meth:`~blockstep.pipeline.stage.Stage.evaluation`."""
        return self._examination.result

    def progress(self) -> dict[str, float]:
        """See :meth:`~blockstep.pipeline.stage.Stage.progress`."""
        return self._meter.means()

    def check(self) -> None:
        """See :meth:`~blockstep.pipeline.stage.Stage.check`.

        Returns when all replicas have passed: the loss of one is in the weights of all.
        """
        self._meter.check()
        self.replicas.meet()

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`~blockstep.pipeline.stage.Stage.state_dict`.

        Schedules and random numbers are functions of the step, so they have no state.
        """
        return {
            **{name: module.state_dict() for name, module in self.modules.items()},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`~blockstep.pipeline.stage.Stage.load_state_dict`."""
        for name, module in self.modules.items():
            module.load_state_dict(state[name])
        self.optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])

    def compute(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the output, the logits and the local loss; what a learning rule overrides.

        Args:
            x: Inputs (B, ...).
            y: Labels (B,).
        """
        with self._autocast():
            h = self.body(x)
            version = 0 if torch.compiler.is_compiling() else h._version
            logits = self.head(h)
            if not torch.compiler.is_compiling() and not self.place.last:
                self._refuse_in_place(h, version)
            return h, logits, self._criterion(logits, y)

    def _probe(self, x: Tensor) -> None:
        """Before the first compiled step, look for in-place work that compiled code would hide."""
        if self._probed:
            return
        self._probed = True
        self.body.eval()
        self.head.eval()
        with torch.no_grad(), self._autocast():
            h = self.body(self._arrange(x[:2]))
            version = h._version
            self.head(h)
            self._refuse_in_place(h, version)

    def _refuse_in_place(self, h: Tensor, version: int) -> None:
        if h._version != version:
            raise InPlaceHeadError(
                f"stage {self.index}: the head changes the block's output in place, so the next "
                "block would learn from something else; make the head's first operation out of "
                "place (e.g. ReLU(inplace=False))"
            )

    def _enter(self, x: Tensor) -> Tensor:
        """Return the input of a training step, cut off from what it was computed from."""
        return self._arrange(x.detach())

    def _parts(self, x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        chunk = self._config.chunk
        if chunk is None or chunk >= len(y):
            yield x, y
            return
        yield from zip(x.split(chunk), y.split(chunk), strict=True)

    def _update(self) -> None:
        if self._config.clip is not None:
            self._scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.parameters, self._config.clip)
        self._scaler.step(self.optimizer)
        self._scaler.update()

    def _arrange(self, x: Tensor) -> Tensor:
        if x.dim() == 4 and self._config.channels_last:
            return x.contiguous(memory_format=torch.channels_last)
        return x

    def _autocast(self) -> torch.autocast:
        return autocast(self.place.device, self._config.precision)

    def _seed(self, step: int, *occasion: int | str) -> None:
        # Replicas have different examples, so they drop different units.
        number, count = self.replicas.number, self.replicas.count
        own = ("replica", number) if count > 1 else ()
        seed = derive(self.place.seed, "step", step, "stage", self.index, *own, *occasion)
        set_seed(seed, self.place.device)


def _plain(value: Any) -> Any:
    """Turn tensors, and mappings of them, into numbers and lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return torch.as_tensor(value).tolist()


class Examination:
    """The running sums of one evaluation of one block, and in the end of all its replicas.

    Args:
        metrics: Further metrics, by name.
        replicas: The ranks that evaluate this block together.
    """

    def __init__(self, metrics: Mapping[str, Any], replicas: OneReplica) -> None:
        self._metrics = metrics
        self._replicas = replicas
        for metric in metrics.values():
            replicas.join(metric)
        self.result: dict[str, Any] = {}
        self.begin("")

    def begin(self, split: str) -> None:
        """Start over for ``split``."""
        self._split = split
        self._examples = 0
        self._sums: Tensor | None = None
        self._votes: bool = False
        for metric in self._metrics.values():
            metric.reset()

    def add(self, logits: Tensor, y: Tensor, *, loss: Tensor, vote: Tensor | None) -> None:
        """Take in one batch; ``vote`` is the sum of the last two heads' log-softmax."""
        self._votes = vote is not None
        ensemble = vote if vote is not None else logits
        sums = torch.stack(
            [
                loss.double() * len(y),
                (logits.argmax(-1) == y).sum().double(),
                (ensemble.argmax(-1) == y).sum().double(),
            ]
        )
        self._sums = sums if self._sums is None else self._sums + sums
        self._examples += len(y)
        for metric in self._metrics.values():
            metric.update(logits.float().cpu(), y.cpu())

    def end(self, step: int) -> None:
        """Work out the result."""
        own = torch.zeros(3, dtype=torch.float64) if self._sums is None else self._sums.cpu()
        counts = torch.tensor([self._examples, self._votes], dtype=torch.float64)
        *sums, examples, votes = self._replicas.added(torch.cat([own, counts])).tolist()
        if not examples:
            raise RuntimeError(f"the evaluation of {self._split!r} had no examples")
        loss, correct, ensemble = (value / examples for value in sums)
        with self._replicas.together():
            metrics = {name: _plain(metric.compute()) for name, metric in self._metrics.items()}
        self.result = {
            "step": step,
            "split": self._split,
            "loss": loss,
            "accuracy": correct,
            "ensemble_accuracy": ensemble if votes else None,
            "metrics": metrics,
        }
