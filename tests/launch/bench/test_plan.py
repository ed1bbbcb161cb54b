"""What `blockstep bench` makes of what was typed."""

from __future__ import annotations

import pytest
from blockstep.launch.bench.command import read_plan
from blockstep.launch.bench.lineup import DEFAULT, ENTRIES, words_of
from blockstep.launch.refusal import ConfigError


def test_every_entry_is_a_training_that_could_start() -> None:
    """The words of each compose, with the keys that all have in common."""
    plan = read_plan(["blocks=2", "train.steps=50", "data=digits"])
    assert plan.methods == DEFAULT == tuple(ENTRIES)
    for method in plan.methods:
        config = plan.config(method)
        assert (config.train.steps, config.evaluate.every) == (50, 10)
        assert (config.measure.backprop, config.checkpoint.every) == (0, 0)
        assert config.blocks == (2 if "blocks={blocks}" in ENTRIES[method].words else 1)


def test_what_was_typed_wins_over_the_defaults() -> None:
    """Also over what bench sets to measure in peace."""
    plan = read_plan(["train.steps=50", "evaluate.every=25", "train.threads=3"])
    config = plan.config("sedona")
    assert (config.evaluate.every, config.train.threads) == (25, 3)


def test_methods_can_have_keys_of_their_own() -> None:
    """Commas within brackets belong to the value."""
    plan = read_plan(["methods=[backprop, sedona heads=[aux2,aux3] cuts=[2,4]]", "blocks=3"])
    assert plan.methods == ("backprop", "sedona heads=[aux2,aux3] cuts=[2,4]")
    config = plan.config(plan.methods[1])
    assert (config.heads, config.cuts, config.blocks) == (["aux2", "aux3"], [2, 4], 3)


def test_keys_about_heads_are_for_methods_with_heads() -> None:
    """Backpropagation is not cut by a key that is meant for the others."""
    common = ["heads=aux2", "decoupling=uniform", "train.lr=0.1"]
    assert words_of("backprop", 2, common) == ["train.lr=0.1", "method=backprop"]
    assert words_of("sedona", 2, common) == [*common, "method=sedona", "blocks=2"]


def test_cuts_that_were_measured_are_kept() -> None:
    """The second repeat does not measure again."""
    words = read_plan(["decoupling=balanced"]).words_for("sedona", [5])
    assert "cuts=[5]" in words
    assert not any(word.startswith("decoupling=") for word in words)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("methods=[backprob]", "did you mean backprop?"),
        ("methods=[]", "name at least one of"),
        ("methods=[sedona,sedona]", "each can be named once"),
        ("repeats=0", "must be a whole number, at least 1"),
        ("blocks=two", "must be a whole number, at least 1"),
        ("seed=3", "the repeats have the seeds"),
        ("method=dgl", "names the methods"),
    ],
)
def test_what_is_refused(word: str, hint: str) -> None:
    """With the value and what would be valid."""
    with pytest.raises(ConfigError) as refused:
        read_plan([word])
    assert hint in str(refused.value)


def test_a_training_that_is_refused_is_named_by_its_method() -> None:
    """Before anything starts."""
    plan = read_plan(["methods=[sedona train.lr=-1]"])
    with pytest.raises(ConfigError, match=r"methods: sedona train.lr=-1: .*train.lr"):
        plan.config(plan.methods[0])
