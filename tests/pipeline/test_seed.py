"""Seeds that depend on what they are for."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import cast

import numpy as np
import pytest
import torch
from blockstep.pipeline.seed import derive, generator


def test_seeds_never_change() -> None:
    """These numbers are the same in every version: a run of last year can be resumed."""
    assert derive(0) == 5621864261735219286
    assert derive(0, "data", 1) == 8705108790959556904
    assert derive(7, "step", 12, "stage", 2) == 8034145641341054623


def test_another_process_derives_the_same() -> None:
    """A fresh process with another hash seed derives the same number."""
    code = "from blockstep.pipeline.seed import derive; print(derive(3, 'augment', 5))"
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": "1", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert int(told.stdout) == derive(3, "augment", 5)


def test_every_purpose_has_a_seed_of_its_own() -> None:
    """Seeds differ between runs, purposes, steps, and parts of another type or order."""
    purposes = [
        (),
        ("a",),
        ("b",),
        (1,),
        ("1",),
        ("a", 1),
        ("a", "1"),
        (1, "a"),
        ("a", 12),
        ("a", 1, 2),
        ("a1",),
        ("a", ""),
        ("", "a"),
    ]
    seeds = [derive(seed, *parts) for seed, parts in itertools.product((0, 1, 10), purposes)]
    assert len(set(seeds)) == len(seeds)


def test_seeds_fit_where_torch_and_numpy_take_them() -> None:
    """Seeds are non-negative, below 2**63 and use the upper bits too."""
    seeds = [derive(seed, "x") for seed in range(2000)]
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    assert len(set(seeds)) == len(seeds)
    assert 900 < sum(seed >> 62 for seed in seeds) < 1100


@pytest.mark.parametrize("seed", [-1, 0, 1 << 70])
def test_any_integer_is_a_seed(seed: int) -> None:
    """Negative and huge seeds of a run are as good as others."""
    assert torch.rand(3, generator=generator(seed, "x")).tolist() == pytest.approx(
        torch.rand(3, generator=torch.Generator().manual_seed(derive(seed, "x"))).tolist(), abs=0
    )


def test_a_generator_leaves_the_global_one_alone() -> None:
    """Drawing from a derived generator does not move torch's own."""
    state = torch.get_rng_state()
    first = torch.rand(5, generator=generator(1, "augment", 2))
    second = torch.rand(5, generator=generator(1, "augment", 2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_separator_inside_a_part_is_not_a_separator() -> None:
    """A part that looks like two parts gives another seed, and numpy integers count as integers."""
    assert derive(0, "a/str:b") != derive(0, "a", "b")
    assert derive(0, "a", "b") != derive(0, 'a", "b')
    assert derive(3, "epoch", cast(int, np.int64(5))) == derive(3, "epoch", 5)
