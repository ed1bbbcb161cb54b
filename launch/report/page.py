"""The HTML file: one page that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from datetime import datetime
from importlib.resources import files

from .markup import Markup, element, escape, join

__all__ = ["banner", "page", "section"]


def page(title: str, header: Markup, sections: Iterable[Markup]) -> str:
    """Return the page, in ASCII: it reads the same in every encoding.

    Args:
        title: Of the window.
        header: What stands above all sections.
        sections: The rest; empty ones are left out.
    """
    style, script = _resource("page.css") + _resource("picture.css"), _resource("page.js")
    made = f"Made by blockstep, {datetime.now():%Y-%m-%d %H:%M}."
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        element("title", title),
        f"<style>\n{style}</style>",
        "</head>",
        "<body>",
        "<main>",
        header,
        *(part for part in sections if part),
        element("footer", made),
        "</main>",
        f"<script>{script}</script>",
        "</body>",
        "</html>",
        "",
    ]
    return "\n".join(lines).encode("ascii", "xmlcharrefreplace").decode()


def section(name: str, *parts: object, note: object = None) -> Markup:
    """Return a section with its heading, or nothing if all of its parts are empty."""
    shown = [part for part in parts if part]
    if not shown:
        return Markup("")
    identity = "".join(c if c.isalnum() else "-" for c in name.lower())
    return element(
        "section",
        element("h2", name),
        element("p", note, class_="note") if note else None,
        *shown,
        id=identity,
    )


def banner(kind: str, title: str, text: object = "") -> Markup:
    """Return a note that nobody should miss.

    Args:
        kind: ``bad``, ``running`` or ``plain``.
        title: In a few words.
        text: More; line breaks are kept.
    """
    more = element("pre", text) if text else None
    return element("div", join([element("strong", title), escape(more or "")]),
                   class_=f"banner {kind}")  # fmt: skip


def _policy(script: str) -> str:
    """Return what the browser may do with this page: its own script, style and pictures."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def _resource(name: str) -> str:
    return files(__spec__.parent).joinpath(name).read_text(encoding="ascii")
