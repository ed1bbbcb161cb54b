"""Tables and cards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .markup import Markup, element

__all__ = ["Card", "Cell", "cards", "table"]


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        content: Text or markup.
        best: Whether it is the best of its column.
        note: Shown when the pointer rests on it.
    """

    content: object
    best: bool = False
    note: str | None = None


@dataclass(frozen=True)
class Card:
    """A key figure.

    Attributes:
        name: What it is.
        value: The figure in words.
        note: Its definition, in one line.
        unit: Of the figure, in small letters behind it.
    """

    name: str
    value: str
    note: str
    unit: str = ""


def table(
    heads: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    words: Iterable[int] = (0,),
    class_: str | None = None,
) -> Markup:
    """Return a table.

    Args:
        heads: Of the columns.
        rows: Their cells: :class:`Cell`, text or markup.
        words: The columns of words; the others hold numbers, which stand right.
        class_: Of the table.
    """
    left = set(words)

    def kind(column: int) -> str | None:
        return None if column in left else "number"

    head = element(
        "tr", *(element("th", text, scope="col", class_=kind(i)) for i, text in enumerate(heads))
    )
    body = [
        element("tr", *(_cell(cell, kind(column)) for column, cell in enumerate(row)))
        for row in rows
    ]
    whole = element("table", element("thead", head), element("tbody", *body), class_=class_)
    return element("div", whole, class_="scroll")


def cards(figures: Iterable[Card]) -> Markup:
    """Return key figures side by side."""
    return element(
        "div",
        *(
            element(
                "div",
                element("h3", card.name),
                element("p", card.value, *_small(card.unit), class_="value"),
                element("p", card.note, class_="note"),
                class_="card",
            )
            for card in figures
        ),
        class_="cards",
    )


def _small(unit: str) -> tuple[object, ...]:
    return (" ", element("small", unit)) if unit else ()


def _cell(content: object, kind: str | None) -> Markup:
    cell = content if isinstance(content, Cell) else Cell(content)
    classes = " ".join(word for word in (kind, "best" if cell.best else None) if word)
    inside = element("strong", cell.content) if cell.best else cell.content
    return element("td", inside, class_=classes or None, title=cell.note)
