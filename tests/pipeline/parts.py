"""Small networks, data and crews for the tests of the runtime."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from blockstep.pipeline.block import Block, Place
from blockstep.pipeline.checkpoint import Checkpoints, Shard
from blockstep.pipeline.feed import Agenda, Feed, StopRequest
from blockstep.pipeline.gpu import NoGpu
from blockstep.pipeline.link import Inlet, LocalLink, Outlet, Sink
from blockstep.pipeline.mailbox import LocalMailbox
from blockstep.pipeline.message import Kind, Message
from blockstep.pipeline.optimization import OptimizationConfig
from blockstep.pipeline.recorder import Recorder
from blockstep.pipeline.replay import NoReplay
from blockstep.pipeline.seed import derive, generator
from blockstep.pipeline.stage import Stage
from blockstep.pipeline.worker import Worker
from torch import Tensor, nn

__all__ = [
    "AGENDA",
    "CPU",
    "Blocked",
    "Crew",
    "Images",
    "Records",
    "batch",
    "differences",
    "in_threads",
    "make_block",
    "make_crew",
    "make_parts",
    "make_worker",
    "serve",
    "until",
]

CPU = torch.device("cpu")
AGENDA = Agenda(
    start=0,
    steps=25,
    batch_size=8,
    evaluate_every=10,
    evaluate_batch_size=6,
    splits=("validation",),
    final_splits=("test",),
    checkpoint_every=8,
)
"""Evaluations and checkpoints that fall on different steps."""

CLASSES = 5
WIDTH = 6
SEED = 11
WAIT_SECONDS = 10.0


def make_parts(
    index: int, blocks: int, *, dropout: float = 0.0, seed: int = SEED
) -> tuple[nn.Sequential, nn.Sequential]:
    """Make the body and the head of one block of a network for images (B, 3, 8, 8)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "init", index))
        body = nn.Sequential(
            nn.Conv2d(3 if index == 1 else WIDTH, WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
        )
        head = nn.Sequential(
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout if index < blocks else 0.0),
            nn.Linear(4 * WIDTH, CLASSES),
        )
    return body, head


def make_block(
    config: OptimizationConfig,
    *,
    index: int = 1,
    blocks: int = 1,
    dropout: float = 0.0,
    criterion: Callable[[Tensor, Tensor], Tensor] | None = None,
    parts: tuple[nn.Module, nn.Module] | None = None,
    seed: int = SEED,
    **options: Any,
) -> Block:
    """Make one block, by default with the parts of :func:`make_parts`."""
    body, head = parts or make_parts(index, blocks, dropout=dropout)
    return Block(
        body,
        head,
        place=Place(index, blocks, CPU, seed),
        config=config,
        criterion=criterion or nn.CrossEntropyLoss(),
        **options,
    )


def batch(step: int, *, size: int = 8, seed: int = SEED) -> Message:
    """Make the training message of a step."""
    draw = generator(seed, "batch", step)
    x = torch.randn(size, 3, 8, 8, generator=draw)
    return Message(Kind.BATCH, step, (x, torch.randint(CLASSES, (size,), generator=draw)))


class Images:
    """A data set: random images, flipped and mixed by the step's own generators.

    Args:
        seed: Of order and flips.
        examples: Images for training; a third as many for each other split.
        broken_at: Step whose images are not numbers; 0 for none.
    """

    def __init__(self, *, seed: int = SEED, examples: int = 48, broken_at: int = 0) -> None:
        draw = generator(5, "images")
        self._seed = seed
        self._broken_at = broken_at
        self._x = torch.randn(examples, 3, 8, 8, generator=draw)
        self._y = torch.randint(CLASSES, (examples,), generator=draw)

    def train(self, *, batch_size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of the steps after ``start``."""
        step = start
        while True:
            step += 1
            rows = torch.randint(
                len(self._y), (batch_size,), generator=generator(self._seed, "data", step)
            )
            flips = torch.rand(batch_size, generator=generator(self._seed, "augment", step)) < 0.5
            x = self._x[rows]
            x = torch.where(flips[:, None, None, None], x.flip(-1), x)
            yield x * (float("nan") if step == self._broken_at else 1.0), self._y[rows]

    def evaluation(self, split: str, *, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield a third of the images in order; the last batch may be short."""
        third = len(self._y) // 3
        begin = {"validation": 0, "test": third}[split]
        rows = slice(begin, begin + third)
        yield from zip(
            self._x[rows].split(batch_size), self._y[rows].split(batch_size), strict=True
        )


@dataclass
class Records:
    """What a worker told while it ran."""

    evaluations: list[dict[str, Any]] = field(default_factory=list)
    shards: dict[int, Shard] = field(default_factory=dict)
    mailbox: LocalMailbox = field(default_factory=LocalMailbox)


def make_worker(
    stage: Stage,
    inlet: Inlet,
    outlet: Outlet,
    *,
    records: Records | None = None,
    folder: Path | None = None,
    every: int = 5,
    kind: Callable[..., Worker] = Worker,
    replay: NoReplay | None = None,
    **options: Any,
) -> Worker:
    """Make a worker that keeps its results in ``records`` and its shards in ``folder``."""
    kept = records or Records()

    def save(step: int, stage: Stage) -> None:
        if folder is not None:
            name = f"stage-{stage.index}.pt"
            kept.shards[step] = Checkpoints(folder).write(step, name, stage.state_dict())

    def evaluated(result: dict[str, Any]) -> None:
        kept.evaluations.append({key: result[key] for key in result if key != "seconds"})

    recorder = Recorder(
        stage, kept.mailbox, every=every, batch_size=8, device=CPU, gpu=NoGpu(), replay=replay
    )
    return kind(
        stage,
        inlet,
        outlet,
        recorder=recorder,
        replay=replay,
        device=CPU,
        **{"save": save, "evaluated": evaluated, **options},
    )


@dataclass
class Crew:
    """All stages of a small run in this process."""

    workers: list[Worker]
    links: list[LocalLink]
    records: list[Records]
    stop: StopRequest

    def states(self) -> list[dict[str, Any]]:
        """Return the state of every stage."""
        return [worker.stage.state_dict() for worker in self.workers]


def make_crew(
    blocks: int,
    agenda: Agenda,
    *,
    config: OptimizationConfig | None = None,
    depth: int = 1,
    dropout: float = 0.0,
    source: Images | None = None,
    folder: Path | None = None,
    state: Sequence[Mapping[str, Any]] = (),
    criterion: Callable[[int], Callable[[Tensor, Tensor], Tensor]] | None = None,
    replay: Callable[[Block, LocalLink], NoReplay] | None = None,
) -> Crew:
    """Make the workers of ``blocks`` stages and the local links between them.

    Args:
        blocks: Number of stages.
        agenda: What the feed says.
        config: The ``train.*`` keys.
        depth: Messages that a link holds.
        dropout: Of every block.
        source: The data.
        folder: Where shards are written; None for nowhere.
        state: Per stage, what it begins with.
        criterion: From the stage's number to its loss.
        replay: From each block but the first, and the link into it, to what it learns from again.
    """
    config = config or OptimizationConfig(steps=agenda.steps, lr=0.05)
    stop = StopRequest()
    links = [
        LocalLink(f"link {stage}->{stage + 1}", max_messages=depth, max_bytes=1 << 20)
        for stage in range(1, blocks)
    ]
    inlets: list[Inlet] = [Feed(source or Images(), agenda, stop=stop), *links]
    outlets: list[Outlet] = [*links, Sink()]
    records = [Records() for _ in range(blocks)]
    workers = []
    for index in range(1, blocks + 1):
        loss = criterion(index) if criterion else None
        block = make_block(config, index=index, blocks=blocks, dropout=dropout, criterion=loss)
        if state:
            block.load_state_dict(dict(state[index - 1]))
        number = index - 1
        worker = make_worker(
            block,
            inlets[number],
            outlets[number],
            records=records[number],
            folder=folder,
            replay=replay(block, links[number - 1]) if replay and number else None,
        )
        workers.append(worker)
    return Crew(workers, links, records, stop)


def differences(left: Any, right: Any, path: str = "") -> list[str]:
    """Return where two nests of dicts, lists, numbers and tensors differ, down to the last bit.

    Tensors must agree in dtype, shape, strides and every bit of every element.
    """
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        same = left.dtype == right.dtype and left.shape == right.shape
        same = same and left.stride() == right.stride() and _bits(left) == _bits(right)
        return [] if same else [path]
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        if left.keys() != right.keys():
            return [f"{path}: {left.keys()} / {right.keys()}"]
        return [
            text for key in left for text in differences(left[key], right[key], f"{path}/{key}")
        ]
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        if len(left) != len(right):
            return [f"{path}: {len(left)} / {len(right)} items"]
        pairs = enumerate(zip(left, right, strict=True))
        return [text for index, pair in pairs for text in differences(*pair, f"{path}/{index}")]
    return [] if type(left) is type(right) and left == right else [f"{path}: {left} / {right}"]


def _bits(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


class Blocked:
    """A call in a thread of its own, which should wait for something.

    Args:
        function: What to call.
        args: Its arguments.
    """

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._function = function
        self._args = args
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._function(*self._args)
        except BaseException as error:
            self._error = error

    def waits(self, seconds: float = 0.05) -> bool:
        """Return whether the call has not returned after ``seconds``."""
        self._thread.join(seconds)
        return self._thread.is_alive()

    def result(self) -> Any:
        """Return the call's value or raise its error; it must end within a few seconds."""
        if self.waits(WAIT_SECONDS):
            raise AssertionError(f"{self._function} does not return")
        if self._error is not None:
            raise self._error
        return self._value


def serve() -> dist.TCPStore:
    """Host a store on a free port of the loopback interface."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        port = listener.getsockname()[1]
        return dist.TCPStore(
            "127.0.0.1",
            port,
            is_master=True,
            wait_for_workers=False,
            master_listen_fd=listener.detach(),
        )


def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; it must within a few seconds."""
    deadline = time.perf_counter() + WAIT_SECONDS
    while not condition():
        assert time.perf_counter() < deadline, f"{condition} does not come true"
        time.sleep(0.005)


def in_threads(*functions: Callable[[], Any]) -> list[Any]:
    """Call all functions at once and return their values."""
    calls = [Blocked(function) for function in functions]
    return [call.result() for call in calls]
