"""The advice: which method, with numbers, also when that is data parallelism."""

from __future__ import annotations

import dataclasses

import pytest
from blockstep.search.prediction.advice import advise, turning_point
from blockstep.search.prediction.prediction import Prediction

GIB = 1 << 30
BACKPROP = Prediction(
    "backprop", 1, 1, (1,), (), None, 100, 10.0, (1.0,), (4 * GIB,), (), 0, 10.0
)  # fmt: skip
DDP = dataclasses.replace(
    BACKPROP, method="ddp", devices=4, replicas=(4,), seconds=2.5, memory=(2 * GIB,)
)
SEDONA = dataclasses.replace(
    BACKPROP, method="sedona", blocks=2, devices=4, replicas=(2, 2), cuts=(3,), seconds=2.0,
    memory=(GIB, GIB // 2), busy=(1.0, 0.5), traffic=(8,),
)  # fmt: skip
SLOW = dataclasses.replace(SEDONA, seconds=5.0)


def test_the_fastest_is_named_and_compared():
    """With images per second, speedup, memory, and the distance from ddp."""
    assert advise([BACKPROP, DDP, SEDONA]) == (
        "Fastest: sedona with 2 blocks on 4 devices, 50.0 images/s, 5.00x one device, at most "
        "1.00 GiB per device. That is 1.25x ddp on 4 devices (40.0 images/s, at most 2.00 GiB "
        "per device)."
    )


def test_ddp_is_advised_where_it_is_the_fastest():
    """And how much slower the best is that cuts the network."""
    text = advise([BACKPROP, DDP, SLOW])
    assert text.startswith("Fastest: ddp on 4 devices, 40.0 images/s, 4.00x one device")
    assert text.endswith(
        "Cutting the network gains no speed here: the best that does, sedona with 2 blocks on 4 "
        "devices, is 50.0% slower, at most 1.00 GiB per device."
    )
    assert advise([DDP]).count(".") > 0
    assert "Cutting" not in advise([BACKPROP, DDP])


def test_what_does_not_fit_is_not_advised():
    """A device's memory may leave only a method that cuts, or none."""
    text = advise([BACKPROP, DDP, SLOW], memory=1.5 * GIB)
    assert text.startswith("Fastest: sedona with 2 blocks")
    assert text.endswith("ddp does not fit into a device: it needs 2.00 GiB.")
    assert advise([BACKPROP, DDP, SLOW], memory=0.5 * GIB) == (
        "Nothing fits into 0.5 GiB per device; sedona with 2 blocks on 4 devices needs least, "
        "1.00 GiB."
    )


def test_one_device_may_be_the_fastest():
    """Then too the distance of the best that cuts is told, with or without ddp."""
    slower = dataclasses.replace(SEDONA, seconds=20.0)
    assert "is 50.0% slower" in advise([BACKPROP, slower])
    assert advise([BACKPROP, slower]).startswith("Fastest: backprop on 1 device, 10.0 images/s")
    assert advise([SEDONA]).endswith("at most 1.00 GiB per device.")


def test_the_turning_point():
    """Found to 1 %, whichever is ahead below; None where nothing changes."""
    assert turning_point(lambda speed: speed > 3e8, low=1e6, high=1e12) == pytest.approx(
        3e8, rel=0.01
    )
    assert turning_point(lambda speed: speed < 5e6, low=1e6, high=1e12) == pytest.approx(
        5e6, rel=0.01
    )
    assert turning_point(lambda speed: True, low=1.0, high=2.0) is None
    assert turning_point(lambda speed: speed > 5.0, low=1.0, high=4.0) is None


def test_unknown_memory_is_not_told():
    """And leaves nothing out."""
    unknown = dataclasses.replace(SEDONA, memory=(None, None))
    assert "GiB" not in advise([unknown], memory=1.0)
