"""Lines about data sets: where they are, or which files to put where."""

from __future__ import annotations

from pathlib import Path

import pytest
from blockstep.launch.data import DATA_SETS, place
from blockstep.launch.doctor.config import PlacesConfig
from blockstep.launch.doctor.datasets import check_data
from blockstep.launch.doctor.finding import Level


@pytest.fixture(autouse=True)
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data set is in the usual places."""
    monkeypatch.setattr(place, "SYSTEM", tmp_path / "system")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_every_data_set_has_a_line(tmp_path: Path):
    """Digits and artificial ones are always there; the others are missing: that fails nothing."""
    findings = {finding.subject: finding for finding in check_data(PlacesConfig())}
    assert list(findings) == [f"data {name}" for name in DATA_SETS]
    here = {subject for subject, finding in findings.items() if finding.level is Level.OK}
    assert here == {"data digits", "data input_selection"}
    assert {finding.level for finding in findings.values()} == {Level.OK, Level.WARN}
    cifar, imagenet = findings["data cifar10"], findings["data imagenet"]
    assert "downloads it (170 MB)" in cifar.advice
    assert "put cifar-10-python.tar.gz (from https://www.cs.toronto.edu/" in cifar.advice
    assert f"into {tmp_path}/cache/blockstep/cifar10, or" in cifar.advice
    assert "downloads" not in imagenet.advice
    assert "put the folders train/WNID/*.JPEG and val/WNID/*.JPEG" in imagenet.advice


def test_what_is_named_must_be_there(tmp_path: Path):
    """Missing files fail; found ones are told with their folder."""
    places = PlacesConfig(names=["imagenet", "digits"], root=str(tmp_path / "mine"))
    missing, digits = check_data(places)
    assert (missing.level, digits.level) == (Level.FAIL, Level.OK)
    assert f"into {tmp_path}/mine, or" in missing.advice
    for split in ("train", "val"):
        (tmp_path / "mine" / "imagenet" / split).mkdir(parents=True)
    (found, _) = check_data(places)
    assert (found.level, found.text) == (Level.OK, f"in {tmp_path}/mine/imagenet")
