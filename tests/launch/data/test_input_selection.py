"""The artificial task of selecting inputs."""

from __future__ import annotations

import torch
from blockstep.launch.config import DataConfig
from blockstep.launch.data import load_data

CPU = torch.device("cpu")


def examples(seed: int, split: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All examples of a part."""
    config = DataConfig(name="input_selection", validation=0.0)
    data = load_data(config, seed=seed, device=CPU)
    assert data.sizes == {"train": 3000, "validation": 0, "test": 1000}
    assert (data.classes, data.shape) == (2, (30,))
    return next(data.evaluation(split, batch_size=count))


def test_the_first_fifteen_inputs_tell_the_class():
    """They are higher by one where it is 1; the others have the same mean; all deviate by one."""
    x, y = examples(0, "train", 3000)
    assert abs(y.float().mean() - 0.5) < 0.03
    ones, zeros = x[y == 1], x[y == 0]
    gap = ones.mean(0) - zeros.mean(0)
    torch.testing.assert_close(gap, torch.tensor([1.0] * 15 + [0.0] * 15), atol=0.13, rtol=0)
    for group in (ones, zeros):
        torch.testing.assert_close(group.std(0), torch.ones(30), atol=0.1, rtol=0)


def test_every_seed_draws_its_own():
    """The same seed the same ones; the test part is another draw."""
    x, y = examples(1, "train", 1000)
    again, labels = examples(1, "train", 1000)
    assert torch.equal(x, again)
    assert torch.equal(y, labels)
    assert not torch.equal(x, examples(2, "train", 1000)[0])
    assert not torch.equal(x, examples(1, "test", 1000)[0])
