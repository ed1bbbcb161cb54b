"""Tests of the files in `blockstep.launch.conf`, and of configurations as YAML."""

from __future__ import annotations

import inspect
import re
from dataclasses import asdict
from typing import Any

import pytest
import yaml
from blockstep.launch.commands import COMMANDS, choices, conf_text
from blockstep.launch.compose import compose
from blockstep.launch.config import TrainConfig
from blockstep.launch.configfile import LARGEST, config_from_yaml, config_to_yaml
from blockstep.launch.dashboard.limits import LIMITS as DASHBOARD_LIMITS
from blockstep.launch.doctor.limits import LIMITS as DOCTOR_LIMITS
from blockstep.launch.federate.limits import LIMITS as FEDERATE_LIMITS
from blockstep.launch.help import command_help, entries
from blockstep.launch.limits import HEADS, Limits
from blockstep.launch.partition.config import PsiConfig
from blockstep.launch.partition.limits import LIMITS as PARTITION_LIMITS
from blockstep.launch.partition.limits import PSI
from blockstep.launch.plan.limits import LIMITS as PLAN_LIMITS
from blockstep.launch.refusal import ConfigError
from blockstep.launch.search.limits import LIMITS as SEARCH_LIMITS
from blockstep.launch.superweight.limits import LIMITS as SUPERWEIGHT_LIMITS
from blockstep.launch.training.limits import LIMITS
from blockstep.models import HEADS as MADE_HEADS
from blockstep.models import NETWORKS as MADE_NETWORKS
from blockstep.models.hyperparameters import KINDS as PSI_KINDS
from hypothesis import given, settings
from hypothesis import strategies as st

NETWORKS = (
    "fixup_resnet8",
    "fixup_resnet14",
    "mlp",
    "mlp_gelu",
    "mnist_cnn",
    "resnet9",
    "mobilenetv2",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "transformer",
    "vgg19",
    "wrn20",
    "wrn50",
    "wrn16-4",
    "wrn16-7",
    "wrn28-2",
    "wrn28-3",
    "wrn28-4",
    "wrn28-5",
    "wrn28-7",
    "wrn28-8",
    "wrn28-10",
    "wrn28-12",
    "wrn34-8",
    "wrn50-2",
)


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values under dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, dict)
        found |= flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return found


# --- The files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_the_primary_file_is_the_dataclass(name: str):
    """NAME.yaml has the keys of its dataclass but its groups, with equal defaults and types.

    Of a group's section it may have some, which then win over the chosen file.
    """
    command = COMMANDS[name]
    written = yaml.safe_load(conf_text(command.primary))
    written.pop("defaults")
    expected = asdict(command.config())
    for group in command.groups:
        own, default = flat(written.pop(group, {})), flat(expected.pop(group))
        assert own == {key: default[key] for key in own}
    assert flat(written) == flat(expected)
    assert {k: type(v) for k, v in flat(written).items()} == {
        k: type(v) for k, v in flat(expected).items()
    }


def test_the_default_data_set_explains_every_key():
    """digits.yaml has exactly the keys of DataConfig, for the reference; others may have fewer."""
    keys = flat(asdict(TrainConfig().data))
    assert set(flat(yaml.safe_load(conf_text("data/digits"))["data"])) == set(keys)
    for name in choices("data"):
        assert set(flat(yaml.safe_load(conf_text(f"data/{name}"))["data"])) <= set(keys)


def test_the_default_psi_explains_every_key():
    """affine.yaml has exactly the keys of PsiConfig; the other files, one for each kind, fewer."""
    keys = flat(asdict(PsiConfig()))
    written = flat(yaml.safe_load(conf_text("psi/affine"))["psi"])
    assert written == keys
    assert set(choices("psi")) == set(PSI) == set(PSI_KINDS)
    for name in choices("psi"):
        assert compose("partition", [f"psi={name}", "psi.layers=[a]"][: 1 + (name == "layers")])
        assert set(flat(yaml.safe_load(conf_text(f"psi/{name}"))["psi"])) <= set(keys)


def test_the_default_choices_are_those_of_the_registry():
    """The command's registry and the defaults list name the same files."""
    for command in COMMANDS.values():
        listed = yaml.safe_load(conf_text(command.primary))["defaults"]
        files = [entry for entry in listed if entry != "_self_"]
        chosen = {group: name for entry in files for group, name in entry.items()}
        assert "_self_" in listed
        assert chosen == dict(command.groups)


GROUPS = ("defaults:", "data:", "psi:", "  augment:")
EXPLAINED = (*COMMANDS, "data/digits", "psi/affine", *(f"model/{name}" for name in NETWORKS))


@pytest.mark.parametrize("path", EXPLAINED)
def test_every_key_has_its_comment_on_its_line(path: str):
    """The comments are the reference: no key without one, no line too long to read."""
    text = conf_text(path)
    for line in text.partition("\ntrain:\n")[0].splitlines() if "/" in path else text.splitlines():
        assert len(line) <= 100
        if re.match(r"\s*\w+:", line) and line not in GROUPS:
            assert re.search(r"  # \S", line), line


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("train", LIMITS),
        ("search", SEARCH_LIMITS),
        ("federate", FEDERATE_LIMITS),
        ("partition", PARTITION_LIMITS),
        ("superweight", SUPERWEIGHT_LIMITS),
        ("plan", PLAN_LIMITS),
        ("dashboard", DASHBOARD_LIMITS),
        ("doctor", DOCTOR_LIMITS),
    ],
)
def test_comments_name_every_choice(name: str, limits: Limits):
    """A key with choices lists them in its comment."""
    lines = {}
    path: list[str] = []
    for line in conf_text(name).splitlines():
        if match := re.match(r"( *)(\w+):", line):
            path = [*path[: len(match[1]) // 2], match[2]]
            lines[".".join(path)] = line.partition("#")[2]
    if name == "partition":
        lines |= {one.key: one.comment for one in entries(conf_text("psi/affine"))}
        lines["psi.name"] = " ".join(choices("psi"))
    for key, known in limits.choices.items():
        assert not [choice for choice in known if not re.search(rf"\b{choice}\b", lines[key])], key


def test_the_networks():
    """Every network has a file that bears its name, at full width and without weights."""
    assert sorted(choices("model")) == sorted(NETWORKS)
    for name in NETWORKS:
        values = yaml.safe_load(conf_text(f"model/{name}"))
        assert (values["name"], values["width"], values["weights"]) == (name, 1.0, None)


def test_the_networks_are_those_of_the_models():
    """The files are the networks that can be made, with their options and their defaults."""
    assert set(NETWORKS) == set(MADE_NETWORKS)
    for name, make in MADE_NETWORKS.items():
        options = {k: p.default for k, p in inspect.signature(make).parameters.items()}
        for given_by_the_data in ("classes", "in_channels", "size"):
            options.pop(given_by_the_data, None)
        written = yaml.safe_load(conf_text(f"model/{name}"))
        del written["name"], written["weights"]
        assert written == options


def test_the_heads_are_those_of_the_models():
    """The names that the configuration accepts are the names that can be made."""
    assert set(HEADS) == set(MADE_HEADS)


@pytest.mark.parametrize("name", choices("data"))
def test_every_data_set_composes(name: str):
    """Each file brings its name and a recipe that passes the checks."""
    assert compose("train", [f"data={name}"]).data.name == name


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_composes(name: str):
    """Each file can be chosen."""
    assert compose("train", [f"model={name}"]).model["name"] == name


PRESETS = [(name, preset) for name, one in COMMANDS.items() for preset in choices(one.presets)]


@pytest.mark.parametrize(("command", "name"), PRESETS)
def test_presets_choose_files_that_exist(command: str, name: str):
    """And set keys that their command has; the first line of each says how it is called."""
    text = conf_text(f"{COMMANDS[command].presets}/{name}")
    assert f"`blockstep {command} preset={name}`" in text.splitlines()[1]
    assert max(map(len, text.splitlines())) <= 100
    for line in yaml.safe_load(text)["defaults"]:
        for group, choice in line.items():
            assert choice in choices(group.removeprefix("override /"))
    assert compose(command, [f"preset={name}"]).preset == name
    assert name in command_help(command)


@pytest.mark.parametrize(("command", "name"), PRESETS)
def test_a_preset_belongs_to_its_command(command: str, name: str):
    """Commands that have none of that name refuse it, and name their own."""
    owners = {owner for owner, preset in PRESETS if preset == name}
    assert command in owners
    for other in {name for name, one in COMMANDS.items() if one.has_presets} - owners:
        with pytest.raises(ConfigError) as refused:
            compose(other, [f"preset={name}"])
        (problem,) = refused.value.problems
        assert problem.startswith(f"preset={name}: there is no such choice; choose one of ")
        assert all(known in problem for known in choices(COMMANDS[other].presets))


def test_recipes_are_of_pairs_that_exist():
    """A recipe is named MODEL-DATA; those of other commands than train are apart."""
    apart = [recipe for name in COMMANDS for recipe in choices(f"recipe/{name}")]
    assert "mlp_gelu-input_selection" in apart
    for recipe in [*choices("recipe"), *apart]:
        model, data = recipe.split("-")
        assert model in choices("model")
        assert data in choices("data")


# --- Configurations as YAML ---------------------------------------------------------------------

CONFIGS = [
    [],
    ["model=vgg19", "cuts=[1,2]", "heads=[aux1,{_target_: my.Head, k: [1,{a: b}]}]"],
    ["model._target_=my.Net", "model.depth=3", "model.a.b=null", "data._target_=my.D", "data.x=y"],
    ["train.weight_decay=1e-05", "train.lr=1e-3", "train.lr_min=0", "name=1_000", "wandb.tags=[1]"],
    ["runs='a: b # c'", "wandb.project='null'", "wandb.entity='1e5'", "wandb.tags=['yes','0x1']"],
]


@pytest.mark.parametrize("words", CONFIGS, ids=range(len(CONFIGS)))
def test_yaml_round_trip(words: list[str]):
    """What is written is read back equal."""
    config = compose("train", words)
    assert config_from_yaml(config_to_yaml(config), "train") == config


TEXTS = st.sampled_from(["1e5", "0x1", "yes", "null", "~", "1:30", "2024-01-01", " a", "#", "- x"])
TEXTS |= st.text(min_size=1, max_size=20).filter(
    lambda text: "${" not in text and text != "???" and text.isprintable()
)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(PLAIN, TEXTS, st.floats(min_value=1e-300, max_value=1e300))
def test_any_plain_values_round_trip(value: Any, text: str, number: float):
    """Texts that look like something else in YAML, odd keys, and extreme numbers survive."""
    config = TrainConfig(model={"_target_": "a.B", "x": value}, runs=text)
    config.train.clip = number
    assert config_from_yaml(config_to_yaml(config), "train") == config


def test_missing_keys_have_their_defaults():
    """A run that an older version wrote can be read."""
    config = config_from_yaml("blocks: 3\ntrain: {lr: 1}", "train")
    assert (config.blocks, config.train.lr) == (3, 1.0)
    assert config.train.steps == TrainConfig().train.steps


BOMB = "a: &a [x,x]\n" + "\n".join(f"b{i}: &b{i} [*a,*a]" for i in range(3))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("foo: 1", "foo=1: there is no such key"),
        ("train: {learning_rate: 1}", "train.learning_rate=1: .*did you mean train.lr"),
        ("1: 2", "1=2: there is no such key"),
        ("blocks: two", "blocks=two: expected an integer"),
        ("blocks: 0", "blocks=0: must be at least 1"),
        ("train: 5", "train=5: .*section"),
        ("2", "line 1: expected keys and values"),
        ("'text'", "line 1: expected keys and values"),
        ("train: {lr: .inf}", "train.lr=inf: expected a finite number"),
        ("method: backprop", "blocks=2: method=backprop"),
        ("name: ${oc.env:HOME}", r"line 1: \$\{oc.env:HOME\}: references"),
        ("blocks: 2\nwandb: {tags: ['x${seed}']}", "line 2: .*references"),
        ("name: ???", "references"),
        ("${seed}: 1", "references"),
        (BOMB, "line 1: anchors"),
        ("x: !!python/object/apply:os.system [ls]", "line 1: tags"),
        ("name: !!str 5", "tags"),
        ("[1, 2]", "keys and values"),
        ("just text", "line 1: expected keys and values"),
        ("a: [", "cannot read"),
        ("a: 1\na: 2", "cannot read"),
        ("a: " + "[" * 500 + "]" * 500, "nested deeper"),
        ("model: {_target_: a.B, x: " + "[" * 18 + "]" * 18 + "}", "at most 16 deep"),
        ("seed: " + "9" * 5000, "cannot read"),
        ("seed: 0x" + "f" * 9999, "seed=an integer of 39996 bits: expected an integer of at most"),
        ("foo: 0x" + "f" * 9999, "foo=an integer of 39996 bits: there is no such key"),
        ("name: 'a\x00b'", "cannot read"),
        ("name: ${" + "x" * 9999, "references"),
        ("name: !" + "x" * 9999 + " 1", "tags"),
        ("x" * 999 + ": 1", "there is no such key"),
        ("runs: 'a\u2028b'", "printable"),
        ("#" * (LARGEST + 1), f"{LARGEST + 1} bytes"),
    ],
)
def test_refused_texts(text: str, hint: str):
    """A file of someone else is refused in words; nothing in it is resolved or executed."""
    with pytest.raises(ConfigError) as refused:
        config_from_yaml(text, "train")
    assert re.search(hint, str(refused.value))
    assert len(str(refused.value)) < 1000


def test_the_empty_text_is_the_defaults():
    """No keys: every key has its default."""
    assert config_from_yaml("{}", "train") == TrainConfig()
