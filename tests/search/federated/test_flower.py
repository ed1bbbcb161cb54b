"""The adapter for Flower: what is sent, and, where Flower is installed, whole rounds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from blockstep.models.partitioned import PartitionedModule, partition
from blockstep.search.federated import Client, FederationSettings, LocalTraining
from blockstep.search.federated.flower import (
    client_app,
    initial_arrays,
    load_model,
    make_strategy,
    model_tensors,
    read_update,
    update_tensors,
)
from blockstep.search.partitioned import TensorExamples

from tests.search.federated.parts import SHARES, WEIGHTS, network, tensors, training


def model() -> PartitionedModule:
    return partition(network(), SHARES, seed=0)


def local(made: PartitionedModule) -> LocalTraining:
    x, y = tensors()
    return LocalTraining(
        made, TensorExamples(x, y), weights=WEIGHTS, criterion=F.cross_entropy, seed=1
    )


def test_a_model_comes_back_as_it_was_sent() -> None:
    """All partitions and hyperparameters, and nothing else."""
    one, two = model(), model()
    with torch.no_grad():
        for value in one.parameters():
            value.add_(0.5)
    sent = model_tensors(one)
    load_model(two, sent)
    state = two.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in one.state_dict().items())
    assert sum(value.numel() for value in sent.values()) == sum(v.numel() for v in one.parameters())
    sent["1/1.weight"].zero_()
    assert not torch.equal(model_tensors(one)["1/1.weight"], sent["1/1.weight"])


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_an_update_comes_back_as_it_was_sent(chunk: int) -> None:
    """Later partitions alone, and the gradient of those who judged; the bytes are those counted."""
    made = model()
    update = local(made).update(Client(3, chunk, torch.arange(10)), 1)
    sent = update_tensors(made, update)
    assert {key.partition("/")[0] for key in sent} == (
        {str(k) for k in range(chunk, 4)} | ({"psi"} if chunk > 1 else set())
    )
    assert sum(value.nbytes for value in sent.values()) == update.nbytes
    facts = {"chunk": chunk, "loss": update.loss, "judged": update.judged, "num-examples": 10}
    found = read_update(made, dict(reversed(sent.items())), facts)
    assert found.deltas.keys() == update.deltas.keys()
    for ours, theirs in zip(found.tensors()[:-1], update.tensors()[:-1], strict=True):
        assert torch.equal(ours, theirs)
    assert found.loss == update.loss


def test_what_does_not_fit_is_refused() -> None:
    """Other names, other shapes, numbers that are not finite, a chunk that does not exist."""
    made = model()
    update = local(made).update(Client(3, 2, torch.arange(10)), 1)
    sent = update_tensors(made, update)
    facts = {"chunk": 2}
    with pytest.raises(ValueError, match="chunk 4 of a network with 3"):
        read_update(made, sent, {"chunk": 4})
    with pytest.raises(ValueError, match=r"lack \['1/"):
        read_update(made, sent, {"chunk": 1})
    with pytest.raises(ValueError, match=r"unknown \['x'\]"):
        read_update(made, {**sent, "x": torch.zeros(1)}, facts)
    with pytest.raises(ValueError, match=r"2/1\.weight has shape \(3,\), not"):
        read_update(made, {**sent, "2/1.weight": torch.zeros(3)}, facts)
    broken = {**sent, "2/1.weight": sent["2/1.weight"] / 0}
    with pytest.raises(ValueError, match=r"2/1\.weight has numbers that are not finite"):
        read_update(made, broken, facts)
    with pytest.raises(ValueError, match="unknown"):
        load_model(partition(network(), [0.5, 0.5], seed=0), model_tensors(made))


def test_without_flower(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how to get it."""
    import sys

    for name in ("flwr", "flwr.app", "flwr.clientapp", "flwr.serverapp.strategy"):
        monkeypatch.setitem(sys.modules, name, None)
    for call in (
        lambda: client_app(lambda context: (None, None)),  # type: ignore[arg-type,return-value]
        lambda: initial_arrays(model()),
        lambda: make_strategy(model(), FederationSettings()),
    ):
        with pytest.raises(RuntimeError, match=r"pip install 'flwr>=1\.37'.*protobuf"):
            call()


class Grid:
    """Flower's way to the clients, without a network: every node is a call of the same app.

    Attributes:
        broken: Nodes whose reply is spoiled.
    """

    def __init__(self, app: Any, nodes: int) -> None:
        self._app = app
        self._nodes = nodes
        self.broken: set[int] = set()

    def get_node_ids(self) -> Iterable[int]:
        """Of all that are connected."""
        return range(1, self._nodes + 1)

    def send_and_receive(self, messages: Iterable[Any], *, timeout: float) -> list[Any]:
        """Let each node answer; the replies come in another order."""
        replies = []
        for message in messages:
            node = message.metadata.dst_node_id
            reply = self._app(message, node)
            reply.metadata.__dict__["_src_node_id"] = node
            if node in self.broken:
                reply.content["metrics"]["chunk"] = 99
            replies.append(reply)
        return replies[::-1]


def test_rounds_under_flower_are_those_of_the_simulation() -> None:
    """Bit for bit, where all clients take part; a reply that does not fit is left out."""
    pytest.importorskip("flwr.clientapp")
    simulated = training(per_round=None, clients=6)
    clients = simulated._population.clients
    device = local(model())
    app = client_app(lambda node: (device, clients[node - 1]))
    server = model()
    strategy = make_strategy(server, FederationSettings(), min_train_nodes=6, min_available_nodes=6)
    grid = Grid(app, 6)
    strategy.start(grid, initial_arrays(server), num_rounds=3)
    told = [simulated.advance() for _ in range(3)]
    state = server.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in simulated.model.state_dict().items())
    assert len(told) == 3
    grid.broken = {2}
    before = model_tensors(server)
    result = strategy.start(grid, initial_arrays(server), num_rounds=1)
    assert result.train_metrics_clientapp[1]["refused"] == 1
    assert not torch.equal(before["3/1.weight"], model_tensors(server)["3/1.weight"])
