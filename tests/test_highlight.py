"""Display of explanations in a terminal and on a page. Run: pytest tests/test_highlight.py."""

from __future__ import annotations

import base64
import io
import re
from html import unescape
from typing import Any

import numpy as np
from PIL import Image

from gpt1.inference.highlight import attention_lines, in_terminal, page, stretches, top_words

TEXT = "Warm & <b>dull</b>,\nsaid 😀 he"


def explained(**changes: Any) -> dict[str, Any]:
    def word(text: str, weight: float, occlusion: float | None = None) -> dict[str, Any]:
        start = TEXT.index(text)
        return {"text": text, "start": start, "end": start + len(text), "weight": weight, "occlusion": occlusion}

    words = [
        word("Warm", 0.4),
        word("<b>dull", -0.8),
        word("\n", 0.0),
        word("said", 0.02),
        word("😀", 0.2),
        word("he", -0.1),
    ]
    nowhere = {"text": "&", "start": None, "end": None, "weight": 0.3, "occlusion": None}
    found = {
        "label": "good", "score": 0.75, "scores": {"bad": 0.25, "good": 0.75}, "explained": "good", "truncated": False,
        "texts": [{"name": "text", "text": TEXT, "words": [words[0], nowhere, *words[1:]]}],
    }  # fmt: skip
    return found | changes


def looks(count: int = 3) -> tuple[list[str], np.ndarray]:
    weights = np.tril(np.random.default_rng(0).uniform(size=(2, 2, count, count)))
    return ["<bos>", "warm</w>", "<eos>"][:count], weights / weights.sum(-1, keepdims=True)


def test_stretches_hold_the_whole_text_and_every_word_with_offsets() -> None:
    [text] = explained()["texts"]
    assert "".join(part for part, _ in stretches(text)) == TEXT
    assert [word["text"] for _, word in stretches(text) if word] == ["Warm", "<b>dull", "\n", "said", "😀", "he"]


def test_heaviest_words_come_first_whatever_their_sign() -> None:
    assert [word["text"] for word in top_words(explained(), 3)] == ["<b>dull", "Warm", "&"]


def test_a_terminal_without_colours_has_the_words_in_a_table() -> None:
    verdict, meaning, rest = in_terminal(explained(), colour=False).split("\n", 2)
    assert verdict == "good  0.7500"
    assert meaning == "weights: + for good, - against it"
    assert rest.startswith(f"{TEXT}\n")
    rows = rest.removeprefix(TEXT).strip().splitlines()
    assert rows[0].split() == ["<b>dull", "-0.8000", "█" * 30]
    assert rows[1].split() == ["Warm", "+0.4000", "█" * 15]
    assert "\x1b" not in "".join(rows)


def test_colours_stand_around_the_words_and_change_no_letter() -> None:
    coloured = in_terminal(explained(), colour=True)
    assert re.search(r"\x1b\[30;48;5;\d+mWarm\x1b\[0m", coloured)
    assert re.search(r"\x1b\[30;4;48;5;\d+m<b>dull\x1b\[0m", coloured), "underlined: against"
    assert "said" not in re.findall(r"m([^\x1b]*)\x1b\[0m", coloured), "too light to be coloured"
    assert TEXT in re.sub(r"\x1b\[[\d;]*m", "", coloured)


def test_another_label_and_a_truncated_text_are_reported() -> None:
    verdict, meaning = in_terminal(explained(explained="bad", truncated=True), colour=False).splitlines()[:2]
    assert verdict == "good  0.7500 (bad  0.2500); the end of the text was truncated"
    assert meaning == "weights: + for bad, - against it"


def test_a_value_has_no_label() -> None:
    value = explained(label=None, explained=None, scores={}, score=3.25)
    assert in_terminal(value, colour=False).startswith("3.2500\nweights: + raises the value, - lowers it")
    assert "raises the value" in page("t", [value], [looks()])


def test_a_page_holds_the_text_and_asks_for_nothing_else() -> None:
    found = page("runs/<demo>", [explained()], [looks()])
    assert "<title>runs/&lt;demo&gt;</title>" in found
    assert "<b>" not in found
    assert "Warm & " not in re.sub("<[^>]*>", "", found)
    [text] = re.findall(r'<p class="text">(.*?)</p>', found, re.DOTALL)
    assert unescape(re.sub(r"</?mark[^>]*>", "", text)) == TEXT
    assert re.findall(r'<mark class="(\w+)" style="--s:([\d.]+)" title="([^"]*)">([^<]+)', text)[:2] == [
        ("for", "0.50", "+0.4000", "Warm"), ("against", "1.00", "-0.8000", "&lt;b&gt;dull"),
    ]  # fmt: skip
    assert not re.search(r'(?:src|href)="(?!data:)|https?:|@import|url\(', found)
    assert "$" not in re.sub(r"\$\{", "", found), "every placeholder was filled in"


def test_opacity_of_attention_images_is_the_square_root_of_the_weights() -> None:
    tokens, weights = looks()
    images = re.findall(r'src="data:image/png;base64,([^"]+)"', page("t", [explained()], [(tokens, weights)]))
    assert len(images) == 4
    for image, expected in zip(images, weights.reshape(4, 3, 3), strict=True):
        png = Image.open(io.BytesIO(base64.b64decode(image)))
        assert (png.format, png.mode) == ("PNG", "LA")
        grey, opacity = np.moveaxis(np.asarray(png), -1, 0)
        assert not grey.any()
        np.testing.assert_allclose((opacity / 255.0) ** 2, expected, atol=1 / 255)


def test_attention_in_a_terminal_lists_what_each_token_attends_to() -> None:
    lines = list(
        attention_lines({"tokens": ["<bos>", "warm</w>"], "heads": [[[1.0], [0.8, 0.2]], [[1.0], [0.6, 0.4]]]})
    )
    assert [line.split() for line in lines] == [["<bos>", "<bos>", "100%"], ["warm", "<bos>", "70%", "warm", "30%"]]
