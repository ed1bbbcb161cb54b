"""The pictures of an evaluation, each a file: members, calibration, diversity, costs, lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["write_evaluation_pictures"]

SIZE = (6.4, 4.2)
"""Of a picture, in inches."""

UNITS = {"flops": ("million operations per image", 1e-6), "seconds": ("ms per image", 1e3)}


def write_evaluation_pictures(folder: Path, result: Mapping[str, Any]) -> list[Path]:
    """Write ``evaluation-SPLIT-NAME.svg`` for everything that was evaluated; return the paths.

    Args:
        folder: Where.
        result: What ``evaluation-SPLIT.json`` has.
    """
    drawers: dict[str, Callable[[Any, Mapping[str, Any]], None]] = {
        "members": _members,
        "calibration": _calibration,
        "diversity": _diversity,
        "anytime-flops": lambda axes, one: _anytime(axes, one, "flops"),
        "anytime-seconds": lambda axes, one: _anytime(axes, one, "seconds"),
        "interpolation": _interpolation,
        "corruptions": _corruptions,
    }
    missing = {
        "diversity": len(result["members"]) < 2,
        "anytime-seconds": result["anytime"]["seconds"] is None,
        "interpolation": not result["interpolation"],
        "corruptions": result["corruptions"] is None,
    }
    paths = []
    for name, draw in drawers.items():
        if missing.get(name):
            continue
        path = folder / f"evaluation-{result['split']}-{name}.svg"
        _draw(draw, result, path)
        paths.append(path)
    return paths


def _draw(
    draw: Callable[[Any, Mapping[str, Any]], None], result: Mapping[str, Any], path: Path
) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    draw(axes, result)
    axes.set_axisbelow(True)
    figure.savefig(path)


def _members(axes: Any, result: Mapping[str, Any]) -> None:
    """Accuracy of each member and of the ensemble, with likelihood and calibration beside."""
    rows = [*result["members"], {"name": "ensemble", **result["ensemble"]}]
    places = range(len(rows))
    colours = ["tab:blue"] * (len(rows) - 1) + ["tab:orange"]
    axes.barh(places, [100 * row["top1"] for row in rows], color=colours)
    axes.set_yticks(places, [row["name"] for row in rows])
    axes.invert_yaxis()
    low = min(100 * row["top1"] for row in rows)
    axes.set_xlim(max(0.0, low - 10), 100)
    for place, row in zip(places, rows, strict=True):
        told = f"NLL {row['nll']:.3f}, ECE {100 * row['ece']:.1f} %"
        axes.text(max(0.0, low - 10) + 0.3, place, told, va="center", color="white", fontsize=8)
    axes.set_xlabel("top-1 accuracy, %")


def _calibration(axes: Any, result: Mapping[str, Any]) -> None:
    """Accuracy over confidence in 15 bins; on the diagonal an ensemble knows what it knows."""
    rows = [row for row in result["calibration"] if row["examples"]]
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    sizes = [10 + 200 * row["examples"] / result["examples"] for row in rows]
    confidences, accuracies = ([row[key] for row in rows] for key in ("confidence", "accuracy"))
    axes.plot(confidences, accuracies, color="tab:blue", linewidth=1)
    axes.scatter(confidences, accuracies, s=sizes, color="tab:blue")
    axes.set_xlabel("confidence of the ensemble (area: examples)")
    axes.set_ylabel("accuracy")
    axes.set_title(f"ECE {100 * result['ensemble']['ece']:.2f} %", fontsize=10)
    axes.grid(alpha=0.3)


def _diversity(axes: Any, result: Mapping[str, Any]) -> None:
    """Share of examples on which each two members disagree."""
    table = result["disagreement"]
    axes.imshow(table, cmap="viridis", vmin=0)
    places = range(len(table))
    largest = max(max(row) for row in table) or 1.0
    for y, row in enumerate(table):
        for x, value in enumerate(row):
            colour = "black" if value > 0.6 * largest else "white"
            axes.text(x, y, f"{value:.3f}", ha="center", va="center", color=colour)
    axes.set_xticks(places, [str(place + 1) for place in places])
    axes.set_yticks(
        places, [f"{n} {one['name']}" for n, one in enumerate(result["members"], start=1)]
    )
    told = result["diversity"]
    parts = [
        f"over a member's error {told['by_member']:.2f}" if told["by_member"] else "",
        f"over the ensemble's {told['by_ensemble']:.2f}" if told["by_ensemble"] else "",
    ]
    title = ", ".join(part for part in parts if part)
    axes.set_title(f"disagreement\ndiversity {title}" if title else "disagreement", fontsize=9)


def _anytime(axes: Any, result: Mapping[str, Any], kind: str) -> None:
    """Accuracy of all subsets over their cost, and those that no cheaper one equals."""
    label, factor = UNITS[kind]
    curve = result["anytime"][kind]
    every, best = (
        ([factor * one["cost"] for one in curve[key]], [100 * one["top1"] for one in curve[key]])
        for key in ("subsets", "best")
    )
    axes.scatter(*every, s=14, color="tab:grey", label="subsets of members")
    axes.step(*best, where="post", color="tab:blue", marker="o", label="best so far")
    for one in curve["best"]:
        name = "+".join(str(member + 1) for member in one["members"])
        place = (factor * one["cost"], 100 * one["top1"])
        axes.annotate(name, place, textcoords="offset points", xytext=(4, -10), fontsize=8)
    axes.set_xlabel(label)
    axes.set_ylabel("top-1 accuracy, %")
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)


def _interpolation(axes: Any, result: Mapping[str, Any]) -> None:
    """Accuracy on the straight lines between members."""
    for line in result["interpolation"]:
        one, other = (member + 1 for member in line["members"])
        points = line["points"]
        axes.plot(
            [point["share"] for point in points],
            [100 * point["top1"] for point in points],
            marker="o", markersize=3, label=f"{one} to {other}",
        )  # fmt: skip
    axes.set_xlabel("from one member to the other; norms use each batch")
    axes.set_ylabel("top-1 accuracy, %")
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)


def _corruptions(axes: Any, result: Mapping[str, Any]) -> None:
    """Accuracy by severity, a line for each corruption, and their mean."""
    found = result["corruptions"]
    rows = [one["severities"] for one in found["kinds"].values()]
    places = [row["severity"] for row in rows[0]]
    for kind, own in zip(found["kinds"], rows, strict=True):
        axes.plot(places, [100 * row["top1"] for row in own], linewidth=1, label=kind)
    means = [sum(row[n]["top1"] for row in rows) / len(rows) for n in range(len(places))]
    axes.plot(places, [100 * mean for mean in means], color="black", linewidth=2.5, label="mean")
    axes.set_xticks(places)
    axes.set_xlabel(f"severity ({found['source']})")
    axes.set_ylabel("top-1 accuracy, %")
    axes.legend(fontsize="x-small", ncols=2)
    axes.grid(alpha=0.3)
