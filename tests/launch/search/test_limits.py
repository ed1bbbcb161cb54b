"""Tests of `blockstep.launch.search.config`, its file and its limits."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict

import pytest
from blockstep.launch.compose import apply_overrides, compose
from blockstep.launch.configfile import command_of, config_from_yaml, config_to_yaml
from blockstep.launch.refusal import ConfigError
from blockstep.launch.schema import leaves
from blockstep.launch.search.config import SearchConfig
from blockstep.launch.search.limits import LIMITS


def refused(*words: str) -> str:
    """The problems of a refused command line."""
    with pytest.raises(ConfigError) as error:
        compose("search", words)
    return str(error.value)


# --- What is accepted ---------------------------------------------------------------------------


def test_the_defaults_are_the_papers():
    """Appendix E.1: CIFAR-10 with 40 % for validation, 40K + 2K steps, the rates and decays."""
    config = compose("search", [])
    assert (config.model["name"], config.data.name, config.data.validation) == (
        "resnet50", "cifar10", 0.4
    )  # fmt: skip
    train, search = config.train, config.search
    assert (train.steps, train.batch_size, train.lr, train.lr_min) == (40_000, 128, 0.1, 0.001)
    assert (train.momentum, train.weight_decay, train.label_smoothing) == (0.9, 1e-3, 0.1)
    assert (config.data.augment.crop, config.data.augment.flip) == (4, True)
    assert (search.steps, search.inner_steps, search.samples) == (2000, 5, 1)
    assert (search.memory, search.pretrain_every) == (50, 80)
    assert (search.lr, search.weight_decay) == (0.01, 1e-6)
    assert search.heads == ["aux1", "aux2", "aux3", "aux4"]


def test_a_data_sets_recipe_is_for_trainings():
    """Its augmentation counts, its optimizer and its validation share do not."""
    config = compose("search", ["data=imagenet"])
    assert config.train == SearchConfig().train
    assert config.data.validation == 0.4
    assert config.data.augment.resized_crop


def test_a_preset_stands_between_the_files_and_what_is_typed():
    """It chooses network and data, sets keys, and loses against the command line."""
    config = compose("search", ["preset=small"])
    assert (config.preset, config.data.name) == ("small", "digits")
    assert config.train.steps != SearchConfig().train.steps
    typed = compose("search", ["train.steps=500", "data=mnist", "preset=small"])
    assert (typed.train.steps, typed.data.name) == (500, "mnist")
    assert typed.model == config.model
    assert compose("search", ["preset=null"]) == compose("search", [])


@pytest.mark.parametrize("name", ["small", "fashion"])
def test_every_preset_composes(name: str):
    """With settings that fit each other."""
    assert compose("search", [f"preset={name}"]).preset == name


def test_an_own_network_gets_no_key_of_a_preset():
    """Only what was typed."""
    config = compose("search", ["preset=small", "model._target_=my.Net", "model.depth=3"])
    assert config.model == {"_target_": "my.Net", "depth": 3}


def test_a_preset_stays_on_resume():
    """It may be typed again, and not be changed."""
    config = compose("search", ["preset=small", "search.steps=7"])
    assert apply_overrides(config, ["preset=small"]) == config
    with pytest.raises(ConfigError, match="preset=fashion: this run has preset=small"):
        apply_overrides(config, ["preset=fashion"])
    assert apply_overrides(config, ["search.steps=9"]).search.steps == 9


def test_a_configuration_knows_its_command():
    """A search is not read as a training, nor the other way round."""
    search, train = (config_to_yaml(compose(name, [])) for name in ("search", "train"))
    assert (command_of(search), command_of(train)) == ("search", "train")
    assert config_from_yaml(search, "search") == compose("search", [])
    with pytest.raises(ConfigError, match="`blockstep search`, not of `blockstep train`"):
        config_from_yaml(search, "train")
    with pytest.raises(ConfigError, match="`blockstep train`, not of `blockstep search`"):
        config_from_yaml(train, "search")


def test_a_configuration_is_refused_without_torch():
    """Help and refusals come at once."""
    code = (
        "import sys\nfrom blockstep.launch.cli import main\n"
        "assert main(['search', '--help']) == 0\n"
        "assert main(['search', '--cfg', 'job', 'preset=small']) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- What is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["search.inner_steps=0"], "search.inner_steps=0: must be at least 1"),
        (["search.samples=0"], "search.samples=0: must be at least 1"),
        (["search.steps=0"], "search.steps=0: must be at least 1"),
        (["blocks=1"], "blocks=1: must be at least 2"),
        (["ranks=3", "search.samples=2"], "ranks=3: 3 ranks share search.samples=2"),
        (["search.memory=501"], "search.memory=501: the pretraining makes 500 snapshots"),
        (["train.steps=70"], "search.memory=50: the pretraining makes 0 snapshots"),
        (["train.steps=0"], "search.memory=50: train.steps=0 means no pretraining"),
        (["search.keep_graphs=6"], "search.keep_graphs=6: there are only search.inner_steps=5"),
        (["search.heads=[]"], "search.heads=[]: needs at least one head"),
        (["search.heads=[aux1,aux5]"], "aux5 is no head"),
        (["search.heads=[aux1,predsim]"], "predsim learns from a similarity loss"),
        (["search.heads=[aux1,{x: 1}]"], "search.heads={x:1}: needs a class"),
        (["search.heads=[aux2,aux2]"], "aux2 stands there twice"),
        (["search.heads=aux2"], "search.heads=aux2: expected a list"),
        (["search.batch_norm=frozen"], "choose one of batch, running"),
        (["search.prefer=fast"], "choose one of accuracy, balanced, speed"),
        (["search.betas=[0.9]"], "search.betas=[0.9]: must be two numbers"),
        (["data.validation=0"], "data.validation=0.0: a search learns from a validation part"),
        (["train.optimizer=adam"], "train.optimizer=adam: a search differentiates"),
        (["train.nesterov=true"], "train.nesterov=true: a search differentiates"),
        (
            ["train.schedule=multistep", "train.milestones=[9]", "train.reset_momentum=true"],
            "train.reset_momentum=true: a search differentiates through its momentum",
        ),
        (["preset=dgl_cifar"], "preset=dgl_cifar: there is no such choice; choose one of fashion"),
        (["train.precision=bfloat16"], "a search differentiates twice and needs float32"),
        (["train.chunk=5"], "train.chunk=5: a search takes a batch as a whole"),
        (["checkpoint.best=true"], "checkpoint.best=true: the last state"),
        (["preset=smal"], "preset=smal: there is no such choice; choose one of fashion, small"),
        (["pipeline.queue_messages=1"], "there is no such key"),
        (["method=sedona"], "method=sedona: there is no such key"),
    ],
)
def test_refusals(words: list[str], told: str):
    """The key, the value, and what would be valid."""
    assert told in refused(*words)


def test_the_smallest_search_is_accepted():
    """No pretraining needs a memory of one; one head makes beta trivial."""
    words = ["train.steps=0", "search.memory=1", "search.heads=[linear]", "search.steps=1"]
    config = compose("search", words)
    assert (config.train.steps, config.search.heads) == (0, ["linear"])


def test_the_tables_of_limits_name_keys_that_exist():
    """A key that was renamed does not stay in a table."""
    assert set(LIMITS.choices) | set(LIMITS.ranges) <= set(leaves(SearchConfig))


def test_every_number_has_limits():
    """A new number needs limits, or a relation that checks it."""
    kinds = leaves(SearchConfig)
    numbers = {key for key, kind in kinds.items() if kind in (int, float, int | None, float | None)}
    assert numbers <= set(LIMITS.ranges)


def test_the_shared_sections_are_those_of_a_training():
    """What a user knows from `train` is called the same here."""
    train, search = asdict(compose("train", [])), asdict(compose("search", []))
    for section in ("data", "train", "checkpoint", "log", "wandb"):
        assert train[section].keys() == search[section].keys()
    assert search["pipeline"].keys() < train["pipeline"].keys()
