"""A network as an ordered list of layers that can be cut after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Network", "layer_shapes", "network_of"]


@dataclass(frozen=True, eq=False)
class Network:
    """A module together with where it can be cut.

    Attributes:
        name: Its name, without the width: decouplings belong to it.
        module: The whole as its author knows it: inputs to logits (B, classes).
        layers: The layers in order; layer ``l``, from 1, is ``layers[l - 1]``.
        classifier: The head of the last block: from the last layer's output to logits;
            ``nn.Identity`` where the last layer yields the logits.
        features: Width F of Aux heads (SEDONA, Table 9).
        reduction: Aux heads work on C // reduction channels.
    """

    name: str
    module: nn.Module
    layers: tuple[nn.Module, ...]
    classifier: nn.Module
    features: int = 512
    reduction: int = 4

    def body(self, first: int, last: int) -> nn.Sequential:
        """Return layers ``first`` to ``last``, from 1 and inclusive; the same module objects.

        Raises:
            ValueError: There are no such layers.
        """
        if not 1 <= first <= last <= len(self.layers):
            raise ValueError(
                f"{self.name} has layers 1-{len(self.layers)}; there is no block {first}-{last}"
            )
        return nn.Sequential(*self.layers[first - 1 : last])

    def state_of(self, part: nn.Module) -> dict[str, Tensor]:
        """Return the parameters and buffers of ``part`` under their names in ``module``.

        Args:
            part: A body or the classifier; its tensors are not copied.
        """
        names = {id(module): name for name, module in self.module.named_modules()}
        state: dict[str, Tensor] = {}
        for module in part.modules():
            if id(module) not in names:
                continue
            prefix = names[id(module)]
            own = {**module._parameters, **_persistent_buffers(module)}
            for key, tensor in own.items():
                if tensor is not None:
                    state[f"{prefix}.{key}" if prefix else key] = tensor.detach()
        return state

    def load_into(self, part: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Copy ``state`` into ``part``; the names are those of :meth:`state_of`.

        Raises:
            ValueError: A name is missing or unexpected, or a shape differs.
        """
        own = self.state_of(part)
        missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or unexpected:
            raise ValueError(
                f"{self.name}: the weights lack {missing or 'nothing'} and have unknown "
                f"{unexpected or 'nothing'}; they belong to another network or other cuts"
            )
        for name, tensor in own.items():
            if tensor.shape != state[name].shape:
                raise ValueError(
                    f"{self.name}: {name} has shape {tuple(tensor.shape)}, the weights have "
                    f"{tuple(state[name].shape)}; make the network with the same width and classes"
                )
            tensor.copy_(state[name])


def _persistent_buffers(module: nn.Module) -> dict[str, Tensor | None]:
    hidden = module._non_persistent_buffers_set
    return {key: buffer for key, buffer in module._buffers.items() if key not in hidden}


def network_of(module: nn.Module, *, name: str | None = None) -> Network:
    """Describe a user's module.

    An ``nn.Sequential``: its children are the layers, and the last one yields the logits. Any
    other module names its layers, in order, in an attribute ``layers: list[str]`` of dotted names,
    and may name what follows them in ``classifier: str``.

    Args:
        module: The user's module.
        name: What decouplings call it; by default the name of its class.

    Raises:
        ValueError: It has no layers, a name leads nowhere, or a parameter belongs to no layer or
            to two.
    """
    name = name or type(module).__name__
    if isinstance(module, nn.Sequential):
        layers = tuple(module.children())
        classifier: nn.Module = nn.Identity()
    else:
        layers, classifier = _named_layers(module, name)
    if not layers:
        raise ValueError(f"{name} has no layers to train")
    _check_parameters(module, (*layers, classifier), name)
    return Network(name, module, layers, classifier)


def _named_layers(module: nn.Module, name: str) -> tuple[tuple[nn.Module, ...], nn.Module]:
    names = getattr(module, "layers", None)
    if not isinstance(names, list | tuple) or not all(isinstance(one, str) for one in names):
        raise ValueError(
            f"{name} is not an nn.Sequential and has no attribute layers: list[str]; add one that "
            "names its layers in order, e.g. self.layers = ['stem', 'blocks.0', 'blocks.1', 'fc']"
        )
    layers = tuple(_find(module, one, name) for one in names)
    classifier = getattr(module, "classifier", None)
    if isinstance(classifier, str):
        return layers, _find(module, classifier, name)
    return layers, nn.Identity()


def _find(module: nn.Module, dotted: str, name: str) -> nn.Module:
    try:
        return module.get_submodule(dotted)
    except AttributeError:
        children = ", ".join(child for child, _ in module.named_children())
        raise ValueError(
            f"{name}.layers names {dotted!r}, which is no submodule; its children are {children}"
        ) from None


def _check_parameters(module: nn.Module, parts: Sequence[nn.Module], name: str) -> None:
    """Each parameter must be trained by exactly one block."""
    owner: dict[int, int] = {}
    names = {id(parameter): key for key, parameter in module.named_parameters()}
    for number, part in enumerate(parts, start=1):
        for parameter in part.parameters():
            earlier = owner.setdefault(id(parameter), number)
            if earlier != number:
                raise ValueError(
                    f"{name}: the parameter {names.get(id(parameter))} is in layer {earlier} and "
                    f"in layer {number}; a parameter can be trained by one block only"
                )
    orphans = [key for identity, key in names.items() if identity not in owner]
    if orphans:
        raise ValueError(
            f"{name}: the parameter {orphans[0]} ({len(orphans)} in all) is in no layer and would "
            "never be trained; add its module to layers, or name it as classifier"
        )


def layer_shapes(network: Network, example: Tensor) -> list[torch.Size]:
    """Return the shape of each layer's output, without the batch dimension.

    Runs the network once, in evaluation mode and without gradients; its modes are restored.

    Args:
        network: The network.
        example: A batch of inputs, of which at most two are used.

    Raises:
        ValueError: A layer fails; the layer, its number and its input's shape are named.
    """
    modes = [(module, module.training) for module in network.module.modules()]
    shapes = []
    try:
        network.module.eval()
        h = example[:2]
        with torch.no_grad():
            for number, layer in enumerate(network.layers, start=1):
                shape = tuple(h.shape)
                try:
                    h = layer(h)
                except Exception as error:
                    raise ValueError(
                        f"{network.name}: layer {number} ({type(layer).__name__}) fails on an "
                        f"input of shape {shape}: {error}"
                    ) from error
                shapes.append(h.shape[1:])
    finally:
        for module, training in modes:
            module.training = training
    return shapes
