"""The presets of `train`, against the settings of the papers."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict

import pytest
from blockstep.launch.compose import apply_overrides, compose
from blockstep.launch.config import TrainConfig
from blockstep.launch.configfile import config_from_yaml, config_to_yaml
from blockstep.launch.refusal import ConfigError
from blockstep.pipeline.optimization import Schedule
from blockstep.search import published, uniform

CIFAR, IMAGENET = 50_000, 1_281_167
"""Training images of CIFAR-10 and of ImageNet."""


def preset(name: str, *words: str) -> TrainConfig:
    """Compose a preset with further words."""
    return compose("train", [f"preset={name}", *words])


def rates(config: TrainConfig, images: int, epochs: list[int]) -> list[float]:
    """Return the learning rates of the first and of the last step of some epochs, from 1."""
    schedule, steps = Schedule(config.train), images // config.train.batch_size
    return [
        schedule.lr(step)
        for epoch in epochs
        for step in ((epoch - 1) * steps + 1, epoch * steps)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "images", "batch", "every", "factor", "decay"),
    [("dgl_cifar", CIFAR, 128, 15, 0.2, 5e-4), ("dgl_imagenet", IMAGENET, 256, 10, 0.1, 1e-4)],
)
def test_dgl(name: str, images: int, batch: int, every: int, factor: float, decay: float):
    """50 epochs of all images with SGD; the rate falls from 0.1 after every so many epochs."""
    config = preset(name)
    train = config.train
    assert (config.method, config.heads, config.decoupling) == ("dgl", None, None)
    assert (train.optimizer, train.momentum, train.weight_decay) == ("sgd", 0.9, decay)
    assert (train.batch_size, train.steps) == (batch, 50 * (images // batch))
    assert (train.label_smoothing, config.data.validation) == (0.0, 0.0)
    assert train.reset_momentum == (name == "dgl_imagenet")
    epochs = [1, every, every + 1, 2 * every, 2 * every + 1, 3 * every, 3 * every + 1]
    expected = [0.1 * factor ** ((epoch - 1) // every) for epoch in epochs for _ in (0, 1)]
    assert rates(config, images, epochs) == pytest.approx(expected)
    assert len(train.milestones) == 49 // every


def test_the_cuts_of_dgl_on_imagenet():
    """Half of the 51 parts of ResNet-152 that its authors count, of which the stem is one."""
    config = preset("dgl_imagenet")
    assert (config.model["name"], config.blocks) == ("resnet152", 2)
    stem_and_blocks = -(-51 // 2)
    assert uniform(50, 2) == (stem_and_blocks - 1,)


@pytest.mark.parametrize(
    ("name", "width", "steps", "batch"),
    [("sedona_cifar", 0.25, 64_000, 128), ("sedona_tiny_imagenet", 1.0, 30_000, 256)],
)
def test_sedona(name: str, width: float, steps: int, batch: int):
    """SEDONA, appendix E.2: SGD with a cosine from 0.1 to 0.001 and smoothed labels."""
    config = preset(name)
    train = config.train
    assert (config.method, config.blocks, config.model["width"]) == ("sedona", 4, width)
    assert config.decoupling == f"sedona/{config.model['name']}"
    assert published(config.model["name"], 4).cuts == (10, 11, 12)
    assert (train.steps, train.batch_size, train.schedule) == (steps, batch, "cosine")
    assert (train.optimizer, train.lr, train.lr_min, train.momentum) == ("sgd", 0.1, 0.001, 0.9)
    assert (train.weight_decay, train.label_smoothing) == (1e-4, 0.1)


def test_predsim_on_cifar():
    """As SEDONA there, without smoothed labels, in uniform blocks."""
    config, other = preset("predsim_cifar"), preset("sedona_cifar")
    assert (config.method, config.decoupling, config.heads) == ("predsim", None, None)
    assert config.predsim.beta == 0.99
    assert asdict(config.train) == {**asdict(other.train), "label_smoothing": 0.0}
    assert (config.model, config.data, config.blocks) == (other.model, other.data, other.blocks)


def test_predsim_on_tiny_imagenet():
    """Adam, and 40 of 200 classes in the batches of the first 15,000 steps."""
    config = preset("predsim_tiny_imagenet")
    train, data = config.train, config.data
    assert (train.optimizer, train.lr, train.lr_min) == ("adam", 5e-4, 1e-6)
    assert (train.weight_decay, train.label_smoothing) == (1e-4, 0.0)
    assert (train.steps, train.batch_size, train.schedule) == (30_000, 256, "cosine")
    assert (data.classes_per_batch, data.classes_until) == (40, 15_000)


def test_partitioned_networks():
    """Mlodozeniec et al., appendix I: SGD with a cosine on CIFAR, Adam on MNIST and the toy."""
    cifar = compose("partition", ["preset=cifar"])
    train = cifar.train
    assert (cifar.model["name"], cifar.psi.name, cifar.psi.samples) == (
        "fixup_resnet8",
        "affine",
        20,
    )
    assert (train.batch_size, train.steps, train.weight_decay) == (250, 40_000, 1e-4)
    assert (train.lr, train.lr_min, train.momentum, train.schedule) == (0.1, 0.001, 0.9, "cosine")
    assert (cifar.partition.chunks, cifar.partition.decay) == ([0.8, 0.1, 0.1], "sqrt")
    assert (cifar.psi.optimizer, cifar.psi.lr, cifar.psi.every) == ("adam", 1e-3, 1)
    assert (cifar.data.validation, cifar.data.augment.flip, cifar.data.augment.crop) == (
        0,
        False,
        0,
    )
    mnist = compose("partition", ["preset=mnist"])
    assert (mnist.model["name"], mnist.train.optimizer, mnist.train.lr) == (
        "mnist_cnn",
        "adam",
        1e-3,
    )
    assert (mnist.train.batch_size, mnist.train.weight_decay) == (200, 0.0)
    tiny = compose("partition", ["preset=tiny_imagenet"])
    assert (tiny.model["name"], tiny.partition.chunks) == ("wrn50", [0.8, 0.2])
    toy = compose("partition", ["preset=input_selection"])
    assert (toy.train.steps, toy.partition.chunks, toy.psi.name) == (30_000, [0.25] * 4, "mask")


def test_what_is_typed_wins():
    """Keys, networks and data sets, wherever they stand; the width stays that of the preset."""
    words = ("model=resnet101", "decoupling=sedona/resnet101", "train.weight_decay=2e-4")
    config = compose("train", [*words, "preset=sedona_cifar"])
    assert config.model == {"name": "resnet101", "width": 0.25, "weights": None}
    assert (config.train.weight_decay, config.decoupling) == (2e-4, "sedona/resnet101")
    assert preset("dgl_cifar", "data=digits").data.name == "digits"
    assert compose("train", ["preset=null"]) == compose("train", [])


def test_a_preset_stays_on_resume():
    """It is kept in the run, may be typed again, and not be changed."""
    config = preset("dgl_cifar", "train.steps=17551")
    read = config_from_yaml(config_to_yaml(config), "train")
    assert read == config
    assert apply_overrides(read, ["preset=dgl_cifar"]) == config
    with pytest.raises(ConfigError, match="preset=predsim_cifar: this run has preset=dgl_cifar"):
        apply_overrides(read, ["preset=predsim_cifar"])
    old = config_from_yaml("blocks: 2", "train")
    with pytest.raises(ConfigError, match="preset=dgl_cifar: this run has preset=null"):
        apply_overrides(old, ["preset=dgl_cifar"])


def test_presets_need_no_torch():
    """A configuration is printed at once."""
    code = (
        "import sys\nfrom blockstep.launch.cli import main\n"
        "assert main(['train', '--cfg', 'job', 'preset=predsim_tiny_imagenet']) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
