"""The server: what clients learned on average is the gradient of an optimizer of its own.

    gradient of w_j = - mean over the clients that learned w_j of (new - old)

Reddi et al., "Adaptive Federated Optimization" (2021). Hyperparameters descend the mean of the
clients' gradients: federated SGD. With SGD at a rate of 1 the weights become the clients' mean, as
in FedAvg (McMahan et al., 2017).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...models.partitioned import PartitionedModule
from .settings import FederationSettings

__all__ = ["Server"]


class Server:
    """Holds the optimizers: one per partition, whose steps count only when it was learned.

    Args:
        model: The network, whose weights it changes.
        settings: Optimizer and rates.
    """

    def __init__(self, model: PartitionedModule, settings: FederationSettings) -> None:
        self._model = model
        self._partitions = {
            number: _optimizer(
                settings.server,
                model.parameters_of(number).values(),
                lr=settings.server_lr,
                eps=settings.server_eps,
            )
            for number in range(1, len(model) + 1)
            if model.values_of(number)
        }
        hyper = list(model.hyperparameters().values())
        self._psi = (
            _optimizer(settings.server, hyper, lr=settings.psi_lr, eps=settings.server_eps)
            if hyper
            else None
        )

    def apply(self, deltas: Mapping[int, Sequence[Tensor]], psi: Sequence[Tensor]) -> None:
        """Make a step.

        Args:
            deltas: The mean change of each partition that was learned, from 1.
            psi: The mean gradient of each hyperparameter; empty: they stay.
        """
        for number, changes in deltas.items():
            if number in self._partitions:
                parameters = self._model.parameters_of(number).values()
                _step(self._partitions[number], parameters, [-change for change in changes])
        if psi and self._psi is not None:
            _step(self._psi, self._model.hyperparameters().values(), psi)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of all optimizers."""
        return {
            "partitions": {number: one.state_dict() for number, one in self._partitions.items()},
            "psi": None if self._psi is None else self._psi.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        for number, one in self._partitions.items():
            one.load_state_dict(state["partitions"][number])
        if self._psi is not None:
            self._psi.load_state_dict(state["psi"])


def _optimizer(
    name: str, parameters: Iterable[nn.Parameter], *, lr: float, eps: float
) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr)
    return torch.optim.Adam(parameters, lr=lr, eps=eps)


def _step(
    optimizer: torch.optim.Optimizer,
    parameters: Iterable[nn.Parameter],
    gradients: Sequence[Tensor],
) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.to(parameter.device)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
