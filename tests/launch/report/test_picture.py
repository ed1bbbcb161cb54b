"""Tests of `blockstep.launch.report.picture`, `ramp`, `spacing` and `layers`."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET
from importlib.resources import files

import numpy as np
import pytest
from blockstep.launch.report.layers import columns, in_words, layer_axis
from blockstep.launch.report.markup import element, join
from blockstep.launch.report.picture import WIDTH, Picture, shortened
from blockstep.launch.report.ramp import ramp
from blockstep.launch.report.spacing import spread
from hypothesis import given
from hypothesis import strategies as st

from tests.launch.report.test_page import colours, lab

BODY = join([element("rect", class_="bar cut"), element("text", "a < b \u2013 c")])
SVG = "{http://www.w3.org/2000/svg}"


def css() -> str:
    return files("blockstep.launch.report").joinpath("picture.css").read_text()


# --- Pictures -----------------------------------------------------------------------------------


def test_a_file_needs_nothing_but_itself():
    """Namespace, size, title, note and style are in it; no variable is left, and it is ASCII."""
    text = Picture("Title & co", "a note " * 40, 560, 200, BODY, "words").file()
    assert text.isascii()
    root = ET.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert (root.get("width"), root.find(f"{SVG}title")) != (None, None)
    assert "var(" not in text
    assert "url(" not in text
    words = [node.text for node in root.iter(f"{SVG}text")]
    assert words[0] == "Title & co"
    assert len(words) > 3
    assert words[-1] == "a < b \u2013 c"
    inner = root.findall(f"{SVG}svg")[0]
    assert (inner.get("width"), inner.get("height")) == ("560", "200")
    assert float(inner.get("y", "")) + 200 < float(root.get("height", ""))
    assert float(inner.get("x", "")) + 560 < float(root.get("width", ""))


def test_a_file_has_the_colours_of_the_page_light_and_dark():
    """Each rule with a colour is there twice, the second time for dark screens."""
    text = Picture("t", "", 560, 200, BODY).file()
    light, dark = text.split("@media (prefers-color-scheme: dark)")
    for scheme, part in (("light", light), ("dark", dark)):
        (cut,) = colours(["c2"], scheme)
        assert f".bar.cut {{ fill: {cut}; }}" in part
        (ground,) = colours(["card"], scheme)
        assert f".ground {{ fill: {ground}; }}" in part


def test_every_variable_of_the_rules_exists():
    """A misspelt colour would be black in the file and nothing in the page."""
    names = set(re.findall(r"var\(--([\w-]+)\)", css()))
    assert len(colours(sorted(names), "light")) == len(names) > 5


def test_every_rule_is_one_line():
    """The rules for dark screens are the lines with a colour."""
    rules = [line for line in css().splitlines() if line and not line.startswith("/*")]
    assert all(re.fullmatch(r"[^{}]+ \{ [^{}]+ \}", rule) for rule in rules)


def test_wide_pictures_are_wide_figures():
    """The same drawing in a page, with its title and note outside of it."""
    figure = ET.fromstring(Picture("t", "n", WIDTH, 200, BODY).figure())
    assert figure.get("class") == "chart wide"
    assert [node.text for node in figure.iter("h3")] == ["t"]
    assert ET.fromstring(Picture("t", "n", 560, 200, BODY).figure()).get("class") == "chart"


def test_long_words_end_with_an_ellipsis():
    """What fits stays."""
    assert shortened("aux1", 4) == "aux1"
    assert shortened("SmallHead", 6) == "Small\u2026"


# --- Colours ------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """Return the relative luminance of #rrggbb (WCAG 2.1)."""
    values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_colour_of_the_scale_can_be_seen(scheme: str):
    """A contrast of at least 3 to the ground of figures, light and dark."""
    (card,) = colours(["card"], scheme)
    for place in range(101):
        low, high = sorted((luminance(ramp(place / 100)), luminance(card)))
        assert (high + 0.05) / (low + 0.05) >= 3


@pytest.mark.parametrize("sight", ["usual", "protanopia", "deuteranopia", "tritanopia"])
def test_the_scale_has_an_order_for_everybody(sight: str):
    """Neighbouring colours differ, and the farther apart, the more: no colour comes twice."""
    seen = [lab(ramp(place / 10), sight) for place in range(11)]
    first = [np.linalg.norm(one - seen[0]) for one in seen]
    assert all(before < after for before, after in itertools.pairwise(first))
    assert first[-1] > 40
    assert ramp(-1) == ramp(0)
    assert ramp(2) == ramp(1)


# --- Labels -------------------------------------------------------------------------------------


def test_labels_with_room_stay():
    """Nothing moves that need not."""
    assert spread([50.0, 10.0, 30.0], gap=12, low=0, high=100) == [50.0, 10.0, 30.0]
    assert spread([], gap=12, low=0, high=100) == []


def test_labels_give_way_evenly():
    """Two at one place move as far each; a group stays where its mean is."""
    assert spread([20.0, 20.0], gap=12, low=0, high=100) == pytest.approx([14.0, 26.0])
    assert spread([0.0, 0.0, 0.0], gap=10, low=0, high=100) == [0.0, 10.0, 20.0]
    assert spread([100.0, 99.0], gap=10, low=0, high=100) == [100.0, 90.0]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20))
def test_labels_never_overlap(wanted: list[float]):
    """They keep their order and their distance, and stay inside, even if that makes them dense."""
    places = spread(wanted, gap=12, low=0, high=100)
    gap = min(12, 100 / max(1, len(wanted) - 1))
    ordered = sorted(places)
    assert all(b - a >= gap - 1e-9 for a, b in itertools.pairwise(ordered))
    assert ordered[0] >= -1e-9
    assert ordered[-1] <= 100 + 1e-9
    for (a, x), (b, y) in itertools.combinations(zip(wanted, places, strict=True), 2):
        assert a == b or (a < b) == (x < y)


def test_labels_are_as_near_as_can_be():
    """No shift of a group, or of a part of it, brings them nearer: against a grid of all places."""
    wanted = [3.0, 4.0, 5.0, 20.0]
    best = min(
        (sum((a - b) ** 2 for a, b in zip(wanted, places, strict=True)), places)
        for places in itertools.product(range(31), repeat=4)
        if all(b - a >= 6 for a, b in itertools.pairwise(places))
    )
    assert spread(wanted, gap=6, low=0, high=30) == pytest.approx(list(best[1]), abs=1.0)


def extents(axis: ET.Element) -> list[tuple[float, float, str]]:
    """Return where each number begins and ends, by a generous width of its letters."""
    found = []
    for node in axis.iter("text"):
        words = node.text or ""
        if words != "layer":
            half = len(words) * 3.1
            found.append((float(node.get("x", "")) - half, float(node.get("x", "")) + half, words))
    return sorted(found)


@pytest.mark.parametrize("count", [1, 2, 15, 49, 100, 250])
@pytest.mark.parametrize("step", [1, 2, 3, 7])
def test_numbers_of_layers_never_touch(count: int, step: int):
    """However many layers and cuts there are; up to a hundred layers every cut is told."""
    cuts = list(range(1, count + 1, step))[:40]
    axis = ET.fromstring(f"<g>{layer_axis(columns(count, 54, 1144), cuts, 100)}</g>")
    numbers = extents(axis)
    for (_, end, left), (begin, _, right) in itertools.pairwise(numbers):
        assert end < begin, (left, right)
    bold = [node.text or "" for node in axis.iter("text") if "strong" in node.get("class", "")]
    told: set[int] = set()
    texts = ", ".join(bold).split(", ")
    if count > 100:
        # Columns of four pixels: where there is no room, the first are told.
        assert texts[0].startswith("1")
        return
    for words in texts:
        first, _, last = words.partition("\u2013")
        told |= set(range(int(first), int(last or first) + 1))
    assert told == set(cuts)


def test_columns_share_the_width():
    """The first begins left, the last ends right."""
    made = columns(4, 10, 50)
    assert [one.layer for one in made] == [1, 2, 3, 4]
    assert [one.left for one in made] == [10, 20, 30, 40]
    assert [one.middle for one in made] == [15, 25, 35, 45]
    assert layer_axis([], (), 0) == ""


def test_runs_of_layers_are_told_short():
    """1, 3 to 5, 9; what has no room ends with an ellipsis."""
    assert in_words([1, 3, 4, 5, 9]) == "1, 3\u20135, 9"
    assert in_words([1, 3, 5, 7, 9], most=9) == "1, 3, \u2026"
    assert in_words([1000], most=2) == "1000"
    assert in_words([]) == ""
