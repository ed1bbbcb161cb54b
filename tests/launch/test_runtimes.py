"""The runtimes of torch's pipelining: what is decided, said and refused before anything starts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from blockstep.launch.compose import compose
from blockstep.launch.config import TrainConfig
from blockstep.launch.job import Objects
from blockstep.launch.membership import Membership
from blockstep.launch.refusal import ConfigError
from blockstep.launch.training import placement
from blockstep.launch.training.announcement import announcement
from blockstep.launch.training.findings import Findings
from blockstep.launch.training.forecast import forecast
from blockstep.launch.training.placement import place
from blockstep.launch.training.preparation import TrainPreparation, prepare
from blockstep.launch.training.runtime import RUNTIMES, method_of
from blockstep.launch.training.sharing import check_ranks
from blockstep.launch.training.summary import summarize
from blockstep.search.prediction.schedule import SCHEDULES, chunks_per_rank

SMALL = (
    "method=backprop", "model=mlp", "model.hidden=8", "model.depth=4", "data=digits",
    "decoupling=uniform", "train.batch_size=8", "train.steps=4", "name=x", "device=cpu",
)  # fmt: skip


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Deciding a run sets the threads of this process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def decide(*words: str) -> TrainPreparation:
    """Decide a training that is not started."""
    return prepare("train", compose("train", [*SMALL, *words]), Objects(), create=False)


def test_the_words_are_those_of_the_prediction() -> None:
    """plan simulates what train runs, with as many blocks on each rank."""
    schedules = {name: one.chunks for name, one in RUNTIMES.items() if one.schedule}
    assert schedules == {name: chunks_per_rank(name) for name in SCHEDULES}


@pytest.mark.parametrize(
    ("words", "blocks"),
    [
        ((), 1),
        (("runtime=gpipe",), 2),
        (("runtime=1f1b", "cuts=[1,3]"), 3),
        (("runtime=interleaved_1f1b",), 4),
    ],
)
def test_backprop_is_cut_where_the_runtime_needs_it(words: tuple[str, ...], blocks: int) -> None:
    """As one block by itself; in the fewest blocks for two ranks if nothing else is typed."""
    config = compose("train", [word for word in (*SMALL, *words) if "decoupling" not in word])
    assert config.blocks == blocks
    assert method_of(config).whole == (blocks == 1)
    assert compose("train", ["method=dgl"]).blocks == 2


def test_interleaved_ranks_have_two_stages_each() -> None:
    """Stage s is on rank (s - 1) mod ranks, and every boundary has a link between two ranks."""
    found = place(compose("train", [*SMALL, "runtime=interleaved_1f1b", "blocks=4"]))
    assert (found.ranks, found.together, found.in_turns) == (2, False, False)
    assert [found.stages(rank) for rank in (0, 1)] == [[1, 3], [2, 4]]
    assert [found.rank_of(stage) for stage in range(1, 5)] == [0, 1, 0, 1]
    assert [found.replica_of(rank) for rank in (0, 1)] == [1, 1]
    assert [(edge.source, edge.target, edge.label) for edge in found.edges()] == [
        (0, 1, "link 1->2"), (1, 0, "link 2->3"), (0, 1, "link 3->4"),
    ]  # fmt: skip
    assert found.label(0) == "stages 1 and 3 (rank 0)"


def test_the_start_says_what_runs_where() -> None:
    """Heads there are none of; micro-batches and, where interleaved, the ranks are named."""
    text = announcement(decide("runtime=interleaved_1f1b"))
    assert "runtime=interleaved_1f1b: 2 process(es)" in text
    assert "2 of the 4 blocks on each of 2 ranks" in text
    assert "stage 3: layers 3-3, errors of the same step, 0.00 M parameters, rank 0" in text
    assert "stage 4: layers 4-4, head classifier" in text
    assert "4 micro-batches of 2 examples; batch normalisation sees each by itself" in text
    text = announcement(decide("runtime=gpipe"))
    assert "stage 1: layers 1-2, errors of the same step" in text
    assert ", rank 0" not in text


def test_each_gets_a_balanced_cut_of_its_own() -> None:
    """Measured here if nothing else is asked for, with no time for heads."""
    config = compose("train", [word for word in SMALL if "decoupling" not in word])
    config.runtime, config.blocks = "1f1b", 2
    found = prepare("train", config, Objects(), create=False)
    assert found.job.config.decoupling == "balanced"
    assert found.job.heads == ("none",)
    assert found.block_seconds is not None
    assert len(found.block_seconds) == 2


def activations(runtime: str, *words: str) -> list[float]:
    """Return the forecast memory of each stage's activations."""
    text = forecast(decide(f"runtime={runtime}", "train.batch_size=1024", *words))
    parts = [line.partition("activations ")[2] for line in text.splitlines() if "stage" in line]
    return [float(part.split()[0]) for part in parts]


def test_the_forecast_knows_what_a_schedule_keeps() -> None:
    """GPipe keeps all micro-batches, stage k of 1F1B at most K - k + 1 of them."""
    words = ("blocks=3", "pipeline.microbatches=8", "model.hidden=64")
    everything = activations("gpipe", *words)
    assert activations("1f1b", *words) == pytest.approx(
        [share * one for share, one in zip((3 / 8, 2 / 8, 1 / 8), everything, strict=True)],
        abs=0.06,
    )


REFUSED = {
    "another method": (("runtime=1f1b", "method=dgl"), "choose method=backprop, or runtime=pipe"),
    "one block": (("runtime=gpipe", "blocks=1"), "needs 2 blocks or more; give blocks=2"),
    "interleaved": (("runtime=interleaved_1f1b", "blocks=2"), "on each rank, so it needs an even"),
    "odd": (("runtime=interleaved_1f1b", "blocks=5"), "give blocks=6"),
    "indivisible": (
        ("runtime=gpipe", "pipeline.microbatches=3"),
        "must divide train.batch_size=8 into equal parts; give 2",
    ),
    "too few": (("runtime=1f1b", "blocks=3", "pipeline.microbatches=2"), "at least blocks=3"),
    "not a multiple": (
        ("runtime=interleaved_1f1b", "pipeline.microbatches=1"),
        "a multiple of its 2 ranks; give 2",
    ),
    "chunk": (("runtime=gpipe", "train.chunk=2"), "divides a batch by pipeline.microbatches; give"),
    "compile": (("runtime=gpipe", "train.compile=true"), "does not compile blocks; leave it out"),
    "float16": (("runtime=gpipe", "train.precision=float16"), "take bfloat16 or float32"),
    "local": (("runtime=gpipe", "pipeline.link=local"), "has a process for each rank"),
    "replicas": (("runtime=gpipe", "pipeline.replicas=2"), "runtime=gpipe has one process for"),
    "profile": (("runtime=interleaved_1f1b", "profile.stage=1"), "give 3, on the same rank"),
    "for another": (("pipeline.microbatches=2",), "is for runtime=gpipe, 1f1b, interleaved_1f1b"),
    "heads": (("runtime=gpipe", "heads=aux1"), "method=backprop has no heads"),
    "whole": (("blocks=2",), "or choose runtime=gpipe or method=decoupled"),
}


@pytest.mark.parametrize(("words", "told"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(words: tuple[str, ...], told: str) -> None:
    """Before anything starts, with the fix."""
    with pytest.raises(ConfigError) as refused:
        compose("train", [*(word for word in SMALL if "decoupling" not in word), *words])
    assert told in str(refused.value)


def test_torchrun_must_start_as_many_ranks() -> None:
    """Half as many as blocks where two are interleaved; both numbers and the fix are named."""
    config = compose("train", [*SMALL, "runtime=interleaved_1f1b", "blocks=4"])
    check_ranks(config, Membership(0, 2, 0, 2, "127.0.0.1", 1, "", True))
    with pytest.raises(ConfigError, match=r"needs 2; start 2 ranks .* or give blocks=8$"):
        check_ranks(config, Membership(0, 4, 0, 4, "127.0.0.1", 1, "", True))


def test_gpus_that_ranks_share_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's pipelining sends from GPU to GPU, which gloo does not."""
    monkeypatch.setattr(placement, "device_kind", lambda *args: "cuda")
    monkeypatch.setattr(placement.torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match=r"runtime=gpipe needs NCCL .* 2 ranks share 1 GPU"):
        place(compose("train", [*SMALL, "runtime=gpipe"]))
    monkeypatch.setattr(placement.torch.cuda, "device_count", lambda: 2)
    assert place(compose("train", [*SMALL, "runtime=gpipe"])).link == "nccl"


def test_efficiency_is_that_of_the_busiest_rank() -> None:
    """A rank with two stages works for both; one with one, as before."""
    job = decide("runtime=interleaved_1f1b").job
    assert told_efficiency(job, [0, 1, 0, 1]) == pytest.approx(80 * (0.01 + 0.03) / 8)
    job = decide("runtime=1f1b", "blocks=4").job
    assert told_efficiency(job, [0, 1, 2, 3]) == pytest.approx(80 * 0.04 / 8)


def told_efficiency(job: object, ranks: list[int]) -> float:
    """Summarize a run of four stages whose busy times are 10, 20, 30 and 5 ms, or 40 ms last."""
    busy = [0.01, 0.005, 0.03, 0.005] if len(set(ranks)) == 2 else [0.01, 0.02, 0.03, 0.04]
    findings = Findings()
    for stage, (rank, seconds) in enumerate(zip(ranks, busy, strict=True), start=1):
        ready = findings.ready.setdefault(
            rank,
            {"rank": rank, "stages": [], "parameters": [], "head_parameters": [],
             "pid": 1, "host": "h", "device": "cpu"},
        )  # fmt: skip
        ready["stages"].append(stage)
        ready["parameters"].append(1)
        ready["head_parameters"].append(0)
        figures = {"busy": seconds, "images_per_second": 80.0, "peak_memory_bytes": 1}
        findings.note_end(
            {"stage": stage, "replica": 1, "rank": rank, "step": 4,
             "summary": {**figures, "bytes_per_step": 1.0}},
        )  # fmt: skip
    return summarize(job, findings, seconds=1.0)["efficiency"]  # pyright: ignore[reportArgumentType]


def test_resuming_with_other_micro_batches_is_another_run() -> None:
    """They are among the facts of a checkpoint, which other runtimes do not have."""
    assert decide("runtime=gpipe").job.facts["pipeline.microbatches"] == 4
    assert "pipeline.microbatches" not in decide().job.facts
    assert isinstance(decide().job.config, TrainConfig)
