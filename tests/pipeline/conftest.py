"""What all tests of the runtime need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from blockstep.pipeline.checkpoint import Checkpoints


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Compute with one thread, as the ranks of the world do: more differ in the last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    """An empty folder's checkpoints."""
    return Checkpoints(tmp_path / "run" / "checkpoints")
