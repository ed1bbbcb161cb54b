"""Tests of `blockstep.launch.help`."""

from __future__ import annotations

import re
import shlex
from dataclasses import asdict

import blockstep
import pytest
import yaml
from blockstep.launch import help as texts
from blockstep.launch.commands import COMMANDS, choices, conf_text
from blockstep.launch.compose import compose, config_from_yaml
from blockstep.launch.config import TrainConfig
from blockstep.launch.refusal import ConfigError
from blockstep.launch.schema import leaves
from blockstep.launch.search.config import SearchConfig


def test_the_overview_has_every_command_on_one_line():
    """Each command stands with its summary."""
    lines = texts.overview().splitlines()
    for name, usage in texts.USAGES.items():
        assert [line for line in lines if line.split() == [name, *usage.summary.split()]]
    assert set(COMMANDS) <= set(texts.USAGES)


def test_the_examples_are_valid_command_lines():
    """Laptop, torchrun, resume: what follows `blockstep train` composes."""
    lines = [line.strip() for line in texts.overview().splitlines()]
    examples = [line for line in lines if re.match(r"(blockstep|torchrun) .* ?train", line)]
    assert len(examples) == 3
    for line in examples:
        words = shlex.split(line)
        compose("train", words[words.index("train") + 1 :])
    torchrun = shlex.split(next(line for line in examples if line.startswith("torchrun")))
    ranks = int(torchrun[torchrun.index("--nproc-per-node") + 1])
    assert compose("train", torchrun[torchrun.index("train") + 1 :]).blocks == ranks


def test_the_reference_has_every_key_with_its_default_and_comment():
    """`blockstep train --help` is complete: nothing is to be looked up elsewhere."""
    text = " ".join(texts.command_help("train").split())
    values = {**yaml.safe_load(conf_text("train")), **yaml.safe_load(conf_text("data/digits"))}
    values["train"] = yaml.safe_load(conf_text("train"))["train"]
    written = [*texts.entries(conf_text("data/digits")), *texts.entries(conf_text("train"))]
    comments = {entry.key: (entry.value, entry.comment) for entry in written}
    for key in leaves(TrainConfig):
        if key in ("model", "data.name", "data.target"):
            continue
        value, comment = comments[key]
        found = values
        for name in key.split("."):
            found = found[name]
        assert yaml.safe_load(value) == found
        assert f"{key}={value} {comment}" in text
    for hidden in ("data.name=", "data.target=", "model.name="):
        assert hidden not in text


def test_the_reference_of_a_search_has_every_key():
    """With the defaults of a search, also where a data set's file has others."""
    text = " ".join(texts.command_help("search").split())
    written = {entry.key: entry for entry in texts.entries(conf_text("data/digits"))}
    written |= {entry.key: entry for entry in texts.entries(conf_text("search"))}
    for key in leaves(SearchConfig):
        if key not in ("model", "data.name", "data.target"):
            assert f"{key}={written[key].value} {written[key].comment}" in text
    assert text.count("data.validation=") == 1
    assert "data.validation=0.4" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_the_reference_has_every_choice(name: str):
    """The files of each group are listed, and how to bring one's own class."""
    text = " ".join(texts.command_help(name).split())
    for group in COMMANDS[name].groups:
        assert f"{group}=NAME {' | '.join(choices(group))}" in text
        assert (f"{group}._target_=package.Class" in text) == (group != "psi")


def test_keys_of_one_network_say_so():
    """A key that only some files of the group have names them."""
    text = " ".join(texts.command_help("train").split())
    assert re.search(r"model\.hidden=256 [^=]*\(only mlp, mlp_gelu\) model", text)
    assert re.search(
        r"model\.dropout=0\.0 [^=]*\(only mnist_cnn, resnet9, transformer, vgg19\) ", text
    )
    assert not re.search(r"model\.width=1\.0 [^=]*\(only", text)


@pytest.mark.parametrize("name", [None, *texts.USAGES])
def test_lines_fit(name: str | None):
    """At most 100 columns, no trailing spaces, no tabs."""
    text = texts.overview() if name is None else texts.command_help(name)
    for line in text.splitlines():
        assert len(line) <= 100
        assert line == line.rstrip()
        assert "\t" not in line


@pytest.mark.parametrize("name", texts.USAGES)
def test_help_begins_with_the_usage(name: str):
    """The first line can be typed."""
    first = texts.command_help(name).splitlines()[0]
    assert first == f"blockstep {name} {texts.USAGES[name].arguments}"


def test_help_of_an_unknown_command():
    """The nearest command is named."""
    with pytest.raises(ConfigError, match=r"trian: .*did you mean train\?"):
        texts.command_help("trian")


def test_entries():
    """Sections, values, comments and nesting are told apart."""
    text = "defaults:\n  - _self_\na: 1  # one\nb:  # two\n  c: [x, y]  # three\n  d:\n    e: f\n"
    found = [(one.key, one.value, one.comment, one.is_section) for one in texts.entries(text)]
    assert found == [
        ("a", "1", "one", False),
        ("b", "", "two", True),
        ("b.c", "[x, y]", "three", False),
        ("b.d", "", "", True),
        ("b.d.e", "f", "", False),
    ]


def test_the_composed_configuration():
    """--cfg job prints what the command would use, as it can be read back."""
    words = ["model=resnet50", "train.lr=0.5"]
    text = texts.composed("train", words)
    config = compose("train", words)
    assert yaml.safe_load(text) == asdict(config)
    assert config_from_yaml(text, "train") == config
    with pytest.raises(ConfigError, match="foo=1"):
        texts.composed("train", ["foo=1"])


def test_the_version():
    """The package's version, torch's and Python's."""
    assert re.fullmatch(
        rf"blockstep {re.escape(blockstep.__version__)} \(torch \S+, Python 3\.\S+\)",
        texts.version(),
    )
