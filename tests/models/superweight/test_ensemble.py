"""Members with generated weights against the same members with their own."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from blockstep.models import make_network
from blockstep.models.superweight import (
    SuperWeightNetwork,
    accounts,
    carry_over,
    parameter_groups,
    superweights,
    uses_of,
)
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tests.models.superweight.parts import Small, batch, each_its_own, members, network


def trivial(module: nn.Module, *, linear: bool = False) -> SuperWeightNetwork:
    """Give every layer one template, its own weight, and the coefficient 1."""
    uses = uses_of([module], linear=linear)
    own = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    budget = sum(use.numel for use in uses)
    net = superweights(module, budget, sharing=each_its_own(uses), linear=linear)
    with torch.no_grad():
        for use, templates in zip(uses, net.superweights.templates.values(), strict=True):
            templates.copy_(own[use.name].view(1, -1))
        for coefficients in net.superweights.coefficients.values():
            coefficients.fill_(1.0)
    net.superweights.coefficients.requires_grad_(False)
    return net


def train(module: nn.Module, steps: int = 3) -> list[float]:
    """Train with momentum and weight decay; return the losses."""
    optimizer = torch.optim.SGD(
        [one for one in module.parameters() if one.requires_grad],
        lr=0.1, momentum=0.9, weight_decay=1e-3,
    )  # fmt: skip
    x, y = batch()
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = cross_entropy(module(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", ["wrn16-4", "resnet50", "mobilenetv2"])
def test_one_template_per_layer_is_the_plain_network(name: str) -> None:
    """With coefficients of 1, training gives the plain network's weights bit for bit."""
    plain = network(name).module
    net = trivial(copy.deepcopy(plain))
    assert train(net) == train(plain)
    state = net.plain_state(0)
    assert list(state) == list(plain.state_dict())
    for key, tensor in plain.state_dict().items():
        assert torch.equal(state[key], tensor), key


def test_linear_layers_as_an_option() -> None:
    """A tied weight is generated once for both places; the head stays the member's own."""
    torch.manual_seed(0)
    plain = Small()
    net = trivial(copy.deepcopy(plain), linear=True)
    assert train(net) == train(plain)
    for key, tensor in plain.state_dict().items():
        assert torch.equal(net.plain_state(0)[key], tensor), key
    assert net.members[0].get_parameter("head.weight").shape == (5, 6)


def gradients(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of all gradients."""
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def test_all_at_once_or_member_by_member() -> None:
    """``forward`` and ``backward`` give the same losses and gradients."""
    ensemble = superweights(members("wrn16-4", "wrn22-4", "wrn16-2"), "40%").double()
    x, y = batch(dtype=torch.float64)
    losses = [cross_entropy(logits, y) for logits in ensemble(x)]
    torch.stack(losses).sum().backward()
    together = gradients(ensemble)
    ensemble.zero_grad()
    found = ensemble.backward(x, y, cross_entropy)
    assert torch.allclose(torch.stack(found), torch.stack(losses))
    apart = gradients(ensemble)
    assert apart.keys() == together.keys() == dict(ensemble.named_parameters()).keys()
    for name, gradient in together.items():
        assert torch.allclose(apart[name], gradient, rtol=1e-9, atol=1e-12), name


def test_members_in_two_places() -> None:
    """Gradients of the shared parameters, summed by place, are those of all members together."""
    names = ("wrn16-4", "wrn22-4", "wrn16-2")
    whole = superweights(members(*names), "60%", clusters=8).double()
    halves = [copy.deepcopy(whole) for _ in range(2)]
    x, y = batch(dtype=torch.float64)
    whole.backward(x, y, cross_entropy)
    expected = whole.superweights.shared_gradients()
    losses = [
        half.backward(x, y, cross_entropy, members=own)
        for half, own in zip(halves, ([0, 1], [2]), strict=True)
    ]
    assert [len(one) for one in losses] == [2, 1]
    assert any(one.grad is None for one in halves[1].superweights.parameters())
    first, second = (half.superweights.shared_gradients() for half in halves)
    assert len(first) == len(second) == len(expected) == len([*whole.superweights.parameters()])
    for one, other, both in zip(first, second, expected, strict=True):
        assert torch.allclose(one + other, both, rtol=1e-9, atol=1e-12)
    first[0].fill_(3.0)
    grad = next(halves[0].superweights.parameters()).grad
    assert grad is not None
    assert bool((grad == 3.0).all())


def test_several_passes_flow_once() -> None:
    """Two halves of a batch, in one hold, are the whole batch; norms aside."""
    ensemble = superweights(members("resnet18", "resnet18"), "40%").double().eval()
    x, y = batch(dtype=torch.float64)
    ensemble.backward(x, y, cross_entropy)
    whole = gradients(ensemble)
    ensemble.zero_grad()
    flows: list[int] = []
    flow = ensemble.superweights.flow

    def counted(member: int, gradients: Sequence[Tensor | None]) -> None:
        flows.append(member)
        flow(member, gradients)

    ensemble.superweights.flow = counted
    for member, module in enumerate(ensemble.members):
        with ensemble.held(member):
            for part in (slice(0, 2), slice(2, 4)):
                (cross_entropy(module(x[part]), y[part]) / 2).backward()
    assert flows == [0, 1]
    for name, gradient in whole.items():
        assert torch.allclose(gradients(ensemble)[name], gradient, rtol=1e-9, atol=1e-12), name


def test_a_member_in_blocks() -> None:
    """Layers run in turn, with detached activations and two losses, inside one hold."""
    (member,) = members("wrn16-4")
    ensemble = superweights([member], "60%")
    x, y = batch()
    with ensemble.held(0) as weights:
        h = member.body(1, 2)(x)
        h.mean().backward()
        cross_entropy(member.classifier(member.body(3, 6)(h.detach())), y).backward()
        assert all(weight.grad is not None for weight in weights.values())
    assert all(p.grad is not None for p in ensemble.superweights.parameters())


def test_holding_without_flow_leaves_the_shared_parameters_alone() -> None:
    """The gradients of the weights are for the caller."""
    ensemble = superweights(members("wrn16-4", "wrn16-4"), "40%")
    x, y = batch()
    with ensemble.held(1, flow=False) as weights:
        cross_entropy(ensemble.members[1](x), y).backward()
    assert all(p.grad is None for p in ensemble.superweights.parameters())
    assert all(weight.grad is not None for weight in weights.values())
    assert list(weights) == [use.name for use in ensemble.superweights.recipes[1].uses]


def test_a_member_alone_has_no_weights() -> None:
    """Also after an error: a member that runs outside its ensemble fails."""
    ensemble = superweights(members("wrn16-4"), "60%")
    with pytest.raises(RuntimeError), ensemble.held(0):
        raise RuntimeError
    with pytest.raises(TypeError):
        ensemble.members[0](batch()[0])


def test_accounts_are_exact() -> None:
    """Templates within the budget, and four numbers that add up to everything."""
    nets = members("wrn16-4", "mobilenetv2", "vgg19")
    heads = sum(
        one.numel()
        for net in nets
        for part in net.module.modules()
        if not isinstance(part, nn.Conv2d | nn.BatchNorm2d)
        for one in part.parameters(recurse=False)
    )
    norms = sum(
        one.numel()
        for net in nets
        for part in net.module.modules()
        if isinstance(part, nn.BatchNorm2d)
        for one in part.parameters()
    )
    ensemble = superweights(nets, "50%")
    found = accounts(ensemble)
    assert list(found) == ["templates", "coefficients", "heads", "norms"]
    assert sum(found.values()) == sum(one.numel() for one in ensemble.parameters())
    assert (found["heads"], found["norms"]) == (heads, norms)
    allocation = ensemble.superweights.allocation
    assert found["templates"] == allocation.templates <= allocation.budget


def test_the_names_are_stable() -> None:
    """Two builds have the same names in the same order: ranks can sum gradients by place."""
    first, second = (superweights(members("wrn16-4", "wrn22-4"), "40%") for _ in range(2))
    names = [name for name, _ in first.named_parameters()]
    assert names == [name for name, _ in second.named_parameters()]
    shared = [name for name in names if name.startswith("superweights.")]
    assert shared[0] == "superweights.templates.0_0"
    assert len(shared) == 2 * sum(map(len, first.superweights.allocation.counts))


def test_a_checkpoint_restores_an_ensemble() -> None:
    """A state_dict, read with ``weights_only``, brings back the logits; copies are independent."""
    ensemble = superweights(members("wrn16-4", "wrn22-4"), "40%").eval()
    x, _ = batch()
    file = io.BytesIO()
    torch.save(ensemble.state_dict(), file)
    other = superweights(members("wrn16-4", "wrn22-4"), "40%").eval()
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter, 1.0)
    before = copy.deepcopy(other)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        assert torch.equal(other(x), ensemble(x))
        assert not torch.equal(before(x), ensemble(x))
        assert torch.allclose(ensemble.predict(x).sum(1), torch.ones(4))
        plain = make_network("wrn22-4", classes=5, width=0.125).module.eval()
        plain.load_state_dict(ensemble.plain_state(1))
        assert torch.equal(plain(x), ensemble.run(1, x))


def optimizers(ensemble: Any) -> dict[str, torch.optim.Optimizer]:
    """Make optimizers with different kinds of state."""
    return {
        "sgd": torch.optim.SGD(parameter_groups(ensemble, 5e-4), lr=0.1, momentum=0.9),
        "adam": torch.optim.Adam(parameter_groups(ensemble, 5e-4), lr=0.01),
    }


def test_coefficients_do_not_decay() -> None:
    """Every parameter that learns is in one group; norms may be excepted too."""
    ensemble = superweights(members("wrn16-4"), "60%")
    decayed, still = parameter_groups(ensemble, 5e-4)
    assert (decayed["weight_decay"], still["weight_decay"]) == (5e-4, 0.0)
    coefficients = [*ensemble.superweights.coefficients.parameters()]
    assert [id(one) for one in still["params"]] == [id(one) for one in coefficients]
    everything = [id(one) for group in (decayed, still) for one in group["params"]]
    assert sorted(everything) == sorted(id(one) for one in ensemble.parameters())
    _, still = parameter_groups(ensemble, 5e-4, decay_norms=False)
    norms = accounts(ensemble)["norms"] + accounts(ensemble)["coefficients"]
    assert sum(one.numel() for one in still["params"]) == norms


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_an_optimizer_goes_on_with_separated_coefficients(kind: str) -> None:
    """While all uses of a row get the same gradient, nothing changes by separating them."""
    ensemble = superweights(members("wrn16-4", "wrn16-4"), "40%", own_coefficients=False)
    optimizer = optimizers(ensemble)[kind]
    x, y = batch()
    ensemble.backward(x, y, cross_entropy)
    optimizer.step()
    store = ensemble.superweights
    momentum = {
        name: optimizer.state[p] for name, p in store.coefficients.items() if optimizer.state[p]
    }
    replaced = store.regroup(store.sharing.with_own_coefficients())
    carry_over(optimizer, replaced)
    inside = {id(one) for group in optimizer.param_groups for one in group["params"]}
    assert inside == {id(one) for one in ensemble.parameters()}
    for name, parameter in store.coefficients.items():
        for key, value in optimizer.state[parameter].items():
            old = momentum[name][key]
            if value.shape == parameter.shape:
                assert torch.equal(value, old.expand_as(value))
            else:
                assert torch.equal(value, old)
    ensemble.backward(x, y, cross_entropy)
    optimizer.step()


def test_what_cannot_be_an_ensemble() -> None:
    """Members that share tensors, lie on two devices or of two types, or are none."""
    (net,) = members("wrn16-4")
    with pytest.raises(ValueError, match=r"conv1\.weight of member 1 is also in member 0"):
        superweights([net, net], "40%")
    pair = [members("wrn16-4")[0].module, members("wrn16-4")[0].module.double()]
    with pytest.raises(ValueError, match=r"float32 on cpu, torch\.float64 on cpu"):
        superweights(pair, "40%")
    with pytest.raises(ValueError, match="at least one member"):
        superweights([], "40%")
    with pytest.raises(ValueError, match="members need convolutions"):
        superweights(nn.Linear(2, 2), "40%")
    with pytest.raises(ValueError, match="valid are fan_in, official"):
        superweights(members("wrn16-4"), "60%", initialization="kaiming")


def test_remarks_become_warnings() -> None:
    """A slot with one template for two members is told."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        superweights(members("wrn16-4", "wrn16-4"), "40%", cap=1)
    texts = [str(one.message) for one in told]
    assert any("got one template" in text for text in texts)
    assert any("no slot takes more than 1" in text for text in texts)


def test_the_weights_do_not_know_autocast() -> None:
    """They are made in the parameters' precision; the layers then round them once."""
    ensemble = superweights(members("wrn16-4"), "60%")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (weight, *_) = ensemble.superweights.generate(0)
    assert weight.dtype == torch.float32
    assert torch.equal(weight, ensemble.superweights.generate(0)[0])
