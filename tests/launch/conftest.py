"""What tests of real runs begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.launch.users_project import write_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's project with folders called models and search, one for each file of tests."""
    return write_project(tmp_path_factory.mktemp("project"))
