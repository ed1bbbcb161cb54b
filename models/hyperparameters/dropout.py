"""Dropout whose rate is learned (Gal, Hron and Kendall, "Concrete Dropout", 2017).

What is learned from examples that the weights have not seen needs no regulariser.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .concrete import check_temperature, concrete, logit_of
from .hyperparameter import Hyperparameter

__all__ = ["ConcreteDropout", "learn_dropout"]


class ConcreteDropout(Hyperparameter):
    """Keeps each number by a concrete variable and divides by the probability to keep it.

    Evaluation keeps everything.

    Args:
        rate: Share that is dropped at first, in (0, 1).
        temperature: Of the concrete distribution.
    """

    def __init__(self, rate: float, *, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = check_temperature(temperature)
        self.keep = nn.Parameter(torch.tensor(-logit_of(rate, "rate")))

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) to the same shape."""
        if not self.training:
            return x
        return x * concrete(self.keep, x.shape, self.temperature) / self.keep.sigmoid()

    def readable(self) -> dict[str, list[float]]:
        """Return the rate."""
        return {"rate": [(-self.keep.detach()).sigmoid().item()]}


def learn_dropout(
    module: nn.Module, *, temperature: float = 0.1, layers: Iterable[nn.Module] = ()
) -> list[str]:
    """Replace every ``nn.Dropout`` in a network by one that learns its rate, in place.

    Args:
        module: The network; each dropout's rate is the initial one.
        temperature: Of the concrete distribution.
        layers: Further modules that share parts with the network, such as those it is cut into.

    Returns:
        The names of the replaced modules.

    Raises:
        ValueError: There is none, or one has a rate of 0 or 1, which cannot be learned.
    """
    names = [name for name, part in module.named_modules() if type(part) is nn.Dropout]
    if not names or "" in names:
        raise ValueError(
            f"{type(module).__name__} has no nn.Dropout in it; put one where units are to be "
            "dropped, or make the network with dropout= above 0"
        )
    example = next(module.parameters(), None)
    learned: dict[int, nn.Module] = {}
    for name in names:
        old = module.get_submodule(name)
        assert isinstance(old, nn.Dropout)
        try:
            new = ConcreteDropout(old.p, temperature=temperature)
        except ValueError as error:
            raise ValueError(f"the dropout {name}: {error}") from error
        new.train(old.training)
        learned[id(old)] = new if example is None else new.to(example)
    for whole in (module, *layers):
        for part in list(whole.modules()):
            for key, child in part._modules.items():
                if id(child) in learned:
                    part._modules[key] = learned[id(child)]
    return names
