"""The pieces of HTML that a report is put together from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

TEMPLATE = Path(__file__).parents[2] / "assets" / "report.html"
TITLE_ENDS = "gpt1 report</title>"
"""What tells a page of ours from another file."""
HEADING = re.compile(r'<section id="(\w+)">\n<h2>(.*?)</h2>')
"""How `section` begins: what the navigation is made of."""


def page(title: str, subtitle: str, sections: Iterable[str]) -> str:
    """Return the whole file: it needs nothing but itself."""
    body = "\n".join(section for section in sections if section)
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title in HEADING.findall(body))
    navigation = f'<nav aria-label="sections">{links}</nav>'
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(title=escape(title), subtitle=escape(subtitle), navigation=navigation, body=body)


def section(name: str, title: str, *parts: str) -> str:
    """Return a section with a heading, "" where it would be empty."""
    inner = "\n".join(part for part in parts if part)
    return f'<section id="{name}">\n<h2>{escape(title)}</h2>\n{inner}\n</section>' if inner else ""


def paragraph(text: str, kind: str = "") -> str:
    return f"<p{_class(kind)}>{escape(text)}</p>"


def items(texts: Sequence[str]) -> str:
    inner = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{inner}</ul>" if texts else ""


def figures(parts: Iterable[str]) -> str:
    inner = "\n".join(parts)
    return f'<div class="figures">\n{inner}\n</div>' if inner else ""


def table(head: Sequence[str], rows: Iterable[Sequence[object]], kind: str = "", caption: str = "") -> str:
    """Return a table whose first column names the row; the other cells are figures."""
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{escape(str(name))}</th>'
        + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells)
        + "</tr>"
        for name, *cells in rows
    )
    above = f"<thead><tr>{columns}</tr></thead>" if head else ""
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="wide"><table{_class(kind)}>{title}{above}<tbody>{body}</tbody></table></div>' if body else ""


def details(summary: str, inner: str, *, opened: bool = False) -> str:
    return f"<details{' open' if opened else ''}><summary>{escape(summary)}</summary>\n{inner}</details>"


def tiles(values: Iterable[tuple[str, str, str]]) -> str:
    """Return large figures, each as (what it is, the figure, a note)."""
    inner = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd><dd class='note'>{escape(note)}</dd></div>"
        for name, value, note in values
    )
    return f'<dl class="tiles">{inner}</dl>'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
