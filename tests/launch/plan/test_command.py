"""Tests of `blockstep plan` as a whole."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from blockstep.launch.cli import main
from blockstep.launch.compose import compose
from blockstep.launch.plan.command import make_plan, methods_of
from blockstep.launch.plan.words import DEFAULT_METHODS
from blockstep.launch.refusal import ConfigError
from blockstep.search.prediction.measurements import Measurements

from tests.search.prediction.parts import measurements

SMALL = [
    "model=resnet18",
    "model.width=0.125",
    "data=digits",
    "measure.repeats=1",
    "measure.beside=0",
]


def test_a_plan_from_measuring_to_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Here it is measured and saved; elsewhere the file gives the same predictions."""
    monkeypatch.chdir(tmp_path)
    words = ["blocks=[2]", "devices=4", "train.batch_size=8"]
    assert main(["plan", *SMALL, *words, "save=profile.json"]) == 0
    told = capsys.readouterr().out
    first = json.loads(Path("plan.json").read_text())
    lines = {line.split()[0]: line for line in told.splitlines() if line}
    assert set(DEFAULT_METHODS) <= set(lines)
    assert first["advice"] in " ".join(told.split())
    assert first["advice"].startswith("Fastest: ")
    assert main(["plan", "profile=profile.json", *words, "output=again.json"]) == 0
    again = json.loads(Path("again.json").read_text())
    assert again["predictions"] == first["predictions"]
    assert again["batch_size"] == 8


def test_plan_json(tmp_path: Path):
    """Every prediction with its numbers; what cannot be had, with its reason."""
    path = tmp_path / "profile.json"
    measurements(5, sizes=(4, 8)).save(path)
    words = [f"profile={path}", "blocks=[2,4]", "devices=4", "network.gbit=null"]
    plan = make_plan(compose("plan", words))
    values = json.loads(plan.to_json())
    assert values["cluster"]["gbit"] is None
    assert values["measured"] == {"device": "cpu", "threads": 1, "batch_sizes": [4, 8]}
    found = {(one["method"], one["blocks"]): one for one in values["predictions"]}
    assert {"backprop", "ddp"} <= {method for method, _ in found}
    assert found["ddp", 1]["speedup"] == pytest.approx(4, rel=0.1)
    assert found["sedona", 4]["images_per_second"] == pytest.approx(
        8 / found["sedona", 4]["seconds"]
    )
    assert [(one["method"], one["blocks"]) for one in values["impossible"]] == [
        ("interleaved_1f1b", 4)
    ]
    assert "interleaved_1f1b, 4 blocks: blocks=8, but the network has 5 layers" in plan.table()
    (stage,) = [line for line in plan.table().splitlines() if line.startswith("  stage 1: ")]
    best = max((one for one in plan.predictions if one.cuts), key=lambda one: 1 / one.seconds)
    assert f"\n{best.method} with {best.blocks} blocks, per stage\n" in plan.table()
    assert f"layers 1-{best.cuts[0]}" in stage
    assert f"{(best.memory[0] or 0) / (1 << 20):,.1f} MiB per device" in stage
    assert all(len(line) <= 130 for line in plan.table().splitlines())


def test_slow_networks_favour_cutting(tmp_path: Path):
    """Many parameters and little bandwidth: the advice is no longer ddp."""
    path = tmp_path / "profile.json"
    measurements(5, sizes=(4, 8), parameters=10_000_000, seconds=0.2).save(path)
    words = [f"profile={path}", "blocks=[4]", "devices=4", "microbatches=4"]
    quick = make_plan(compose("plan", [*words, "network.gbit=null"]))
    slow = make_plan(compose("plan", [*words, "network.gbit=0.1"]))
    assert quick.advice.startswith("Fastest: ddp on 4 devices")
    assert " with 4 blocks" in slow.advice
    # The bandwidth at which that changes is told from both sides.
    less = re.search(r"With less than about (\S+) Gbit/s, \w+ with 4 blocks is", quick.advice)
    more = re.search(r"With more than about (\S+) Gbit/s, ddp is faster than", slow.advice)
    assert less
    assert more
    assert 0.1 < float(less[1]) == pytest.approx(float(more[1]), rel=0.05)
    double = make_plan(compose("plan", [*words, "network.gbit=null", "scale=2"]))
    for one, other in zip(quick.predictions, double.predictions, strict=True):
        assert other.images_per_second == pytest.approx(2 * one.images_per_second, rel=1e-3)


def test_what_words_mean():
    """Methods of train bring their heads and cuts; heads and decoupling change them."""
    methods = methods_of(compose("plan", ["methods=[dgl,sedona,ddp,dgl]"]))
    assert [(one.name, one.kind, one.head, one.cuts) for one in methods] == [
        ("dgl", "decoupled", "mlp_sr", "uniform"),
        ("sedona", "decoupled", "aux1", "balanced"),
        ("ddp", "ddp", "none", "balanced"),
    ]
    (dgl,) = methods_of(compose("plan", ["methods=[dgl]", "heads=aux2", "decoupling=balanced"]))
    assert (dgl.head, dgl.cuts) == ("aux2", "balanced")


def test_problems_are_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A missing file, a head that was not measured, and a plan without any method."""
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "profile=missing.json"]) == 2
    assert "missing.json: there is no such file" in capsys.readouterr().err
    Measurements(measurements(5).profiles).save("profile.json")
    assert main(["plan", "profile=profile.json", "heads=linear"]) == 2
    assert "'linear' was not measured" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="interleaved_1f1b: blocks=8"):
        make_plan(
            compose("plan", ["profile=profile.json", "methods=[interleaved_1f1b]", "blocks=[4]"])
        )
    assert not Path("plan.json").exists()
