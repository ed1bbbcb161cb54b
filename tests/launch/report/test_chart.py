"""Tests of `blockstep.launch.report.chart`, `strips` and `dots`."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence

import pytest
from blockstep.launch.report.chart import Axis, Frame, Line, digits, line_chart
from blockstep.launch.report.palette import colour
from blockstep.launch.report.scale import Scale, fit
from blockstep.launch.report.spans import STEP_KINDS
from blockstep.launch.report.strips import Strip, strip_figure
from hypothesis import given
from hypothesis import strategies as st


def chart(lines: Sequence[Line], **y: object) -> ET.Element:
    """Return the figure of a chart over steps."""
    axis = Axis("loss", **y)  # pyright: ignore[reportArgumentType]
    return ET.fromstring(line_chart("Loss", "a note", lines, x=Axis("step"), y=axis))


def paths(figure: ET.Element, word: str) -> list[ET.Element]:
    return [path for path in figure.iter("path") if word in path.get("class", "").split()]


def test_every_line_is_drawn_with_its_name_and_its_values():
    """The path of a line is its data, and the transformation puts it inside the picture."""
    points = [(10.0, 2.25), (20.0, 1.5), (30.0, 0.125)]
    figure = chart([Line("stage 1", "c1 d1", points), Line("stage 2", "c2 d1", points[:2])])
    drawn = {path.get("data-series"): path.get("d") for path in paths(figure, "read")}
    assert drawn == {"stage 1": "M10 2.25 20 1.5 30 0.125", "stage 2": "M10 2.25 20 1.5"}
    words = [node.text for node in figure.iter() if node.text]
    assert {"Loss", "a note", "step", "loss"} <= set(words)
    keys = [key.get("data-series") for key in figure.iter("span") if key.get("class") == "key"]
    assert keys == ["stage 1", "stage 2"]


def test_the_transformation_maps_the_axes_to_the_frame():
    """The corner of the axes is the corner of the plot, the other end the opposite one."""
    frame, x, y = Frame(), Scale(100, 300, ()), Scale(-1, 4, ())
    numbers = re.findall(r"-?[\d.]+(?:e-?\d+)?", frame.transform(x, y))
    a, b, c, d, e, f = map(float, numbers)
    assert (b, c) == (0, 0)
    assert (a * 100 + e, d * -1 + f) == pytest.approx((frame.left, frame.height - frame.bottom))
    assert (a * 300 + e, d * 4 + f) == pytest.approx((frame.width - frame.right, frame.top))
    assert frame.x(300, x) == pytest.approx(a * 300 + e)
    assert frame.y(4, y) == pytest.approx(d * 4 + f)


def test_a_chart_without_points_is_nothing():
    """What was not measured has no empty chart."""
    assert line_chart("Power", "", [Line("stage 1", "c1", [])], x=Axis("step"), y=Axis("W")) == ""


def test_one_value_is_a_dot_on_an_axis():
    """A run with one record has a chart too."""
    figure = chart([Line("stage 1", "c1 d1", [(10, 0.5)])])
    assert [path.get("d") for path in paths(figure, "dots")] == ["M10 0.5h0"]


def test_means_have_their_records_behind_them():
    """The faint line holds the single records, the line on top their means, without dots."""
    figure = chart([Line("s", "c1 d1", [(5, 1)], faint=[(1, 0.5), (9, 1.5)])])
    assert [path.get("d") for path in paths(figure, "faint")] == ["M1 0.5 9 1.5"]
    assert paths(figure, "dots") == []


def test_a_band_encloses_its_line():
    """The area runs along the lower edge and back along the upper one."""
    band = ([(1, 0.5), (2, 0.6)], [(1, 1.5), (2, 1.6)])
    figure = chart([Line("s", "c1 d1", [(1, 1), (2, 1.1)], band=band)])
    assert [path.get("d") for path in paths(figure, "band")] == ["M1 0.5 2 0.6L2 1.6 1 1.5Z"]


@given(st.floats(-1e30, 1e30))
def test_numbers_in_paths_keep_five_digits(value: float):
    """Short, and near enough for a read-out."""
    assert float(digits(value)) == pytest.approx(value, rel=1e-4, abs=1e-300)
    assert float(digits(round(value))) == pytest.approx(round(value), rel=1e-6)


def test_colours_come_again_with_other_dashes():
    """Up to eighteen stages look different, and a stage looks the same everywhere."""
    looks = [colour(stage) for stage in range(1, 19)]
    assert len(set(looks)) == 18
    assert colour(1) == "c1 d1"
    assert colour(8) == "c2 d2"


def test_strips_stack_to_the_whole():
    """The areas of a strip are running sums, so that they lie side by side."""
    rows = [(10.0, (0.5, 0.3, 0.2)), (20.0, (0.25, 0.25, 0.5))]
    strip = Strip("stage 1", "c1 d1", rows, (0.4, 0.3, 0.3))
    figure = ET.fromstring(
        strip_figure("Time", "", [strip], x_label="step", kinds=STEP_KINDS, stepped=False)
    )
    drawn = {p.get("data-kind"): p.get("d") for p in figure.iter("path") if p.get("data-kind")}
    assert drawn == {
        "busy": "M10 0L10 0.5L20 0.25L20 0Z",
        "waits for input": "M10 0L10 0.8L20 0.5L20 0Z",
        "waits for room": "M10 0L10 1L20 1L20 0Z",
    }
    words = [node.text for node in figure.iter("text")]
    assert {"busy 40%", "input 30%", "room 30%", "stage 1", "step"} <= set(words)


def test_steps_hold_until_the_next_one():
    """Parts of equal length are drawn as steps, without corners that change nothing."""
    rows = [(0.0, (1.0,)), (1.0, (1.0,)), (2.0, (0.5,)), (3.0, (0.5,))]
    strip = Strip("stage 1", "c1", rows, ())
    figure = ET.fromstring(
        strip_figure("Run", "", [strip], x_label="s", kinds=["busy"], stepped=True)
    )
    (area,) = [path for path in figure.iter("path") if path.get("data-kind")]
    assert area.get("d") == "M0 0H0V1H2V0.5H3V0Z"


def test_axis_labels_stay_inside_the_picture():
    """The last tick label of an axis is not cut at the edge."""
    frame = Frame()
    scale = fit([0, 250_000], tight=True)
    half = 7 * len(scale.texts()[-1]) / 2
    assert frame.x(scale.ticks[-1], scale) + half <= frame.width
