"""HTML and SVG from Python values; whatever is not markup already is escaped."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

__all__ = ["NOTHING", "Markup", "element", "escape", "join"]

# Neither XML nor HTML can hold these, not even escaped: control codes and lone surrogates.
_ILLEGAL = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Markup(str):
    """Text that is HTML or SVG already."""

    __slots__ = ()


NOTHING = Markup("")


def escape(value: object) -> Markup:
    """Return a value as text that means itself inside an element or an attribute.

    Args:
        value: :class:`Markup` stays as it is; of anything else the ``str`` is escaped, and
            characters that no page can hold become U+FFFD.
    """
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(_ILLEGAL.sub("\ufffd", str(value)), quote=True))


def join(parts: Iterable[object]) -> Markup:
    """Return the parts one after the other, each escaped if it is not markup."""
    return Markup("".join(escape(part) for part in parts))


def element(tag: str, /, *children: object, **attributes: object) -> Markup:
    """Return ``<tag attribute="...">children</tag>``, which HTML and XML both read.

    Args:
        tag: Name of the element; not one of HTML's elements without an end, such as ``br``.
        children: Markup, or values to escape; None is left out.
        attributes: ``class_`` stands for ``class`` and ``data_x`` for ``data-x``. None and False
            leave an attribute out, True gives one without a value.
    """
    words = [tag]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        shown = escape("" if value is True else value)
        words.append(f'{name.rstrip("_").replace("_", "-")}="{shown}"')
    inside = join(child for child in children if child is not None)
    return Markup(f"<{' '.join(words)}>{inside}</{tag}>")
