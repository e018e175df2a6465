"""Explanations in Python: dicts and a list of them that are displayed with the colours of their words."""

from __future__ import annotations

from typing import Any

from gpt1.inference import highlight

STYLE = """<style>
.gpt1 h2 { font-size: 1.2em; margin: .3em 0 } .gpt1 h3 { font-size: 1em; margin: .5em 0 0 }
.gpt1 .text { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.9; margin: .3em 0 1em }
.gpt1 mark { color: inherit; border-radius: .2em; padding: .1em .05em }
.gpt1 .legend mark { padding: .1em .5em; margin-right: .5em }
.gpt1 mark.for { background: color-mix(in srgb, #2a78d6 calc(var(--s) * 65%), transparent) }
.gpt1 mark.against { background: color-mix(in srgb, #e07b00 calc(var(--s) * 65%), transparent);
                     text-decoration: underline dashed #e07b00 2px; text-underline-offset: .2em }
.gpt1 .bar { width: 12em; text-align: left } .gpt1 .bar span { display: block; height: .7em; background: #2a78d6 }
</style>"""
"""Style of an explanation in a notebook; the colours suit a light and a dark background."""


class Explanation(dict[str, Any]):
    """Explanation of a prediction, displayed in colours in a notebook and as a table elsewhere."""

    def __repr__(self) -> str:
        return highlight.in_terminal(self, colour=False)

    def _repr_html_(self) -> str:
        return f'<div class="gpt1">{STYLE}\n{highlight.article(self)}</div>'


class Explanations(list[Explanation]):
    """Explanations of several predictions, displayed one below the other."""

    def __repr__(self) -> str:
        return "\n\n".join(map(repr, self))

    def _repr_html_(self) -> str:
        return "".join(explanation._repr_html_() for explanation in self)
