"""Tests of `blockstep.launch.data.archive`."""

from __future__ import annotations

import contextlib
import gzip
import io
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from blockstep.launch.data import DataError
from blockstep.launch.data.archive import read_members
from hypothesis import given
from hypothesis import strategies as st


def hostile(path: Path, name: str, *, kind: bytes = tarfile.REGTYPE, target: str = "") -> Path:
    """An archive with one good file and one member that should not be there."""
    with tarfile.open(path, "w:gz") as archive:
        good = tarfile.TarInfo("folder/file")
        good.size = 4
        archive.addfile(good, io.BytesIO(b"good"))
        bad = tarfile.TarInfo(name)
        bad.type, bad.linkname = kind, target
        archive.addfile(bad)
    return path


def test_members_are_read_in_memory(write: Any, tmp_path: Path):
    """The wanted files come back, the others do not, and the folder stays as it was."""
    path = write.tar_gz(tmp_path / "a.tar.gz", {"f/one": b"1", "f/two": b"22", "f/three": b""})
    assert read_members(path, ["f/two", "f/three"]) == {"f/two": b"22", "f/three": b""}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "kind", "target", "message"),
    [
        ("../outside", tarfile.REGTYPE, "", "points outside"),
        ("/etc/outside", tarfile.REGTYPE, "", "points outside"),
        ("folder/link", tarfile.SYMTYPE, "/etc/passwd", "no plain file"),
        ("folder/link", tarfile.LNKTYPE, "folder/file", "no plain file"),
        ("folder/pipe", tarfile.FIFOTYPE, "", "no plain file"),
        ("folder/disk", tarfile.BLKTYPE, "", "no plain file"),
    ],
)
def test_members_that_reach_outside_are_refused(
    tmp_path: Path, name: str, kind: bytes, target: str, message: str
):
    """Links, devices, absolute names and .. end the reading, wanted or not."""
    path = hostile(tmp_path / "a.tar.gz", name, kind=kind, target=target)
    with pytest.raises(DataError, match=message):
        read_members(path, ["folder/file"])


def test_missing_members_are_named(write: Any, tmp_path: Path):
    """The message lists what an incomplete archive lacks."""
    path = write.tar_gz(tmp_path / "a.tar.gz", {"f/one": b"1"})
    with pytest.raises(DataError, match=r"a.tar.gz: it lacks f/three, f/two"):
        read_members(path, ["f/one", "f/two", "f/three"])


def test_a_member_that_is_there_twice_is_refused(tmp_path: Path):
    """Which of two is meant cannot be known."""
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("one"))
    with pytest.raises(DataError, match="holds one twice"):
        read_members(tmp_path / "a.tar.gz", ["one"])


def test_a_small_file_that_unpacks_to_a_huge_one_is_stopped(write: Any, tmp_path: Path):
    """Reading ends at the limit, also in members that nobody wants."""
    path = write.tar_gz(tmp_path / "a.tar.gz", {"bomb": bytes(3_000_000), "wanted": b"1"})
    with pytest.raises(DataError, match="unpacks to more than 1,000,000 bytes"):
        read_members(path, ["wanted"], most_bytes=1_000_000)


def test_a_truncated_archive_is_named(write: Any, tmp_path: Path):
    """A download that broke off is damaged, not incomplete."""
    path = write.tar_gz(tmp_path / "a.tar.gz", {"one": bytes(range(256)) * 400})
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"a.tar.gz: damaged"):
        read_members(path, ["one"])


@given(st.data())
def test_only_data_errors_come_from_any_archive(data: st.DataObject):
    """Damage before and after compression is refused, or touches nothing that is read."""
    with tempfile.TemporaryDirectory() as folder:
        path = hostile(Path(folder) / "a.tar.gz", "folder/other")
        content = bytearray(gzip.decompress(path.read_bytes()))
        for _ in range(data.draw(st.integers(0, 3))):
            content[data.draw(st.integers(0, 1600))] = data.draw(st.integers(0, 255))
        packed = bytearray(gzip.compress(content, 1))
        for _ in range(data.draw(st.integers(0, 1))):
            packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(packed)
        with contextlib.suppress(DataError):
            assert read_members(path, ["folder/file"])["folder/file"] is not None
