"""What `blockstep bench` makes of what was typed."""

from __future__ import annotations

import pytest
from blockstep.launch.bench.command import read_plan
from blockstep.launch.bench.lineup import DEFAULT, ENTRIES, words_of
from blockstep.launch.refusal import ConfigError
from blockstep.launch.training.placement import place


def test_every_entry_is_a_training_that_could_start() -> None:
    """The words of each compose, with the keys that all have in common."""
    plan = read_plan(["blocks=2", "train.steps=50", "data=digits"])
    assert plan.methods == DEFAULT
    assert set(ENTRIES) - set(DEFAULT) == {"interleaved_1f1b"}
    for method in ENTRIES:
        config = plan.config(method)
        assert (config.train.steps, config.evaluate.every) == (50, 10)
        assert (config.measure.backprop, config.checkpoint.every) == (0, 0)
        words = ENTRIES[method].words
        blocks = {"blocks={blocks}": 2, "blocks={twice}": 4}
        assert config.blocks == next((blocks[word] for word in words if word in blocks), 1)
        assert place(config).ranks == (2 if ENTRIES[method].devices else 1)


@pytest.mark.parametrize(("blocks", "parts"), [(2, 4), (3, 4), (4, 4), (5, 8), (8, 8)])
def test_torch_pipelines_have_micro_batches_for_all_blocks(blocks: int, parts: int) -> None:
    """As many as 1F1B needs, dividing a batch of 128; of the others nothing is said."""
    plan = read_plan([f"blocks={blocks}", "methods=[gpipe,1f1b,dgl]", "data=digits"])
    found = [plan.config(method).pipeline.microbatches for method in plan.methods]
    assert found == [parts, parts, 4]
    assert [plan.config(method).runtime for method in plan.methods] == ["gpipe", "1f1b", "pipeline"]
    typed = read_plan(["pipeline.microbatches=16", "methods=[gpipe,sedona]", "data=digits"])
    assert [typed.config(method).pipeline.microbatches for method in typed.methods] == [16, 4]


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
