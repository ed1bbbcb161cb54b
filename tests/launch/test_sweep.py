"""Tests of `blockstep.launch.sweep`."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from blockstep.launch.compose import compose
from blockstep.launch.refusal import ConfigError
from blockstep.launch.sweep import LARGEST, expand
from hydra.core.global_hydra import GlobalHydra
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("words", "jobs"),
    [
        ([], [[]]),
        (["seed=1"], [["seed=1"]]),
        (["seed=0,1,2"], [["seed=0"], ["seed=1"], ["seed=2"]]),
        (["seed=range(0,2)"], [["seed=0"], ["seed=1"]]),
        (["model=choice(resnet18,vgg19)"], [["model=resnet18"], ["model=vgg19"]]),
        (
            ["a=1,2", "train.lr=0.1", "b=x,y"],
            [
                ["a=1", "train.lr=0.1", "b=x"],
                ["a=1", "train.lr=0.1", "b=y"],
                ["a=2", "train.lr=0.1", "b=x"],
                ["a=2", "train.lr=0.1", "b=y"],
            ],
        ),
        (["cuts=[1],[1,2]"], [["cuts=[1]"], ["cuts=[1,2]"]]),
        (["runs='a, b'"], [["runs='a, b'"]]),
        (["model=glob(resnet1*)"], [["model=resnet101"], ["model=resnet152"], ["model=resnet18"]]),
        (["seed=0,1", "seed=2"], [["seed=2"]]),
    ],
)
def test_jobs(words: list[str], jobs: list[list[str]]):
    """One job for each combination; the last key changes fastest."""
    found = expand(words, environ={})
    assert sorted(found) == sorted(jobs) if "glob" in str(words) else found == jobs


def test_jobs_compose():
    """The words of a job are what compose takes, quotes and references included."""
    jobs = expand(["seed=0,1", "name=r-${seed}", "wandb.tags=['a, b']"], environ={})
    configs = [compose("train", job) for job in jobs]
    assert [(c.seed, c.name, c.wandb.tags) for c in configs] == [
        (0, "r-0", ["a, b"]),
        (1, "r-1", ["a, b"]),
    ]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["seed=range(0,1e9)"], f"seed=range(0,1e9): makes more than {LARGEST} jobs"),
        ([f"{key}=range(0,100)" for key in "abc"], f"makes more than {LARGEST} jobs"),
        (["seed=interval(0,1)"], "seed=interval(0,1): cannot be counted"),
        (["seed=range(1,3,0)"], "seed=range(1,3,0): cannot be counted"),
        (["seed=range(1,nan)"], "seed=range(1,nan): cannot be counted"),
        (["seed=range(3,1)"], "seed=range(3,1): has no values"),
        (["seed=0,"], "seed=0,: not in Hydra's grammar"),
        (["seed"], "seed: no value"),
        (["~seed"], "~seed: keys cannot be removed"),
        (["seed=0,1", "name=x"], "name=x: the jobs of a sweep need folders of their own"),
    ],
)
def test_refused_sweeps(words: list[str], hint: str):
    """The message has the word and the reason."""
    with pytest.raises(ConfigError) as refused:
        expand(words, environ={})
    assert hint in str(refused.value)


@pytest.mark.parametrize("variable", ["TORCHELASTIC_RUN_ID", "RANK"])
def test_sweeps_are_refused_under_torchrun(variable: str, monkeypatch: pytest.MonkeyPatch):
    """The processes of torchrun belong to one job."""
    monkeypatch.setenv(variable, "0")
    with pytest.raises(ConfigError, match="without torchrun"):
        expand(["seed=0,1"])


def test_a_constant_name_is_fine_for_one_job():
    """Only several jobs need several folders."""
    assert expand(["name=x"], environ={}) == [["name=x"]]


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No files, no Hydra session."""
    monkeypatch.chdir(tmp_path)
    expand(["model=glob(*)"], environ={})
    assert list(tmp_path.iterdir()) == []
    assert not GlobalHydra.instance().is_initialized()


WORDS = st.text("seda=0123,()[]rangechoiceinterval.'${} ", max_size=20) | st.text(max_size=10)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.lists(st.builds("seed={}".format, WORDS) | WORDS, max_size=3))
def test_any_words_expand_or_are_refused(words: list[str]):
    """Nothing but ConfigError, and never more jobs than allowed."""
    with contextlib.suppress(ConfigError):
        assert 1 <= len(expand(words, environ={})) <= LARGEST
