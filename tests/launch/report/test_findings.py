"""Tests of `blockstep.launch.report.findings`: the section of a search."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from blockstep.launch.report.findings import Findings, search_pictures, search_section
from blockstep.launch.report.markup import Markup
from blockstep.launch.report.page import page
from blockstep.search.discretization import cut_weights, discretize
from blockstep.search.pareto import Choice

from tests.launch.report.reading import Page

HEAD = {"_target_": "package.Small", "width": 2}
LAYERS = 9


def record(step: int, scale: float = 1.0) -> dict[str, Any]:
    """Return the record of an outer step."""
    return {
        "event": "search",
        "time": 1e9 + step,
        "phase": "search",
        "step": step,
        "steps": 40,
        "loss": 2.0 / step,
        "accuracy": 1 - 0.5 / step,
        "alpha": [[scale * math.sin(layer) * step / 40, 0.0] for layer in range(1, LAYERS)],
        "beta": [[0.1 * layer * step, 0.0] for layer in range(1, LAYERS)],
    }


RECORDS = [record(step) for step in range(1, 41)]
FOUND = discretize(
    RECORDS[-1]["alpha"], RECORDS[-1]["beta"], network="net", heads=("aux1", HEAD), blocks=3
)
FRONT = [
    Choice(FOUND.cuts, FOUND.heads, 1.5, 1.4, 0.02, (8, 8)),
    Choice((2, 4), ("aux1", "aux1"), 1.4, 1.9, 0.015, (8, 8)),
    Choice((3, 6), ("aux1", HEAD), 0.9, 2.0, 0.0145, (8, 8)),
]
TITLES = ("Where to cut: 3 blocks", "How the search decided", "Which head")


def read(section: Markup) -> Page:
    """Return a page with the section; every element must be ended, every picture be XML."""
    made = Page(page("run", Markup("<h1>run</h1>"), [section]))
    assert not made.unbalanced
    assert made.pictures()
    assert not made.loads()
    return made


def test_a_search_has_all_its_pictures():
    """Cuts, course, heads, front, loss and accuracy, and a table of the choices."""
    made = read(search_section(RECORDS, FOUND, FRONT))
    outer = ("Accuracy against speed", "Validation loss", "Validation accuracy")
    assert all(made.has_figure(title) for title in (*TITLES, *outer))
    losses = made.lines("Validation loss")["validation loss"]
    assert losses[0] == (1, 2)
    assert losses[-1] == (40, 0.05)
    assert made.lines("Validation accuracy")["validation accuracy"][-1] == (40, 98.75)
    assert "Small(width=2)" in made.text


def test_the_table_says_what_each_choice_costs():
    """Alpha lost and speed gained against the paper's choice, which is marked as taken."""
    rows = read(search_section(RECORDS, FOUND, FRONT)).rows("front")
    cuts = ", ".join(map(str, FOUND.cuts))
    assert [row[0] for row in rows] == ["accuracy, chosen", "balanced", "speed"]
    assert rows[0][1] == cuts
    assert [row[3:7] for row in rows] == [
        ["1.500", "0.0%", "1.40\u00d7", "0.0%"],
        ["1.400", "6.7%", "1.90\u00d7", "35.7%"],
        ["0.900", "40.0%", "2.00\u00d7", "42.9%"],
    ]


def test_another_choice_than_the_paper_s_is_marked_and_is_no_tie():
    """The cuts of the decoupling are drawn, whatever the ranking says."""
    taken = dataclasses.replace(FOUND, cuts=FRONT[2].cuts, heads=FRONT[2].heads)
    findings = Findings.of(RECORDS, taken, FRONT)
    assert findings.tie is None
    rows = read(search_section(RECORDS, taken, FRONT)).rows("front")
    assert [row[0] for row in rows] == ["accuracy", "balanced", "speed, chosen"]


def test_ties_are_told_first():
    """A search that did not decide says so above all pictures, and dashes the bars."""
    flat = [record(step, scale=1e-5) for step in range(1, 11)]
    found = discretize(
        flat[-1]["alpha"], flat[-1]["beta"], network="net", heads=("aux1", HEAD), blocks=3
    )
    made = read(search_section(flat, found))
    note = "K=3: the cut after 2 is ahead of 1 by 4.2e-08: a tie (of 8, 2 with 1, 7, 3, 6, 4, 5)"
    assert note in made.text.split("Where to cut")[0]
    assert "The cuts are a tie for 2\u20138 blocks" in made.text
    assert "not cut, a tie" in made.text
    clear = read(search_section(RECORDS, FOUND))
    assert "tie" not in clear.text.split("Where to cut")[0]


def test_while_a_search_goes_on_the_last_step_is_shown():
    """Without a decoupling there are no cuts yet, and the heads have no names."""
    findings = Findings.of(RECORDS[:10], None, [])
    assert list(findings.alpha) == RECORDS[9]["alpha"]
    made = read(search_section(RECORDS[:10], None))
    assert "The search goes on" in made.text
    assert "head 2" in made.text
    assert made.has_figure("Where to cut")
    assert not made.has_figure("Accuracy against speed")


def test_a_finished_search_needs_no_records():
    """The decoupling has the last alpha and beta; only their course is missing."""
    made = read(search_section([], FOUND))
    assert made.has_figure(TITLES[0])
    assert not made.has_figure(TITLES[1])
    assert made.has_figure(TITLES[2])


def test_nothing_known_is_no_section():
    """A training has no search, and a decoupling that was cut by hand learned nothing."""
    assert search_section([], None) == ""
    plain = dataclasses.replace(FOUND, alpha=None, beta=None, pool=None)
    assert search_section([], plain) == ""


def test_each_picture_can_be_a_file():
    """Four files, with what the page shows."""
    pictures = search_pictures(Findings.of(RECORDS, FOUND, FRONT))
    assert list(pictures) == ["cuts", "course", "heads", "tradeoff"]
    for picture in pictures.values():
        assert picture.file().startswith("<?xml")
    weight = cut_weights(FOUND.alpha or [])[0]
    assert f"layer 1: {weight:.4f}" in pictures["cuts"].file()


DAMAGED: list[Any] = [
    {"event": "search", "step": 41},
    {"event": "search", "phase": "pretrain", "step": 3, "loss": 1.0},
    {"event": "train", "step": 41, "alpha": [[1.0, 2.0]] * 8},
    {"event": "search", "step": 41, "alpha": [[1.0, 2.0]] * 3},
    {"event": "search", "step": 41, "alpha": [[1.0]] * 8},
    {"event": "search", "step": 41, "alpha": [[1.0, math.nan]] * 8},
    {"event": "search", "step": None, "alpha": [[1.0, 2.0]] * 8},
    {"event": "search", "step": 41, "alpha": "text"},
    {"event": "search", "step": 41, "alpha": [None] * 8},
    {"event": "search", "step": 41, "alpha": []},
]


@pytest.mark.parametrize("damaged", DAMAGED)
def test_damaged_records_are_left_out(damaged: dict[str, Any]):
    """Other events, other networks and what is no table change nothing."""
    assert search_section([*RECORDS, damaged], FOUND) == search_section(RECORDS, FOUND)


@pytest.mark.parametrize("beta", [None, [[1.0]], [[1.0, math.inf]] * 8, "text"])
def test_damaged_beta_costs_one_picture(beta: Any):
    """What is known of alpha is shown all the same."""
    made = read(search_section([{**RECORDS[0], "beta": beta}], None))
    assert made.has_figure("Where to cut")
    assert not made.has_figure("Which head")


def test_records_out_of_order_are_sorted():
    """Those of a resumed search may come again."""
    findings = Findings.of([RECORDS[5], RECORDS[2]], None, [])
    assert [one["step"] for one in findings.records] == [3, 6]
