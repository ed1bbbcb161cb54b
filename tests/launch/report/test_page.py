"""Tests of `blockstep.launch.report.page` and of its style and script."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from importlib.resources import files

import numpy as np
import pytest
from blockstep.launch.report.markup import Markup
from blockstep.launch.report.page import banner, page, section
from blockstep.launch.report.palette import COLOURS

STYLE = files("blockstep.launch.report").joinpath("page.css").read_text()

# Machado, Oliveira and Fernandes 2009: linear RGB as people without one kind of cones see it.
SIGHT = {
    "usual": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
KINDS = ("busy", "replay", "wait-in", "wait-out", "evaluate", "checkpoint")


def lab(colour: str, sight: str) -> np.ndarray:
    """Return CIELAB of #rrggbb as it is seen."""
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(SIGHT[sight]) @ linear, 0, 1)
    xyz = np.array(TO_XYZ) @ seen / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def colours(names: list[str], scheme: str) -> list[str]:
    """Return the values of variables in the light or dark set."""
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    found = dict(re.findall(r"--([\w-]+): (#\w{6});", light if scheme == "light" else dark))
    return [found[name] for name in names]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("names", [[f"c{i + 1}" for i in range(COLOURS)], list(KINDS)])
def test_colours_keep_apart_for_everybody(scheme: str, sight: str, names: list[str]):
    """Any two colours of stages, or of what a stage does, differ for the colour-blind too."""
    seen = [lab(colour, sight) for colour in colours(names, scheme)]
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)]
    assert min(distances) > 15


def test_only_the_page_s_own_script_may_run():
    """The policy names the digest of the script that is in the page."""
    text = page("A & B", Markup("<p></p>"), [Markup("<i>x</i>")])
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert "<title>A &amp; B</title>" in text


def test_the_page_is_ascii_and_has_both_colour_schemes():
    """It reads the same in every encoding, in light and dark, and on paper."""
    text = page("\u00e9\u2013", Markup(""), [])
    assert text.isascii()
    assert "&#233;&#8211;" in text
    assert "@media (prefers-color-scheme: dark)" in text
    assert "@media print" in text


def test_empty_parts_leave_no_trace():
    """A section without content has no heading."""
    assert section("Timeline", Markup(""), "", note="a note") == ""
    made = section("A b", "x < y")
    assert made == '<section id="a-b"><h2>A b</h2>x &lt; y</section>'
    assert "<pre>a &lt; b</pre>" in banner("bad", "Failed.", "a < b")
