"""The panels against the keys of what is rarely recorded: GPUs, errors that travel, comparisons.

The keys of a training and of a search are those of real runs, in tests/launch/test_run.py and
tests/launch/search/test_run.py.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
import torch
from blockstep.launch.bench.lineup import ENTRIES
from blockstep.launch.bench.result import TABLE, figures_of
from blockstep.launch.bench.rows import Row
from blockstep.launch.dashboard.layout import (
    BENCH,
    FOUND,
    GPUS,
    LAYOUT,
    PARTITION,
    PICTURES,
    REPLAY,
    REPLICAS,
    SEARCH,
)
from blockstep.launch.dashboard.panel import Bars, Family, Lines, Table
from blockstep.launch.partition.pictures import PICTURES as FOUND_DRAWN
from blockstep.launch.report.groups import Estimate
from blockstep.launch.search.pictures import PICTURES as DRAWN
from blockstep.launch.training.figures import REPLICAS as REPLICAS_TABLE
from blockstep.launch.training.figures import TrainFigures
from blockstep.pipeline.features_replay import FeaturesReplayBlock
from blockstep.pipeline.gpu import watch_gpu
from blockstep.pipeline.link import LocalLink
from blockstep.pipeline.optimization import OptimizationConfig
from blockstep.pipeline.replay import Replay, Ring
from blockstep.pipeline.timeline import StepTimes

from tests.launch.dashboard.recorded import empty, unseen
from tests.pipeline.feedback_parts import make_feedback_block
from tests.pipeline.nvml import fake_nvml


def row(method: str) -> Row:
    """A row in which everything was measured."""
    estimate = Estimate(0.25, 0.01, 3)
    return Row(
        method=method, images_per_second=10.0, images_per_second_min=9.0,
        images_per_second_max=11.0, speedup_vs_backprop=1.5, speedup_vs_ddp=1.1, efficiency=0.9,
        peak_memory_bytes=100.0, bytes_per_step=10.0, head_params=7, error=estimate,
        error_at=estimate, ranks=2, cuts=(4,), repeats=3,
    )  # fmt: skip


def test_the_readings_of_a_gpu_have_a_panel_each(monkeypatch: pytest.MonkeyPatch):
    """All that is read of it, and nothing else."""
    properties = types.SimpleNamespace(uuid="01234567-89ab")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml())
    record = {"event": "train", "stage": 12, "step": 1, "images_per_second": 1.0}
    record["gpu"] = watch_gpu(torch.device("cuda", 0)).sample()
    keys = TrainFigures(Path("decoupling.json")).values(record)
    assert unseen(keys) == set()
    assert empty([GPUS], keys) == []


def test_the_delay_of_errors_has_a_panel():
    """What a block that waits for errors tells of itself is seen."""
    block = make_feedback_block(FeaturesReplayBlock, OptimizationConfig(steps=9), index=1, blocks=2)
    record = {"event": "train", "stage": 1, "step": 1, "images_per_second": 1.0, **block.progress()}
    keys = TrainFigures(Path("decoupling.json")).values(record)
    assert "stage/1/error_delay" in keys
    assert unseen(keys) == set()


def test_what_is_learned_again_has_a_panel_each():
    """All that a stage with a ring tells of it, and nothing else."""
    stage = make_feedback_block(FeaturesReplayBlock, OptimizationConfig(steps=9), index=1, blocks=2)
    times = [StepTimes(1, 0.0, 0.0, 1.0, 0.0, replay=0.5)]
    told = Replay(stage, LocalLink("link", max_messages=1, max_bytes=9), Ring(2)).progress(times)
    record = {"event": "train", "stage": 1, "step": 1, "images_per_second": 1.0, **told}
    keys = TrainFigures(Path("decoupling.json")).values(record)
    assert unseen(keys) == set()
    assert {"stage/1/replayed", "stage/1/replay"} <= set(keys)
    assert empty([REPLAY], [*keys, "stage/1/replay_staleness"]) == []


def test_every_method_of_a_comparison_has_its_bars():
    """The panels' keys are those of all entries; the tables have theirs."""
    keys = set(figures_of([row(method) for method in ENTRIES]))
    assert unseen(keys) == set()
    bars = [panel for panel in BENCH.panels if isinstance(panel, Bars)]
    assert {key for panel in bars for key in panel.keys} == keys
    assert (BENCH.panels[0].keys, REPLICAS.panels[0].keys) == ((TABLE,), (REPLICAS_TABLE,))


def test_the_pictures_of_a_search_are_those_that_are_drawn():
    """In the media panel, under the names of their files."""
    assert set(PICTURES) == set(DRAWN.values())
    assert SEARCH.panels[-1].keys == tuple(f"pictures/{name}" for name in PICTURES)


def test_the_pictures_of_a_partitioned_training_are_those_that_are_drawn():
    """In the media panel, under their names."""
    assert set(FOUND) == set(FOUND_DRAWN)
    assert PARTITION.panels[-1].keys == tuple(f"psi_{name}" for name in FOUND)


def test_titles_are_unique_in_their_section():
    """And every panel shows something: keys, or a pattern, of whole names."""
    for section in LAYOUT:
        titles = [panel.title for panel in section.panels]
        assert len(set(titles)) == len(titles)
        for panel in section.panels:
            assert isinstance(panel, Family) != bool(panel.keys)
            if isinstance(panel, Family):
                assert panel.pattern.startswith("^")
                assert panel.pattern.endswith(("$", "/"))


def test_a_panel_shows_its_keys():
    """Exactly these, or what matches the pattern whatever the number of the stage."""
    assert Lines("a", ("x/y",)).shows("x/y")
    assert not Lines("a", ("x/y",)).shows("x/yy")
    loss = Family("a", pattern=r"^stage/\d+/loss$")
    assert [loss.shows(f"stage/{key}") for key in ("1/loss", "12/loss", "1/losses")] == [1, 1, 0]


def test_words():
    """Keys of one folder are put together; others stay whole."""
    assert Bars("a", ("b/c/d", "b/c/e")).words() == "b/c/{d,e}"
    assert Bars("a", ("b/c/d",)).words() == "b/c/d"
    assert Table("a", ("bench",)).words() == "bench"
