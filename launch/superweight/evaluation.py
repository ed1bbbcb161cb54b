"""``blockstep evaluate`` of an ensemble: accuracy, likelihood, calibration, diversity, and more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from ...models.ensembles import disagreement, diversity, path_scores, scores
from ..data import MemoryData
from ..data.corrupting import OWN_CORRUPTIONS, SEVERITIES, corrupt
from ..data.corruption import CORRUPTIONS, read_corruption
from ..data.part import MemoryPart
from ..options import EVALUATION, read_options, run_folder, wanted_device
from ..refusal import ConfigError
from .anytime import anytime_curve, member_flops, member_latencies
from .evaluation_pictures import write_evaluation_pictures
from .members import build_members, member_specs
from .restore import RestoredEnsemble, restore_ensemble

__all__ = ["evaluate_ensemble", "evaluate_restored"]

KEYS = {
    **EVALUATION,
    "corruptions": None,
    "severities": None,
    "interpolation": None,
    "timing": None,
}
POINTS, REPEATS = "11", "10"


def evaluate_ensemble(words: Sequence[str]) -> int:
    """Print and write what an ensemble and its members are worth, with a picture of each figure."""
    options = read_options("evaluate", words, KEYS)
    folder = run_folder("evaluate", options)
    which, split = options.get("checkpoint", "last"), options.get("split", "test")
    points = _number("interpolation", options.get("interpolation", POINTS))
    repeats = _number("timing", options.get("timing", REPEATS))
    severities = _severities(options.get("severities", "1,2,3,4,5"))
    restored = restore_ensemble(
        folder, which, device=wanted_device(options), data_root=options.get("data.root")
    )
    result = evaluate_restored(
        restored, split, points=points, repeats=repeats,
        corruptions=options.get("corruptions", "none"), severities=severities,
    )  # fmt: skip
    path = folder.path / f"evaluation-{split}.json"
    folder.write_json(path, result)
    pictures = write_evaluation_pictures(folder.path, result)
    print("\n".join(_lines(result)))
    print(f"{result['examples']} examples of {result['data']} ({split}); written to {path}")
    print(f"pictures: {', '.join(str(one) for one in pictures)}")
    return 0


def evaluate_restored(
    restored: RestoredEnsemble,
    split: str,
    *,
    points: int = 11,
    repeats: int = 10,
    corruptions: str = "none",
    severities: Sequence[int] = (1, 2, 3, 4, 5),
) -> dict[str, Any]:
    """Evaluate a trained ensemble.

    Args:
        restored: The ensemble and its data.
        split: ``test``, ``validation`` or ``train`` (without augmentation).
        points: Of the lines between members; 0: none.
        repeats: Timed passes of each member; 0: nothing is timed.
        corruptions: ``none``, ``own`` (computed here), or a folder of CIFAR-C files.
        severities: Which of 1 to 5.
    """
    training, job = restored.training, restored.job
    logits, labels = _outputs(restored, split)
    members = [scores(one[None], labels) for one in logits]
    x = restored.data.example(min(32, _batch(restored)))[0]
    flops = member_flops(training.ensemble, x[:2])
    seconds = member_latencies(training.ensemble, x, repeats) if repeats else None
    for number, member in enumerate(members):
        member["flops"] = flops[number]
        member["seconds"] = seconds[number] if seconds else None  # pyright: ignore[reportArgumentType]
    return {
        "command": job.command,
        "method": job.config.method,
        "network": " + ".join(job.networks),
        "data": restored.data.name,
        "split": split,
        "step": training.step,
        "examples": len(labels),
        "parameters": training.ensemble.accounts(),
        "members": [{"name": name, **one} for name, one in zip(job.names, members, strict=True)],
        "ensemble": scores(logits, labels),
        "calibration": _reliability(logits, labels),
        "diversity": diversity(logits, labels),
        "disagreement": disagreement(logits).tolist(),
        "anytime": {
            "flops": anytime_curve(training.ensemble, logits, labels, flops),
            "seconds": anytime_curve(training.ensemble, logits, labels, seconds)
            if seconds
            else None,
        },
        "interpolation": _interpolations(restored, split, points),
        "corruptions": _corrupted(restored, corruptions, severities),
    }


def _batch(restored: RestoredEnsemble) -> int:
    config = restored.job.config
    return config.evaluate.batch_size or config.train.batch_size


def _outputs(restored: RestoredEnsemble, split: str) -> tuple[Tensor, Tensor]:
    """Return the logits of all members, and the labels."""
    size = _batch(restored)

    def inputs() -> Iterator[Tensor]:
        return (x for x, _ in restored.data.evaluation(split, batch_size=size))

    logits = restored.training.logits(inputs)
    labels = [y.cpu() for _, y in restored.data.evaluation(split, batch_size=size)]
    return logits, torch.cat(labels)


def _reliability(logits: Tensor, labels: Tensor, bins: int = 15) -> list[dict[str, Any]]:
    """Return accuracy and confidence of each bin of the ensemble's confidence."""
    confidence, predicted = logits.double().softmax(-1).mean(0).max(-1)
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    found = []
    for number in range(bins):
        inside = place == number
        count = int(inside.sum())
        right = (predicted == labels)[inside].double()
        found.append(
            {
                "examples": count,
                "confidence": float(confidence[inside].mean()) if count else None,
                "accuracy": float(right.mean()) if count else None,
            }
        )
    return found


def _interpolations(restored: RestoredEnsemble, split: str, points: int) -> list[dict[str, Any]]:
    """Return the scores on the lines between equal members."""
    specs = member_specs(restored.job.config)
    ensemble = restored.training.ensemble
    if points < 2 or len(specs) != ensemble.count:
        return []
    shares = [number / (points - 1) for number in range(points)]
    size = max(_batch(restored), 128)
    networks = build_members(restored.job.config, _task(restored))
    found = []
    for one, other in combinations(range(ensemble.count), 2):
        first, second = ensemble.plain_state(one), ensemble.plain_state(other)
        if specs[one] != specs[other] or first is None or second is None:
            continue
        module = networks[one].module.to(next(iter(first.values())).device)

        def batches() -> Iterable[tuple[Tensor, Tensor]]:
            return restored.data.evaluation(split, batch_size=size)

        path = path_scores(module, first, second, batches, points=shares)
        found.append({"members": [one, other], "points": path})
    return found


def _task(restored: RestoredEnsemble) -> Any:
    return restored.job.task


def _corrupted(
    restored: RestoredEnsemble, corruptions: str, severities: Sequence[int]
) -> dict[str, Any] | None:
    """Return the scores under each corruption, mean over severities, and over all."""
    if corruptions == "none":
        return None
    data = restored.data
    if not isinstance(data, MemoryData):
        raise ConfigError(
            f"corruptions={corruptions}: {data.name} is read while it is used; only images held in "
            "memory can be corrupted here"
        )
    kinds = list(OWN_CORRUPTIONS) if corruptions == "own" else _files(Path(corruptions))
    table: dict[str, Any] = {}
    for kind in kinds:
        rows = []
        for severity in severities:
            part = _part(restored, data, corruptions, kind, severity)
            name = f"{kind}-{severity}"
            data.add_split(name, part)
            try:
                logits, labels = _outputs(restored, name)
            finally:
                data.drop_split(name)
            rows.append({"severity": severity, **scores(logits, labels)})
        table[kind] = {"severities": rows, **_mean(rows)}
    source = "own: computed here, not CIFAR-C" if corruptions == "own" else corruptions
    return {"source": source, "kinds": table, "mean": _mean(list(table.values()))}


def _mean(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    return {name: fmean(row[name] for row in rows) for name in ("top1", "nll", "ece")}


def _files(folder: Path) -> list[str]:
    """Return the corruptions of a folder: the benchmark's 15, as far as they are there."""
    found = [kind for kind in CORRUPTIONS if (folder / f"{kind}.npy").is_file()]
    if not found:
        raise ConfigError(
            f"corruptions={folder}: there is no file such as {CORRUPTIONS[0]}.npy; give the folder "
            "of CIFAR-10-C or CIFAR-100-C, own, or none"
        )
    return found


def _part(
    restored: RestoredEnsemble, data: MemoryData, corruptions: str, kind: str, severity: int
) -> MemoryPart:
    if corruptions != "own":
        return read_corruption(corruptions, kind, severity=severity, classes=data.classes)
    clean = data.held("test")
    pixels = corrupt(clean.x, kind, severity=severity, seed=restored.job.config.seed)
    return MemoryPart(pixels, clean.labels)


def _number(key: str, text: str) -> int:
    if not text.isdecimal() or len(text) > 4:
        raise ConfigError(f"evaluate: {key}={text}; give a number, such as 11, or 0 for none")
    return int(text)


def _severities(text: str) -> list[int]:
    found = [part.strip() for part in text.strip("[]").split(",")]
    known = [str(one) for one in range(1, SEVERITIES + 1)]
    if not set(found) <= set(known):
        raise ConfigError(f"evaluate: severities={text}; give some of 1 to {SEVERITIES}, as 1,3,5")
    return sorted({int(one) for one in found})


def _lines(result: dict[str, Any]) -> list[str]:
    """Return the figures as a table."""
    head = f"{'':<26} {'top-1':>7} {'NLL':>7} {'ECE':>7} {'MFLOP':>9} {'ms':>8}"
    lines = [head]
    for number, one in enumerate(result["members"], start=1):
        seconds = "-" if one["seconds"] is None else f"{1e3 * one['seconds']:.3f}"
        name = f"member {number} {one['name']}"
        flops = one["flops"] / 1e6
        lines.append(f"{name:<26} {_scores(one)} {flops:9.2f} {seconds:>8}")
    lines.append(f"{'ensemble':<26} {_scores(result['ensemble'])}")
    if result["corruptions"] is not None:
        lines.append(f"{'corrupted, mean':<26} {_scores(result['corruptions']['mean'])}")
    told = result["diversity"]
    if told["disagreement"] is not None:
        by_member, by_ensemble = (_optional(told[key]) for key in ("by_member", "by_ensemble"))
        lines.append(
            f"diversity: over a member's error {by_member}, over the ensemble's {by_ensemble} "
            f"(disagreement {told['disagreement']:.4f})"
        )
    return lines


def _scores(one: dict[str, Any]) -> str:
    return f"{one['top1']:7.2%} {one['nll']:7.4f} {one['ece']:7.2%}"


def _optional(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
