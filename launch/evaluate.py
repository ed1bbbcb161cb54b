"""``blockstep evaluate``: what a trained network is worth on a split of its data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from ..pipeline.seed import derive, set_seed
from ..search.decoupling import NO_HEAD
from .folder import RunFolder
from .options import EVALUATION, read_options, run_folder, run_program, wanted_device
from .refusal import ConfigError
from .restore import Restored, restore
from .similarity import similarities

__all__ = ["evaluate_command", "evaluate_restored"]

KEYS = {
    **EVALUATION,
    "gradients": None,
}


def evaluate_command(words: Sequence[str]) -> int:
    """Print the accuracy and loss of every block and of the ensemble; write them down.

    A command whose runs have more to tell evaluates them itself.
    """
    own = run_program(words).evaluate
    if own is not None:
        return own(words)
    options = read_options("evaluate", words, KEYS)
    batches = _batches(options.get("gradients", "0"))
    folder = run_folder("evaluate", options)
    which, split = options.get("checkpoint", "last"), options.get("split", "test")
    restored = restore(folder, which, data_root=options.get("data.root"))
    device = wanted_device(options)
    result = evaluate_restored(restored, split, device=device)
    path = folder.path / f"evaluation-{split}.json"
    folder.write_json(path, result)
    for stage, block in enumerate(result["blocks"], start=1):
        if block["accuracy"] is None:
            print(f"block {stage}: no head, so no accuracy of its own")
        else:
            print(f"block {stage}: accuracy {block['accuracy']:.2%}, loss {block['loss']:.4f}")
    if result["ensemble_accuracy"] is not None:
        print(f"last two heads together: accuracy {result['ensemble_accuracy']:.2%}")
    print(f"{result['examples']} examples of {result['data']} ({split}); written to {path}")
    if batches:
        _compare_gradients(folder, batches, device)
    return 0


def _batches(text: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"evaluate: gradients={text}; give a number of batches, such as 8")
    return int(text)


def _compare_gradients(folder: RunFolder, batches: int, device: torch.device) -> None:
    """Print and write how similar the local gradients are to backpropagation's."""
    from .report import write_report

    print(f"cosine of local gradients to backpropagation's, mean over {batches} batches:")
    for found in similarities(folder, batches=batches, device=device):
        blocks = ", ".join(f"{cosine:.3f}" for cosine in found.blocks)
        print(f"  step {found.step}: blocks {blocks}; all together {found.overall:.3f}")
    write_report([folder.path], folder.report)
    print(f"written to {folder.gradients}, and drawn in {folder.report}")


@torch.no_grad()
def evaluate_restored(restored: Restored, split: str, *, device: torch.device) -> dict[str, Any]:
    """Evaluate a trained network.

    Args:
        restored: The network and its data.
        split: ``test``, ``validation`` or ``train`` (without augmentation).
        device: Where.

    Returns:
        ``{run facts, "examples", "blocks": [{"accuracy", "loss"}], "ensemble_accuracy"}``; null
        where a block has no head.
    """
    bodies = [
        restored.network.body(first, last).to(device).eval()
        for first, last in restored.decoupling.bounds()
    ]
    heads = [head.to(device).eval() for head in restored.heads]
    headed = [*(head != NO_HEAD for head in restored.decoupling.heads), True]
    sums = [[0.0, 0.0] for _ in bodies]
    together = 0
    examples = 0
    batch_size = restored.config.evaluate.batch_size or restored.config.train.batch_size
    set_seed(derive(restored.config.seed, "evaluate", split), device)
    for x, y in restored.data.evaluation(split, batch_size=batch_size):
        h, y = x.to(device), y.to(device)
        votes = []
        for number, (body, head) in enumerate(zip(bodies, heads, strict=True)):
            h = body(h)
            if not headed[number]:
                continue
            logits = head(h)
            sums[number][0] += F.cross_entropy(logits, y, reduction="sum").item()
            sums[number][1] += (logits.argmax(-1) == y).sum().item()
            votes.append(logits.log_softmax(-1))
        together += int((torch.stack(votes[-2:]).sum(0).argmax(-1) == y).sum())
        examples += len(y)
    blocks = [
        {
            "accuracy": correct / examples if known else None,
            "loss": loss / examples if known else None,
        }
        for (loss, correct), known in zip(sums, headed, strict=True)
    ]
    return {
        "network": restored.network.name,
        "data": restored.data.name,
        "split": split,
        "step": restored.checkpoint.step,
        "examples": examples,
        "blocks": blocks,
        "ensemble_accuracy": together / examples if headed[-2:] == [True, True] else None,
    }
