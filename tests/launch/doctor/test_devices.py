"""Lines about cores, memory and GPUs, with stand-ins for machines that are not here."""

from __future__ import annotations

import shutil
import sys
import types
from pathlib import Path

import pytest
import torch
from blockstep.launch.devices import cores
from blockstep.launch.doctor.devices import (
    GIB,
    check_gpus,
    check_memory,
    check_processor,
    check_shared_memory,
)
from blockstep.launch.doctor.finding import Level
from blockstep.launch.doctor.nvml import Driver, read_driver

from tests.pipeline.nvml import NVMLError, fail, fake_nvml

NONE, ONE = Driver(error="Driver Not Loaded"), Driver(1, "570.1", "")


def test_a_machine_that_computes_for_others_is_told():
    """From one process per core on."""
    assert check_processor(load=cores() - 0.5).level is Level.OK
    busy = check_processor(load=cores() + 0.5)
    assert (busy.level, busy.figures["cores"]) == (Level.WARN, cores())
    assert "others compute here" in busy.advice


def test_memory():
    """Little is told; a system that says nothing is not judged; this one says something."""
    facts = {"MemAvailable": GIB, "MemTotal": 4 * GIB}
    little = check_memory(facts)
    assert (little.level, little.text) == (Level.WARN, "1.0 of 4.0 GiB free")
    assert check_memory({**facts, "MemAvailable": 3 * GIB}).level is Level.OK
    assert "does not tell" in check_memory({}).text
    here = check_memory().figures
    assert 0 < here["free_bytes"] <= here["total_bytes"]


def test_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """64 MiB, as containers have it unless told otherwise, are too little."""
    usage = types.SimpleNamespace(free=64 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    (little,) = check_shared_memory(tmp_path)
    assert (little.level, "--shm-size" in little.advice) == (Level.WARN, True)
    usage.free = GIB
    assert check_shared_memory(tmp_path)[0].level is Level.OK
    assert check_shared_memory(tmp_path / "none") == []


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that sees no GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize(
    ("wanted", "driver", "level", "text"),
    [
        ("auto", NONE, Level.OK, "none: trainings compute on the CPU"),
        ("cuda", NONE, Level.FAIL, "device=cuda, but there is none (Driver Not Loaded)"),
        ("cpu", ONE, Level.OK, "device=cpu: GPUs are left alone"),
    ],
)
def test_without_gpus(wanted: str, driver: Driver, level: Level, text: str):
    """Nothing is wrong unless a GPU was asked for."""
    (finding,) = check_gpus(wanted, driver)
    assert (finding.level, finding.text) == (level, text)


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize(("wanted", "level"), [("auto", Level.WARN), ("cuda", Level.FAIL)])
def test_gpus_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch, wanted: str, level: Level):
    """A build without CUDA, and a driver that does not fit the build."""
    monkeypatch.setattr(torch.version, "cuda", None)
    (finding,) = check_gpus(wanted, ONE)
    assert (finding.level, "built without CUDA" in finding.text) == (level, True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    (finding,) = check_gpus(wanted, ONE)
    assert finding.level is level
    assert "for CUDA 13.0 cannot use them with driver 570.1" in finding.text


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that sees two GPUs of 20 GiB."""
    properties = types.SimpleNamespace(
        uuid="01234567-89ab", name="NVIDIA Test", total_memory=20 << 30
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)


@pytest.mark.usefixtures("two_gpus")
def test_gpus_that_others_use(monkeypatch: pytest.MonkeyPatch):
    """Busy or full ones are told, one line each."""
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml())
    first, second = check_gpus("auto", Driver(2, "570.1", ""))
    assert (first.subject, second.subject) == ("gpu 0", "gpu 1")
    assert first.text == "NVIDIA Test, 20 GiB, 5.0 GiB in use, 87 % busy"
    assert (first.level, "others use it" in first.advice) == (Level.WARN, True)
    idle = fake_nvml(
        nvmlDeviceGetUtilizationRates=lambda handle: types.SimpleNamespace(gpu=0),
        nvmlDeviceGetMemoryInfo=lambda handle: types.SimpleNamespace(used=1 << 30),
    )
    monkeypatch.setitem(sys.modules, "pynvml", idle)
    finding = check_gpus("auto", ONE)[0]
    assert (finding.level, finding.figures["utilization"]) == (Level.OK, 0.0)


@pytest.mark.usefixtures("two_gpus")
def test_gpus_without_a_library(monkeypatch: pytest.MonkeyPatch):
    """Are listed with what torch knows."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    finding = check_gpus("cuda", NONE)[0]
    assert (finding.level, finding.figures["total_bytes"]) == (Level.OK, 20 << 30)
    assert "tells nothing" in finding.text


def test_the_driver_is_read(monkeypatch: pytest.MonkeyPatch):
    """Its version and its GPUs; why there is none, where there is none."""
    nvml = fake_nvml(nvmlSystemGetDriverVersion=lambda: b"570.1", nvmlDeviceGetCount=lambda: 3)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert read_driver() == Driver(3, "570.1", "")
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(nvmlInit=fail))
    assert read_driver() == Driver(error=str(NVMLError("Not Supported")))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert read_driver().count == 0
