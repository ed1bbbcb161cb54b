"""A network as an ordered list of layers that can be cut after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .mode import evaluating

__all__ = ["Network", "check_whole", "layer_shapes", "network_of"]


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

        Raises:
            ValueError: Something in ``part`` is not of this network.
        """
        # Names are found by module, not by tensor: moving a part replaces its buffers.
        names: dict[int, list[str]] = {}
        for name, module in self.module.named_modules(remove_duplicate=False):
            names.setdefault(id(module), []).append(name)
        state: dict[str, Tensor] = {}
        for module in part.modules():
            own = _own_tensors(module)
            if own and id(module) not in names:
                raise ValueError(
                    f"{self.name} has no such {type(module).__name__} with {', '.join(own)}; give "
                    "a body() or the classifier of this very network, not a copy"
                )
            for prefix in names.get(id(module), []):
                for key, tensor in own.items():
                    state[f"{prefix}.{key}" if prefix else key] = tensor
        return state

    def load_into(self, part: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Copy ``state`` into ``part``; the names are those of :meth:`state_of`.

        Raises:
            ValueError: A name is missing or unexpected, or a shape differs. Nothing was copied.
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
        for name, tensor in own.items():
            tensor.copy_(state[name])


def _own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and persistent buffers of ``module`` without its submodules."""
    hidden = module._non_persistent_buffers_set
    buffers = {key: buffer for key, buffer in module._buffers.items() if key not in hidden}
    own = {**module._parameters, **buffers}
    return {key: tensor.detach() for key, tensor in own.items() if tensor is not None}


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
        layers = tuple(module)  # children() would skip the second use of one object
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
            f"{name} is not an nn.Sequential and its attribute layers is "
            f"{'missing' if names is None else type(names).__name__}, not a list of names; add one "
            "that names its layers in order, e.g. self.layers = ['stem', 'blocks.0', 'fc']"
        )
    layers = tuple(_find(module, one, f"{name}.layers") for one in names)
    classifier = getattr(module, "classifier", None)
    if isinstance(classifier, str):
        return layers, _find(module, classifier, f"{name}.classifier")
    return layers, nn.Identity()


def _find(module: nn.Module, dotted: str, attribute: str) -> nn.Module:
    try:
        found = module.get_submodule(dotted)
    except AttributeError:
        found = None
    if found is None or found is module:
        children = ", ".join(child for child, _ in module.named_children())
        raise ValueError(
            f"{attribute} names {dotted!r}, which is no submodule; the children are {children}"
        )
    return found


def _check_parameters(module: nn.Module, parts: Sequence[nn.Module], name: str) -> None:
    """Each parameter must be trained by exactly one block, and each buffer kept by one."""
    owner: dict[int, str] = {}
    names = {id(tensor): key for key, tensor in module.named_parameters()}
    buffers = {id(tensor): key for key, tensor in module.named_buffers()}
    for number, part in enumerate(parts, start=1):
        place = f"layer {number}" if number < len(parts) else "the classifier"
        for tensor in (*part.parameters(), *part.buffers()):
            earlier = owner.setdefault(id(tensor), place)
            if earlier != place:
                kind = "parameter" if id(tensor) in names else "buffer"
                key = names.get(id(tensor)) or buffers.get(id(tensor))
                raise ValueError(
                    f"{name}: the {kind} {key} is in {earlier} and in {place}; it can belong to "
                    "one block only, so give each layer its own"
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
        example: A batch of inputs; the first two are used, or the only one twice.

    Raises:
        ValueError: A layer fails; the layer, its number and its input's shape are named.
    """
    shapes = []
    h = example[:2] if len(example) > 1 else torch.cat([example, example])
    with evaluating(network.module, *network.layers), torch.no_grad():
        for number, layer in enumerate(network.layers, start=1):
            where = f"{network.name}: layer {number} ({type(layer).__name__})"
            shape = tuple(h.shape)
            try:
                h = layer(h)
            except Exception as error:
                raise ValueError(f"{where} fails on an input of shape {shape}: {error}") from error
            if not isinstance(h, Tensor) or h.dim() < 1 or len(h) != 2:
                made = tuple(h.shape) if isinstance(h, Tensor) else f"a {type(h).__name__}"
                raise ValueError(
                    f"{where} makes {made} of an input of shape {shape}; a layer has to return one "
                    "tensor with an entry per example"
                )
            shapes.append(h.shape[1:])
    return shapes


def check_whole(network: Network, example: Tensor) -> None:
    """Compare the module's own ``forward`` with its layers and classifier run in turn.

    What ``forward`` does between the layers, such as a functional ReLU, would be lost when the
    network is cut. A module without a ``forward`` of its own has nothing to lose.

    Args:
        network: The network.
        example: A batch of inputs.

    Raises:
        ValueError: The logits differ, or have another shape.
    """
    parts = (network.module, *network.layers, network.classifier)
    with evaluating(*parts), torch.no_grad():
        h = example
        for layer in network.layers:
            h = layer(h)
        pieces = network.classifier(h)
        try:
            whole = network.module(example)
        except NotImplementedError:
            return
    if whole.shape != pieces.shape:
        differ = f"logits of shape {tuple(whole.shape)} and {tuple(pieces.shape)}"
    elif not torch.allclose(whole, pieces, rtol=1e-4, atol=1e-5):
        differ = f"logits that differ by up to {(whole - pieces).abs().max().item():.3g}"
    else:
        return
    raise ValueError(
        f"{network.name}: forward() and the layers run in turn give {differ}; move what forward() "
        "does besides calling the layers (activations, reshaping) into a layer or the classifier"
    )
