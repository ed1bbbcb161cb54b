"""Tests of `blockstep.launch.compose` and of the checks behind it."""

from __future__ import annotations

import logging
import pickle
from dataclasses import asdict
from pathlib import Path

import hydra
import pytest
import yaml
from blockstep.launch.commands import choices, conf_text
from blockstep.launch.compose import apply_overrides, compose, validate
from blockstep.launch.config import TrainConfig
from blockstep.launch.limits import HEADS
from blockstep.launch.refusal import ConfigError
from blockstep.launch.schema import leaves
from blockstep.launch.training.limits import LIMITS
from blockstep.launch.training.method import METHODS
from hydra.core.global_hydra import GlobalHydra
from hydra.version import getbase
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf


def problems(*words: str) -> tuple[str, ...]:
    """Return the problems of a refused command line."""
    with pytest.raises(ConfigError) as refused:
        compose("train", words)
    return refused.value.problems


def merged(base: dict, changes: dict) -> dict:
    """Merge nested mappings, independently of OmegaConf."""
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


# --- What is accepted -------------------------------------------------------------------------


def test_defaults_are_the_dataclass_with_the_recipe_of_digits():
    """Without overrides the result is TrainConfig() with the files of digits applied."""
    recipe = yaml.safe_load(conf_text("data/digits"))
    assert recipe["train"]["steps"] != TrainConfig().train.steps
    expected = merged(asdict(TrainConfig()), recipe)
    expected["model"] = {"name": "resnet18", "width": 0.25, "weights": None}
    assert asdict(compose("train", [])) == expected


def test_the_line_of_the_readme():
    """Groups choose files, dotted keys set values, and the dataclass has the right types."""
    config = compose(
        "train",
        ["model=resnet50", "model.width=0.5", "blocks=3", "decoupling=uniform", "train.lr=1"],
    )
    assert config.model == {"name": "resnet50", "width": 0.5, "weights": None}
    assert (config.blocks, config.decoupling) == (3, "uniform")
    assert config.train.lr == 1.0
    assert type(config.train.lr) is float


def test_typed_keys_win_over_the_recipe_wherever_they_stand():
    """A key that is typed before data=NAME still wins over what that file brings."""
    for words in (["train.steps=7", "data=digits"], ["data=digits", "train.steps=7"]):
        assert compose("train", words).train.steps == 7


def test_the_small_width_is_only_for_the_default_network_on_digits():
    """The pair resnet18 and digits has a recipe; other networks keep their width."""
    assert compose("train", ["data=digits", "model=resnet18"]).model["width"] == 0.25
    assert compose("train", ["model=resnet50"]).model["width"] == 1.0
    assert compose("train", ["model.width=1"]).model["width"] == 1.0


def test_the_last_of_several_values_counts():
    """Scripts may append overrides to others."""
    config = compose("train", ["seed=1", "model=vgg19", "seed=2", "model=resnet34"])
    assert (config.seed, config.model["name"]) == (2, "resnet34")


@pytest.mark.parametrize("prefix", ["+", "++"])
def test_a_plus_before_a_known_key_changes_nothing(prefix: str):
    """Hydra users type + out of habit."""
    assert compose("train", [f"{prefix}train.lr=0.5"]).train.lr == 0.5


def test_a_mapping_for_a_section_sets_its_keys():
    """train={..} is the same as the dotted keys."""
    config = compose("train", ["train={lr: 0.5, steps: 9}", "data={augment: {flip: true}}"])
    assert (config.train.lr, config.train.steps, config.data.augment.flip) == (0.5, 9, True)


def test_texts_keep_their_spelling():
    """A text that looks like a number is not rewritten, and quotes are not part of it."""
    config = compose("train", ["name=1_000", "runs='my runs'", "model='resnet34'"])
    assert (config.name, config.runs, config.model["name"]) == ("1_000", "my runs", "resnet34")


def test_references_see_what_was_typed(monkeypatch: pytest.MonkeyPatch):
    """${key} and ${oc.env:X} are resolved once, to the type of their key."""
    monkeypatch.setenv("LR", "0.25")
    config = compose("train", ["seed=3", "name=run-${seed}-${model.name}", "train.lr=${oc.env:LR}"])
    assert (config.name, config.train.lr) == ("run-3-resnet18", 0.25)


def test_cuts_without_blocks_settle_the_blocks():
    """K - 1 cuts make K blocks."""
    assert compose("train", ["cuts=[2,5]"]).blocks == 3
    assert compose("train", ["cuts=[]"]).blocks == 1
    assert compose("train", ["cuts=[2,5]", "blocks=3"]).cuts == [2, 5]


def test_backprop_without_blocks_is_one_block():
    """The default of two blocks is for decoupled methods."""
    assert compose("train", ["method=backprop"]).blocks == 1
    assert compose("train", ["method=backprop", "blocks=1"]).blocks == 1


def test_own_network_gets_only_the_keys_that_were_typed():
    """model._target_ replaces the group; the keys need no +, and are parsed by Hydra."""
    config = compose(
        "train",
        ["model._target_=my.Net", "model.depth=3", "model.a.b=[1,{c: x}]", "+model.flag=true"],
    )
    assert config.model == {
        "_target_": "my.Net",
        "depth": 3,
        "a": {"b": [1, {"c": "x"}]},
        "flag": True,
    }
    assert compose("train", ["model={_target_: my.Net, depth: 3}"]).model == {
        "_target_": "my.Net",
        "depth": 3,
    }


def test_own_data_set_gets_its_keys_and_keeps_ours():
    """Keys of DataConfig stay where they are; the others go to the class."""
    config = compose(
        "train",
        [
            "data._target_=my.Data",
            "data.path=/x",
            "data.deep.er=1",
            "data.validation=0.2",
            "data.augment.flip=true",
        ],
    )
    assert config.data.target == {"_target_": "my.Data", "path": "/x", "deep": {"er": 1}}
    assert (config.data.validation, config.data.augment.flip) == (0.2, True)
    assert config.data.name == "Data"
    assert compose("train", ["data._target_=my.Data", "data.name=mine"]).data.name == "mine"


def test_own_data_set_has_no_recipe():
    """The recipe of digits and its width are for digits."""
    config = compose("train", ["data._target_=my.Data"])
    assert config.train == TrainConfig().train
    assert config.model["width"] == 1.0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["heads=aux2"], "aux2"),
        (["heads=[aux2]"], ["aux2"]),
        (["heads=[aux4,aux1]", "blocks=3"], ["aux4", "aux1"]),
        (["heads={_target_: my.Head, k: 3}"], {"_target_": "my.Head", "k": 3}),
        (["heads._target_=my.Head", "heads.k=3"], {"_target_": "my.Head", "k": 3}),
        (["heads=[{_target_: my.Head}]"], [{"_target_": "my.Head"}]),
    ],
)
def test_heads(words: list[str], expected: object):
    """Heads are one name, one per cut, or a class."""
    assert compose("train", words).heads == expected


def test_own_loss_and_metrics():
    """A loss is a class with its arguments; metrics are a list of them."""
    config = compose(
        "train",
        ["train.loss._target_=my.Loss", "train.loss.k=2", "train.metrics=[{_target_: my.M}]"],
    )
    assert config.train.loss == {"_target_": "my.Loss", "k": 2}
    assert config.train.metrics == [{"_target_": "my.M"}]


@pytest.mark.parametrize(
    "decoupling", ["uniform", "random", "sedona/resnet50", "runs/a/decoupling.json", "d.json"]
)
def test_decouplings(decoupling: str):
    """Names, published decouplings and files."""
    assert compose("train", [f"decoupling={decoupling}"]).decoupling == decoupling


@pytest.mark.parametrize(
    ("key", "value"), [(k, v) for k, known in LIMITS.choices.items() for v in known]
)
def test_every_choice_is_accepted(key: str, value: str):
    """Each listed choice composes."""
    more = {
        "multistep": ["train.milestones=[1]"],
        "sedona_continuous": ["decoupling=a/decoupling.json"],
        "gpipe": ["method=backprop"],
        "1f1b": ["method=backprop"],
        "interleaved_1f1b": ["method=backprop"],
    }.get(value, [])
    values = asdict(compose("train", [f"{key}={value}", *more]))
    for name in key.split("."):
        values = values[name]
    assert values == value


# --- What is refused --------------------------------------------------------------------------

REFUSED = [
    # unknown keys
    ("train.learning_rate=0.1", "did you mean train.lr?"),
    ("+train.learning_rate=0.1", "did you mean train.lr?"),
    ("++train.lrr=0.1", "did you mean train.lr?"),
    ("lr=0.1", "did you mean train.lr?"),
    ("train.batchsize=8", "did you mean train.batch_size?"),
    ("wandb.projekt=x", "did you mean wandb.project?"),
    ("model.wdith=0.5", "did you mean model.width?"),
    ("+model.depth=3", "there is no such key"),
    ("data.augment.flipp=true", "did you mean data.augment.flip?"),
    ("nonsense=1", "there is no such key"),
    ("train.lr.x=1", "there is no such key"),
    ("hydra.run.dir=x", "not used here"),
    ("hydra/launcher=basic", "not used here"),
    ("model@other=resnet18", "not used here"),
    ("train=5", "section"),
    ("model.name=resnet50", "model=NAME"),
    ("data.name=cifar10", "data=NAME"),
    ("data.target=x", "data._target_=package.Class"),
    # unknown choices
    ("model=resnet49", "resnet50"),
    ("model=null", "resnet50"),
    ("data=digit", "did you mean digits?"),
    # wrong types
    ("train.steps=many", "an integer"),
    ("train.steps=1.5", "an integer"),
    ("train.steps=true", "an integer"),
    ("train.steps=null", "an integer"),
    ("train.steps=", "an integer"),
    ("train.steps=[1]", "an integer"),
    ("train.lr=fast", "a number"),
    ("train.lr=true", "a number"),
    ("train.nesterov=perhaps", "true or false"),
    ("train.milestones=5", "a list of integers"),
    ("train.milestones=[a]", "a list of integers"),
    ("train.betas=[a,b]", "a list of numbers"),
    ("train.clip=small", "a number or null"),
    ("name=[a]", "a text or null"),
    ("wandb.tags=x", "a list of texts"),
    ("train.loss=x", "a mapping"),
    ("model.width=wide", "a number"),
    ("model.weights=[a]", "a text or null"),
    # malformed words
    ("seed=0,1", "-m"),
    ("seed=range(0,3)", "-m"),
    ("train.milestones=500,750", "[a,b]"),
    ("name=a=b", "\"name='a=b'\""),
    ("data.root=~/data", "data.root=$HOME/data"),
    ("train.steps=int(x)", "invalid literal"),
    ("train.steps=" + "9" * 5000, "integer string"),
    ("=3", "key=value"),
    ("", "key=value"),
    # references
    ("seed=${oc.env:BLOCKSTEP_NOT_SET}", "BLOCKSTEP_NOT_SET"),
    ("seed=${nonsense}", "nonsense"),
    ("seed=${seed}", "resolved"),
    ("name='${'", "reference"),
    ("name=${now:%H}", "now"),
    # numbers
    ("train.steps=0", "at least 1"),
    ("train.batch_size=-1", "at least 1"),
    ("train.lr=0", "above 0"),
    ("train.lr=nan", "a finite number"),
    ("train.lr=inf", "a finite number"),
    ("train.lr=-inf", "a finite number"),
    ("model.width=nan", "a finite number"),
    ("model.width=0", "above 0"),
    ("train.momentum=1", "at least 0 and below 1"),
    ("train.label_smoothing=1", "at least 0 and below 1"),
    ("train.label_smoothing=-0.1", "at least 0 and below 1"),
    ("train.clip=0", "above 0"),
    ("train.gamma=2", "at most 1"),
    ("train.weight_decay=-1", "at least 0"),
    ("train.threads=0", "at least 1"),
    ("train.betas=[0.9]", "two numbers"),
    ("train.betas=[0.9,1]", "two numbers"),
    ("data.validation=1", "at least 0 and below 1"),
    ("data.workers=-1", "at least 0"),
    ("seed=-1", "at least 0"),
    ("seed=9223372036854775808", "at most 63 bits"),
    ("blocks=0", "at least 1"),
    ("pipeline.queue_messages=0", "at least 1"),
    ("pipeline.queue_bytes=0", "at least 1"),
    ("pipeline.microbatches=0", "at least 1"),
    ("pipeline.timeout=0", "above 0"),
    ("checkpoint.every=-1", "at least 0"),
    ("checkpoint.keep=0", "at least 1"),
    ("log.every=0", "at least 1"),
    ("measure.backprop=-1", "at least 0"),
    # choices
    ("method=sedonna", "did you mean sedona?"),
    ("method=dgll", "did you mean dgl?"),
    ("runtime=threads", "pipeline, sequential"),
    ("device=gpu", "auto, cpu, cuda"),
    ("train.optimizer=adamv", "did you mean adam"),
    ("train.schedule=linear", "cosine, multistep, constant"),
    ("train.precision=fp16", "float32, bfloat16, float16"),
    ("pipeline.link=ncl", "did you mean nccl?"),
    ("wandb.mode=on", "offline, online, disabled"),
    ("log.view=fancy", "auto, live, plain, none"),
    ("decoupling=balance", "did you mean balanced?"),
    ("heads=aux5", "aux1, aux2, aux3, aux4"),
    ("heads=[aux9]", "aux9"),
    ("heads=3", "aux1"),
    ("predsim.inputs=8", "for method=predsim, not for method=decoupled"),
    ("data.classes_per_batch=0", "at least 1"),
    ("data.classes_until=5", "data.classes_per_batch holds, which is null"),
    ("train.reset_momentum=true", "only train.schedule=multistep has, not cosine"),
    ("preset=sedona", "choose one of dgl_cifar"),
    ("heads.k=3", "heads._target_=package.Class"),
    ("heads._target_=Head", "package.Class"),
    ("model._target_=Net", "package.Class"),
    ("model._target_=3", "package.Class"),
    ("data._target_=a..b", "package.Class"),
    ("train.loss.k=3", "train.loss._target_=package.Class"),
    ("train.metrics=[accuracy]", "package.Metric"),
    ("pipeline.devices=[gpu]", "cuda:0"),
    ("pipeline.devices=[]", "cuda:0"),
    # names and texts
    ("name=a/b", "plain folder name"),
    ("name=.hidden", "plain folder name"),
    ("name='-x'", "plain folder name"),
    ("name=", "plain folder name"),
    ("name=" + "x" * 101, "at most 100 characters"),
    ("name='a\tb'", "printable"),
    ("runs=", "empty"),
    ("resume=", "empty"),
    ("wandb.project=", "empty"),
    # relations with the defaults
    ("cuts=[0,3]", "counted from 1"),
    ("cuts=[3,3]", "strictly increasing"),
    ("train.milestones=[5,5]", "strictly increasing"),
    ("train.schedule=multistep", "needs some"),
    ("profile.stage=3", "blocks=2"),
]


# Where a message does not begin with the word as it was typed: another key is the one to change,
# or the value is shown in the type of its key.
RESTATED = {
    "": "=",
    "train.schedule=multistep": "train.milestones=[]",
    "heads.k=3": "heads={k:3}",
    "train.loss.k=3": "train.loss={k:3}",
    "train.metrics=[accuracy]": "train.metrics=accuracy",
    "name='-x'": "name=-x",
    "name='a\tb'": r"name='a\tb'",
    "train.lr=0": "train.lr=0.0",
    "model.width=0": "model.width=0.0",
    "train.momentum=1": "train.momentum=1.0",
    "train.label_smoothing=1": "train.label_smoothing=1.0",
    "train.clip=0": "train.clip=0.0",
    "train.gamma=2": "train.gamma=2.0",
    "train.weight_decay=-1": "train.weight_decay=-1.0",
    "train.betas=[0.9,1]": "train.betas=[0.9,1.0]",
    "data.validation=1": "data.validation=1.0",
    "pipeline.timeout=0": "pipeline.timeout=0.0",
}


@pytest.mark.parametrize(("word", "hint"), REFUSED, ids=[word[:40] for word, _ in REFUSED])
def test_refused_words(word: str, hint: str):
    """One problem, with the key, the value as it was typed, and what would be valid."""
    (problem,) = problems(word)
    start = RESTATED.get(word, word.lstrip("+"))
    assert problem.startswith(f"{start}: " if len(start) < 80 else start[:80])
    assert hint in problem
    assert "\n" not in problem
    assert len(problem) < 500


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("train.lr", "train.lr=VALUE"),
        ("~train.lr", "cannot be removed"),
        ("~train.lr=0.1", "cannot be removed"),
        ("~model", "cannot be removed"),
        ("--lr", "no such option"),
    ],
)
def test_words_that_are_no_assignment(word: str, hint: str):
    """Words without a value, removals and options are refused with the word itself."""
    (problem,) = problems(word)
    assert problem.startswith(f"{word}: ")
    assert hint in problem


RELATIONS = [
    (["method=backprop", "blocks=2"], "blocks=2", "method=backprop"),
    (["method=backprop", "cuts=[3]"], "cuts=[3]", "one block"),
    (["method=sedona_continuous"], "decoupling=null", "give the decoupling.json of a search"),
    (
        ["method=sedona_continuous", "decoupling=sedona/resnet50"],
        "decoupling=sedona/resnet50",
        "learned alpha and beta",
    ),
    (
        ["method=sedona_continuous", "decoupling=a/d.json", "blocks=2"],
        "blocks=2",
        "trains the whole network as one block",
    ),
    (
        ["method=sedona_continuous", "decoupling=a/d.json", "heads=aux1"],
        "heads=aux1",
        "as the search left them",
    ),
    (
        ["method=sedona_continuous", "decoupling=a/d.json", "ablation=beta"],
        "ablation=beta",
        "as the search left them",
    ),
    (["method=backprop", "heads=aux1"], "heads=aux1", "method=backprop has no heads"),
    (["method=predsim", "heads=aux1"], "heads=aux1", "method=predsim needs what the head predsim"),
    (["method=predsim", "heads=[predsim,linear]", "blocks=3"], "heads=[predsim,linear]", "predsim"),
    (["method=predsim", "heads=[predsim]", "blocks=3"], "heads=[predsim]", "1 heads for 3 blocks"),
    (["method=predsim", "train.chunk=9"], "train.chunk=9", "method=predsim compares all examples"),
    (["method=predsim", "predsim.beta=1.5"], "predsim.beta=1.5", "at least 0 and at most 1"),
    (
        ["method=predsim", "decoupling=a/d.json", "ablation=beta"],
        "ablation=beta",
        "method=predsim needs its own",
    ),
    (["method=dgl", "predsim.beta=0.5"], "predsim.beta=0.5", "not for method=dgl"),
    (["method=ddg", "heads=aux1"], "heads=aux1", "method=ddg has no heads"),
    (
        ["method=features_replay", "train.chunk=8"],
        "train.chunk=8",
        "method=features_replay sends one error signal back for each whole batch",
    ),
    (["method=ddg", "train.compile=true"], "train.compile=true", "method=ddg does not compile"),
    (
        ["method=features_replay", "train.precision=float16"],
        "train.precision=float16",
        "differs between the blocks of method=features_replay; take bfloat16",
    ),
    (
        ["method=ddg", "decoupling=a/d.json", "ablation=beta"],
        "ablation=beta",
        "draws heads, but method=ddg has none",
    ),
    (
        ["method=ddg", "pipeline.replicas=[2,1]"],
        "pipeline.replicas=[2,1]",
        "method=ddg has one process for each stage",
    ),
    (["ablation=beta"], "ablation=beta", "decoupling.json of a search, not null"),
    (["ablation=gamma", "decoupling=a/d.json"], "ablation=gamma", "choose one of alpha, beta"),
    (["ablation=beta", "decoupling=a/d.json", "heads=aux1"], "heads=aux1", "ablation=beta draws"),
    (["cuts=[3]", "blocks=4"], "cuts=[3]", "1 cuts make 2 blocks, but blocks=4"),
    (["cuts=[3]", "decoupling=uniform"], "cuts=[3]", "decoupling=uniform"),
    (["heads=[aux1,aux2]", "blocks=2"], "heads=[aux1,aux2]", "2 heads for 2 blocks; give 1"),
    (["train.steps=10", "train.warmup=11"], "train.warmup=11", "train.steps=10"),
    (["train.lr=0.01", "train.lr_min=0.1"], "train.lr_min=0.1", "train.lr=0.01"),
    (["train.batch_size=8", "train.chunk=9"], "train.chunk=9", "train.batch_size=8"),
    (["train.nesterov=true", "train.momentum=0"], "train.nesterov=true", "train.momentum"),
    (["train.nesterov=true", "train.optimizer=adam"], "train.nesterov=true", "adam"),
    (
        ["train.schedule=multistep", "train.milestones=[5,20]", "train.steps=10"],
        "train.milestones=[5,20]",
        "train.steps=10",
    ),
    (["model=resnet50", "model._target_=a.B"], "model=resnet50", "model._target_"),
    (["data=digits", "data._target_=a.B"], "data=digits", "data._target_"),
    (["data._target_=a.B", "data.augment.foo=1"], "data.augment.foo=1", "no such key"),
]


@pytest.mark.parametrize(("words", "start", "hint"), RELATIONS, ids=[w[1] for w in RELATIONS])
def test_refused_relations(words: list[str], start: str, hint: str):
    """The message has the value of both sides."""
    (problem,) = problems(*words)
    assert problem.startswith(f"{start}: ")
    assert hint in problem


def test_all_problems_are_reported_together():
    """One line for each, of every kind."""
    found = problems(
        "train.lr=fast", "model=resnet49", "foo=1", "blocks=0", "~seed", "method=x", "name=a/b"
    )
    keys = {problem.partition(":")[0].partition("=")[0] for problem in found}
    assert keys == {"train.lr", "model", "foo", "blocks", "~seed", "method", "name"}


def test_a_refused_choice_does_not_make_its_keys_unknown():
    """Nobody knows which keys the misspelt network has."""
    (problem,) = problems("model=vgg18", "model.dropout=0.5")
    assert problem.startswith("model=vgg18: ")


def test_messages_are_one_line_of_printable_text():
    """Terminal codes and line breaks in a value are shown, not sent."""
    (problem,) = problems("name='a\nb\x1b[31m'")
    assert problem.isprintable()
    assert r"a\nb\x1b[31m" in problem


def test_an_unknown_command_is_refused():
    """The known ones are named."""
    with pytest.raises(ConfigError, match=r"trian.*train"):
        compose("trian", [])


def test_errors_survive_pickling():
    """Errors travel between processes."""
    error = ConfigError("a=1: no", "b=2: no")
    copied = pickle.loads(pickle.dumps(error))
    assert (copied.problems, str(copied)) == (error.problems, "a=1: no\nb=2: no")


# --- Configurations that were not composed ------------------------------------------------------


def test_validate_returns_the_types_of_the_keys():
    """A configuration from Python may have integers where numbers belong."""
    config = TrainConfig()
    config.train.lr = 1
    checked = validate(config)
    assert type(checked.train.lr) is float
    assert checked == config


def test_validate_refuses_wrong_types_and_values():
    """Python callers get the same messages."""
    config = TrainConfig(blocks="two")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="blocks=two: expected an integer"):
        validate(config)
    with pytest.raises(ConfigError, match="blocks=0: must be at least 1"):
        validate(TrainConfig(blocks=0))


def test_apply_overrides_changes_a_copy():
    """A resume may change what is typed, without composing recipes again."""
    before = compose("train", ["train.steps=10", "name=first"])
    after = apply_overrides(
        before, ["train.steps=20", "model=resnet18", "data=digits", "resume=auto", "name=first"]
    )
    assert (before.train.steps, after.train.steps) == (10, 20)
    after.train.steps, after.resume = 10, None
    assert after == before


def test_apply_overrides_to_own_classes():
    """The saved classes keep their keys; naming them again is no change."""
    words = ["model._target_=my.Net", "model.depth=3", "data._target_=my.Data", "data.path=x"]
    before = compose("train", words)
    assert apply_overrides(before, words) == before
    assert apply_overrides(before, ["model.depth=4"]).model["depth"] == 4


@pytest.mark.parametrize(
    ("word", "current"),
    [
        ("model=resnet50", "model=resnet18"),
        ("model._target_=my.Net", "model=resnet18"),
        ("data=cifar10", "data=digits"),
        ("data._target_=my.Data", "data=digits"),
    ],
)
def test_apply_overrides_refuses_another_network_or_data_set(word: str, current: str):
    """A run keeps its network and its data."""
    with pytest.raises(ConfigError) as refused:
        apply_overrides(compose("train", []), [word])
    (problem,) = refused.value.problems
    assert problem.startswith(f"{word}: ")
    assert current in problem


# --- No traces ----------------------------------------------------------------------------------


def test_nothing_is_written_or_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Neither a composition nor a refusal leaves files or log handlers."""
    monkeypatch.chdir(tmp_path)
    handlers = list(logging.getLogger().handlers)
    compose("train", ["seed=1"])
    problems("foo=1")
    assert list(tmp_path.iterdir()) == []
    assert logging.getLogger().handlers == handlers


def test_no_global_state_is_left():
    """Hydra is not initialised afterwards, and has no more resolvers than before."""
    OmegaConf.clear_resolvers()
    compose("train", ["model=resnet101"])
    assert not GlobalHydra.instance().is_initialized()
    assert not OmegaConf.has_resolver("now")


def test_a_session_of_the_caller_goes_on(tmp_path: Path):
    """A caller inside Hydra keeps its search path and its version base."""
    (tmp_path / "own.yaml").write_text("x: 1")
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.2"):
        compose("train", ["model=resnet152"])
        assert hydra.compose("own").x == 1
        assert str(getbase()) == "1.2"


def test_compositions_share_nothing():
    """Changing one result does not change the next."""
    compose("train", []).model["width"] = 99.0
    assert compose("train", []).model["width"] == 0.25


# --- The tables ---------------------------------------------------------------------------------


def test_the_tables_of_limits_name_keys_that_exist():
    """A renamed key cannot lose its check."""
    assert set(LIMITS.choices) | set(LIMITS.ranges) <= set(leaves(TrainConfig))


def test_every_number_has_a_range():
    """A new number needs limits, or a relation that checks it."""
    numbers = {
        key
        for key, kind in leaves(TrainConfig).items()
        if kind in (int, float, int | None, float | None)
    }
    assert numbers == set(LIMITS.ranges)


def test_every_default_choice_is_its_own_choice():
    """The default of a key with choices is one of them."""
    config = TrainConfig()
    assert validate(config) == config
    assert config.method in METHODS
    assert "aux1" in HEADS


# --- Anything else ------------------------------------------------------------------------------

KEYS = st.sampled_from(sorted(leaves(TrainConfig))) | st.sampled_from(
    ["model", "data", "train", "model._target_", "data._target_", "heads.k", "model.x", "+x", "~x"]
)
VALUES = st.text(max_size=12) | st.text("${}[](),:'\"\\=0.1eaux-_~@/? ", max_size=14)
NUMBERS = st.one_of(st.integers(), st.floats(), st.booleans(), st.none()).map(str)
NAMES = st.sampled_from([*METHODS, *HEADS, *choices("model"), "[aux1]", "[1,2]", "${seed}"])
ASSIGNMENTS = st.builds("{}={}".format, KEYS, VALUES | NUMBERS | NAMES)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.lists(ASSIGNMENTS | st.text(max_size=20), max_size=3))
def test_any_words_are_accepted_or_refused_in_words(words: list[str]):
    """Nothing but ConfigError, with a printable line for each problem; what passes is valid."""
    try:
        config, found = compose("train", words), ()
    except ConfigError as error:
        config, found = None, error.problems
    assert (config is None) == bool(found)
    assert all(problem.isprintable() for problem in found)
    assert config is None or validate(config) == config


@pytest.mark.parametrize("text", ["[" * 90 + "]" * 90, "{a:" * 60 + "1" + "}" * 60, "[" * 2000])
def test_deep_values_are_refused(text: str):
    """Deep nesting exhausts neither Hydra's parser nor ours."""
    (problem,) = problems("model._target_=a.B", f"model.x={text}")
    assert problem.startswith("model.x=[" if text[0] == "[" else "model.x={a:")
    assert len(problem) < 500
