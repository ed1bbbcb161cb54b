"""MNIST and Fashion-MNIST: 70,000 grey images of 28 x 28 pixels in idx files.

Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits (1998).
H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST (2017), https://arxiv.org/abs/1708.07747.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import torch

from ..config import DataConfig
from .download import RemoteFile
from .error import DataError
from .idx import read_idx
from .labels import check_labels
from .part import MemoryPart, Parts, Statistics
from .place import Source, obtain

__all__ = ["FASHION_MNIST", "MNIST", "fashion_mnist", "mnist"]

CLASSES = 10
SIDE = 28
PADDED = 32  # what networks for CIFAR halve five times

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

# Mean and standard deviation over all pixels of the 60,000 training images, rounded to four
# digits; the values in common use for both data sets.
MNIST_STATISTICS = Statistics((0.1307,), (0.3081,))
FASHION_MNIST_STATISTICS = Statistics((0.2860,), (0.3530,))


Found: TypeAlias = dict[str, tuple[Path, Path]]
"""The files of each split: images and labels."""


def _recognise(folder: Path) -> Found | None:
    """The files of each split, if all four are here."""
    found = {}
    for split, names in FILES.items():
        paths = [path for name in names if (path := _file(folder, name)) is not None]
        if len(paths) < len(names):
            return None
        found[split] = (paths[0], paths[1])
    return found


def _file(folder: Path, name: str) -> Path | None:
    # The second spelling is that of the files in the first archives.
    for spelling in (name, name.replace("-idx", ".idx")):
        for path in (folder / f"{spelling}.gz", folder / spelling):
            if path.is_file():
                return path
    return None


def _source(
    name: str, folders: tuple[str, ...], base: str, files: dict[str, tuple[int, str]]
) -> Source[Found]:
    remote = [
        RemoteFile(f"{file}.gz", f"{base}{file}.gz", size, checksum)
        for file, (size, checksum) in files.items()
    ]
    listed = ", ".join(file.name for file in remote)
    text = f"{listed} (from {base}; gzip is optional)"
    return Source(name, folders, tuple(remote), text, _recognise)


# The original address of MNIST (yann.lecun.com) refuses most downloads; this is the mirror that
# PyTorch's authors keep. The website of Fashion-MNIST has no encryption: the checksums protect.
MNIST = _source(
    "mnist",
    ("mnist", "MNIST/raw", "MNIST"),
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    {
        "train-images-idx3-ubyte": (
            9_912_422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        "train-labels-idx1-ubyte": (
            28_881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        "t10k-images-idx3-ubyte": (
            1_648_877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        "t10k-labels-idx1-ubyte": (
            4_542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    },
)

FASHION_MNIST = _source(
    "fashion_mnist",
    ("fashion-mnist", "fashion_mnist", "FashionMNIST/raw", "FashionMNIST"),
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    {
        "train-images-idx3-ubyte": (
            26_421_880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        "train-labels-idx1-ubyte": (
            29_515,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        "t10k-images-idx3-ubyte": (
            4_422_102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        "t10k-labels-idx1-ubyte": (
            5_148,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    },
)


def mnist(config: DataConfig) -> Parts:
    """60,000 / 10,000 handwritten digits (1, 28, 28), padded to 32 x 32 unless told otherwise.

    Raises:
        DataError: the files are missing or damaged.
    """
    return _read(MNIST, MNIST_STATISTICS, config)


def fashion_mnist(config: DataConfig) -> Parts:
    """60,000 / 10,000 pieces of clothing (1, 28, 28), padded to 32 x 32 unless told otherwise.

    Raises:
        DataError: the files are missing or damaged.
    """
    return _read(FASHION_MNIST, FASHION_MNIST_STATISTICS, config)


def _read(source: Source[Found], statistics: Statistics, config: DataConfig) -> Parts:
    paths = obtain(source, config)
    parts = {split: _part(*paths[split]) for split in FILES}
    return Parts(
        source.name,
        classes=CLASSES,
        train=parts["train"],
        test=parts["test"],
        statistics=statistics,
        size=PADDED,
    )


def _part(images: Path, labels: Path) -> MemoryPart:
    x, y = read_idx(images, dimensions=3), read_idx(labels, dimensions=1)
    if x.dtype != "u1" or x.shape[1:] != (SIDE, SIDE):
        raise DataError(
            f"{images}: expected bytes of shape (N, {SIDE}, {SIDE}), found {x.dtype} of shape "
            f"{x.shape}"
        )
    if y.dtype != "u1" or len(y) != len(x):
        raise DataError(
            f"{labels}: expected {len(x)} bytes, one label per image of {images.name}, found "
            f"{len(y)} of type {y.dtype}"
        )
    numbers = torch.from_numpy(y).long()
    check_labels(numbers, CLASSES, source=str(labels))
    return MemoryPart(torch.from_numpy(x)[:, None], numbers)
