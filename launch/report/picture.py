"""A picture that stands in a page or alone in a file.

A page brings the style; a file has the rules of ``picture.css`` in it, with every colour written
out, light and dark: programs that place an SVG into a paper know no CSS variables.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from importlib.resources import files

from .chart import figure
from .markup import NOTHING, Markup, element, join

__all__ = ["WIDTH", "Picture", "shortened"]

WIDTH = 1160.0
"""Of a wide picture, in pixels."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
MARGIN = 16.0
TITLE = 20.0
LINE = 17.0
CHARACTER = 6.3
"""About the width of a letter of the note in pixels."""


@dataclass(frozen=True)
class Picture:
    """What is drawn, and what is said about it.

    Attributes:
        title: What it shows.
        note: How to read it.
        width: Of the drawing, in pixels.
        height: Of the drawing.
        body: The drawing: SVG elements.
        words: What it shows, for those who cannot see it; the title if empty.
    """

    title: str
    note: str
    width: float
    height: float
    body: Markup
    words: str = ""

    def figure(self) -> Markup:
        """Return it for a page: a figure with its title, over the whole width if it is wide."""
        drawing = element(
            "svg", self.body, class_="plot", viewBox=f"0 0 {self.width:g} {self.height:g}",
            role="img", aria_label=self.words or self.title,
        )  # fmt: skip
        class_ = "chart wide" if self.width >= WIDTH else "chart"
        return figure(self.title, self.note, NOTHING, drawing, class_=class_)

    def file(self) -> str:
        """Return it as the text of an ``.svg`` file in ASCII, with title and note above."""
        note = textwrap.wrap(self.note, int(self.width / CHARACTER))
        top = MARGIN + TITLE + LINE * len(note) + 4
        width, height = self.width + 2 * MARGIN, top + self.height + MARGIN
        whole = element(
            "svg",
            element("title", self.words or self.title),
            element("style", Markup(_style())),
            element("rect", width=f"{width:g}", height=f"{height:g}", class_="ground"),
            element("text", self.title, x=MARGIN, y=MARGIN + 12, class_="title"),
            *(
                element("text", line, x=MARGIN, y=MARGIN + TITLE + 10 + LINE * place)
                for place, line in enumerate(note)
            ),
            element(
                "svg", self.body, x=MARGIN, y=f"{top:g}", width=f"{self.width:g}",
                height=f"{self.height:g}", viewBox=f"0 0 {self.width:g} {self.height:g}",
            ),
            xmlns="http://www.w3.org/2000/svg", width=f"{width:g}", height=f"{height:g}",
            viewBox=f"0 0 {width:g} {height:g}", font_family=FONT,
        )  # fmt: skip
        text = join([Markup('<?xml version="1.0" encoding="UTF-8"?>\n'), whole, Markup("\n")])
        return text.encode("ascii", "xmlcharrefreplace").decode()


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many characters; what is cut is shown by an ellipsis."""
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"


def _style() -> str:
    """Return the rules of pictures without variables, and those for dark screens."""
    light, dark = re.findall(r":root \{(.*?)\}", _resource("page.css"), re.DOTALL)
    rules = _resource("picture.css")
    coloured = "\n".join(rule for rule in rules.splitlines() if "var(" in rule)
    plain = _resolved(rules, _variables(light))
    shaded = _resolved(coloured, {**_variables(light), **_variables(dark)})
    return f"{plain}@media (prefers-color-scheme: dark) {{\n{shaded}\n}}\n"


def _variables(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): ([^;]+);", block))


def _resolved(rules: str, values: dict[str, str]) -> str:
    return re.sub(r"var\(--([\w-]+)\)", lambda found: values[found[1]], rules)


def _resource(name: str) -> str:
    return files(__spec__.parent).joinpath(name).read_text(encoding="ascii")
