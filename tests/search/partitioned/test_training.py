"""The loop: what a step changes, what L_ML is, and going on where it stopped."""

from __future__ import annotations

import copy
import io
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from blockstep.models.hyperparameters import AffineRanges, Averaged, ConcreteDropout, ConcreteMask
from blockstep.models.partitioned import PartitionedModule, partition
from blockstep.pipeline.optimization import OptimizationConfig
from blockstep.search.partitioned import (
    Chunks,
    DivergedError,
    HyperLearner,
    PartitionedTraining,
    Settings,
    TensorExamples,
    chunk_likelihoods,
    log_likelihood,
)
from torch import Tensor, nn

SHARES = [0.5, 0.3, 0.2]
CPU = torch.device("cpu")
WEIGHTS = OptimizationConfig(
    steps=20, batch_size=8, lr=0.05, momentum=0.9, weight_decay=0.01, schedule="cosine"
)


def examples(count: int = 60) -> TensorExamples:
    """Make examples of three classes."""
    torch.manual_seed(5)
    y = torch.randint(0, 3, (count,))
    return TensorExamples(torch.randn(count, 6) + y[:, None], y)


def network() -> nn.Module:
    """Make a network with a mask, dropout and batch norm."""
    torch.manual_seed(0)
    return nn.Sequential(
        ConcreteMask(6),
        nn.Linear(6, 10),
        nn.BatchNorm1d(10),
        nn.ReLU(),
        ConcreteDropout(0.2),
        nn.Dropout(0.1),
        nn.Linear(10, 3),
    )


def training(**changes: Any) -> PartitionedTraining:
    """Make a training, the same every time."""
    settings = Settings(weights=WEIGHTS, hyper=replace(Settings().hyper, batch_size=5, lr=0.05))
    return PartitionedTraining(
        partition(network(), SHARES, seed=0),
        examples(),
        Chunks(60, SHARES, seed=0),
        settings=replace(settings, **changes),
        seed=0,
    )


def same(one: PartitionedTraining, other: PartitionedTraining) -> bool:
    """Whether two trainings have the same weights, hyperparameters and statistics."""
    first, second = one.model.state_dict(), other.model.state_dict()
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_step_changes_one_partition_and_the_hyperparameters() -> None:
    """The drawn partition learns; all others, and running statistics of others, keep their bits."""
    run = training()
    drawn = set()
    for _ in range(8):
        before = copy.deepcopy(run.model)
        done = run.advance()
        drawn.add(done.partition)
        for k in (1, 2, 3):
            pairs = zip(before.values_of(k), run.model.values_of(k), strict=True)
            changed = [not torch.equal(a, b) for a, b in pairs]
            assert all(changed) if k == done.partition else not any(changed)
            counted = before.subnetwork_state(k)["2.num_batches_tracked"]
            difference = run.model.subnetwork_state(k)["2.num_batches_tracked"] - counted
            assert difference == (k == done.partition)
        for name, value in run.model.hyperparameters().items():
            assert not torch.equal(value, before.hyperparameters()[name])
            assert value.grad is None
        assert done.chunk in (2, 3)
    assert drawn == {1, 2, 3}


def test_hyperparameters_every_n_steps() -> None:
    """In between they stay."""
    run = training(every=3)
    updated = [run.advance().chunk is not None for _ in range(7)]
    assert updated == [False, False, True, False, False, True, False]


def test_the_loop_is_the_procedure_written_by_hand() -> None:
    """Plain tensors, one stock optimizer per partition, gradients by autograd (Eq. 3 and 4)."""
    torch.manual_seed(0)
    plain = nn.Sequential(ConcreteMask(6).eval(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    data, chunks = examples(), Chunks(60, SHARES, seed=0)
    settings = Settings(weights=WEIGHTS, hyper=replace(Settings().hyper, batch_size=5, lr=0.05))
    model = partition(plain, SHARES, seed=0)
    run = PartitionedTraining(model, data, chunks, settings=settings, seed=0)
    owners = [assigned.clone() for assigned in model.weights.assigned()]
    names = ["1.weight", "1.bias", "3.weight", "3.bias"]
    initial = [plain.get_parameter(name).detach().clone() for name in names]
    weights = [value.clone() for value in initial]
    momenta = [torch.zeros_like(value) for value in initial]
    begun = {1: False, 2: False, 3: False}
    mask = torch.zeros(6, requires_grad=True)
    adam = torch.optim.Adam([mask], lr=0.05)

    def loss_of(k: int, tensors: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
        a, b, c, d = (
            torch.where(own < k, value, first)
            for own, value, first in zip(owners, tensors, initial, strict=True)
        )
        return F.cross_entropy(((x * z) @ a.T + b).tanh() @ c.T + d, y)

    from blockstep.pipeline.optimization import Schedule
    from blockstep.pipeline.seed import derive

    for step in range(1, 11):
        done = run.advance()
        k = done.partition
        x, y = data.batch(chunks.draw(step, 8).indices, None)
        torch.manual_seed(derive(0, "learn", step))
        u = torch.rand(8, 6)
        z = ((mask.detach() + u.log() - torch.log1p(-u)) / 0.5).sigmoid()
        leaves = [value.clone().requires_grad_() for value in weights]
        grads = torch.autograd.grad(loss_of(k, leaves, x, y), leaves)
        decay = 0.01 * 60 / len(chunks.up_to(k))
        for own, value, grad, momentum in zip(owners, weights, grads, momenta, strict=True):
            mine = own == k - 1
            direction = grad + decay * value
            updated = 0.9 * momentum + direction if begun[k] else direction
            momentum[mine] = updated[mine]
            value[mine] -= Schedule(WEIGHTS).lr(step) * momentum[mine]
        begun[k] = True
        judge = chunks.draw_judge(step, 5)
        x, y = data.batch(judge.indices, None)
        torch.manual_seed(derive(0, "judge", step))
        u = torch.rand(5, 6)
        z = ((mask + u.log() - torch.log1p(-u)) / 0.5).sigmoid()
        adam.zero_grad()
        loss_of(judge.number - 1, weights, x, y).backward()
        adam.step()
        torch.testing.assert_close(model.hyperparameters()["0.mask"].data, mask.data)
        found = model.tensors(3)
        for name, value in zip(names, weights, strict=True):
            torch.testing.assert_close(found[name], value)


def test_the_objective_is_the_sum_over_the_later_chunks() -> None:
    """log p(D_k | subnetwork k - 1) in nats, from the subnetworks as plain networks."""
    run = training()
    for _ in range(6):
        run.advance()
    measured = run.measure(batch_size=7)
    data, chunks = examples(), Chunks(60, SHARES, seed=0)
    expected = []
    for k in (2, 3):
        plain = network()
        plain.load_state_dict(run.model.subnetwork_state(k - 1))
        x, y = data.batch(chunks.of(k), None)
        logits = plain.eval()(x).log_softmax(1)
        expected.append(logits[torch.arange(len(y)), y].sum().item())
    assert measured.chunks == pytest.approx(expected, rel=1e-5)
    assert measured.objective == pytest.approx(sum(expected), rel=1e-5)
    assert measured.step == 6
    assert set(measured.hyperparameters) == {"0.mask", "4.keep"}
    assert len(measured.hyperparameters["0.mask"]) == 6
    x, y = data.batch(torch.arange(60), None)
    right = (run.model.eval()(x).argmax(1) == y).float().mean().item()
    assert log_likelihood(run.model, data, torch.arange(60))[1] == pytest.approx(right)


def test_measuring_changes_nothing() -> None:
    """Whenever it happens, the training is the same bit for bit."""
    one, two = training(), training()
    for _ in range(5):
        one.advance()
        two.advance()
        two.measure()
    assert same(one, two)
    assert two.model.training


def test_the_best_is_kept() -> None:
    """Weights and hyperparameters of the evaluation with the highest L_ML come back."""
    run = training()
    seen: dict[float, PartitionedModule] = {}
    for _ in range(12):
        run.advance()
        seen[run.measure().objective] = copy.deepcopy(run.model)
    assert run.best is not None
    assert run.best.objective == max(seen)
    assert len(run.course) == 12
    run.restore_best()
    best = seen[max(seen)].state_dict()
    assert all(torch.equal(value, best[name]) for name, value in run.model.state_dict().items())
    with pytest.raises(ValueError, match="no weights were kept"):
        training().restore_best()


def test_a_resumed_training_ends_bit_for_bit_where_the_other_ends() -> None:
    """Through torch.save, with momenta, statistics, course and best."""
    whole, first = training(), training()
    for step in range(14):
        whole.advance()
        if step % 4 == 3:
            whole.measure()
        if step < 9:
            first.advance()
            if step % 4 == 3:
                first.measure()
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = training()
    second.load_state_dict(torch.load(file, weights_only=True))
    for step in range(9, 14):
        second.advance()
        if step % 4 == 3:
            second.measure()
    assert second.step == whole.step == 14
    assert same(second, whole)
    assert second.course == whole.course
    assert second.best == whole.best
    whole.restore_best()
    second.restore_best()
    assert same(second, whole)


def test_a_state_of_another_training_is_refused() -> None:
    """Another seed would draw other chunks."""
    other = PartitionedTraining(
        partition(network(), SHARES, seed=0),
        examples(),
        Chunks(60, SHARES, seed=1),
        settings=Settings(),
        seed=1,
    )
    with pytest.raises(ValueError, match="other chunks, examples or another seed"):
        training().load_state_dict(other.state_dict())


def test_hypergradients_through_augmentation() -> None:
    """Of the ranges, averaged over samples, at the subnetwork before the chunk: by differences."""
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(1, 4, 5), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, 3))
    model = partition(Averaged(AffineRanges(), inner, samples=3), SHARES, seed=0).double()
    axis = torch.linspace(-1, 1, 10, dtype=torch.float64)
    centres = torch.tensor([-0.3, 0.0, 0.4], dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 1])
    bumps = -4 * ((axis[:, None] - centres[y].view(-1, 1, 1)) ** 2 + axis[None] ** 2)
    x = bumps.exp()[:, None]
    learner = HyperLearner(model, config=Settings().hyper, criterion=F.cross_entropy)

    def gradient() -> tuple[Tensor, list[Tensor]]:
        torch.manual_seed(3)
        return learner.gradient(3, x, y)

    (found,) = gradient()[1]
    sizes = model.hyperparameters()["change.sizes"]
    for index in range(6):
        ends = []
        for move in (1e-6, -2e-6, 1e-6):
            sizes.data[index] += move
            ends.append(gradient()[0].item())
        assert found[index].item() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-3, abs=1e-8)
    assert found.abs().min() > 1e-6
    assert all(value.grad is None for value in model.parameters())


class Idle(nn.Module):
    """Has a layer that it does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 6) to (B, 3)."""
        return self.used(x)


def test_a_hyperparameter_that_nothing_uses_is_named() -> None:
    """At the first step that would learn it."""
    model = partition(Idle(), SHARES, seed=0, hyperparameters=["idle"])
    run = PartitionedTraining(
        model, examples(), Chunks(60, SHARES, seed=0), settings=Settings(), seed=0
    )
    with pytest.raises(
        ValueError, match=r"does not use the hyperparameter idle\.weight, idle\.bias"
    ):
        run.advance()


def test_a_hyperparameter_that_runs_away_stops_the_training() -> None:
    """With its name, its value and its course; so does a likelihood that is not a number."""
    run = training(hyper=replace(Settings().hyper, lr=50.0, batch_size=5), limit=100.0)
    run.advance()
    run.measure()
    for _ in range(4):
        run.advance()
    with pytest.raises(DivergedError, match=r"hyperparameter \S+ has reached .*limit is 100") as it:
        run.measure()
    assert [one.step for one in it.value.course] == [1, 5]
    run = training()
    with torch.no_grad():
        next(iter(run.model.parameters_of(1).values())).fill_(float("nan"))
    with pytest.raises(DivergedError, match="L_ML is not a number"):
        run.measure()


def test_without_hyperparameters_the_partitions_learn_alone() -> None:
    """L_ML can then compare models."""
    model = partition(nn.Sequential(nn.Linear(6, 3)), SHARES, seed=0)
    run = PartitionedTraining(
        model, examples(), Chunks(60, SHARES, seed=0), settings=Settings(weights=WEIGHTS), seed=0
    )
    before = run.measure().objective
    assert [run.advance().chunk for _ in range(20)] == [None] * 20
    assert run.measure().objective > before
    chunks = Chunks(60, SHARES, seed=0)
    assert sum(chunk_likelihoods(model, examples(), chunks, seed=0, device=CPU)) == pytest.approx(
        run.course[-1].objective
    )


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        (Chunks(60, [0.5, 0.5], seed=0), "2 chunks for 3 partitions"),
        (Chunks(50, SHARES, seed=0), "the chunks divide 50 examples, there are 60"),
    ],
)
def test_what_does_not_fit(chunks: Chunks, message: str) -> None:
    """Refused with both numbers."""
    with pytest.raises(ValueError, match=message):
        PartitionedTraining(
            partition(network(), SHARES, seed=0), examples(), chunks, settings=Settings(), seed=0
        )
    with pytest.raises(ValueError, match="every=0"):
        training(every=0)
    with pytest.raises(ValueError, match=r"x of shape \(3, 2\) and y of shape \(2,\)"):
        TensorExamples(torch.zeros(3, 2), torch.zeros(2))
