"""Sharings as files: what is written is read, and nothing else is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from blockstep.models import make_network
from blockstep.models.superweight import Sharing, Use, depth_bins, uses_of
from blockstep.search.sharing.file import SharingError, SharingFile

NETWORKS = ("wrn16-4", "mobilenetv2")


def made() -> SharingFile:
    """Make the sharing of two small members."""
    modules = [make_network(name, classes=2, width=0.25).module for name in NETWORKS]
    uses = tuple(uses_of(modules))
    return SharingFile(NETWORKS, uses, depth_bins(uses, nesting="union"), tau=0.1)


def test_there_and_back(tmp_path: Path) -> None:
    """A saved file is equal when it is loaded."""
    sharing = made()
    sharing.save(tmp_path / "sharing.json")
    assert SharingFile.load(tmp_path / "sharing.json") == sharing
    values = json.loads(sharing.to_json())
    assert values["members"][0]["weights"]["conv1.weight"] == ["3x3", 4, 3, 3, 3]
    assert values["clusters"][0][0] == ["0/conv1.weight"]
    assert "beta" not in values


def test_a_sharing_of_other_members_is_refused() -> None:
    """The first difference is named, with both values."""
    sharing = made()
    sharing.check(NETWORKS, sharing.uses)
    with pytest.raises(SharingError, match=r"is for members \['wrn16-4', 'mobilenetv2'\], not"):
        sharing.check(("wrn16-4",), sharing.uses)
    first, *others = sharing.uses
    wider = [replace(first, shape=(8, 3, 3, 3)), *others]
    message = r"conv1\.weight of member 0 .*3x3 \(4, 3, 3, 3\), the network has 3x3 \(8, 3, 3, 3\)"
    with pytest.raises(SharingError, match=message):
        sharing.check(NETWORKS, wider)
    with pytest.raises(SharingError, match=r"conv1\.weight of member 0 .*network has none"):
        sharing.check(NETWORKS, others)
    with pytest.raises(SharingError, match="extra of member 1 the sharing has no such weight"):
        sharing.check(NETWORKS, [*sharing.uses, Use(1, "extra", (1, 1, 3, 3), "3x3")])


def test_impossible_sharings() -> None:
    """A file cannot hold what could not be trained."""
    sharing = made()
    with pytest.raises(SharingError, match="lacks weights"):
        replace(sharing, sharing=Sharing(sharing.sharing.clusters[1:]))
    with pytest.raises(SharingError, match="more than 1 members"):
        replace(sharing, networks=("wrn16-4",))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("nesting", "chian", "nesting='chian': must be one of chain, union"),
        ("nesting", ["chain"], "must be one of"),
        ("clusters", {}, "clusters={}: must be a list"),
        ("clusters", [[["conv1"]]], r"clusters\[0\]\[0\]\[0\]='conv1': must be MEMBER/WEIGHT"),
        ("clusters", [[[3]]], "must be MEMBER/WEIGHT"),
        ("clusters", [[["-1/a"]]], "must be MEMBER/WEIGHT"),
        ("clusters", [[["9/a"]]], "a of member 9"),
        ("members", [{"network": "a"}], r"members\[0\]=.*keys network and weights"),
        ("members", [{"network": "", "weights": {}}], "text that is not empty"),
        ("members", [{"network": "a", "weights": []}], "object of names to shapes"),
        ("members", [{"network": "a", "weights": {"w": ["3x3", 1]}}], "must be a list of the"),
        ("members", [{"network": "a", "weights": {"w": ["3x3", 1, 0]}}], "at least 1"),
        ("members", [{"network": "a", "weights": {"w": ["x", 1, 1 << 40]}}], "sizes up to"),
        ("members", [{"network": "a", "weights": {"w": [3, 1, 1]}}], "text that is not empty"),
        ("tau", "high", "tau='high': must be a finite number"),
        ("alpha", 1, "unknown keys: 'alpha'"),
    ],
)  # fmt: skip
def test_what_is_no_sharing(key: str, value: Any, message: str) -> None:
    """Each wrong value is named with its key."""
    values = json.loads(made().to_json()) | {key: value}
    with pytest.raises(SharingError, match=message):
        SharingFile.from_json(json.dumps(values))
