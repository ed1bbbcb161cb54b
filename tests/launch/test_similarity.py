"""Gradients of local losses against those of backpropagation, and both written out by hand."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from blockstep.launch.folder import RunFolder
from blockstep.launch.restore import restore
from torch import Tensor, nn

from tests.launch.runs import QUIET, blockstep

WORDS = (
    *QUIET,
    "model.width=0.125",
    "train.steps=8",
    "checkpoint.every=4",
    "checkpoint.keep=5",
    "checkpoint.best=false",
    "evaluate.final=false",
)
BATCHES = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of three blocks that was evaluated."""
    place = tmp_path_factory.mktemp("similarity")
    done = blockstep("train", *WORDS, "blocks=3", "name=three", cwd=place)
    assert done.code == 0, done.output
    done = blockstep("evaluate", "run=runs/three", f"gradients={BATCHES}", cwd=place)
    assert done.code == 0, done.output
    (place / "told.txt").write_text(done.output)
    return RunFolder(place / "runs" / "three")


def cosine(one: list[Tensor], other: list[Tensor]) -> float:
    """Of two gradients, in double precision."""
    a, b = (torch.cat([part.double().flatten() for part in parts]) for parts in (one, other))
    return float(a @ b / (a.norm() * b.norm()))


def by_hand(folder: RunFolder) -> list[float]:
    """Mean cosine of each block, and of all, after the last step."""
    restored = restore(folder, "last")
    bodies = [restored.network.body(*bounds).train() for bounds in restored.decoupling.bounds()]
    heads = [head.train() for head in restored.heads]
    found = []
    batch = restored.config.train.batch_size
    for x, y in islice(restored.data.train(batch_size=batch, start=8), BATCHES):
        h, local = x, []
        for body, head in zip(bodies, heads, strict=True):
            out = body(h)
            loss = F.cross_entropy(head(out), y)
            local.append(list(torch.autograd.grad(loss, list(body.parameters()))))
            h = out.detach()
        whole = nn.Sequential(*bodies, heads[-1])
        loss = F.cross_entropy(whole(x), y)
        true = [
            list(torch.autograd.grad(loss, list(body.parameters()), retain_graph=True))
            for body in bodies
        ]
        row = [cosine(one, other) for one, other in zip(local, true, strict=True)]
        every = ([part for parts in group for part in parts] for group in (local, true))
        found.append([*row, cosine(*every)])
    return torch.tensor(found, dtype=torch.float64).mean(0).tolist()


def test_equals_the_gradients_written_out(folder: RunFolder) -> None:
    """Per block and all together, on the batches that would have come next."""
    newest = json.loads(folder.gradients.read_text())[-1]
    assert newest["step"] == 8
    assert [*newest["blocks"], newest["overall"]] == pytest.approx(by_hand(folder), abs=1e-5)


def test_every_checkpoint_is_compared_and_the_last_block_is_backpropagation(
    folder: RunFolder,
) -> None:
    """Local gradients of the others are neither the same nor unrelated."""
    found = json.loads(folder.gradients.read_text())
    assert [one["step"] for one in found] == [4, 8]
    for one in found:
        *others, last = one["blocks"]
        assert last == pytest.approx(1.0, abs=1e-9)
        assert all(-1 < other < 0.999 for other in others)
    told = (folder.path.parent.parent / "told.txt").read_text()
    assert "step 8: blocks " in told
    assert "Gradient similarity" in folder.report.read_text()


def test_runs_without_gradients_of_their_own_are_refused(tmp_path: Path) -> None:
    """One block, and blocks without losses; with the reason."""
    for method, hint in (("backprop", "is one block"), ("ddg", "have no losses of their own")):
        done = blockstep("train", *WORDS, f"method={method}", f"name={method}", cwd=tmp_path)
        assert done.code == 0, done.output
        done = blockstep("evaluate", f"run=runs/{method}", "gradients=1", cwd=tmp_path)
        assert done.code == 2
        assert hint in done.last_line


def test_the_number_of_batches_is_a_number(tmp_path: Path) -> None:
    """Refused before anything is read."""
    done = blockstep("evaluate", "run=runs/none", "gradients=many", cwd=tmp_path)
    assert done.code == 2
    assert "gradients=many; give a number of batches" in done.last_line
