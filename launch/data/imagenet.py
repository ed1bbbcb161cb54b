"""ImageNet: 1.3 million colour images of 1,000 classes in folders, ILSVRC 2012.

    train/WNID/*.JPEG
    val/WNID/*.JPEG     the 50,000 validation images, sorted into folders like those of train

O. Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge (IJCV 2015). The labels
of its test images were never published, so its ``val`` is the test part here. A smaller number of
classes in the same folders (ImageNet-100) works as well.
"""

from __future__ import annotations

from pathlib import Path

from ..config import DataConfig
from .folder import ImageKeys, classes_of, list_images
from .part import Parts, Statistics, StreamPart
from .picture import Decoder
from .place import Source, obtain

__all__ = ["IMAGENET", "imagenet"]

SIZE = 224


def _recognise(folder: Path) -> Path | None:
    return folder if (folder / "train").is_dir() and (folder / "val").is_dir() else None


IMAGENET = Source(
    "imagenet",
    ("imagenet", "ImageNet", "ILSVRC2012"),
    (),
    "the folders train/WNID/*.JPEG and val/WNID/*.JPEG (from https://image-net.org, ILSVRC 2012; "
    "the validation images sorted into folders by their class)",
    _recognise,
)
# The values in common use for networks trained on ImageNet.
STATISTICS = Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def imagenet(config: DataConfig) -> Parts:
    """1,281,167 / 50,000 images, as squares of 224 pixels unless told otherwise.

    Args:
        config: ``root``, ``size`` of the squares, and ``augment.resized_crop``.

    Raises:
        DataError: the folders are missing, or hold different classes.
    """
    folder = obtain(IMAGENET, config)
    classes = classes_of(folder / "train")
    fetch = Decoder(config.size or SIZE, config.augment.resized_crop)
    train, test = (_part(list_images(folder / name, classes), fetch) for name in ("train", "val"))
    return Parts("imagenet", classes=len(classes), train=train, test=test, statistics=STATISTICS)


def _part(keys: ImageKeys, fetch: Decoder) -> StreamPart:
    return StreamPart(keys, keys.labels, fetch)
