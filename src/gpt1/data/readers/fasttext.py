"""Rows of .txt files: fastText's lines `__label__positive the text`, or one text a line."""

from __future__ import annotations

from pathlib import Path

from gpt1.data.readers.rows import Note, ParsedRows
from gpt1.data.readers.text import decoded_lines, text_lines

LABEL = "__label__"
"""Prefix of a label (fastText's default)."""

NO_LABELS = (
    "a text file without labels; expected lines such as `__label__positive the text`, or a table, whose separator "
    "--delimiter sets (texts without labels: --adapt 1 --unlabelled FILE)"
)
"""Error of a file without labels for a command that needs them."""


def txt_rows(path: Path, encoding: str | None, note: Note) -> ParsedRows:
    """Yield (line, {"text", "label"}) of each line, in constant memory; {"text"} if the first line has no label.

    Labels stand before or after the text. The cell of a line with several labels is a list.
    """
    labelled: bool | None = None
    for line, content in enumerate(decoded_lines(path, encoding, note), 1):
        if content.isspace():
            continue
        labels, text = _split(content.strip())
        if labelled is None:
            labelled = bool(labels)
        if labelled:
            yield line, {"text": text, "label": labels if len(labels) > 1 else labels[0] if labels else None}
        else:
            yield line, {"text": content.strip()}


def _split(rest: str) -> tuple[list[str], str]:
    """Return the labels before and after a text, and the text."""
    labels = []
    while rest.startswith(LABEL):
        label, *text = rest.split(None, 1)
        labels.append(label.removeprefix(LABEL))
        rest = "".join(text)
    while (words := rest.rsplit(None, 1)) and words[-1].startswith(LABEL):
        labels.append(words[-1].removeprefix(LABEL))
        rest = "".join(words[:-1])
    return labels, rest


def has_labels(path: Path, encoding: str | None = None) -> bool:
    """Return whether the first line of a text file that is not blank has a label."""
    for line in text_lines(path, 1 << 20, encoding, note=lambda _: None):
        if not line.isspace():
            return LABEL in line
    return False
