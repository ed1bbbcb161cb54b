"""Tests of what `blockstep plan` can be told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from blockstep.launch import help as texts
from blockstep.launch.commands import conf_text
from blockstep.launch.compose import compose
from blockstep.launch.limits import at
from blockstep.launch.plan.config import PlanConfig
from blockstep.launch.plan.limits import LIMITS
from blockstep.launch.plan.words import DECOUPLED, DEFAULT_METHODS, HEADLESS, WORDS
from blockstep.launch.refusal import ConfigError
from blockstep.launch.schema import leaves

from tests.search.prediction.parts import measurements


def test_the_keys_that_are_checked_exist():
    """Each range and each choice is of a key that a plan has."""
    config = PlanConfig()
    for key in (*LIMITS.ranges, *LIMITS.choices):
        at(config, key)
    assert LIMITS.ranges["devices"]
    assert "train.batch_size" in LIMITS.ranges


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["blocks=3"], r"blocks=3: expected a list of integers"),
        (["blocks=[1,2]"], r"blocks=\[1,2\]: must be numbers of blocks of at least 2"),
        (["blocks=[]"], r"blocks=\[\]: must be numbers"),
        (["blocks=[2,8]"], r"8 blocks need as many devices, but there are devices=4"),
        (["methods=[dpp]"], r"methods=\[dpp\]: dpp is no way to train; .*did you mean ddp"),
        (["methods=[]"], "needs at least one"),
        (["methods=[sedona_continuous]"], "is no way to train"),
        (["heads=aux9"], "aux9 is no head"),
        (["decoupling=random"], "choose one of balanced, uniform"),
        (["train.chunk=8"], "batches are timed as a whole"),
        (["train.compile=true"], "without torch.compile"),
        (["network.gbit=0"], "network.gbit=0.0: must be above 0"),
        (["network.overlap=2"], "at least 0 and at most 1"),
        (["microbatches=0"], "microbatches=0: must be at least 1"),
        (["profile=a.json", "save=b.json"], "nothing is measured to be saved"),
        (["save=''"], "save=: must not be empty"),
        (["name=x"], "there is no such key"),
        (["model=resnet18", "model.width=0"], "model.width"),
    ],
)
def test_refusals(words: list[str], message: str):
    """Each has the key, the value and what would be valid."""
    with pytest.raises(ConfigError, match=message):
        compose("plan", words)


def test_words():
    """Every word has one meaning; the bench's words are among them; the comment has the default."""
    assert not set(HEADLESS) & set(DECOUPLED)
    assert {"backprop", "ddp", "gpipe", "1f1b", "features_replay", "dgl", "sedona"} <= set(WORDS)
    assert set(DEFAULT_METHODS) <= set(WORDS)
    assert compose("plan", ["methods=[1f1b,ddp]"]).methods == ["1f1b", "ddp"]


def test_a_data_set_brings_its_batch_but_a_profile_goes_before_it(tmp_path: Path):
    """What was measured is predicted for, unless another batch is typed."""
    assert compose("plan", ["data=imagenet"]).train.batch_size == 256
    path = tmp_path / "profile.json"
    measurements(4, sizes=(8, 40)).save(path)
    assert compose("plan", [f"profile={path}"]).train.batch_size == 40
    assert compose("plan", [f"profile={path}", "train.batch_size=16"]).train.batch_size == 16
    assert compose("plan", ["profile=missing.json", "data=imagenet"]).train.batch_size == 256


def test_composing_does_not_load_torch():
    """Help and refusals are there at once."""
    code = (
        "import sys; from blockstep.launch.compose import compose; compose('plan', ['devices=8']);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_reference_has_every_key():
    """With the defaults of a plan."""
    text = " ".join(texts.command_help("plan").split())
    written = {entry.key: entry for entry in texts.entries(conf_text("data/digits"))}
    written |= {entry.key: entry for entry in texts.entries(conf_text("plan"))}
    for key in leaves(PlanConfig):
        if key not in ("model", "data.name", "data.target"):
            assert f"{key}={written[key].value} {written[key].comment}" in text
