"""What `blockstep plan` predicts against what happens: the error in percent.

    python tests/bench_plan.py                  stages that sleep, 4 of them, on any two cores
    python tests/bench_plan.py --train          two blocks and backpropagation, measured here;
                                                needs a machine that does nothing else

Sleeping stages need no cores, so four run beside each other on two: in threads over the links
inside a process, and in processes over gloo, with a throttle in the sender for a slow network
(seconds per message = latency + bytes / bandwidth). GPipe, 1F1B and interleaved 1F1B are torch's
own, with modules that sleep forward and backward. Only the order and the waiting are tested so,
which is what the simulation is for.

With --train, `blockstep plan` times the layers of ResNet-50 of 0.25 width on Fashion-MNIST shapes
at batch 128, one thread; then `blockstep train` runs each method, and its images per second are
compared with the predicted ones.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from blockstep.pipeline.channel import Receiver, Sender
from blockstep.pipeline.crew import run_in_threads
from blockstep.pipeline.edge import Connection, Edge, connect
from blockstep.pipeline.gpu import NoGpu
from blockstep.pipeline.link import Inlet, LocalLink, Outlet, Sink
from blockstep.pipeline.mailbox import LocalMailbox
from blockstep.pipeline.message import Kind, Message, TensorSpec
from blockstep.pipeline.recorder import Recorder
from blockstep.pipeline.transfer import HostTransfer
from blockstep.pipeline.worker import Worker
from blockstep.search.prediction.asynchronous import Work, simulate
from blockstep.search.prediction.link import Room, Wire
from blockstep.search.prediction.schedule import chunks_per_rank
from blockstep.search.prediction.synchronous import Part, follow
from torch import Tensor, nn

CPU = torch.device("cpu")
WARM_UP, STEPS = 16, 40
DEPTH = 2
PARTS, ROUNDS = 8, 4


@dataclass(frozen=True)
class Case:
    """Sleeping stages.

    Attributes:
        name: Of the row.
        forward: Seconds of each stage.
        learn: Likewise, after its output was handed on; only with feedback.
        nbytes: Of a message.
        wire: What it travels over; None inside a process.
        feedback: Whether errors travel back.
    """

    name: str
    forward: tuple[float, ...]
    learn: tuple[float, ...] = (0.0,) * 4
    nbytes: int = 1 << 16
    wire: Wire | None = None
    feedback: bool = False

    def predicted(self) -> float:
        """Return the seconds per step of the simulation."""
        times = zip(self.forward, self.learn, strict=True)
        return simulate(
            [Work(*both, self.nbytes) for both in times],
            wires=[self.wire] * (len(self.forward) - 1),
            room=Room(DEPTH),
            feedback=self.feedback,
            steps=STEPS,
            warmup=WARM_UP,
        ).seconds


EQUAL, UNEQUAL = (0.06,) * 4, (0.03, 0.08, 0.05, 0.06)
FAST = Wire(0.0)
SLOW = Wire(0.005, (1 << 20) / 0.1)  # 1 MiB in 105 ms: slower than any stage.
CASES = (
    Case("threads, equal stages", EQUAL),
    Case("threads, unequal stages", UNEQUAL),
    Case("processes, equal stages", EQUAL, wire=FAST),
    Case("processes, unequal stages", UNEQUAL, wire=FAST),
    Case("processes, 1 MiB over a slow network", UNEQUAL, nbytes=1 << 20, wire=SLOW),
    Case("processes, 256 KiB over it", UNEQUAL, nbytes=1 << 18, wire=SLOW),
    Case("errors back, equal stages", (0.03,) * 4, (0.06,) * 4, wire=FAST, feedback=True),
    Case("errors back, unequal stages", UNEQUAL, (0.06, 0.04, 0.07, 0.05), wire=FAST,
         feedback=True),
    Case("errors back, 256 KiB over a slow network", UNEQUAL, (0.06, 0.04, 0.07, 0.05),
         nbytes=1 << 18, wire=SLOW, feedback=True),
)  # fmt: skip
SCHEDULED = tuple(
    (schedule, f"torch's {schedule}, {name} stages", times)
    for schedule in ("gpipe", "1f1b", "interleaved_1f1b")
    for name, times in (("equal", (0.04,) * 4), ("unequal", (0.02, 0.06, 0.03, 0.04)))
)
"""Forward seconds per micro-batch of each rank; backward takes twice as long."""


class Sleeper:
    """A stage that sleeps and hands on a tensor of a size."""

    def __init__(self, index: int, seconds: float, nbytes: int) -> None:
        self.index = index
        self.ends: list[float] = []
        self._seconds = seconds
        self._payload = torch.zeros(nbytes, dtype=torch.uint8)

    def step(self, message: Message) -> Message:
        """Sleep."""
        time.sleep(self._seconds)
        self.ends.append(time.perf_counter())
        return Message(Kind.BATCH, message.step, (self._payload, torch.zeros(1)))

    def evaluate(self, message: Message) -> Message:
        """Do nothing."""
        return message

    def evaluation(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def progress(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def check(self) -> None:
        """Find nothing wrong."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""


class Steps:
    """The inlet of the first stage: so many steps, then a stop."""

    def __init__(self, count: int) -> None:
        self._left = iter(range(1, count + 1))
        self._count = count

    def get(self) -> Message:
        """Return the next."""
        step = next(self._left, None)
        if step is None:
            return Message(Kind.STOP, self._count)
        return Message(Kind.BATCH, step, (torch.zeros(1), torch.zeros(1)))

    def waits(self) -> bool:
        """Never be empty."""
        return False

    def depth(self) -> tuple[int, int]:
        """Return nothing."""
        return 0, 0

    def close(self) -> None:
        """Do nothing."""


class Throttled(HostTransfer):
    """Sends no faster than a wire would."""

    def __init__(self, connection: Connection, wire: Wire) -> None:
        super().__init__(connection)
        self._wire = wire

    def send(self, tensor: Tensor, spec: TensorSpec, after: torch.cuda.Event | None) -> None:
        """Sleep as long as the tensor travels; only the payload has the latency."""
        if spec.nbytes > 8:
            time.sleep(self._wire.seconds(spec.nbytes))
        super().send(tensor, spec, after)


def pace(ends: Sequence[float]) -> float:
    """Return the seconds per step after the first."""
    return (ends[-1] - ends[WARM_UP - 1]) / (len(ends) - WARM_UP)


def make_worker(stage: Sleeper, inlet: Inlet, outlet: Outlet) -> Worker:
    """Make a worker of the runtime for a stage that sleeps."""
    recorder = Recorder(stage, LocalMailbox(), every=1000, batch_size=1, device=CPU, gpu=NoGpu())
    nothing: Callable[..., None] = lambda *_: None  # noqa: E731
    return Worker(
        stage, inlet, outlet, recorder=recorder, save=nothing, evaluated=nothing, device=CPU
    )


def in_threads(case: Case) -> float:
    """Return the seconds per step of workers in threads."""
    stages = [Sleeper(k + 1, one, case.nbytes) for k, one in enumerate(case.forward)]
    links = [
        LocalLink(f"link {k}->{k + 1}", max_messages=DEPTH, max_bytes=1 << 40)
        for k in range(1, len(stages))
    ]
    inlets: list[Inlet] = [Steps(WARM_UP + STEPS), *links]
    outlets: list[Outlet] = [*links, Sink()]
    ends = zip(stages, inlets, outlets, strict=True)
    run_in_threads([make_worker(*one) for one in ends], links)
    return pace(stages[-1].ends)


def rank_of_case(rank: int, case: Case) -> float:
    """Be one stage of a pipeline of processes; return its seconds per step."""
    ranks = len(case.forward)
    ahead = [Edge(k, k + 1, f"link {k + 1}->{k + 2}") for k in range(ranks - 1)]
    back = [Edge(k + 1, k, f"link {k + 2}->{k + 1}") for k in range(ranks - 1)]
    ends = {
        edge: _end(connection, rank, case.wire or FAST)
        for edge, connection in connect([*ahead, *back] if case.feedback else ahead).items()
    }
    taken = {(edge.source, edge.target): end for edge, end in ends.items()}
    before, behind = taken.get((rank - 1, rank)), taken.get((rank, rank + 1))
    stage = Sleeper(rank + 1, case.forward[rank], case.nbytes)
    if case.feedback:
        errors_in, errors_out = taken.get((rank + 1, rank)), taken.get((rank, rank - 1))
        _work_both_ways(case, rank, before, behind, errors_in, errors_out, stage)
    else:
        make_worker(stage, before or Steps(WARM_UP + STEPS), behind or Sink()).run()
    dist.barrier()
    return pace(stage.ends)


def _end(connection: Connection, rank: int, wire: Wire) -> Any:
    transfer = Throttled(connection, wire)
    if connection.edge.source == rank:
        return Sender(connection, transfer)
    return Receiver(connection, transfer, max_messages=DEPTH, max_bytes=1 << 40)


def _work_both_ways(
    case: Case, rank: int, before: Any, behind: Any, errors_in: Any, errors_out: Any, stage: Sleeper
) -> None:
    """Forward, hand on, take the error of the step before, learn, hand its error on."""
    delay = len(case.forward) - 1 - rank
    for step in range(WARM_UP + STEPS):
        message = before.get() if before else Message(Kind.BATCH, step + 1, ())
        result = stage.step(message)
        if behind:
            behind.put(result)
        if step < delay:
            continue
        if errors_in:
            errors_in.get()
        time.sleep(case.learn[rank])
        stage.ends[-1] = time.perf_counter()
        if errors_out:
            errors_out.put(result)
    if errors_in:
        errors_in.get()  # The error of the last step, which nobody learns from.


class _Nap(torch.autograd.Function):
    """Sleeps forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: float, backward: float) -> Tensor:
        """Sleep."""
        ctx.seconds = backward
        time.sleep(forward)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Sleep."""
        time.sleep(ctx.seconds)
        return gradients[0], None, None


class Napper(nn.Module):
    """A module that sleeps, with a weight to learn."""

    def __init__(self, forward: float, backward: float) -> None:
        super().__init__()
        self._seconds = forward, backward
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """Sleep."""
        return _Nap.apply(x * self.weight, *self._seconds)  # pyright: ignore


def rank_of_schedule(rank: int, schedule: str, times: Sequence[float]) -> float:
    """Be one rank of torch's pipeline; return the seconds per step."""
    from torch.distributed import pipelining

    ranks, chunks = len(times), chunks_per_rank(schedule)
    own = [
        pipelining.PipelineStage(
            Napper(times[rank] / chunks, 2 * times[rank] / chunks), k, ranks * chunks, CPU
        )
        for k in range(rank, ranks * chunks, ranks)
    ]
    kinds = {
        "gpipe": pipelining.ScheduleGPipe,
        "1f1b": pipelining.Schedule1F1B,
        "interleaved_1f1b": pipelining.ScheduleInterleaved1F1B,
    }
    stages: Any = own if chunks > 1 else own[0]
    run = kinds[schedule](stages, PARTS, loss_fn=lambda output, target: (output - target).sum())
    x, ends = torch.ones(4 * PARTS, 8), []
    for _ in range(2 + ROUNDS):
        if rank == 0:
            run.step(x)
        elif rank == ranks - 1:
            run.step(target=x, losses=[])
        else:
            run.step()
        ends.append(time.perf_counter())
    dist.barrier()
    return (ends[-1] - ends[1]) / ROUNDS


def predicted_schedule(schedule: str, times: Sequence[float]) -> float:
    """Return the seconds per step of the simulation."""
    chunks = chunks_per_rank(schedule)
    stages = [Part(one / chunks, 2 * one / chunks) for one in times] * chunks
    return follow(schedule, stages, parts=PARTS, wire=FAST).seconds


def _join(rank: int, ranks: int, meeting: str, job: Callable, args: tuple, answers: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=120),
    )
    answers.put(job(rank, *args))
    dist.barrier()
    os._exit(0)  # Threads of links that nobody uses any more still wait for messages.


def in_processes(job: Callable, *args: Any, ranks: int = 4) -> float:
    """Return the median of what the ranks of a job return."""
    answers = mp.get_context("spawn").SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_join, (ranks, f"{folder}/meeting", job, args, answers), nprocs=ranks)
        return statistics.median(answers.get() for _ in range(ranks))


def row(name: str, measured: float, predicted: float) -> float:
    """Print a row; return its error."""
    error = predicted / measured - 1
    print(
        f"{name:42}  measured {measured * 1e3:8.2f} ms  predicted {predicted * 1e3:8.2f} ms  "
        f"error {error:+7.2%}",
        flush=True,
    )
    return abs(error)


def sleeping() -> None:
    """Compare stages that sleep with their simulation."""
    errors = []
    begin = time.perf_counter()
    for _ in range(20):
        time.sleep(0.05)
    late = (time.perf_counter() - begin) / 20 - 0.05
    print(f"a sleep of 50 ms takes {late * 1e3:.2f} ms longer here; every error has this in it")
    for case in CASES:
        measured = in_threads(case) if case.wire is None else in_processes(rank_of_case, case)
        errors.append(row(case.name, measured, case.predicted()))
    for schedule, name, times in SCHEDULED:
        measured = in_processes(rank_of_schedule, schedule, times)
        errors.append(row(name, measured, predicted_schedule(schedule, times)))
    print(f"largest error {max(errors):.2%}, {len(errors)} cases, torch {torch.__version__}")


COMMON = (
    "train.threads=1",
    "wandb.mode=disabled",
    "measure.backprop=0",
    "measure.alone=0",
    "checkpoint.best=false",
    "checkpoint.every=0",
    "evaluate.every=0",
    "evaluate.final=false",
    "log.view=none",
    "data.train_examples=20000",
)


def training(options: argparse.Namespace) -> None:
    """Compare two blocks and backpropagation, as they train here, with the plan."""
    network = [
        f"model={options.model}",
        f"model.width={options.width}",
        f"data={options.data}",
        f"train.batch_size={options.batch}",
        f"train.channels_last={str(options.channels_last).lower()}",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        plan = [
            "methods=[backprop,sedona,dgl]",
            "blocks=[2]",
            "devices=2",
            "train.threads=1",
            f"network.gbit={options.gbit}",
            f"measure.seconds={options.seconds}",
            f"output={folder / 'plan.json'}",
        ]
        _blockstep("plan", *network, *plan)
        found = json.loads((folder / "plan.json").read_text())["predictions"]
        for repeat in range(options.repeats):
            for one in found:
                words = ["method=backprop"]
                if one["method"] != "backprop":
                    cuts = ",".join(map(str, one["cuts"]))
                    words = [f"method={one['method']}", f"cuts=[{cuts}]"]
                name = f"{one['method']}-{repeat}"
                where = [f"runs={folder}", f"name={name}", f"train.steps={options.steps}"]
                _blockstep("train", *COMMON, *network, *words, *where)
                summary = json.loads((folder / name / "summary.json").read_text())
                measured = options.batch / summary["images_per_second"]
                row(f"{one['method']}, {one['blocks']} block(s)", measured, one["seconds"])


def _blockstep(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "blockstep", *words], check=True)


def main() -> None:
    """Measure and print one line per case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--data", default="fashion_mnist")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--gbit", type=float, default=10.0, help="of the loopback network")
    parser.add_argument("--channels-last", action="store_true")
    options = parser.parse_args()
    if options.train:
        training(options)
    else:
        sleeping()


if __name__ == "__main__":
    main()
