"""What tests read from a page: its pictures, its words, and what a browser would load."""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

__all__ = ["Page"]

VOID = ("meta", "link", "br", "img", "hr", "input")


class Page(HTMLParser):
    """A parsed page.

    Args:
        source: The HTML.

    Attributes:
        tags: Every element with its attributes, in order.
        text: The words between the elements, without style and script.
        unbalanced: End tags that end nothing, or the wrong element.
        open: Elements that are not ended.
    """

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.unbalanced: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Note whether it ends the element that is open."""
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        """Collect words."""
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += f"{data} "

    def pictures(self) -> list[ET.Element]:
        """Return every SVG; raises if one is no XML."""
        return [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", self.source, re.DOTALL)]

    def figure(self, title: str) -> ET.Element:
        """Return the SVG of the figure with this title."""
        head = self._head(title)
        figures = re.findall(r"<figure.*?</figure>", self.source, re.DOTALL)
        (found,) = [one for one in figures if head in one]
        return ET.fromstring(re.findall(r"<svg.*?</svg>", found, re.DOTALL)[-1])

    def has_figure(self, title: str) -> bool:
        """Whether there is a figure with this title."""
        return self._head(title) in self.source

    def lines(self, title: str) -> dict[str, list[tuple[float, float]]]:
        """Return the lines of a chart with their points, by name."""
        found = {}
        for path in self.figure(title).iter("path"):
            if "read" in path.get("class", "").split():
                numbers = [float(word) for word in path.get("d", "")[1:].split()]
                points = list(zip(numbers[::2], numbers[1::2], strict=True))
                found[path.get("data-series", "")] = points
        return found

    def cards(self) -> dict[str, str]:
        """Return the key figures: name and value."""
        pattern = r'<div class="card"><h3>(.*?)</h3><p class="value">(.*?)</p>'
        found = re.findall(pattern, self.source)
        return {name: html.unescape(re.sub("<.*?>", "", value)) for name, value in found}

    def rows(self, class_: str) -> list[list[str]]:
        """Return the cells of a table as text, without its head."""
        pattern = rf'<table class="{class_}">.*?<tbody>(.*?)</tbody>'
        found = re.search(pattern, self.source, re.DOTALL)
        assert found, f"there is no table {class_!r}"
        return [
            [
                html.unescape(re.sub("<.*?>", "", cell)).strip()
                for cell in re.findall(r"<td.*?>(.*?)</td>", row, re.DOTALL)
            ]
            for row in re.findall(r"<tr>(.*?)</tr>", found[1], re.DOTALL)
        ]

    def loads(self) -> list[str]:
        """Return everything that a browser could be told to load from elsewhere."""
        found = [
            f"{tag} {name}={value}"
            for tag, attributes in self.tags
            for name, value in attributes.items()
            if name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster")
        ]
        found += re.findall(r"(?:https?:|@import|url\()\S*", self.source)
        return found + [tag for tag, _ in self.tags if tag in ("link", "img", "iframe", "object")]

    def _head(self, title: str) -> str:
        written = html.escape(title).encode("ascii", "xmlcharrefreplace").decode()
        return f"<figcaption><h3>{written}</h3>"
