"""What the members of an ensemble share: clusters by layer (the SuperWeights supplement, Figure 5).

A row for each member, a column for each layer in its order. The colour and the number are the
cluster whose templates the layer draws on; the letter is its set of coefficients in the cluster.
Layers of one cluster and letter have the same SuperWeights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...models.superweight import Key, Use
from ...search.sharing.file import SharingFile
from .markup import Markup, element, join
from .picture import WIDTH, Picture, shortened
from .ramp import ramp

__all__ = ["sharing_picture"]

LEFT, TOP = 150.0, 20.0
WIDEST, HEIGHT, GAP = 34.0, 34.0, 12.0
NARROWEST = 15.0
"""A cell narrower than this has no room for its number."""
AXIS = 30.0
LONGEST = 20

NOTE = (
    "One row per member, its layers from left to right. The number and the colour are the cluster "
    "that shares templates, the letter is the set of coefficients in it: layers of one number and "
    "one letter have the same SuperWeights."
)


def sharing_picture(file: SharingFile) -> Picture:
    """Return the clusters and coefficients of all members' layers.

    Args:
        file: What is shared, and by whom.
    """
    rows = [[use for use in file.uses if use.member == n] for n in range(len(file.networks))]
    longest = max(map(len, rows), default=1)
    pitch = min(WIDEST, (WIDTH - LEFT - 8) / max(1, longest))
    clusters = file.sharing.cluster_of()
    letters = {
        key: place
        for cluster in file.sharing.clusters
        for place, group in enumerate(cluster)
        for key in group
    }
    count = len(file.sharing.clusters)
    body = [
        part
        for number, (name, row) in enumerate(zip(file.networks, rows, strict=True))
        for part in _row(number, name, row, clusters, letters, count, pitch)
    ]
    height = TOP + len(rows) * (HEIGHT + GAP) + AXIS
    body.append(_axis(longest, pitch, TOP + len(rows) * (HEIGHT + GAP)))
    groups = sum(map(len, file.sharing.clusters))
    words = (
        f"{len(file.uses)} layers of {len(rows)} members in {count} clusters, with {groups} sets "
        "of coefficients"
    )
    return Picture("What the members share", NOTE, WIDTH, height, join(body), words)


def _row(
    number: int,
    name: str,
    row: Sequence[Use],
    clusters: Mapping[Key, int],
    letters: Mapping[Key, int],
    count: int,
    pitch: float,
) -> list[Markup]:
    top = TOP + number * (HEIGHT + GAP)
    label = f"{number + 1}  {shortened(name, LONGEST)}"
    parts = [element("text", label, x=0, y=f"{top + HEIGHT / 2 + 4:g}", class_="name")]
    for place, use in enumerate(row):
        cluster, letter = clusters[use.key], _letter(letters[use.key])
        x = LEFT + place * pitch
        told = f"{use.name} {use.family} {use.shape}: cluster {cluster + 1}, coefficients {letter}"
        parts.append(
            element(
                "rect", element("title", told), x=f"{x:.1f}", y=f"{top:g}",
                width=f"{max(1.0, pitch - 2):.1f}", height=HEIGHT, rx=3,
                fill=ramp(cluster / max(1, count - 1)),
            )
        )  # fmt: skip
        if pitch >= NARROWEST:
            middle = f"{x + (pitch - 2) / 2:.1f}"
            for text, y in ((str(cluster + 1), top + 14), (letter, top + 27)):
                parts.append(element("text", text, x=middle, y=f"{y:g}", class_="inside middle"))
    return parts


def _letter(number: int) -> str:
    """Return a, b, ..., z, aa, ab, ..."""
    text = ""
    number += 1
    while number:
        number, place = divmod(number - 1, 26)
        text = chr(ord("a") + place) + text
    return text


def _axis(longest: int, pitch: float, top: float) -> Markup:
    """Return the numbers of the layers, as many as there is room for."""
    every = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000) if step * pitch >= 24)
    shown = [one for one in range(1, longest + 1) if one == 1 or one % every == 0]
    numbers = [
        element(
            "text", str(one), x=f"{LEFT + (one - 1) * pitch + (pitch - 2) / 2:.1f}",
            y=f"{top + 8:g}", class_="middle",
        )
        for one in shown
    ]  # fmt: skip
    return join([*numbers, element("text", "layer", x=0, y=f"{top + 8:g}")])
