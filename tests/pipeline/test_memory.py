"""Freed memory stays with a process that asked for it, and goes back when it no longer does."""

from __future__ import annotations

import subprocess
import sys

import pytest
from blockstep.pipeline.memory import keep_freed_memory

SCRIPT = """
import ctypes, torch
from blockstep.pipeline.memory import *
from blockstep.pipeline.recorder import memory_bytes

def churn():
    before = memory_bytes()
    tensors = [torch.ones(1 << 20) for _ in range(64)]  # 256 MiB in tensors of 4 MiB
    del tensors
    return (memory_bytes() - before) / 2**20

"""


def run(code: str) -> list[float]:
    """Run code in a fresh process and return the numbers it prints."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + code], capture_output=True, text=True, check=True
    )
    return [float(word) for word in done.stdout.split()]


glibc_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")


@glibc_only
def test_kept_memory_stays_with_the_process() -> None:
    """After keep_freed_memory, freed tensors leave resident memory where it was."""
    ordinary, kept = run("print(churn()); keep_freed_memory(); print(churn())")
    assert ordinary < 64
    assert kept > 200


@glibc_only
def test_memory_kept_for_a_while_is_given_back() -> None:
    """The context manager leaves the process as it found it."""
    inside, after = run(
        "start = memory_bytes()\n"
        "with keeping_freed_memory(): print(churn())\n"
        "print((memory_bytes() - start) / 2**20)\n"
    )
    assert inside > 200
    assert after < 64


@glibc_only
def test_what_is_free_can_be_given_back_once() -> None:
    """Later tensors are kept again."""
    freed, again = run(
        "keep_freed_memory(); start = memory_bytes(); churn(); give_back_freed_memory()\n"
        "print((memory_bytes() - start) / 2**20); print(churn())\n"
    )
    assert freed < 64
    assert again > 200


def test_other_allocators_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the C library is not glibc, nothing is done and nothing fails."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
