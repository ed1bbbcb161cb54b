"""Blocks that learn from errors that travel back, and crews of them, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blockstep.pipeline.block import Place
from blockstep.pipeline.feed import Agenda, Feed, StopRequest
from blockstep.pipeline.feedback import FeedbackWorker, NoSignals
from blockstep.pipeline.feedback_block import FeedbackBlock
from blockstep.pipeline.link import Inlet, LocalLink, Outlet, Sink
from blockstep.pipeline.optimization import OptimizationConfig
from torch import nn

from tests.pipeline.parts import CPU, SEED, Crew, Images, Records, make_parts, make_worker

__all__ = ["make_feedback_block", "make_feedback_crew"]


def make_feedback_block(
    kind: type[FeedbackBlock[Any]],
    config: OptimizationConfig,
    *,
    index: int,
    blocks: int,
    dropout: float = 0.0,
    parts: tuple[nn.Module, nn.Module] | None = None,
) -> FeedbackBlock[Any]:
    """Make one block; only the last has a head."""
    body, head = parts or make_parts(index, blocks, dropout=dropout)
    return kind(
        body,
        head if index == blocks else nn.Identity(),
        place=Place(index, blocks, CPU, SEED),
        config=config,
        criterion=nn.CrossEntropyLoss(),
    )


def make_feedback_crew(
    kind: type[FeedbackBlock[Any]],
    blocks: int,
    agenda: Agenda,
    *,
    config: OptimizationConfig,
    depth: int = 1,
    dropout: float = 0.0,
    source: Images | None = None,
    folder: Path | None = None,
    state: Sequence[Mapping[str, Any]] = (),
) -> Crew:
    """Make the workers of ``blocks`` stages, and the local links between them in both directions.

    See :func:`tests.pipeline.parts.make_crew` for the arguments; ``links`` has both directions.
    """
    stop = StopRequest()
    links, backs = (
        [
            LocalLink(f"link {stage} {way}", max_messages=depth, max_bytes=1 << 20)
            for stage in range(1, blocks)
        ]
        for way in ("on", "back")
    )
    inlets: list[Inlet] = [Feed(source or Images(), agenda, stop=stop), *links]
    outlets: list[Outlet] = [*links, Sink()]
    signals: list[Inlet] = [*backs, NoSignals()]
    errors: list[Outlet] = [Sink(), *backs]
    records = [Records() for _ in range(blocks)]
    workers = []
    for number in range(blocks):
        block = make_feedback_block(kind, config, index=number + 1, blocks=blocks, dropout=dropout)
        if state:
            block.load_state_dict(dict(state[number]))
        worker = make_worker(
            block,
            inlets[number],
            outlets[number],
            kind=FeedbackWorker,
            records=records[number],
            folder=folder,
            signals=signals[number],
            back=errors[number],
        )
        workers.append(worker)
    return Crew(workers, [*links, *backs], records, stop)
