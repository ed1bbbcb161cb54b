"""What a comparison leaves in its folder, and in wandb."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from ..config import WandbConfig
from ..folder import RunFolder
from ..report.command import write_report
from ..tracking import open_run
from .pictures import write_pictures
from .rows import Row, shared_seconds
from .table import COLUMNS, csv_text, markdown
from .trial import Trial

__all__ = ["TABLE", "conclude", "figures_of"]

TABLE = "bench"
"""The table of a comparison in wandb."""

FIGURES = (
    "images_per_second",
    "speedup_vs_backprop",
    "speedup_vs_ddp",
    "efficiency",
    "peak_memory_bytes",
    "bytes_per_step",
    "head_params",
)
"""Attributes of a row that wandb gets as numbers, besides the errors."""


def conclude(
    folder: RunFolder,
    header: Sequence[str],
    trials: Mapping[str, Sequence[Trial]],
    rows: Sequence[Row],
    wandb: WandbConfig,
) -> str:
    """Write table, pictures, page and figures.

    Args:
        folder: Of the comparison.
        header: What it ran on.
        trials: By method.
        rows: Their figures.
        wandb: Whether they are recorded there, and where.

    Returns:
        Sentences on how to read the table, and what lies where.
    """
    known = {method: repeats for method, repeats in trials.items() if repeats}
    note = _note(known)
    text = "\n".join([*(f"- {line}" for line in header), "", markdown(rows), "", note, ""])
    (folder.path / "bench.md").write_text(text)
    (folder.path / "bench.csv").write_text(csv_text(rows))
    folder.write_json(
        folder.path / "bench.json",
        {
            "machine": list(header),
            "rows": [asdict(row) for row in rows],
            "runs": {
                method: [str(trial.folder.name) for trial in repeats]
                for method, repeats in known.items()
            },
        },
    )
    pictures = write_pictures(folder.path, known, rows)
    runs = [trial.folder for repeats in known.values() for trial in repeats]
    write_report(runs, folder.report)
    if wandb.mode != "disabled":
        try:
            _record(folder, rows, pictures, wandb)
        except Exception as error:
            # The comparison is written already.
            print(f"blockstep: wandb did not record it: {error}", file=sys.stderr)
    files = ", ".join(["bench.csv", "bench.md", *(path.name for path in pictures)])
    return f"{note}\n\n{files} and {folder.report.name} are in {folder.path}"


def _note(trials: Mapping[str, Sequence[Trial]]) -> str:
    seconds = shared_seconds(trials)
    splits = sorted({trial.split for repeats in trials.values() for trial in repeats})
    return (
        f"Medians over {max(map(len, trials.values()))} interleaved repeats with the seeds 0, 1, "
        "...; ratios within a repeat. Error: of the last block on the test split after the last "
        f"step, mean and standard error; after the same seconds: on the {' or '.join(splits)} "
        f"split after {seconds:.1f} s of training, when the fastest method was done."
    )


def _record(
    folder: RunFolder, rows: Sequence[Row], pictures: Sequence[Path], config: WandbConfig
) -> None:
    """Record the table and the pictures as one wandb run."""
    os.environ["WANDB_MODE"] = config.mode
    import wandb

    run = open_run(wandb, config, folder, job_type="bench")
    table = wandb.Table(
        columns=[name for name, _ in COLUMNS],
        data=[[text(row) for _, text in COLUMNS] for row in rows],
    )
    images = {path.stem: wandb.Image(str(path)) for path in pictures}
    run.log({TABLE: table, **images, **figures_of(rows)})
    run.finish()


def figures_of(rows: Sequence[Row]) -> dict[str, float]:
    """Return the numbers of a comparison, e.g. ``bench/images_per_second/sedona``.

    What was not measured is left out.
    """
    values: dict[str, float] = {}
    for row in rows:
        found = {name: getattr(row, name) for name in FIGURES}
        for name in ("error", "error_at"):
            estimate = getattr(row, name)
            found[name] = None if estimate is None else estimate.mean
        values |= {
            f"{TABLE}/{name}/{row.method}": value
            for name, value in found.items()
            if value is not None
        }
    return values
