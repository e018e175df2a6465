"""An explanation (`explain.Explainer`) for people: coloured text and a table in a terminal, a page in a browser.

Words for the label are green in a terminal and blue on a page, words against it red and orange; those against it are
underlined as well, so that nothing hangs on the colour alone.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

Explanation = Mapping[str, Any]
"""What `Explainer.explain` returns."""
Word = Mapping[str, Any]

TOP = 10
"""Words in the table of a terminal."""
TOP_OF_PAGE = 20
BAR = 30
"""Width of the longest bar in a terminal."""
VISIBLE = 0.1
"""Of the largest weight: words below it are not coloured."""

_FOR = (194, 157, 120, 83)
_AGAINST = (224, 217, 210, 203)
"""Of the 256 colours of a terminal, pale to strong, all under black letters."""

TEMPLATE = Path(__file__).parents[2] / "assets" / "explain.html"


def largest_weight(explanation: Explanation) -> float:
    """Return the largest weight, without its sign, of any word; 1 where there is none."""
    return max((abs(word["weight"]) for text in explanation["texts"] for word in text["words"]), default=0.0) or 1.0


def stretches(text: Mapping[str, Any]) -> Iterator[tuple[str, Word | None]]:
    """Yield the text in parts, each with its word, or None between words. Words without offsets are left out."""
    done = 0
    for word in text["words"]:
        if word["start"] is None:
            continue
        if word["start"] > done:
            yield text["text"][done : word["start"]], None
        yield text["text"][word["start"] : word["end"]], word
        done = word["end"]
    if done < len(text["text"]):
        yield text["text"][done:], None


def top_words(explanation: Explanation, most: int) -> list[Word]:
    """Return the words that weigh most, whatever their sign, the heaviest first."""
    every = [word for text in explanation["texts"] for word in text["words"]]
    return sorted(every, key=lambda word: -abs(word["weight"]))[:most]


def verdict(explanation: Explanation) -> str:
    """Return the answer and what is explained, in one line."""
    if explanation["label"] is None:
        line = f"{explanation['score']:.4f}: words that raise the value, and that lower it (-)"
    else:
        of_label = explanation["scores"][str(explanation["explained"])]
        explained = explanation["explained"]
        line = f"{explanation['label']}  {explanation['score']:.4f}: words for {explained}, and against it (-)"
        if explanation["explained"] != explanation["label"]:
            line += f", whose probability is {of_label:.4f}"
    if any(word["occlusion"] is not None for text in explanation["texts"] for word in text["words"]):
        line += "; without it: what the probability does when the word is taken out"
    return line + ("; the end of the text was cut off" if explanation["truncated"] else "")


def shown(word: str) -> str:
    """Return a word for a table: a line break has a sign there."""
    return word.replace("\n", "⏎").replace("\r", "")


# ---- terminal


def in_terminal(explanation: Explanation, *, colour: bool) -> str:
    """Return lines for a terminal: the verdict, the texts, the words that weigh most."""
    lines = [verdict(explanation)]
    largest = largest_weight(explanation)
    for text in explanation["texts"]:
        name = "" if text["name"] == "text" else f"{text['name']}: "
        parts = (_painted(part, word if colour else None, largest) for part, word in stretches(text))
        lines.append(name + "".join(parts))
    return "\n".join([*lines, *_table(explanation)])


def _painted(part: str, word: Word | None, largest: float) -> str:
    strength = abs(word["weight"]) / largest if word else 0.0
    if word is None or strength < VISIBLE:
        return part
    colours, style = (_FOR, "30") if word["weight"] > 0 else (_AGAINST, "30;4")
    return f"\x1b[{style};48;5;{colours[min(3, int(4 * strength))]}m{part}\x1b[0m"


def _table(explanation: Explanation) -> Iterator[str]:
    words = top_words(explanation, TOP)
    largest = largest_weight(explanation)
    width = max([len(shown(word["text"])) for word in words], default=0)
    for word in words:
        change = "" if word["occlusion"] is None else f"  without it {-word['occlusion']:+.4f}"
        bar = "█" * round(BAR * abs(word["weight"]) / largest)
        yield f"  {shown(word['text']):<{width}}  {word['weight']:+.4f}{change}  {bar}".rstrip()


def attention_lines(attention: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each token of `explain.attention`: what it looks at most, over the heads that are there."""
    weights = np.mean([[row + [0.0] * (len(head) - len(row)) for row in head] for head in attention["heads"]], 0)
    names = [token.removesuffix("</w>") for token in attention["tokens"]]
    width = max(map(len, map(shown, names)))
    for position, row in enumerate(weights):
        seen = np.argsort(-row[: position + 1], kind="stable")[:3]
        looks = "  ".join(f"{shown(names[i])} {row[i]:.0%}" for i in seen if row[i] >= 0.005)
        yield f"  {shown(names[position]):<{width}}  {looks}"


# ---- page


def page(
    title: str, explanations: Sequence[Explanation], attention: Sequence[tuple[Sequence[str], NDArray[Any]]]
) -> str:
    """Return a self-contained HTML page; `attention` has, for each explanation, tokens and weights (L, H, T, T)."""
    articles = "\n".join(
        f"<article>\n{_verdict(explanation)}\n{highlighted(explanation)}\n{_words(explanation)}\n{_attention(*looks)}\n</article>"
        for explanation, looks in zip(explanations, attention, strict=True)
    )
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(title=escape(title), articles=articles)


def highlighted(explanation: Explanation) -> str:
    """Return the texts as HTML, each word with its weight behind it and in its title."""
    largest = largest_weight(explanation)
    parts = []
    for text in explanation["texts"]:
        if text["name"] != "text":
            parts.append(f"<h3>{escape(text['name'])}</h3>")
        words = "".join(_marked(part, word, largest) for part, word in stretches(text))
        parts.append(f'<p class="text">{words}</p>')
    return "\n".join(parts)


def _marked(part: str, word: Word | None, largest: float) -> str:
    strength = abs(word["weight"]) / largest if word else 0.0
    if word is None or strength < VISIBLE:
        return escape(part)
    side = "for" if word["weight"] > 0 else "against"
    title = f"{word['weight']:+.4f}" + ("" if word["occlusion"] is None else f"; without it {-word['occlusion']:+.4f}")
    return f'<mark class="{side}" style="--s:{strength:.2f}" title="{title}">{escape(part)}</mark>'


def _verdict(explanation: Explanation) -> str:
    if explanation["label"] is None:
        head = f"<h2>{explanation['score']:.4f}</h2>"
        legend = "raises the value", "lowers it"
    else:
        label = escape(str(explanation["explained"]))
        bars = "".join(
            f"<tr><th>{escape(name)}</th><td>{score:.1%}</td>"
            f'<td class="bar"><span style="width:{score:.1%}"></span></td></tr>'
            for name, score in explanation["scores"].items()
        )
        predicted = f"{escape(str(explanation['label']))} <small>{explanation['score']:.1%}</small>"
        head = f"<h2>{predicted}</h2>\n<table>{bars}</table>"
        legend = f"speaks for {label}", f"speaks against {label}"
    cut = "<p>The end was cut off: what stands there was not read.</p>" if explanation["truncated"] else ""
    one, other = legend
    return (
        f'{head}\n<p class="legend"><mark class="for" style="--s:.7">{one}</mark> '
        f'<mark class="against" style="--s:.7">{other}</mark></p>{cut}'
    )


def _words(explanation: Explanation) -> str:
    words = [word for word in top_words(explanation, TOP_OF_PAGE) if word["weight"]]
    occluded = any(word["occlusion"] is not None for word in words)
    largest = largest_weight(explanation)
    rows = "".join(
        f"<tr><th>{escape(shown(word['text']))}</th><td>{word['weight']:+.4f}</td>"
        f'<td class="bar"><span class="{"for" if word["weight"] > 0 else "against"}" '
        f'style="width:{abs(word["weight"]) / largest:.1%}"></span></td>'
        + (f"<td>{-word['occlusion']:+.4f}</td>" if occluded else "")
        + "</tr>"
        for word in words
    )
    what = "value" if explanation["label"] is None else "probability"
    header = (
        "<tr><th>word</th><td>weight</td><td></td>"
        + (f"<td>change of the {what} without it</td>" if occluded else "")
        + "</tr>"
    )
    return f"<details open><summary>The words that weigh most</summary>\n<table>{header}{rows}</table></details>"


def _attention(tokens: Sequence[str], weights: NDArray[Any]) -> str:
    """Return a picture of each layer and head, (L, H, T, T) in all, and the tokens to look along."""
    rows = []
    for layer, heads in enumerate(weights):
        pictures = "".join(
            f'<td><button type="button" data-layer="{layer}" data-head="{head}">'
            f'<img alt="layer {layer}, head {head}" title="layer {layer}, head {head}" src="{_picture(each)}">'
            "</button></td>"
            for head, each in enumerate(heads)
        )
        rows.append(f"<tr><th>layer {layer}</th>{pictures}</tr>")
    header = "".join(f"<th>head {head}</th>" for head in range(weights.shape[1]))
    names = "".join(f'<span tabindex="0">{escape(shown(token.removesuffix("</w>")))}</span> ' for token in tokens)
    return (
        '<details class="attention" open><summary>Attention</summary>\n'
        "<p>Each picture is a head: row t is what token t looks at, from the first token at the left; stronger is more."
        " The label is read at the last token. Choose a head, and point at a token to see where it looks.</p>\n"
        f'<p class="chosen" aria-live="polite"></p>\n<p class="tokens">{names}</p>\n'
        f'<div class="wide"><table class="heads"><tr><td></td>{header}</tr>{"".join(rows)}</table></div></details>'
    )


def _picture(weights: NDArray[Any]) -> str:
    """Return a PNG of (T, T) weights as a data URL: black, as opaque as the root of the weight is large."""
    opaque = np.rint(255 * np.sqrt(weights)).astype(np.uint8)
    rows = np.zeros((len(opaque), 1 + 2 * len(opaque)), np.uint8)  # a filter byte, then grey and opacity of each point
    rows[:, 2::2] = opaque
    size = struct.pack(">IIBBBBB", len(opaque), len(opaque), 8, 4, 0, 0, 0)
    chunks = ((b"IHDR", size), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return "data:image/png;base64," + base64.b64encode(png).decode()
