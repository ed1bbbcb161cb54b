"""Tests of the pictures of a search: `cuts`, `courses`, `mixture` and `tradeoff`."""

from __future__ import annotations

import itertools
import random
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import pytest
from blockstep.launch.report.courses import POINTS, courses_picture, thinned
from blockstep.launch.report.cuts import cuts_picture
from blockstep.launch.report.mixture import mixture_picture
from blockstep.launch.report.picture import Picture
from blockstep.launch.report.tradeoff import Spot, tradeoff_picture


def drawn(picture: Picture | None) -> ET.Element:
    """Return the drawing of a picture."""
    assert picture is not None
    return ET.fromstring(f"<svg>{picture.body}</svg>")


def of_class(svg: ET.Element, *words: str) -> list[ET.Element]:
    """Return the elements that have all of these classes, in order."""
    return [node for node in svg.iter() if set(words) <= set(node.get("class", "").split())]


def told(node: ET.Element) -> str:
    """Return what is shown when the pointer rests on an element."""
    title = node.find("title")
    return (title.text or "") if title is not None else ""


def texts(svg: ET.Element) -> list[str]:
    """Return all words of a drawing."""
    return [node.text or (node[0].tail or "") for node in svg.iter("text")]


def number(node: ET.Element, name: str) -> float:
    return float(node.get(name, "nan"))


def boxes(picture: Picture) -> Iterator[tuple[float, float, float, float]]:
    """Yield left, top, right and bottom of each upright text, by generous widths of letters."""
    for node in drawn(picture).iter("text"):
        words = node.text or (node[0].tail or "" if len(node) else "")
        wide = 7.0 if {"strong", "name"} & set(node.get("class", "").split()) else 6.0
        x, y, width = number(node, "x"), number(node, "y"), wide * len(words)
        anchor = node.get("class", "").split()
        left = x - width / 2 if "middle" in anchor else x - width if "end" in anchor else x
        if node.get("transform"):
            yield x - 11, y - width, x, y
        else:
            yield left, y - 8, left + width, y + 2


# --- Cuts -----------------------------------------------------------------------------------------


def test_every_layer_has_a_bar_of_its_weight():
    """Heights are in proportion from 0 to 1, and end on one line."""
    svg = drawn(cuts_picture([0.25, 1.0, 0.5], [2], ["aux4"]))
    bars = [bar for bar in of_class(svg, "bar") if told(bar)]
    heights = [number(bar, "height") for bar in bars]
    assert heights == pytest.approx([0.25 * heights[1], heights[1], 0.5 * heights[1]], abs=0.11)
    assert len({round(number(bar, "y") + number(bar, "height")) for bar in bars}) == 1


def test_cuts_have_their_colour_and_head_and_ties_another_look():
    """Cut, cut in a tie, not cut in a tie, not cut: four looks, each in the legend."""
    picture = cuts_picture([0.9, 0.5002, 0.5, 0.1], [1, 2], ["aux4", "Small(width=2)"], tied={2, 3})
    svg = drawn(picture)
    looks = {told(bar)[:7]: bar.get("class") for bar in of_class(svg, "bar") if told(bar)}
    assert looks == {
        "layer 1": "bar cut",
        "layer 2": "bar cut tied",
        "layer 3": "bar rival",
        "layer 4": "bar",
    }
    assert {"aux4", "Small(width=2)"} <= set(texts(svg))
    assert {"cut", "cut, a tie", "not cut, a tie", "not cut"} <= set(texts(svg))
    assert "layer 2: 0.5002, cut, a tie, head Small(width=2)" in map(told, of_class(svg, "bar"))
    bold = [node.text for node in of_class(svg, "strong", "middle")]
    assert bold[:2] == ["aux4", "Small(width=2)"]
    assert {"1", "2"} <= set(bold)
    assert picture.title == "Where to cut: 3 blocks"
    assert "Dashed" in picture.note


def test_without_cuts_there_is_nothing_to_explain():
    """While a search goes on there are bars alone."""
    picture = cuts_picture([0.5, 0.6], [], [])
    assert "cut" not in texts(drawn(picture))
    assert picture.title == "Where to cut"


@pytest.mark.parametrize(("layers", "blocks"), [(2, 2), (16, 4), (50, 16), (101, 8), (300, 40)])
@pytest.mark.parametrize("head", ["aux4", "A_class_with_a_very_long_name(width=64, depth=3)"])
def test_labels_of_cuts_stay_inside(layers: int, blocks: int, head: str):
    """No text leaves the picture, however long the names and however high the bars."""
    numbers = random.Random(layers)
    cuts = sorted(numbers.sample(range(1, layers), blocks - 1))
    weights = [1.0 if layer in cuts else 0.3 for layer in range(1, layers)]
    picture = cuts_picture(weights, cuts, [head] * len(cuts), tied=set(cuts[:1]))
    for left, top, right, bottom in boxes(picture):
        assert left >= 0
        assert top >= 0
        assert right <= picture.width
        assert bottom <= picture.height


# --- Courses --------------------------------------------------------------------------------------


def rows(layers: int, steps: int) -> list[tuple[int, list[float]]]:
    """Return weights that part from 0.5."""
    numbers = random.Random(layers)
    ends = [numbers.choice([0.5, numbers.random()]) for _ in range(layers - 1)]
    return [(step, [0.5 + (end - 0.5) * step / steps for end in ends]) for step in range(1, steps)]


def test_every_layer_has_a_line():
    """As many corners as rows, the cuts thick and on top, each in the colour of its place."""
    svg = drawn(courses_picture(rows(6, 20), [2, 4]))
    lines = of_class(svg, "course")
    assert [told(line).split(":")[0] for line in lines] == [f"layer {n}" for n in (1, 3, 5, 2, 4)]
    assert [line.get("class") for line in lines] == ["course"] * 3 + ["course cut"] * 2
    assert all(len(line.get("d", "")[1:].split()) == 2 * 19 for line in lines)
    assert len({line.get("stroke") for line in lines}) == 5
    assert told(lines[-1]).endswith(", cut")


def test_lines_lie_where_their_values_are():
    """Larger values are higher, equal ones at the same height, and x grows with the step."""
    svg = drawn(courses_picture([(10, [0.2, 0.8]), (20, [0.5, 0.5])]))
    (first, second) = [line.get("d", "")[1:].split() for line in of_class(svg, "course")]
    assert float(first[1]) > float(second[1])
    assert first[2:] == second[2:]
    assert float(first[0]) < float(first[2])


def test_long_searches_are_thinned():
    """The first and the last row stay, and what is between is even."""
    many = [(float(step), [step / 5000, 0.5]) for step in range(1, 5001)]
    kept = thinned(many, POINTS)
    assert len(kept) == POINTS
    assert (kept[0], kept[-1]) == (many[0], many[-1])
    gaps = {round(b[0] - a[0]) for a, b in itertools.pairwise(kept)}
    assert gaps <= {31, 32}
    svg = drawn(courses_picture(many))
    assert len(of_class(svg, "course")[0].get("d", "").split()) <= 2 * POINTS
    assert thinned(many[:3], POINTS) == many[:3]


def test_one_row_is_a_row_of_dots():
    """The first outer step has a picture too; no step has none."""
    svg = drawn(courses_picture([(1, [0.5, 0.6])]))
    assert all(line.get("d", "").endswith("h0") for line in of_class(svg, "course"))
    assert courses_picture([]) is None
    assert courses_picture([(1, [])]) is None


@pytest.mark.parametrize(("layers", "cuts"), [(3, 1), (16, 3), (50, 15), (101, 7), (60, 59)])
def test_labels_beside_the_lines_do_not_overlap(layers: int, cuts: int):
    """Every text is inside and apart from all others, and as many cuts as fit are told."""
    chosen = random.Random(cuts).sample(range(1, layers), cuts)
    picture = courses_picture(rows(layers, 30), chosen)
    assert picture is not None
    places = sorted(boxes(picture))
    for left, top, right, bottom in places:
        assert left >= 0
        assert top >= 0
        assert right <= picture.width
        assert bottom <= picture.height
    for one, other in itertools.combinations(places, 2):
        apart = one[2] <= other[0] or other[2] <= one[0]
        assert apart or abs(one[3] - other[3]) >= 9.9, (one, other)
    labels = [text for text in texts(drawn(picture)) if text.endswith(", cut")]
    assert len(labels) == min(cuts, 30)


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_labels_at_the_edge_stay_inside(end: float):
    """Twenty cuts that end at the top or the bottom have their labels one below the other."""
    picture = courses_picture([(1, [0.5] * 20), (2, [end] * 20)], range(1, 21))
    assert picture is not None
    labels = [node for node in drawn(picture).iter("text") if "cut" in "".join(node.itertext())]
    places = sorted(number(node, "y") for node in labels)
    assert len(places) == 20
    assert places[0] > 20
    assert places[-1] < picture.height - 30
    assert all(b - a > 11 for a, b in itertools.pairwise(places))


def test_lines_that_end_together_share_a_label():
    """What cannot be told apart is told once, the whole of it under the pointer."""
    ends = [0.9, *[0.5] * 30, 0.1]
    svg = drawn(courses_picture([(1, [0.5] * 32), (2, ends)], [1]))
    found = [node for node in svg.iter("text") if "2\u201331" in "".join(node.itertext())]
    assert [told(node) for node in found] == ["layers 2\u201331"]
    assert "1, cut" in texts(svg)


# --- Mixture --------------------------------------------------------------------------------------


def test_every_head_of_every_layer_has_a_cell():
    """Its strength is in proportion to the largest share, its value under the pointer."""
    svg = drawn(mixture_picture([[0.75, 0.25], [0.5, 0.5]], ["aux1", "aux2"], [2]))
    cells = {told(cell): number(cell, "fill-opacity") for cell in of_class(svg, "cell")}
    cells.pop("")
    assert list(cells) == [
        "layer 1, aux1: 0.7500, the largest",
        "layer 1, aux2: 0.2500",
        "layer 2, aux1: 0.5000, the largest",
        "layer 2, aux2: 0.5000",
    ]
    first, second, third, fourth = cells.values()
    assert [second / first, third / first] == pytest.approx([1 / 3, 2 / 3], abs=1e-2)
    assert third == fourth
    assert [told(node) for node in of_class(svg, "arrow")] == ["cut after layer 2", ""]
    assert len(of_class(svg, "column")) == 1
    assert {"0.75", "0.25", "0.50"} <= set(texts(svg))
    assert [node.text for node in of_class(svg, "best")] == ["0.75", "0.50"]


def test_narrow_columns_have_marks_instead_of_numbers():
    """Fifty layers: one mark in each column, in the row of the largest share."""
    shares = [[0.2, 0.5, 0.3] if layer % 2 else [0.6, 0.3, 0.1] for layer in range(49)]
    svg = drawn(mixture_picture(shares, ["a", "b", "c"]))
    marks = [number(mark, "cy") for mark in of_class(svg, "best-mark")]
    assert len(marks) == 49
    assert marks == [min(marks) if place % 2 == 0 else max(marks) for place in range(49)]
    assert not of_class(svg, "figure")


def test_names_of_heads_have_room():
    """The longest name begins inside the picture."""
    names = ["aux1", "A_class_with_a_very_long_name(width=64)"]
    picture = mixture_picture([[0.5, 0.5]] * 3, names, [1, 3])
    assert picture is not None
    for left, top, right, bottom in boxes(picture):
        assert left >= 0
        assert top >= 0
        assert right <= picture.width
        assert bottom <= picture.height
    assert mixture_picture([], names) is None
    assert mixture_picture([[0.5, 0.5]], []) is None


# --- Trade-off ------------------------------------------------------------------------------------

SPOTS = [Spot(3.0, 1.0, "cuts 1"), Spot(2.9, 1.8, "cuts 2"), Spot(2.0, 2.0, "cuts 3")]


def test_each_choice_is_a_point():
    """Faster ones lie to the right, those of more alpha higher; three have their names."""
    names = {0: "accuracy", 1: "balanced", 2: "speed"}
    svg = drawn(tradeoff_picture(SPOTS, names=names, chosen=1))
    points = of_class(svg, "point")
    assert [told(point) for point in points] == ["cuts 1", "cuts 2", "cuts 3"]
    assert [point.get("class") for point in points] == [
        "point named", "point chosen", "point named"
    ]  # fmt: skip
    across = [number(point, "cx") for point in points]
    down = [number(point, "cy") for point in points]
    assert across == sorted(across)
    assert down == sorted(down)
    (stairs,) = of_class(svg, "stair")
    corners = "".join(f"V{y:.1f}H{x:.1f}" for x, y in list(zip(across, down, strict=True))[1:])
    assert stairs.get("d") == f"M{across[0]:.1f} {down[0]:.1f}{corners}"
    (ring,) = of_class(svg, "ring")
    assert (number(ring, "cx"), number(ring, "cy")) == (across[1], down[1])
    assert {"accuracy", "balanced, chosen", "speed"} <= set(texts(svg))


def test_a_single_choice_and_none():
    """One point in the middle of axes; without choices no picture."""
    picture = tradeoff_picture(SPOTS[:1], names={0: "accuracy, balanced, speed"}, chosen=0)
    assert len(of_class(drawn(picture), "point")) == 1
    assert tradeoff_picture([]) is None


def test_names_of_near_points_do_not_overlap():
    """Three choices at almost the same place, and labels at the edge: all inside and apart."""
    near = [
        Spot(3.0, 1.9, "a"),
        Spot(2.999, 1.95, "b"),
        Spot(2.998, 2.0, "c"),
        Spot(1.0, 2.01, "d"),
    ]
    names = {0: "accuracy", 1: "balanced", 2: "speed"}
    picture = tradeoff_picture(near, names=names, chosen=2)
    assert picture is not None
    places = list(boxes(picture))
    assert all(left >= 0 and right <= picture.width for left, _, right, _ in places)
    for one, other in itertools.combinations(places, 2):
        apart = one[2] <= other[0] or other[2] <= one[0]
        assert apart or abs(one[3] - other[3]) >= 9.9, (one, other)
