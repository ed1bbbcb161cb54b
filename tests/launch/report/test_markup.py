"""Tests of `blockstep.launch.report.markup`."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from blockstep.launch.report.markup import Markup, element, escape, join
from hypothesis import given
from hypothesis import strategies as st

ANYTHING = st.text(st.characters(), max_size=40)


@given(ANYTHING, ANYTHING)
def test_any_text_stays_text(inside: str, attribute: str):
    """A parser finds one element with one attribute and the text, whatever they contain."""
    node = ET.fromstring(element("p", inside, data_name=attribute))
    assert node.tag == "p"
    assert len(node) == 0
    assert set(node.attrib) == {"data-name"}
    assert "<" not in escape(inside)
    assert '"' not in escape(attribute)


def test_characters_that_no_page_can_hold_are_replaced():
    """Control codes and lone surrogates from a file do not break the page."""
    assert escape("a\x00b\x1b\ud800c\x85") == "a\ufffdb\ufffd\ufffdc\ufffd"
    assert escape("line\n\ttab") == "line\n\ttab"


def test_markup_is_not_escaped_twice():
    """Elements nest."""
    whole = element("b", "a < b", element("i", "&"), Markup("<u></u>"))
    assert whole == "<b>a &lt; b<i>&amp;</i><u></u></b>"
    assert join(["<", element("i")]) == "&lt;<i></i>"


def test_attributes_follow_their_names_and_values():
    """None and False leave an attribute out; class_ and data_x get their HTML names."""
    made = element("p", class_="a", data_x=3, hidden=True, title=None, open=False)
    assert made == '<p class="a" data-x="3" hidden=""></p>'
