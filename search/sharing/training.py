"""An ensemble's training as a process that can be interrupted, by one rank or by several.

    step 1 .. S       the first ensemble: bins of depth, one set of coefficients each
       between        gradients of an epoch -> clusters (tau); everything begins anew
    S + 1 .. S + U    the ensemble, with shared coefficients
       between        gradients of an epoch -> coefficients of their own (beta)
    .. S + T          the ensemble

Without a search S is 0, and nothing is separated. What happens between two steps happens before
the second one, so a checkpoint after the first holds what it follows from.

Several ranks divide the members. Every rank has all templates; their gradients are added in the
order of the members, so the weights are, bit for bit, those of one rank. A member that several
ranks share sees parts of the batch, as everywhere: its norms do too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ...models.mode import evaluating
from ...models.superweight import (
    Key,
    Sharing,
    SuperWeightEnsemble,
    carry_over,
    identical_uses,
)
from ...pipeline.block import autocast
from ...pipeline.optimization import OptimizationConfig, Schedule
from ...pipeline.optimizer import make_optimizer
from ...pipeline.seed import derive, set_seed
from ...pipeline.shares import bounds
from ...pipeline.stage import NonFiniteLossError
from .company import ONE, Company, Post
from .division import divide_coefficients, divide_within, representatives
from .file import SharingFile
from .gradient_sum import GradientSum
from .gradients import all_weight_gradients, coefficient_contributions
from .plan import FIRST, MAIN, Make, Plan, Source
from .state import load_parts, part_of

__all__ = ["EnsembleTraining"]


class EnsembleTraining:
    """The training of one ensemble, as one of its ranks sees it.

    Args:
        plan: The stages.
        make: Makes the ensembles.
        source: The examples.
        optimization: How they learn; its ``steps`` are those of the main training.
        criterion: From logits and labels to a loss.
        networks: The members' names, for the file of the sharing.
        seed: The run's seed.
        device: Where this rank computes.
        posts: Of every rank, what it has to do.
        sharing: What the main training begins with, where it is not searched.
        company: The other ranks.

    Attributes:
        step: Steps that are done, of both phases.
        ensemble: The members of now.
        events: What happened between steps, for the caller to take.
    """

    def __init__(
        self,
        plan: Plan,
        make: Make,
        source: Source,
        *,
        optimization: OptimizationConfig,
        criterion: Callable[[Tensor, Tensor], Tensor],
        networks: Sequence[str],
        seed: int,
        device: torch.device,
        posts: Sequence[Sequence[Post]],
        sharing: Sharing | None = None,
        company: Company = ONE,
    ) -> None:
        self._plan, self._make, self._source = plan, make, source
        self._optimization, self._criterion = optimization, criterion
        self._schedule = Schedule(optimization)
        self._networks, self._seed, self._device = tuple(networks), seed, device
        self._company = company
        self._all_posts = [sorted(own) for own in posts]
        self._given = sharing
        self._batches: Iterator[tuple[Tensor, Tensor]] | None = None
        self._separated = False
        self.tau: float | None = None
        self.step = 0
        self.events: list[dict[str, Any]] = []
        self._begin(FIRST if plan.search_steps else MAIN, sharing)

    # --- What it is ----------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """The last step."""
        return self._plan.search_steps + self._plan.steps

    @property
    def done(self) -> bool:
        """Whether the last step is done."""
        return self.step >= self.steps

    @property
    def searching(self) -> bool:
        """Whether the members of now are only there to learn what is shared."""
        return self.phase == FIRST

    @property
    def sharing(self) -> SharingFile | None:
        """What is shared now; None where nothing could be."""
        store = self._superweights
        if store is None:
            return None
        superweights = store.superweights
        return SharingFile(
            self._networks,
            superweights.uses,
            superweights.sharing,
            tau=self.tau,
            beta=self._plan.beta if self._separated else None,
        )

    @property
    def mine(self) -> list[Post]:
        """What this rank has to do now."""
        return self._posts[self._company.rank]

    @property
    def _superweights(self) -> SuperWeightEnsemble | None:
        module = self.ensemble.module
        return module if isinstance(module, SuperWeightEnsemble) else None

    # --- Steps ---------------------------------------------------------------------------------

    def advance(self, stop: bool = False) -> dict[str, Any]:
        """Do one step, with what comes before it.

        Args:
            stop: Whether somebody asked this rank to stop.

        Returns:
            ``step``, ``lr``, ``losses`` and ``accuracies`` by member, the seconds of this rank's
            passes (``busy``) and of waiting for the others (``wait``), and ``stop``: whether any
            rank was asked to.

        Raises:
            NonFiniteLossError: A member's loss is not finite.
        """
        self._between()
        if self._batches is None:
            self._batches = self._source.train(start=self.step)
        x, y = next(self._batches)
        local = self.step - (0 if self.searching else self._plan.search_steps) + 1
        rate = self._schedule.apply(self._optimizer, local)
        for group in self._optimizer.param_groups:
            group["lr"] *= group.get("scale", 1.0)
        begin = time.perf_counter()
        losses, accuracies, rows = self._passes(x, y)
        computed = time.perf_counter()
        stopped = self._sum.add_up(rows, stop)
        waited = time.perf_counter()
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.step += 1
        ended = time.perf_counter()
        return {
            "step": self.step, "lr": rate, "losses": losses, "accuracies": accuracies,
            "busy": computed - begin + ended - waited, "wait": waited - computed, "stop": stopped,
        }  # fmt: skip

    def _passes(
        self, x: Tensor, y: Tensor
    ) -> tuple[dict[int, float], dict[int, float], list[Tensor]]:
        """Run this rank's members; with others, each member's gradient of what is shared apart."""
        self.ensemble.module.train()
        losses: dict[int, float] = {}
        accuracies: dict[int, float] = {}
        rows = []
        for post in self._tasks():
            part = bounds(len(x), post.replicas)[post.replica - 1]
            own_x, own_y = x[slice(*part)], y[slice(*part)]
            weight = len(own_x) / len(x)
            seen: list[float] = []
            purpose = (post.member,) if post.replicas == 1 else (post.member, post.replica)
            set_seed(derive(self._seed, self.phase, self.step + 1, *purpose), self._device)

            def criterion(
                logits: Tensor, labels: Tensor, seen: list[float] = seen, weight: float = weight
            ) -> Tensor:
                seen.append(float((logits.argmax(-1) == labels).double().mean()))
                loss = self._criterion(logits, labels)
                return loss if weight == 1.0 else loss * weight

            with autocast(self._device, self._optimization.precision):
                found = self.ensemble.backward(own_x, own_y, criterion, members=[post.member])
            for number, loss in enumerate(found[: len(seen)]):
                losses[post.member + number] = float(loss) / weight
                accuracies[post.member + number] = seen[number]
            self._check(losses, post.member)
            if self._company.size > 1:
                rows.append(self._sum.taken())
        return losses, accuracies, rows

    def _tasks(self) -> Sequence[Post]:
        """Return this rank's posts; one where all members are trained by one pass."""
        return self.mine[:1] if self.ensemble.joint else self.mine

    def _check(self, losses: Mapping[int, float], first: int) -> None:
        for member, loss in losses.items():
            if member >= first and not math.isfinite(loss):
                raise NonFiniteLossError(
                    f"the loss of member {member + 1} at step {self.step + 1} is {loss}. Lower "
                    "train.lr or add train.warmup; the last good checkpoint is kept"
                )

    # --- Between steps -------------------------------------------------------------------------

    def _between(self) -> None:
        plan = self._plan
        if self.searching and self.step >= plan.search_steps:
            self._divide()
        elif self._separates and not self._separated:
            self._separate()

    @property
    def _separates(self) -> bool:
        """Whether coefficients have been shared for long enough."""
        plan = self._plan
        if not (plan.search_steps and plan.unshare_step):
            return False
        return not self.searching and self.step >= plan.search_steps + plan.unshare_step

    def _divide(self) -> None:
        """Learn the clusters, and begin anew with them."""
        ensemble, plan = self._superweights, self._plan
        assert ensemble is not None
        store = ensemble.superweights
        gradients = self._gradients(ensemble)
        division = divide_within(
            store.sharing, store.uses, gradients, plan.budget,
            tau=plan.tau, groups=plan.cluster_groups, join=plan.join,
        )  # fmt: skip
        before = len(store.sharing.clusters)
        self.tau = division.tau
        self._begin(MAIN, division.sharing)
        self.events.append(
            {
                "event": "shared", "step": self.step, "before": before,
                "clusters": len(division.sharing.clusters), "tau": division.tau,
            }
        )  # fmt: skip
        made = self._superweights
        assert made is not None
        self.events += [
            {"event": "remark", "step": self.step, "text": text}
            for text in made.superweights.allocation.remarks
        ]

    def _separate(self) -> None:
        """Give coefficients of their own to weights that disagree about them."""
        ensemble, plan = self._superweights, self._plan
        assert ensemble is not None
        store = ensemble.superweights
        gradients = self._gradients(ensemble)
        contributions = coefficient_contributions(ensemble, gradients)
        sharing = divide_coefficients(
            store.sharing, store.uses, contributions,
            beta=plan.beta, groups=plan.coefficient_groups,
        )  # fmt: skip
        carry_over(self._optimizer, store.regroup(sharing))
        self._separated = True
        self._sum = self._gradient_sum()
        groups = sum(len(cluster) for cluster in sharing.clusters)
        self.events.append(
            {"event": "unshared", "step": self.step, "groups": groups, "weights": len(store.uses)}
        )

    def _gradients(self, ensemble: SuperWeightEnsemble) -> dict[Key, Tensor]:
        """Sum the gradients of the members of now, each by its first rank; all ranks get all."""

        def batches() -> Iterable[tuple[Tensor, Tensor]]:
            return islice(self._source.train(start=self.step), self._plan.similarity_batches)

        return all_weight_gradients(
            ensemble, batches, self._criterion, owners=self.owners(), exchange=self._company
        )

    def owners(self) -> dict[int, int]:
        """Return the first rank of each member of now."""
        return {
            post.member: rank
            for rank, own in enumerate(self._posts)
            for post in own
            if post.replica == 1
        }

    # --- Phases --------------------------------------------------------------------------------

    def _begin(self, phase: str, sharing: Sharing | None) -> None:
        """Make the members of a phase, and an optimizer for those of this rank."""
        self.phase = phase
        self.ensemble = self._make(phase, sharing)
        self._separated = False
        self._posts: list[list[Post]] = [list(own) for own in self._all_posts]
        store = self._superweights
        if phase == FIRST and store is not None:
            learning = set(representatives(store.superweights.uses).values())
            self._posts = [[one for one in own if one.member in learning] for own in self._posts]
        self._place()
        self._sum = self._gradient_sum()
        optimization = self._optimization
        groups = self.ensemble.parameter_groups(
            optimization.lr, optimization.weight_decay, decay_norms=self._plan.decay_norms
        )
        mine = {id(one) for one in self._sum.learning()}
        for group in groups:
            group["params"] = [one for one in group["params"] if id(one) in mine]
        self._optimizer = make_optimizer(
            [group for group in groups if group["params"]], optimization
        )

    def _place(self) -> None:
        """Bring to the device what this rank computes with; other ranks' members stay outside."""
        module, mine = self.ensemble.module, {post.member for post in self.mine}
        members = module.get_submodule("members") if hasattr(module, "members") else None
        for part in module.children():
            if part is not members:
                part.to(self._device)
        for number, member in enumerate(members.children() if members is not None else ()):
            if number in mine:
                member.to(self._device)

    def _gradient_sum(self) -> GradientSum:
        return GradientSum(self.ensemble.module, self._posts, self._company)

    # --- Evaluation ----------------------------------------------------------------------------

    def logits(self, inputs: Callable[[], Iterable[Tensor]]) -> Tensor:
        """Return all members' logits (members, N, classes) on the CPU, on every rank.

        Args:
            inputs: Called for each member: the batches in order.
        """
        self.ensemble.calibrate(lambda: self._source.epoch(start=self.step))
        precision = autocast(self._device, self._optimization.precision)
        own = [post.member for post in self.mine if post.replica == 1]
        with evaluating(self.ensemble.module), precision:
            if self.ensemble.joint:
                return self.ensemble.logits(inputs, range(self.ensemble.count))
            found = dict(zip(own, self.ensemble.logits(inputs, own), strict=True)) if own else {}
        if self._company.size == 1:
            return torch.stack([found[member] for member in sorted(found)])
        shape = self._told_shape(found)
        parts = [
            self._company.share([found.get(member, torch.empty(shape))], source=rank)[0]
            for member, rank in sorted(self.owners().items())
        ]
        return torch.stack(parts)

    def _told_shape(self, found: Mapping[int, Tensor]) -> list[int]:
        """Return (N, classes), also to a rank that has no member."""
        first = self.owners()[min(self.owners())]
        own = torch.tensor(next((list(one.shape) for one in found.values()), [0, 0]))
        return self._company.share([own], source=first)[0].tolist()

    def identical(self) -> list[tuple[Key, Key]]:
        """Return pairs of weights with coefficients of their own that became the same."""
        ensemble = self._superweights
        return [] if ensemble is None else identical_uses(ensemble.superweights)

    # --- Checkpoints ---------------------------------------------------------------------------

    def shared_state(self) -> dict[str, Any]:
        """Return what all ranks have: the stage, the sharing, what members share."""
        sharing = self.sharing
        return {
            "step": self.step,
            "phase": self.phase,
            "separated": self._separated,
            "tau": self.tau,
            "sharing": None if sharing is None else sharing.to_json(),
            **part_of(self.ensemble.module, self._optimizer, None),
        }

    def member_state(self, member: int) -> dict[str, Any]:
        """Return what only one member has, and what its optimizer remembers."""
        return part_of(self.ensemble.module, self._optimizer, member)

    def load(
        self, shared: Mapping[str, Any], member_state: Callable[[int], Mapping[str, Any]]
    ) -> None:
        """Continue where a checkpoint was written.

        Args:
            shared: What :meth:`shared_state` returned.
            member_state: Returns what :meth:`member_state` did; asked for all members.

        Raises:
            SharingError: Its sharing is not one of these members.
        """
        sharing = None
        if shared["sharing"] is not None and self._superweights is not None:
            file = SharingFile.from_json(shared["sharing"])
            file.check(self._networks, self._superweights.superweights.uses)
            sharing = file.sharing
        self._begin(shared["phase"], sharing)
        self.step, self._separated = shared["step"], shared["separated"]
        self.tau = shared["tau"]
        self._batches = None
        states = [shared, *(member_state(member) for member in range(self._count()))]
        load_parts(self.ensemble.module, self._optimizer, states, self._sum.learning())

    def _count(self) -> int:
        """Return how many members have files of their own in a checkpoint."""
        return 0 if self.ensemble.joint else self.ensemble.count

    def kept_members(self) -> list[int]:
        """Return the members whose files this rank writes."""
        if self.ensemble.joint:
            return []
        return [p.member for p in self._all_posts[self._company.rank] if p.replica == 1]
