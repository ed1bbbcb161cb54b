"""Fixtures and settings that all tests share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import hypothesis.configuration
import pytest

from tests.world import World

# The same examples every time, and no folder of them beside the sources.
hypothesis.settings.register_profile("blockstep", deadline=None, database=None, derandomize=True)
hypothesis.settings.load_profile("blockstep")
hypothesis.configuration.set_hypothesis_home_dir(
    Path(tempfile.gettempdir()) / "blockstep-hypothesis"
)


def pytest_configure(config: pytest.Config) -> None:
    """Name the markers of the tests."""
    config.addinivalue_line("markers", "slow: takes more than 20 seconds on two cores")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Three gloo processes that every test may use; see tests/world.py."""
    world = World(3, tmp_path_factory.mktemp("world"))
    yield world
    world.close()
