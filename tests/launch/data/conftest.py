"""Writers of files in the published formats."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array: np.ndarray) -> bytes:
    """An array in the idx format, written from its description."""
    code = CODES[array.dtype.str[1:]]
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


PythonPickler: Any = pickle._Pickler  # pyright: ignore[reportAttributeAccessIssue]


class Python2Pickler(PythonPickler):
    """Writes texts and bytes as Python 2 wrote its strings."""

    dispatch = PythonPickler.dispatch.copy()

    def save_string(self, value: Any) -> None:
        """Writes one string with the instruction of Python 2."""
        raw = value if isinstance(value, bytes) else value.encode()
        self.write(b"T" + struct.pack("<i", len(raw)) + raw)  # BINSTRING
        self.memoize(value)

    dispatch[bytes] = save_string
    dispatch[str] = save_string


def python2_pickle(content: Any) -> bytes:
    """What Python 2 with an old numpy would have written."""
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(content)
    return stream.getvalue().replace(b"numpy._core", b"numpy.core")


def tar_gz(path: Path, members: dict[str, bytes]) -> Path:
    """A compressed archive of these files."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def image_file(path: Path, pixels: np.ndarray | tuple[int, int], **options: Any) -> Path:
    """An image of these pixels (H, W, 3), or of noise of this height and width."""
    if isinstance(pixels, tuple):
        noise = np.random.default_rng(len(str(path)) + sum(map(ord, path.name)))
        pixels = noise.integers(0, 256, (*pixels, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def cpu() -> torch.device:
    """The device of these tests."""
    return torch.device("cpu")


@pytest.fixture
def write() -> Any:
    """The writers above; test files cannot import each other."""
    return Writers


class Writers:
    """The writers of this file under one name."""

    idx = staticmethod(idx_bytes)
    python2 = staticmethod(python2_pickle)
    tar_gz = staticmethod(tar_gz)
    image = staticmethod(image_file)

    @staticmethod
    def mnist(folder: Path, *, train: int = 40, test: int = 20, compressed: bool = True) -> None:
        """The four files of MNIST with few images; image i is filled with noise of seed i."""
        folder.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(0)
        for prefix, count in (("train", train), ("t10k", test)):
            images = noise.integers(0, 256, (count, 28, 28), dtype=np.uint8)
            labels = (np.arange(count) % 10).astype(np.uint8)
            for name, array in (("images-idx3", images), ("labels-idx1", labels)):
                content = idx_bytes(array)
                path = folder / f"{prefix}-{name}-ubyte"
                if compressed:
                    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
                else:
                    path.write_bytes(content)


@pytest.fixture
def no_usual_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Hides what this machine has; returns the empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("blockstep.launch.data.place.SYSTEM", tmp_path / "system")
    return tmp_path / "cache" / "blockstep"
