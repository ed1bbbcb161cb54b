"""The same client and server under Flower (https://flower.ai), for clients on real devices.

    from blockstep.search.federated.flower import client_app, make_strategy

    app = client_app(lambda context: (my_local_training, my_client))        # on every device
    strategy = make_strategy(model, FederationSettings())                   # at the server
    strategy.start(grid, initial_arrays=initial_arrays(model), num_rounds=2000)

The server's model and the clients' are partitioned with the same seed and shares; a message down
holds all partitions and hyperparameters, a message up those of the client's chunk and later ones,
as changes, and the gradient of the hyperparameters.

Flower is an optional extra: ``pip install blockstep[flower]``. Flower 1.37 wants protobuf below 7,
and constraints.txt pins 7: install without these pins (wandb takes either). Flower draws the
clients of a round by itself, so a run is not repeated by its seed as the simulation is.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ...models.partitioned import PartitionedModule
from .local import LocalTraining
from .population import Client
from .server import Server
from .settings import FederationSettings
from .update import Means, Update

__all__ = [
    "client_app",
    "initial_arrays",
    "load_model",
    "make_strategy",
    "model_tensors",
    "read_update",
    "update_tensors",
]

PSI = "psi"
ARRAYS, METRICS, CONFIG = "arrays", "metrics", "config"
"""The records of a message, as Flower's own strategies call them."""


def model_tensors(model: PartitionedModule) -> dict[str, Tensor]:
    """Return what the server sends: copies on the CPU, ``2/NAME`` of partition 2, ``psi/NAME``."""
    found = {
        f"{number}/{name}": value
        for number in range(1, len(model) + 1)
        for name, value in model.parameters_of(number).items()
    }
    found |= {f"{PSI}/{name}": value for name, value in model.hyperparameters().items()}
    return {key: value.detach().cpu().clone() for key, value in found.items()}


@torch.no_grad()
def load_model(model: PartitionedModule, tensors: Mapping[str, Tensor]) -> None:
    """Take what :func:`model_tensors` of the server's model returned.

    Raises:
        ValueError: A tensor is missing, or there is another; it is named. Nothing was copied.
    """
    _check(tensors, {key: tuple(value.shape) for key, value in model_tensors(model).items()})
    for number in range(1, len(model) + 1):
        names = model.parameters_of(number)
        model.load_values(number, [tensors[f"{number}/{name}"] for name in names])
    for name, value in model.hyperparameters().items():
        value.copy_(tensors[f"{PSI}/{name}"])


def update_tensors(model: PartitionedModule, update: Update) -> dict[str, Tensor]:
    """Return what a client sends, under the names of :func:`model_tensors`."""
    found: dict[str, Tensor] = {}
    for number, deltas in update.deltas.items():
        for name, delta in zip(model.parameters_of(number), deltas, strict=True):
            found[f"{number}/{name}"] = delta
    if update.psi:
        for name, gradient in zip(model.hyperparameters(), update.psi, strict=True):
            found[f"{PSI}/{name}"] = gradient
    return found


def read_update(
    model: PartitionedModule, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> Update:
    """Read what a client sent.

    Args:
        model: The server's.
        tensors: What :func:`update_tensors` returned there.
        facts: The client's ``chunk``, ``loss`` and ``judged``.

    Raises:
        ValueError: It is no update of this network, or has a number that is not finite: the
            client's other updates would be lost with the model.
    """
    chunk = int(facts.get("chunk", 0))
    if not 1 <= chunk <= len(model):
        raise ValueError(f"chunk {chunk} of a network with {len(model)} partitions")
    judges = any(key.startswith(f"{PSI}/") for key in tensors)
    empty = Update.empty(model, chunk, judges=judges)
    expected = update_tensors(model, empty)
    _check(tensors, {key: tuple(value.shape) for key, value in expected.items()})
    for key, value in tensors.items():
        if not torch.isfinite(value).all():
            raise ValueError(f"{key} has numbers that are not finite")
    told = [float(facts.get(name, math.nan)) for name in ("loss", "judged")]
    ordered = [tensors[key].to(expected[key].dtype) for key in expected]
    return Update.read([*ordered, torch.tensor(told, dtype=torch.float64)], empty)


def client_app(make: Callable[[Any], tuple[LocalTraining, Client]]) -> Any:
    """Return a ``flwr.clientapp.ClientApp`` that learns as the simulated clients do.

    Args:
        make: From Flower's context to the training of this device, with its examples, and its
            client: number, chunk and examples.

    Raises:
        RuntimeError: Flower is not installed.
    """
    flower = _flower("app")
    app = _flower("clientapp").ClientApp()

    @app.train()
    def train(message: Any, context: Any) -> Any:
        local, client = make(context)
        load_model(local.model, message.content[ARRAYS].to_torch_state_dict())
        update = local.update(client, int(message.content[CONFIG]["server-round"]))
        facts = {
            "num-examples": len(client.indices),
            "chunk": client.chunk,
            "loss": update.loss,
            "judged": update.judged,
        }
        content = flower.RecordDict(
            {
                ARRAYS: flower.ArrayRecord(update_tensors(local.model, update)),
                METRICS: flower.MetricRecord(facts),
            }
        )
        return flower.Message(content=content, reply_to=message)

    return app


def initial_arrays(model: PartitionedModule) -> Any:
    """Return the ``flwr.app.ArrayRecord`` that a strategy starts from.

    Raises:
        RuntimeError: Flower is not installed.
    """
    return _flower("app").ArrayRecord(model_tensors(model))


def make_strategy(model: PartitionedModule, settings: FederationSettings, **options: Any) -> Any:
    """Return a strategy that averages partitions over those who learned them.

    Args:
        model: The server's network, which it changes.
        settings: The server's optimizer and rates.
        options: Of ``flwr.serverapp.strategy.FedAvg``: ``fraction_train``, ``min_train_nodes``, ...
            ``fraction_evaluate`` is 0 unless it is given.

    Raises:
        RuntimeError: Flower is not installed.
    """
    flower, strategies = _flower("app"), _flower("serverapp.strategy")
    server = Server(model, settings)

    class Partitioned(strategies.FedAvg):
        """Sends messages as FedAvg does; what comes back becomes a step of the server."""

        def aggregate_train(self, server_round: int, replies: Iterable[Any]) -> tuple[Any, Any]:
            """Add up the replies in the order of the nodes; those that failed are left out."""
            means, refused = Means(), 0
            for reply in sorted(replies, key=lambda one: one.metadata.src_node_id):
                if reply.has_error():
                    refused += 1
                    continue
                try:
                    tensors = reply.content[ARRAYS].to_torch_state_dict()
                    means.add(read_update(model, tensors, reply.content[METRICS]))
                except (ValueError, KeyError, TypeError):
                    refused += 1
            server.apply(means.deltas(), means.psi())
            facts: dict[str, Any] = {"refused": refused}
            facts |= {} if means.loss is None else {"loss": means.loss}
            facts |= {} if means.judged is None else {"judged": means.judged}
            return initial_arrays(model), flower.MetricRecord(facts)

    return Partitioned(**{"fraction_evaluate": 0.0, **options})


def _check(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    missing, unknown = (
        sorted(shapes.keys() - tensors.keys()),
        sorted(tensors.keys() - shapes.keys()),
    )
    if missing or unknown:
        raise ValueError(
            f"the tensors lack {missing[:3] or 'nothing'} and have unknown "
            f"{unknown[:3] or 'nothing'}; partition both networks with the same seed and shares"
        )
    for key, shape in shapes.items():
        if tuple(tensors[key].shape) != shape:
            raise ValueError(
                f"{key} has shape {tuple(tensors[key].shape)}, not {shape}; partition both "
                "networks with the same seed and shares"
            )


def _flower(name: str) -> Any:
    try:
        return importlib.import_module(f"flwr.{name}")
    except ImportError as error:
        raise RuntimeError(
            f"Flower's flwr.{name} cannot be imported ({error}); pip install 'flwr>=1.37', in an "
            "environment that may have protobuf below 7"
        ) from error
