"""A page of HTML that needs no other file: text, tables and pictures."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from keras_cnn_classics._files import written

_STYLE = """
body { font: 16px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; }
th, td { padding: 0.2rem 0.8rem; border-bottom: 1px solid #ccc; text-align: right; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; }
"""


def heading(text: str) -> str:
    """A title in the page."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str) -> str:
    """Some sentences."""
    return f"<p>{escape(text)}</p>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with a row of titles."""
    lines = [("th", head), *(("td", row) for row in rows)]
    cells = ("".join(f"<{tag}>{escape(x)}</{tag}>" for x in row) for tag, row in lines)
    return "<table>\n" + "".join(f"<tr>{row}</tr>\n" for row in cells) + "</table>"


def picture(path: Path, shown: str) -> str:
    """A PNG file, whose bytes become part of the page.

    Args:
        path: The file.
        shown: What is to be seen, for those who do not see it.
    """
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<p><img alt="{escape(shown)}" src="data:image/png;base64,{data}"></p>'


def write(path: Path, title: str, parts: Iterable[str]) -> None:
    """Writes the page of what the functions above give."""
    page = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        f'<head><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style></head>',
        f"<body><h1>{escape(title)}</h1>",
        *parts,
        "</body></html>",
    ]
    with written(path) as scratch:
        scratch.write_text("\n".join(page) + "\n", encoding="utf-8")
