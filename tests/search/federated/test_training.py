"""Rounds: what clients send, what the server makes of it, and that ranks change nothing."""

from __future__ import annotations

import copy
import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from blockstep.launch.search.exchange import GlooExchange
from blockstep.models.hyperparameters import Augerino, Averaged
from blockstep.models.partitioned import partition
from blockstep.pipeline.optimization import OptimizationConfig
from blockstep.pipeline.seed import derive, generator
from blockstep.pipeline.stage import NonFiniteLossError
from blockstep.pipeline.worker import Activity
from blockstep.search.federated import (
    Client,
    FederatedTraining,
    FederationSettings,
    LocalTraining,
    Means,
    Population,
    Update,
    deal_alike,
    plain_bytes,
)
from blockstep.search.partitioned import DivergedError, TensorExamples
from torch import Tensor, nn

from tests.search.federated.parts import SHARES, WEIGHTS, network, tensors, training
from tests.world import World

PLAIN = OptimizationConfig(
    batch_size=7, lr=0.1, momentum=0.9, weight_decay=0.01, schedule="constant"
)


def same(one: FederatedTraining, two: FederatedTraining) -> bool:
    """Whether two trainings have equal weights, bit for bit."""
    other = two.model.state_dict()
    return all(torch.equal(value, other[key]) for key, value in one.model.state_dict().items())


def test_one_client_in_one_chunk_trains_as_if_it_were_alone() -> None:
    """With SGD of rate 1 at the server: torch's own loop, momenta new in every round."""
    x, y = tensors(40)
    plain = network(hyper=False)
    run = FederatedTraining(
        partition(plain, [1.0], seed=0),
        TensorExamples(x, y),
        Population(deal_alike(40, 1), [1], seed=3),
        settings=FederationSettings(method="fedavg", server="sgd", server_lr=1.0, epochs=2),
        weights=PLAIN,
        plain=plain_bytes(plain),
        seed=3,
    )
    for number in (1, 2, 3):
        told = run.advance()
        optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
        losses = []
        for epoch in range(2):
            chance = generator(3, "order", number, 0, 1, epoch)
            for batch in torch.randperm(40, generator=chance).split(7):
                optimizer.zero_grad()
                loss = F.cross_entropy(plain(x[batch]), y[batch])
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
        assert told.loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)
        found = run.model.subnetwork_state()
        for name, value in plain.state_dict().items():
            torch.testing.assert_close(found[name], value)


def local(model: Any, **options: Any) -> LocalTraining:
    """Make the clients' part of the small federation."""
    x, y = tensors()
    return LocalTraining(
        model, TensorExamples(x, y), weights=WEIGHTS, criterion=F.cross_entropy, seed=1, **options
    )


def test_a_client_learns_every_partition_from_the_servers_weights() -> None:
    """Partitions k..C, each on its own; what it learned of one is not seen by the next."""
    model = partition(network(), SHARES, seed=0)
    before = copy.deepcopy(model.state_dict())
    client = Client(4, 2, torch.arange(30, 43))
    update = local(model).update(client, 9)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert list(update.deltas) == [2, 3]
    x, y = tensors()
    for k in (2, 3):
        other = partition(network(), SHARES, seed=0)
        own = list(other.parameters_of(k).values())
        optimizer = torch.optim.SGD(own, lr=0.05, momentum=0.9)
        order = torch.randperm(13, generator=generator(1, "order", 9, 4, k, 0))
        for step, batch in enumerate(client.indices[order].split(4)):
            torch.manual_seed(derive(1, "local", 9, 4, k, step))
            optimizer.zero_grad()
            F.cross_entropy(other(x[batch], subnetwork=k, learning=k), y[batch]).backward()
            optimizer.step()
        for delta, new, old in zip(
            update.deltas[k], other.values_of(k), model.values_of(k), strict=True
        ):
            assert torch.equal(delta, new - old)
    assert max(delta.abs().max() for delta in update.deltas[2]) > 0


def test_the_gradient_of_psi_is_that_of_the_mean_loss_at_the_subnetwork_before() -> None:
    """Over all examples of the client, a batch at a time; those of chunk 1 give none."""
    model = partition(network(), SHARES, seed=0)
    clients = local(model)
    assert clients.update(Client(0, 1, torch.arange(9)), 1).psi == []
    assert not clients.judges(1)
    client = Client(5, 3, torch.arange(50, 60))
    update = clients.update(client, 2)
    x, y = tensors()
    total = torch.zeros(())
    for step, batch in enumerate(client.indices.split(4)):
        torch.manual_seed(derive(1, "judge", 2, 5, step))
        total = total + F.cross_entropy(model(x[batch], subnetwork=2), y[batch], reduction="sum")
    (total / 10).backward()
    assert update.judged == pytest.approx(total.item() / 10, rel=1e-5)
    for found, parameter in zip(update.psi, model.hyperparameters().values(), strict=True):
        torch.testing.assert_close(found, parameter.grad)
    some = local(model, psi_batch=3).update(client, 2)
    assert some.judged != update.judged


def test_means_are_over_those_who_learned() -> None:
    """A partition's over the clients that had it, the hyperparameters' over those that judged."""

    def update(chunk: int, value: float, judged: float = math.nan) -> Update:
        deltas = {k: [torch.full((2,), value * k)] for k in range(chunk, 4)}
        psi = [torch.tensor(value)] if chunk > 1 else []
        return Update(chunk, deltas, psi, value, judged)

    means = Means()
    for one in (update(3, 1.0, 5.0), update(1, 4.0), update(2, 10.0, 7.0)):
        means.add(one)
    found = {k: deltas[0].tolist() for k, deltas in means.deltas().items()}
    assert found == {1: [4.0, 4.0], 2: [14.0, 14.0], 3: [15.0, 15.0]}
    assert [one.item() for one in means.psi()] == [5.5]
    assert (means.loss, means.judged) == (5.0, 6.0)
    assert (Means().deltas(), Means().psi(), Means().loss) == ({}, [], None)


def test_the_server_makes_adams_step_on_pseudo_gradients() -> None:
    """Of the mean changes; a partition that nobody learned keeps its weights and its step count."""
    run = training(server_lr=0.01, server_eps=1e-7, psi_lr=0.02, per_round=2)
    adams: dict[int, torch.optim.Adam] = {}
    weights = {k: [v.clone() for v in run.model.values_of(k)] for k in (1, 2, 3)}
    learned: set[int] = set()
    for number in range(1, 16):
        drawn = run._population.attendance(number).answering
        clients = [run._population.clients[one] for one in drawn]
        updates = [run._local.update(client, number) for client in clients]
        run.advance()
        for k in (1, 2, 3):
            own = [one.deltas[k] for one in updates if k in one.deltas]
            if own:
                adam = adams.setdefault(k, torch.optim.Adam(weights[k], lr=0.01, eps=1e-7))
                for place, value in enumerate(weights[k]):
                    value.grad = -torch.stack([one[place] for one in own]).mean(0)
                adam.step()
                learned.add(len(own))
            elif k == 1:
                learned.add(0)
            for found, value in zip(run.model.values_of(k), weights[k], strict=True):
                torch.testing.assert_close(found, value)
    assert {0, 1, 2} <= learned  # every case was met


def test_clients_that_do_not_answer_are_survived() -> None:
    """They were sent the model and send nothing; a round without any answer changes nothing."""
    run = training(unreachable=0.6, per_round=2)
    seen = set()
    for _ in range(12):
        before = copy.deepcopy(run.model.state_dict())
        told = run.advance()
        seen.add(told.answering)
        assert told.drawn == 2
        assert told.bytes_down == 2 * run.traffic.down
        if not told.answering:
            assert (told.loss, told.judged, told.bytes_up) == (None, None, 0)
            assert all(torch.equal(v, before[k]) for k, v in run.model.state_dict().items())
    assert seen == {0, 1, 2}
    assert run.round == 12


def test_bytes_are_those_that_are_sent() -> None:
    """What a client uploads is what was counted for its chunk."""
    run = training(per_round=None)
    clients = run._population.clients
    sizes = [run._local.update(client, 1).nbytes for client in clients]
    assert sizes == [run.traffic.up(client.chunk) for client in clients]
    assert run.advance().bytes_up == sum(sizes)


@pytest.mark.parametrize("method", ["partitioned", "fedavg"])
def test_a_federation_learns(method: str) -> None:
    """In a few rounds most examples are right, with skewed clients of which some do not answer."""
    partitioned = method == "partitioned"
    shares = SHARES if partitioned else [1.0]
    run = training(shares=shares, hyper=partitioned, method=method, server_lr=0.03, unreachable=0.1)
    x, y = tensors()
    before, _ = run.evaluate(TensorExamples(x, y))
    for _ in range(30):
        run.advance()
    after, accuracy = run.evaluate(TensorExamples(x, y))
    assert after < 0.8 * before
    assert accuracy > 0.6


def test_evaluation_changes_nothing() -> None:
    """Whenever it happens, the training is the same; it counts what is right."""
    one, two = training(), training()
    x, y = tensors()
    loss = accuracy = 0.0
    for _ in range(4):
        one.advance()
        two.advance()
        loss, accuracy = two.evaluate(TensorExamples(x, y), batch_size=16)
    assert same(one, two)
    assert two.model.training
    logits = two.model.eval()(x)
    assert accuracy == pytest.approx((logits.argmax(1) == y).double().mean().item())
    assert loss == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-5)


def test_a_resumed_training_ends_bit_for_bit_where_the_other_ends() -> None:
    """Through torch.save, with the server's momenta."""
    whole, first = training(unreachable=0.2), training(unreachable=0.2)
    for _ in range(9):
        whole.advance()
    for _ in range(5):
        first.advance()
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = training(unreachable=0.2)
    second.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(4):
        second.advance()
    assert second.round == whole.round == 9
    assert same(second, whole)
    assert second.psi() == whole.psi()


def rounds(rank: int, folder: str) -> Any:
    """Do a few rounds as one of three ranks; return everything."""
    store = dist.FileStore(f"{folder}/store", dist.get_world_size())
    exchange = GlooExchange(store, Activity())
    run = training(exchange=exchange, unreachable=0.1)
    told = [run.advance() for _ in range(5)]
    x, y = tensors()
    return told, run.state_dict(), run.evaluate(TensorExamples(x, y), batch_size=16)


def test_any_number_of_ranks_gives_the_same(world: World, tmp_path: Path) -> None:
    """Three ranks share the clients of each round: weights, momenta, losses, bit for bit."""
    alone = training(unreachable=0.1)
    expected = [alone.advance() for _ in range(5)]
    x, y = tensors()
    evaluated = alone.evaluate(TensorExamples(x, y), batch_size=16)
    for told, state, measured in world.run(rounds, str(tmp_path)):
        assert told == expected
        assert measured == evaluated
        flat, own = [], []
        _flatten(state, flat)
        _flatten(alone.state_dict(), own)
        assert len(flat) == len(own)
        assert all(map(torch.equal, flat, own))


def _flatten(value: Any, found: list[Tensor]) -> None:
    if isinstance(value, Tensor):
        found.append(value)
    for one in value.values() if isinstance(value, dict) else ():
        _flatten(one, found)


def test_augerino_learns_from_the_training_loss() -> None:
    """Every client judges, at the whole network, the penalised loss on examples it learns from."""
    inner = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    module = Averaged(Augerino(), inner, samples=2)
    x, y = torch.rand(20, 1, 8, 8), torch.arange(20) % 3
    model = partition(module, [1.0], seed=0)
    change = model.network.get_submodule("change")
    assert isinstance(change, Augerino)

    def judge(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels) + change.penalty(0.01)

    run = FederatedTraining(
        model,
        TensorExamples(x, y),
        Population(deal_alike(20, 4), [1] * 4, seed=0),
        settings=FederationSettings(method="augerino", psi_lr=0.1),
        weights=replace(PLAIN, batch_size=64),
        plain=plain_bytes(module),
        judge=judge,
        seed=0,
    )
    assert run.traffic.share([4]) == 1.0
    assert run.traffic.up(1) == plain_bytes(module) + 6 * 4
    update = run._local.update(run._population.clients[1], 1)
    batch = run._population.clients[1].indices
    torch.manual_seed(derive(0, "judge", 1, 1, 0))
    judge(model(x[batch]), y[batch]).backward()
    assert change.raw.grad is not None
    torch.testing.assert_close(update.psi[0], change.raw.grad)
    before = change.raw.detach().clone()
    assert run.advance().judged is not None
    assert (change.raw.detach() - before).abs().min() > 0.01


def test_what_runs_away_is_named() -> None:
    """The client whose loss is not finite; the hyperparameter beyond its limit, with its course."""
    run = training(psi_lr=30.0, psi_limit=25.0, per_round=None)
    with pytest.raises(DivergedError, match=r"hyperparameter \S+ has reached .*limit is 25; last"):
        run.advance()
    broken = training(weights=replace(WEIGHTS, lr=1e20))
    with pytest.raises(NonFiniteLossError, match=r"round 1, client \d+: the loss of subnetwork"):
        broken.advance()


def test_running_statistics_are_refused() -> None:
    """They would differ between clients."""
    model = partition(nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3)), [1.0], seed=0)
    x, y = tensors(8)
    with pytest.raises(ValueError, match=r"running statistics \(1\.running_mean\)"):
        FederatedTraining(
            model,
            TensorExamples(x, y),
            Population(deal_alike(8, 2), [1, 1], seed=0),
            settings=FederationSettings(method="fedavg"),
            weights=PLAIN,
            plain=1,
            seed=0,
        )
