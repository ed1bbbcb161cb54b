"""Networks by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from blockstep.models import MIN_SIZES, NETWORKS, make_network

from tests.models.parts import SMALL, small


def test_the_networks() -> None:
    """Every network of the zoo is tested small in this folder."""
    assert set(NETWORKS) == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_a_networks_name_has_no_width(name: str) -> None:
    """Decouplings belong to the name, at any width."""
    assert small(name).name == name


@pytest.mark.parametrize("name", NETWORKS)
def test_the_smallest_images(name: str) -> None:
    """MIN_SIZES has the limit of every network that refuses images below it, and no other."""
    options = {key: value for key, value in SMALL[name].items() if key != "size"}
    least = MIN_SIZES.get(name, 1)
    make_network(name, classes=2, size=least, **options)
    if name in MIN_SIZES:
        with pytest.raises(ValueError, match=f"at least {least} pixels, not {least - 1}"):
            make_network(name, classes=2, size=least - 1, **options)


def test_the_length_is_the_size_unless_given() -> None:
    """A data set of sequences of 200 tokens needs no further option."""
    x = torch.zeros(1, 200, dtype=torch.long)
    assert make_network("transformer", classes=2, size=200, width=0.125).module(x).shape == (1, 2)
    short = make_network("transformer", classes=2, size=8, width=0.125, length=200)
    assert short.module(x).shape == (1, 2)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet5", {}, "unknown network 'resnet5'; did you mean resnet50.*known are resnet18"),
        ("zzz", {}, "unknown network 'zzz'; known are resnet18, .*transformer"),
        ("resnet18", {"wdith": 1}, "no option wdith=1; did you mean width.*it has width"),
        ("resnet18", {"depth": 50}, "no option depth=50"),
        ("resnet18", {"dropout": 0.1}, r"no option dropout=0\.1; it has width"),
        ("vgg19", {"droput": 0.1}, "did you mean dropout.*it has width, dropout"),
        ("transformer", {"vocab": 9}, "did you mean vocabulary"),
    ],
)
def test_what_is_unknown_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    """The error lists what is known, and the nearest if one is near."""
    with pytest.raises(ValueError, match=message):
        make_network(name, classes=2, **options)
