"""What ``--help``, ``--version`` and ``--cfg job`` print.

The reference of the keys is the YAML files themselves: each key stands there once, with its
default and its one-line comment.
"""

from __future__ import annotations

import platform
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

from .. import __version__
from .bench.lineup import ENTRIES
from .commands import COMMANDS, PRESET, choices, conf_text
from .compose import compose
from .configfile import config_to_yaml
from .refusal import ConfigError, closest
from .schema import sections

__all__ = ["USAGES", "Entry", "Usage", "command_help", "composed", "entries", "overview", "version"]

_WIDTH = 100
_COLUMN = 34


@dataclass(frozen=True)
class Usage:
    """How a command is called.

    Attributes:
        arguments: What follows the command.
        summary: One line, for the list of commands.
        details: Further sentences for the help of the command.
    """

    arguments: str
    summary: str
    details: str = ""


USAGES: Mapping[str, Usage] = {
    "train": Usage(
        "[key=value ...]",
        "train a network with a method, each block in a process of its own",
        "Without keys it trains a ResNet-18 of a quarter of its width on digits, on this machine,"
        " in under two minutes."
        " Under torchrun the same line uses torchrun's processes. The keys below stand with their"
        " defaults; a data set brings its own recipe, which `blockstep train data=NAME --cfg job`"
        " prints.",
    ),
    "search": Usage(
        "[key=value ...]",
        "find where to cut a network and which heads to use (SEDONA)",
        "Writes decoupling.json, which `blockstep train decoupling=FILE` deploys with any number"
        " of blocks, another width and other data. The defaults are the paper's, which searches"
        " with model.width=0.25; begin with preset=small, which takes about three minutes on two"
        " cores. Under torchrun the ranks share search.samples. The keys below stand with their"
        " defaults.",
    ),
    "partition": Usage(
        "[key=value ...]",
        "learn hyperparameters in one run, without a validation set (partitioned networks)",
        "Writes psi.json, which `blockstep train psi=FILE` retrains with. The defaults are those of"
        " the paper's CIFAR experiments; data=input_selection is the task of its Figure 2, in"
        " two minutes. With ranks=C each process owns one of C partitions; under torchrun its"
        " processes do. The keys below stand with their defaults.",
    ),
    "federate": Usage(
        "[key=value ...]",
        "federated training that learns its hyperparameters on the way (partitioned networks)",
        "Simulates clients on this machine: each trains the partitions of its chunk and of later"
        " ones, and uploads only these. federate.method compares it with federated averaging, with"
        " and without Augerino; bytes up and down are counted. Any number of ranks gives the same"
        " result, at equal train.threads. The keys below stand with their defaults.",
    ),
    "superweight": Usage(
        "[members=[..]] [budget=18M] [key=value ...]",
        "networks and ensembles in a parameter budget, of shared templates (SuperWeights)",
        "Learns which layers of the members share templates and coefficients, then trains them"
        " together; leaves one checkpoint, sharing.json and its picture. method= trains the same"
        " members as one of the peers, such as deep or batch_ensemble. One network in a budget:"
        " members=[resnet50] budget=50%. Begin with preset=small, 37 s on two cores."
        " Under torchrun the ranks share the members. The keys below stand with their defaults.",
    ),
    "bench": Usage(
        "[methods=[..]] [repeats=3] [blocks=2] [key=value ...]",
        "the same training by several methods, side by side in one table",
        "methods: any of METHODS, each with further keys behind it if wanted, such as"
        " methods=[backprop,sedona decoupling=sedona/resnet50]; repeats: trainings of each, with"
        " seeds 0, 1, ..., in turn; blocks: blocks, and devices; name and runs: the folder. All"
        " other keys are those of `blockstep train`, for every method.",
    ),
    "plan": Usage(
        "[key=value ...]",
        "predict speed, memory and traffic of every method on other devices",
        "Times each layer and head here with random inputs (or reads profile=FILE), simulates"
        " queues, transfers, bubbles and all-reduce, and says which method is fastest, also when"
        " that is data parallelism. The keys below stand with their defaults; a data set brings its"
        " own batch size and precision.",
    ),
    "evaluate": Usage(
        "run=DIR [key=value ...]",
        "the accuracy of a run's network, of every block and of their ensemble",
        "Keys: checkpoint=last|best, split=test|validation|train, data.root=DIR (where the files"
        " are here), device=auto|cpu|cuda; the first of each is the default. gradients=N compares,"
        " at every checkpoint that was kept, the gradients of the local losses with those of"
        " backpropagation, on N training batches. Of an ensemble (blockstep superweight): accuracy,"
        " likelihood, calibration, diversity, and what every subset of the members achieves for"
        " its cost, each as JSON and as a picture; corruptions=none|own|DIR (computed here, or"
        " CIFAR-C's files), severities=1,2,3,4,5, interpolation=POINTS, timing=REPEATS.",
    ),
    "export": Usage(
        "run=DIR [checkpoint=last|best] [data.root=DIR]",
        "write a run's network as a plain PyTorch state_dict",
        "Writes DIR/model.pt: the network with its classifier, without the auxiliary heads. Of an"
        " ensemble: DIR/member-K.pt, each member with weights of its own.",
    ),
    "report": Usage(
        "DIR [DIR ...]",
        "one HTML page about a run, or the comparison of several",
        "Several runs are compared side by side, with mean and standard error over seeds.",
    ),
    "status": Usage(
        "run=DIR", "the stages of a run, their speed and their queues, from another terminal"
    ),
    "stop": Usage("run=DIR", "ask a run to write a checkpoint and end, from another terminal"),
    "dashboard": Usage(
        "[wandb.project=NAME] [wandb.entity=NAME] [key=value ...]",
        "save a project's workspace in wandb: stages, speed, searches, comparisons",
        "Needs wandb-workspaces (pip install wandb-workspaces) and a login. dry_run=true prints the"
        " layout, output=FILE writes it as JSON; neither needs either.",
    ),
    "doctor": Usage(
        "[key=value ...]",
        "check this machine: devices, back ends, links, disk, data, wandb",
        "One line each: ok, warn or fail, and what to do. The exit status is 0 unless something"
        " failed.",
    ),
}

_EXAMPLES = (
    ("on a laptop", "blockstep train name=first"),
    (
        "with torchrun",
        "torchrun --standalone --nproc-per-node 2 -m blockstep train blocks=2",
    ),
    ("resume a run", "blockstep train name=first resume=auto"),
    ("find where to cut", "blockstep search preset=small name=cuts"),
    ("learn which inputs count", "blockstep partition data=input_selection name=inputs"),
    ("an ensemble in a budget", "blockstep superweight preset=small name=ensemble"),
    (
        "predict speed and memory on other devices",
        "blockstep plan model=resnet152 data=imagenet blocks=[2,4,8] devices=8",
    ),
)

_HEADINGS = {
    "model": "the network",
    "data": "the data set, and how its examples become batches",
    "psi": "what is learned as hyperparameters, and how",
}

_EXPLAINS = {"data": "digits", "psi": "affine"}
"""The file of a section that has all of its keys, with their comments."""

_OPTIONS = (
    ("--help", "this text; after a command, all its keys"),
    ("--cfg job", "after a command: print the composed configuration, start nothing"),
    ("-m", "after a command: one job for each value of key=a,b,c"),
    ("--version", "the versions of blockstep and of what it runs on"),
)

_KEY = re.compile(r"^(?P<indent> *)(?P<name>\w+):(?: (?P<value>\S.*?))?(?:  # (?P<comment>.*))?$")


@dataclass(frozen=True)
class Entry:
    """A key of a YAML file.

    Attributes:
        key: Dotted.
        value: The default as YAML, empty for a section.
        comment: The comment on its line.
    """

    key: str
    value: str
    comment: str

    @property
    def is_section(self) -> bool:
        """Whether further keys stand below it."""
        return not self.value


def overview() -> str:
    """Return the text of ``blockstep --help``."""
    commands = [(name, usage.summary) for name, usage in USAGES.items()]
    examples = [f"  # {what}\n  {line}" for what, line in _EXAMPLES]
    return "\n".join(
        [
            "blockstep COMMAND [key=value ...]",
            "",
            "Asynchronous block-wise training for PyTorch.",
            "",
            "Commands",
            *_table(commands, column=15),
            "",
            "Examples",
            *examples,
            "",
            "Options",
            *_table(_OPTIONS, column=15),
            "",
            "`blockstep COMMAND --help` lists the keys of a command.",
        ]
    )


def command_help(name: str) -> str:
    """Return the text of ``blockstep COMMAND --help``: its usage and its keys.

    Raises:
        ConfigError: There is no such command.
    """
    if name not in USAGES:
        known = ", ".join(USAGES)
        raise ConfigError(
            f"{name}: there is no such command; choose one of {known}{closest(name, USAGES)}"
        )
    usage = USAGES[name]
    details = usage.details.replace("METHODS", ", ".join(ENTRIES))
    summary = f"{usage.summary[0].upper()}{usage.summary[1:]}. {details}".strip()
    lines = [f"blockstep {name} {usage.arguments}", "", *textwrap.wrap(summary, _WIDTH)]
    if name in COMMANDS:
        lines += _reference(name)
    return "\n".join(lines)


def composed(name: str, overrides: Sequence[str]) -> str:
    """Return the text of ``blockstep COMMAND --cfg job``: the configuration as it would be used.

    Raises:
        ConfigError: The configuration is refused.
    """
    return config_to_yaml(compose(name, overrides))


def version() -> str:
    """Return the text of ``blockstep --version``."""
    try:
        torch = installed_version("torch")
    except PackageNotFoundError:
        torch = "not installed"
    return f"blockstep {__version__} (torch {torch}, Python {platform.python_version()})"


def entries(text: str) -> list[Entry]:
    """Return the keys of a YAML file of ``conf/`` in their order, without its defaults list.

    Args:
        text: Block mappings with two spaces for each level, one key per line.
    """
    found: list[Entry] = []
    path: list[str] = []
    for line in text.splitlines():
        match = _KEY.match(line)
        if match:
            level = len(match["indent"]) // 2
            path = [*path[:level], match["name"]]
            found.append(Entry(".".join(path), match["value"] or "", match["comment"] or ""))
    return [entry for entry in found if entry.key != "defaults"]


def _reference(name: str) -> list[str]:
    """List the keys of a command: the plain ones, its groups, then its sections."""
    entry = COMMANDS[name]
    keys = entries(conf_text(entry.primary))
    headings = {
        one.key: one.comment
        for one in keys
        if one.is_section and "." not in one.key and one.key not in entry.groups
    }
    lines = ["", "The run"]
    apart = {*headings, *entry.groups}
    lines += _rows(one for one in keys if one.key.partition(".")[0] not in apart)
    if entry.has_presets:
        lines += _table([(f"{PRESET}=NAME", " | ".join(choices(entry.presets)))])
    for group in entry.groups:
        is_section = group in sections(entry.config)
        found = _section_keys(group, keys) if is_section else _group_keys(group)
        lines += ["", f"{group}: {_HEADINGS[group]}", *_choice(group), *_rows(found)]
    for section, heading in headings.items():
        lines += ["", f"{section}: {heading}"]
        lines += _rows(one for one in keys if one.key.startswith(f"{section}."))
    return lines


def _section_keys(group: str, primary: Sequence[Entry]) -> list[Entry]:
    """Return the keys of a section that a choice fills; one choice explains them all.

    Args:
        group: The section.
        primary: The keys of the command's own file, whose defaults win.
    """
    own = {one.key: one for one in primary}
    keys = entries(conf_text(f"{group}/{_EXPLAINS[group]}"))
    return [
        own.get(one.key, one)
        for one in keys
        if one.key.startswith(f"{group}.")
        and not one.is_section
        and not one.comment.startswith("set by ")
    ]


def _group_keys(group: str) -> list[Entry]:
    """Return the keys of a group's files: first those of all, then those of some, which say so."""
    known = choices(group)
    owners: dict[Entry, list[str]] = {}
    for choice in known:
        for one in entries(conf_text(f"{group}/{choice}")):
            owners.setdefault(one, []).append(choice)
    shared, own = [], []
    for one, having in owners.items():
        if having == known:
            shared.append(Entry(f"{group}.{one.key}", one.value, one.comment))
        elif one.key != "name":
            comment = f"{one.comment} (only {', '.join(having)})"
            own.append(Entry(f"{group}.{one.key}", one.value, comment))
    return shared + own


def _choice(group: str) -> list[str]:
    own = f"your own class, which gets the {group}.* you type"
    rows = [(f"{group}=NAME", " | ".join(choices(group)))]
    rows += [] if group == "psi" else [(f"{group}._target_=package.Class", own)]
    return _table(rows)


def _rows(keys: Iterable[Entry]) -> list[str]:
    return _table(
        (one.key if one.is_section else f"{one.key}={one.value}", one.comment) for one in keys
    )


def _table(rows: Iterable[tuple[str, str]], column: int = _COLUMN) -> list[str]:
    """Set two columns; a left side that is too long stands on a line of its own."""
    lines = []
    for left, right in rows:
        indent = " " * column
        wrapped = textwrap.wrap(
            right, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
        )
        first = f"  {left}"
        if len(first) + 2 > column or not wrapped:
            lines += [first, *wrapped]
        else:
            lines += [first + wrapped[0][len(first) :], *wrapped[1:]]
    return lines
