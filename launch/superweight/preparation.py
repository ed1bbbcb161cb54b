"""Deciding an ensemble's training: all is checked and resolved before any process begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ...models import MIN_SIZES, Network
from ...models.superweight import Use
from ...search.sharing.file import SharingError, SharingFile
from ..assembly import build_data, task_of
from ..beginning import begin, check_started_ranks, count_ranks, go_on, keep, settle_evaluation
from ..configfile import config_to_yaml
from ..data import Data
from ..folder import RunFolder
from ..job import Objects, Task
from ..membership import Membership
from ..preparation import (
    Preparation,
    check_facts,
    check_training_part,
    newest_checkpoint,
    resumed_folder,
)
from ..refusal import ConfigError
from .config import SuperWeightConfig
from .division import divide_members, member_seconds
from .job import SHARED, SuperWeightJob
from .limits import SHARINGS
from .members import (
    budget_of,
    build_ensemble,
    build_members,
    learns_sharing,
    member_specs,
    uses_of_members,
)
from .method import METHODS

__all__ = ["SuperWeightPreparation", "check_ranks", "prepare", "sharing_path"]


@dataclasses.dataclass(frozen=True)
class SuperWeightPreparation(Preparation[SuperWeightJob]):
    """A decided training of an ensemble; ``network`` is its first member.

    Attributes:
        parameters: What the ensemble begins with: templates, coefficients, heads, norms.
        own: Weights that templates replace.
    """

    parameters: dict[str, int]
    own: int


def sharing_path(folder: RunFolder) -> Path:
    """Return the file of what a run shares."""
    return folder.path / "sharing.json"


def check_ranks(config: SuperWeightConfig, member: Membership) -> None:
    """Refuse a number of ranks that torchrun started and that the ensemble cannot use.

    Raises:
        ConfigError: ``ranks`` says otherwise, or the members are one network; with both numbers.
    """
    check_started_ranks(config, member, _check_joint)


def prepare(
    command: str,
    config: SuperWeightConfig,
    objects: Objects,
    *,
    overrides: Sequence[str] = (),
    member: Membership | None = None,
    create: bool = True,
) -> SuperWeightPreparation:
    """Decide a training.

    Args:
        command: The command: ``"superweight"``.
        config: The composed and validated configuration.
        objects: Empty: it is started from the command line.
        overrides: What the user typed; applied on top of the saved configuration on resume.
        member: This rank, when a launcher outside has started all of them.
        create: Whether to make the run's folder (not for a dry run).

    Raises:
        ConfigError: It cannot be as asked; the message has both values and the fix.
    """
    saved = resumed_folder(config)
    if saved is not None:
        return _resume(command, saved, overrides, member)
    config, folder = begin(command, config, member, ranks=partial(_ranks, member=member))
    data, notes = _data(config)
    check_training_part(config, data)
    _settle(config, data)
    networks = build_members(config, task_of(data))
    measure = partial(_measure, config, networks, data)
    job, uses = _decide(command, config, folder, task_of(data), networks, measure)
    parameters, remarks = _try_out(job)
    if create:
        folder.create()
        folder.config.write_text(config_to_yaml(config))
        folder.write_json(folder.measured, job.measured)
    return SuperWeightPreparation(
        job, networks[0], data, (*data.notes, *notes, *remarks), parameters,
        sum(use.numel for use in uses),
    )  # fmt: skip


def _resume(
    command: str, folder: RunFolder, overrides: Sequence[str], member: Membership | None
) -> SuperWeightPreparation:
    """Continue a run as it was; only what was typed now may differ, and not everything."""
    now = go_on(command, folder, overrides, member, kind=SuperWeightConfig, check=_check_joint)
    data = build_data(now, Objects(), torch.device("cpu"))
    networks = build_members(now, task_of(data))
    measure = partial(folder.read_json, folder.measured)
    job, uses = _decide(command, now, folder, task_of(data), networks, measure)
    checkpoint, notes = newest_checkpoint(folder)
    start = checkpoint.step if checkpoint else 0
    if checkpoint is not None:
        check_facts(checkpoint, job.facts)
        _check_sharing(checkpoint.load(SHARED), job, uses)
    if start > job.steps:
        done = start - job.plan.search_steps
        raise ConfigError(
            f"train.steps={now.train.steps}, but step {done} of the main training is already "
            f"done; give at least {done}"
        )
    job = dataclasses.replace(job, start=start)
    parameters, _ = _try_out(job)
    keep(folder, now)
    own = sum(use.numel for use in uses)
    return SuperWeightPreparation(job, networks[0], data, tuple(notes), parameters, own)


def _decide(
    command: str,
    config: SuperWeightConfig,
    folder: RunFolder,
    task: Task,
    networks: Sequence[Network],
    measure: Callable[[], dict[str, Any]],
) -> tuple[SuperWeightJob, Sequence[Use]]:
    """Return the run, and the weights that templates replace.

    The members are timed, or what was timed is read, once nothing is left to be refused.
    """
    uses = uses_of_members(config, networks)
    sharing = _given_sharing(config, networks, uses)
    measured = measure()
    job = SuperWeightJob(
        command=command,
        config=config,
        task=task,
        folder=folder,
        networks=tuple(network.name for network in networks),
        budget=_budget(config, uses),
        learned=learns_sharing(config, networks),
        sharing=sharing.to_json() if sharing else None,
        posts=_posts(config, measured["member_seconds"]),
        measured=measured,
    )
    return job, uses


def _data(config: SuperWeightConfig) -> tuple[Data, list[str]]:
    """Load the data; images that are too small for a member are padded, and that is told."""
    data = build_data(config, Objects(), torch.device("cpu"))
    least, name = max((MIN_SIZES.get(str(one.get("name")), 0), str(one.get("name")))
                      for one in member_specs(config))  # fmt: skip
    if config.data.size is not None or len(data.shape) != 3 or data.shape[-1] >= least:
        return data, []
    note = f"{name} needs {least} pixels: images of {data.shape[-1]} are padded"
    config.data.size = least
    data.close()
    return build_data(config, Objects(), torch.device("cpu")), [note]


def _settle(config: SuperWeightConfig, data: Data) -> None:
    """Fill in what depends on the data."""
    settle_evaluation(config)
    if config.superweight.similarity_batches is None:
        epoch = data.sizes["train"] // config.train.batch_size
        config.superweight.similarity_batches = max(1, epoch)


def _ranks(config: SuperWeightConfig, member: Membership | None) -> int:
    """Return how many processes share the members."""
    parts = None if METHODS[config.method].joint else len(member_specs(config))
    return count_ranks(config, member, _check_joint, parts=parts)


def _check_joint(config: SuperWeightConfig, ranks: int) -> None:
    if METHODS[config.method].joint and ranks > 1:
        raise ConfigError(
            f"{ranks} ranks for method={config.method}, whose members are 1 network, trained by "
            "one pass; give ranks=1"
        )


def _posts(config: SuperWeightConfig, seconds: Sequence[float]) -> tuple[tuple[Any, ...], ...]:
    ranks = config.ranks or 1
    batch = config.train.batch_size
    posts = divide_members(seconds, ranks)
    most = max(post.replicas for own in posts for post in own)
    if most > batch:
        raise ConfigError(
            f"{ranks} ranks for {len(seconds)} members: {most} would share each batch of "
            f"train.batch_size={batch}; give fewer ranks, or larger batches"
        )
    return tuple(map(tuple, posts))


def _measure(
    config: SuperWeightConfig, networks: Sequence[Network], data: Data
) -> dict[str, list[float]]:
    """Time the members where it matters: several ranks, and members that differ."""
    specs = member_specs(config)
    if config.ranks == 1 or all(spec == specs[0] for spec in specs):
        return {"member_seconds": [1.0] * len(specs)}
    device = torch.device(config.device)
    return {"member_seconds": member_seconds(config, networks, data, device)}


def _budget(config: SuperWeightConfig, uses: Sequence[Use]) -> int:
    return budget_of(config, uses) if METHODS[config.method].templates else 0


def _given_sharing(
    config: SuperWeightConfig, networks: Sequence[Network], uses: Sequence[Use]
) -> SharingFile | None:
    """Read the sharing that a file has.

    Raises:
        ConfigError: It cannot be read, or is for other members.
    """
    path = config.superweight.sharing
    if config.method != "superweight" or path in SHARINGS:
        return None
    try:
        file = SharingFile.load(path)
        file.check([network.name for network in networks], uses)
    except SharingError as error:
        raise ConfigError(f"superweight.sharing={path}: {error}") from error
    return file


def _check_sharing(shared: dict[str, Any], job: SuperWeightJob, uses: Sequence[Use]) -> None:
    """Refuse a checkpoint whose sharing is for other members.

    Raises:
        ConfigError: It is; the first difference is named.
    """
    if shared["sharing"] is None:
        return
    try:
        SharingFile.from_json(shared["sharing"]).check(job.networks, uses)
    except SharingError as error:
        raise ConfigError(
            f"the checkpoint of step {shared['step']} in {job.folder.path} does not fit its "
            f"members: {error}"
        ) from error


def _try_out(job: SuperWeightJob) -> tuple[dict[str, int], list[str]]:
    """Make the ensemble once, to see that it fits, and count its parameters.

    Raises:
        ConfigError: It cannot be made, or is larger than its budget.
    """
    config, remarks, file = job.config, [], job.file()
    trainable = build_ensemble(
        config,
        job.task,
        budget=job.budget,
        phase="first" if job.learned else "main",
        sharing=file.sharing if file else None,
        remarks=remarks,
    )
    parameters = trainable.accounts()
    if not METHODS[config.method].templates and config.budget is not None:
        uses = uses_of_members(config, build_members(config, job.task))
        limit = budget_of(config, uses)
        if parameters["templates"] > limit:
            raise ConfigError(
                f"budget={config.budget} is {limit:,} weights, and method={config.method} has "
                f"{parameters['templates']:,} in its kernels, which it cannot share; give smaller "
                "members or a larger budget"
            )
    return parameters, remarks
