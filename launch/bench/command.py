"""``blockstep bench``: the same work by several methods, side by side.

    repeat 1 (seed 0)   backprop   pipeline-1   ddp   sedona   ...
    repeat 2 (seed 1)   backprop   pipeline-1   ddp   sedona   ...
    ...

The trainings run in turn, each in processes of its own, so that a machine that becomes slower or
faster on the way does so for all of them alike; ratios are taken within a repeat.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..compose import compose
from ..config import TrainConfig
from ..devices import cores
from ..folder import RunFolder, default_name
from ..membership import under_torchrun
from ..overrides import read
from ..refusal import ConfigError, Refusals
from .lineup import DEFAULT, ENTRIES, find_entry, words_of
from .machine import machine
from .result import conclude
from .rows import make_rows
from .table import terminal
from .trial import Trial, TrialError, run_trial

__all__ = ["Plan", "bench_command", "read_plan"]

STEPS = 200
EVALUATIONS = 5
BLOCKS, REPEATS = 2, 3


@dataclass(frozen=True)
class Plan:
    """What is compared.

    Attributes:
        methods: As they were typed.
        repeats: Trainings of each, with seeds from 0.
        blocks: Blocks, and devices.
        folder: Where everything goes.
        words: What all trainings have in common.
    """

    methods: tuple[str, ...]
    repeats: int
    blocks: int
    folder: RunFolder
    words: tuple[str, ...]

    def words_for(self, method: str, cuts: Sequence[int] | None = None) -> list[str]:
        """Return the words of a method's trainings.

        Args:
            method: One of ``methods``.
            cuts: Where an earlier training of it was cut after measuring; it is not measured
                again.
        """
        words = words_of(method, self.blocks, self.words)
        if cuts:
            words = [word for word in words if not word.startswith("decoupling=")]
            words.append(f"cuts=[{','.join(map(str, cuts))}]")
        return words

    def config(self, method: str) -> TrainConfig:
        """Return the configuration of a method's trainings.

        Raises:
            ConfigError: It is refused; the method is named.
        """
        try:
            return compose("train", self.words_for(method))
        except ConfigError as error:
            raise ConfigError(f"methods: {method}: {error}") from error


def bench_command(words: Sequence[str]) -> int:
    """Run ``blockstep bench``.

    Returns:
        The exit status: 1 if a training failed.
    """
    if under_torchrun():
        raise ConfigError(
            "bench starts the processes of every training itself; run it without torchrun"
        )
    plan = read_plan(words)
    configs = {method: plan.config(method) for method in plan.methods}
    plan.folder.create()
    header = machine(configs)
    print("\n".join([f"bench {plan.folder.path}", *(f"  {line}" for line in header)]), flush=True)
    trials, failures = _train(plan, configs)
    rows = make_rows(trials)
    if rows:
        told = conclude(plan.folder, header, trials, rows, configs[rows[0].method].wandb)
        print(f"\n{terminal(rows)}\n\n{told}")
    for failure in failures:
        print(f"\nblockstep: {failure}")
    return 1 if failures else 0


def _train(
    plan: Plan, configs: Mapping[str, TrainConfig]
) -> tuple[dict[str, list[Trial]], list[TrialError]]:
    """Run every training; a method that fails once takes no further part."""
    trials: dict[str, list[Trial]] = {method: [] for method in plan.methods}
    failures: list[TrialError] = []
    waiting = list(plan.methods)
    for repeat in range(plan.repeats):
        for method in list(waiting):
            earlier = trials[method][0].summary["cuts"] if trials[method] else None
            balanced = configs[method].decoupling in (None, "balanced")
            words = plan.words_for(method, earlier if balanced else None)
            folder = RunFolder(plan.folder.path / f"{_slug(method)}-{repeat}")
            try:
                trial = run_trial(method, words, folder, loop=find_entry(method).loop, seed=repeat)
            except TrialError as error:
                failures.append(error)
                waiting.remove(method)
                print(f"repeat {repeat + 1}: {method}: failed", flush=True)
                continue
            trials[method].append(trial)
            error = trial.summary["test_accuracy"]
            told = "" if error is None else f", error {100 * (1 - error):.2f} %"
            print(
                f"repeat {repeat + 1}: {method}: {trial.images_per_second:.1f} images/s{told}",
                flush=True,
            )
    return trials, failures


def read_plan(words: Sequence[str]) -> Plan:
    """Read what was typed: the keys of bench, and those of the trainings.

    Raises:
        ConfigError: One of bench's own keys has an impossible value.
    """
    own, common = _separate(words)
    methods = _methods(own.get("methods"))
    repeats, blocks = _count(own, "repeats", REPEATS), _count(own, "blocks", BLOCKS)
    folder = RunFolder(Path(own.get("runs", "runs")) / own.get("name", default_name("bench")))
    return Plan(methods, repeats, blocks, folder, (*_defaults(blocks, common), *common))


def _separate(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    own, common = {}, []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in ("methods", "repeats", "blocks", "name", "runs"):
            own[key] = value
        elif equals and key.lstrip("+") in ("method", "seed", "resume"):
            raise ConfigError(
                f"bench: {word} is set by bench itself: methods=[...] names the methods, and the "
                "repeats have the seeds 0, 1, ...; leave it out"
            )
        else:
            common.append(word)
    return own, common


def _defaults(blocks: int, common: Sequence[str]) -> list[str]:
    """Return what the trainings have in common where nothing else was typed."""
    refusals = Refusals()
    steps = next((one.value for one in read(common, refusals) if one.key == "train.steps"), STEPS)
    every = max(1, int(steps) // EVALUATIONS) if isinstance(steps, int) else 1
    return [
        f"train.steps={STEPS}",
        f"train.threads={max(1, cores() // blocks)}",
        f"evaluate.every={every}",
        # Not fewer than blocks, which 1F1B needs, and what most batches can be divided by.
        f"pipeline.microbatches={max(4, 1 << (blocks - 1).bit_length())}",
        "checkpoint.every=0",
        "checkpoint.best=false",
        "measure.backprop=0",
        "measure.alone=0",
    ]


def _methods(text: str | None) -> tuple[str, ...]:
    """Split ``[a,b c=[1,2]]`` at the commas that are in no further brackets."""
    if text is None:
        return DEFAULT
    inner = text.strip().removeprefix("[").removesuffix("]")
    parts, depth = [""], 0
    for character in inner:
        depth += (character in "[{(") - (character in "]})")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    methods = tuple(part.strip() for part in parts if part.strip())
    if not methods:
        raise ConfigError(f"methods={text}: name at least one of {', '.join(ENTRIES)}")
    for method in methods:
        find_entry(method)
    if len(set(methods)) < len(methods):
        raise ConfigError(f"methods={text}: each can be named once")
    return methods


def _count(own: Mapping[str, str], key: str, default: int) -> int:
    text = own.get(key, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{key}={text}: must be a whole number, at least 1")
    return int(text)


def _slug(method: str) -> str:
    """Return a folder's name for a method."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", method).strip("_")
