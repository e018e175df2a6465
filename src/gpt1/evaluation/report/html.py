"""HTML elements of a report. Arguments are escaped, except those documented as HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

TEMPLATE = Path(__file__).parents[2] / "assets" / "report.html"
TITLE_SUFFIX = "gpt1 report</title>"
"""End of the title, which identifies a file written by `gpt1 report`."""
HEADING = re.compile(r'<section id="(\w+)">\n<h2>(.*?)</h2>')
"""Start of a `section`, from which the navigation is built."""


def page(title: str, subtitle: str, sections: Iterable[str]) -> str:
    """Return a self-contained page of `sections`, which are HTML; empty ones are left out."""
    body = "\n".join(section for section in sections if section)
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title in HEADING.findall(body))
    navigation = f'<nav aria-label="sections">{links}</nav>'
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(title=escape(title), subtitle=escape(subtitle), navigation=navigation, body=body)


def section(name: str, title: str, *parts: str) -> str:
    """Return a section with a heading and `parts`, which are HTML; "" if all of them are empty."""
    inner = "\n".join(part for part in parts if part)
    return f'<section id="{name}">\n<h2>{escape(title)}</h2>\n{inner}\n</section>' if inner else ""


def paragraph(text: str, kind: str = "") -> str:
    """Return `<p>` with the CSS class `kind`."""
    return f"<p{_class(kind)}>{escape(text)}</p>"


def items(texts: Sequence[str]) -> str:
    """Return a bullet list, "" for no texts."""
    inner = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{inner}</ul>" if texts else ""


def figures(parts: Iterable[str]) -> str:
    """Return a grid of figures, which are HTML; "" for no figures."""
    inner = "\n".join(parts)
    return f'<div class="figures">\n{inner}\n</div>' if inner else ""


def table(head: Sequence[str], rows: Iterable[Sequence[object]], kind: str = "", caption: str = "") -> str:
    """Return a table with row headers in the first column and numbers in the others; "" for no rows."""
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


def details(summary: str, inner: str) -> str:
    """Return a collapsed section; `inner` is HTML."""
    return f"<details><summary>{escape(summary)}</summary>\n{inner}</details>"


def tiles(values: Iterable[tuple[str, str, str]]) -> str:
    """Return key figures, each given as (name, value, note)."""
    inner = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd><dd class='note'>{escape(note)}</dd></div>"
        for name, value, note in values
    )
    return f'<dl class="tiles">{inner}</dl>'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
