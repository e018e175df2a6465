"""Display of an explanation (`inference.explainer`): coloured text and a table in a terminal, an HTML page.

Words with a positive weight are green in a terminal and blue on a page, words with a negative weight red and orange.
The latter are also underlined, so that the sign does not depend on colour alone.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

Explanation = Mapping[str, Any]
"""Result of `Explainer.explain`."""
Word = Mapping[str, Any]

TOP = 10
"""Rows of the table in a terminal."""
TOP_OF_PAGE = 20
"""Rows of the table on a page."""
BAR = 30
"""Characters of the longest bar in a terminal."""
VISIBLE = 0.1
"""Minimum weight of a coloured word, as a fraction of the largest weight."""

_POSITIVE = (194, 157, 120, 83)
_NEGATIVE = (224, 217, 210, 203)
"""Background colours (of a terminal's 256) for black text, from weak to strong."""

TEMPLATE = Path(__file__).parents[1] / "assets" / "explain.html"


def largest_weight(explanation: Explanation) -> float:
    """Return the largest absolute weight of a word, 1 if there are no words or all weights are 0."""
    return max((abs(word["weight"]) for text in explanation["texts"] for word in text["words"]), default=0.0) or 1.0


def stretches(text: Mapping[str, Any]) -> Iterator[tuple[str, Word | None]]:
    """Yield the parts of a text in order, each with its word, or None between words; words without offsets are skipped.

    The parts concatenated are the text.
    """
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
    """Return the `most` words with the largest absolute weights, in descending order."""
    words = [word for text in explanation["texts"] for word in text["words"]]
    return sorted(words, key=lambda word: -abs(word["weight"]))[:most]


def verdict(explanation: Explanation) -> str:
    """Return two lines: the prediction with its score, and the meaning of the weights."""
    if explanation["label"] is None:
        line = f"{explanation['score']:.4f}"
        meaning = "+ raises the value, - lowers it"
    else:
        explained = explanation["explained"]
        line = f"{explanation['label']}  {explanation['score']:.4f}"
        if explained != explanation["label"]:
            line += f" ({explained}  {explanation['scores'][str(explained)]:.4f})"
        meaning = f"+ for {explained}, - against it"
    if explanation["truncated"]:
        line += "; the end of the text was truncated"
    if any(word["occlusion"] is not None for text in explanation["texts"] for word in text["words"]):
        meaning += f"; if removed: change of the {_explained_score(explanation)}"
    return f"{line}\nweights: {meaning}"


def _explained_score(explanation: Explanation) -> str:
    return "value" if explanation["label"] is None else "probability"


def shown(word: str) -> str:
    """Return a word for display in a table, with a visible line break."""
    return word.replace("\n", "⏎").replace("\r", "")


# ---- terminal


def in_terminal(explanation: Explanation, *, colour: bool) -> str:
    """Return lines for a terminal: the prediction, the texts, a table of the words with the largest weights."""
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
    colours, style = (_POSITIVE, "30") if word["weight"] > 0 else (_NEGATIVE, "30;4")
    return f"\x1b[{style};48;5;{colours[min(3, int(4 * strength))]}m{part}\x1b[0m"


def _table(explanation: Explanation) -> Iterator[str]:
    words = top_words(explanation, TOP)
    largest = largest_weight(explanation)
    width = max([len(shown(word["text"])) for word in words], default=0)
    for word in words:
        change = "" if word["occlusion"] is None else f"  if removed {-word['occlusion']:+.4f}"
        bar = "█" * round(BAR * abs(word["weight"]) / largest)
        yield f"  {shown(word['text']):<{width}}  {word['weight']:+.4f}{change}  {bar}".rstrip()


def attention_lines(attention: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each token with the three tokens that it attends to most, averaged over the heads.

    `attention` is the result of `explainer.attention`.
    """
    weights = np.mean([[row + [0.0] * (len(head) - len(row)) for row in head] for head in attention["heads"]], 0)
    names = [token.removesuffix("</w>") for token in attention["tokens"]]
    width = max(map(len, map(shown, names)))
    for position, row in enumerate(weights):
        largest = np.argsort(-row[: position + 1], kind="stable")[:3]
        attended = "  ".join(f"{shown(names[i])} {row[i]:.0%}" for i in largest if row[i] >= 0.005)
        yield f"  {shown(names[position]):<{width}}  {attended}"


# ---- page


def page(
    title: str, explanations: Sequence[Explanation], attention: Sequence[tuple[Sequence[str], NDArray[Any]]]
) -> str:
    """Return a self-contained HTML page; `attention` has tokens and weights (L, H, T, T) for each explanation."""
    articles = "\n".join(
        f"<article>\n{article(explanation)}\n{_words(explanation)}\n{_attention(tokens, weights)}\n</article>"
        for explanation, (tokens, weights) in zip(explanations, attention, strict=True)
    )
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(title=escape(title), articles=articles)


def article(explanation: Explanation) -> str:
    """Return the prediction and its texts as HTML, to be styled by the page."""
    return f"{_prediction(explanation)}\n{highlighted(explanation)}"


def highlighted(explanation: Explanation) -> str:
    """Return the texts as HTML, with the weight of each word as background colour and tooltip."""
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
    title = f"{word['weight']:+.4f}" + ("" if word["occlusion"] is None else f"; if removed {-word['occlusion']:+.4f}")
    return f'<mark class="{side}" style="--s:{strength:.2f}" title="{title}">{escape(part)}</mark>'


def _prediction(explanation: Explanation) -> str:
    if explanation["label"] is None:
        head = f"<h2>{explanation['score']:.4f}</h2>"
        legend = "raises the value", "lowers the value"
    else:
        label = escape(str(explanation["explained"]))
        bars = "".join(
            f"<tr><th>{escape(name)}</th><td>{score:.1%}</td>"
            f'<td class="bar"><span style="width:{score:.1%}"></span></td></tr>'
            for name, score in explanation["scores"].items()
        )
        predicted = f"{escape(str(explanation['label']))} <small>{explanation['score']:.1%}</small>"
        head = f"<h2>{predicted}</h2>\n<table>{bars}</table>"
        legend = f"evidence for {label}", f"evidence against {label}"
    note = "<p>The text was truncated; its end was not used.</p>" if explanation["truncated"] else ""
    positive, negative = legend
    return (
        f'{head}\n<p class="legend"><mark class="for" style="--s:.7">{positive}</mark> '
        f'<mark class="against" style="--s:.7">{negative}</mark></p>{note}'
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
    header = (
        "<tr><th>word</th><td>weight</td><td></td>"
        + (f"<td>change of the {_explained_score(explanation)} if removed</td>" if occluded else "")
        + "</tr>"
    )
    return f"<details open><summary>Words with the largest weights</summary>\n<table>{header}{rows}</table></details>"


def _attention(tokens: Sequence[str], weights: NDArray[Any]) -> str:
    """Return the tokens and an image of each layer's heads; `weights` is (L, H, T, T)."""
    rows = []
    for layer, heads in enumerate(weights):
        images = "".join(
            f'<td><button type="button" data-layer="{layer}" data-head="{head}">'
            f'<img alt="layer {layer}, head {head}" title="layer {layer}, head {head}" src="{_image(each)}">'
            "</button></td>"
            for head, each in enumerate(heads)
        )
        rows.append(f"<tr><th>layer {layer}</th>{images}</tr>")
    header = "".join(f"<th>head {head}</th>" for head in range(weights.shape[1]))
    names = "".join(f'<span tabindex="0">{escape(shown(token.removesuffix("</w>")))}</span> ' for token in tokens)
    return (
        '<details class="attention" open><summary>Attention</summary>\n'
        "<p>Each image is one head: row t shows how much token t attends to each token up to itself, from left to "
        "right. The prediction is made at the last token. Select a head, then point at a token to see its attention."
        "</p>\n"
        f'<p class="chosen" aria-live="polite"></p>\n<p class="tokens">{names}</p>\n'
        f'<div class="wide"><table class="heads"><tr><td></td>{header}</tr>{"".join(rows)}</table></div></details>'
    )


def _image(weights: NDArray[Any]) -> str:
    """Return weights (T, T) as the data URL of a black PNG whose opacity is the square root of the weight."""
    from PIL import Image

    opacity = np.rint(255 * np.sqrt(weights)).astype(np.uint8)
    png = io.BytesIO()
    Image.fromarray(np.stack([np.zeros_like(opacity), opacity], axis=-1)).save(png, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
