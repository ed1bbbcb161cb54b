"""Tests of `blockstep.launch.devices`."""

from __future__ import annotations

import pytest
import torch
from blockstep.launch import devices
from blockstep.launch.devices import check_devices, device_kind, device_of, threads_per_rank
from blockstep.launch.refusal import ConfigError


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_devices_are_one_for_each_rank():
    """None means that they are found; else both numbers are told."""
    check_devices((), 3)
    check_devices(("cpu", "cpu"), 2)
    with pytest.raises(ConfigError, match="names 1 devices for 2 ranks"):
        check_devices(("cpu",), 2)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_only_cpus_are_to_be_had():
    """auto finds that; cuda is refused, whichever key asks for it."""
    assert device_kind("auto", ()) == device_kind("cpu", ()) == "cpu"
    assert device_kind("auto", ("cpu",)) == "cpu"
    for wanted in (("cuda", ()), ("auto", ("cuda:0",))):
        with pytest.raises(ConfigError, match="sees no CUDA GPU here"):
            device_kind(*wanted)


@pytest.mark.usefixtures("gpus")
def test_with_a_gpu_it_is_taken():
    """Devices that are named say it more precisely than `device`."""
    assert device_kind("auto", ()) == "cuda"
    assert device_kind("auto", ("cpu",)) == "cpu"
    with pytest.raises(ConfigError, match="mixes cpu and cuda"):
        device_kind("auto", ("cpu", "cuda:1"))


@pytest.mark.usefixtures("gpus")
def test_ranks_share_gpus_that_are_short():
    """One after the other, by the number of the rank on its machine."""
    found = [device_of(4 + rank, rank, kind="cuda", devices=()) for rank in range(3)]
    assert found == [torch.device("cuda", 0), torch.device("cuda", 1), torch.device("cuda", 0)]
    assert device_of(1, 1, kind="cuda", devices=("cuda:1", "cuda:0")) == torch.device("cuda:0")
    assert device_of(1, 1, kind="cpu", devices=()) == torch.device("cpu")


def test_threads_are_shared(monkeypatch: pytest.MonkeyPatch):
    """Each rank of a machine has at least one."""
    monkeypatch.setattr(devices, "cores", lambda: 8)
    assert [threads_per_rank(ranks) for ranks in (1, 2, 3, 8, 20)] == [8, 4, 2, 1, 1]
