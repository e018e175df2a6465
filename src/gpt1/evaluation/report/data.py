"""The data of a fine-tuning in words, for the report and `gpt1 check`: files and columns, a table of the splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import shorten
from typing import Any

from gpt1 import console
from gpt1.data.readers.description import in_words
from gpt1.evaluation.report import html
from gpt1.evaluation.report.record import Record

MOST_LABELS, RAREST = 20, 5
"""Maximum number of labels in the table; of more labels, the most frequent and so many of the rarest are shown."""
LABEL_WIDTH = 30
"""Characters of a label in the table."""

LENGTHS = {"median": "median", "p90": "90 %", "p99": "99 %", "longest": "longest"}


def section(record: Record) -> str:
    """Return the data section: warnings, files and columns, the table of the splits; of a pretraining, its tokens."""
    start, facts = record.start, record.data
    if not start:
        return ""
    if record.command == "pretrain":
        tokens = start.get("tokens", {})
        counts = html.table(
            ["", "tokens"], [[split, f"{count:,}"] for split, count in tokens.items()],
            caption=f"{console.counted(start.get('documents', 0), 'document')}, "
            f"{start.get('bytes', 0) / 1e6:,.2f} MB of training text",
        )  # fmt: skip
        return html.section("data", "Data", counts)
    labels = {name: split["labels"] for name, split in facts["splits"].items()}
    names = list(dict.fromkeys(name for each in labels.values() for name in each))
    every_label = html.table(
        ["label", *labels], [[name, *(f"{each.get(name, 0):,}" for each in labels.values())] for name in names]
    )
    balanced = ", no strong label imbalance" if labels.get("train") else ""
    return html.section(
        "data",
        "Data",
        html.items(record.warnings) or html.paragraph(f"No repeated texts, no truncated examples{balanced}."),
        html.table([], sources(facts), "facts"),
        html.table(*splits(facts)),
        html.details(f"{len(names):,} labels", every_label) if len(names) > MOST_LABELS else "",
    )


def sources(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (name, description) of the first file of each split and of the columns by what they are used as.

    `facts` are those of `tasks.data_facts`.
    """
    files = {file["split"]: file for file in reversed(facts.get("files") or ())}  # the first of each split
    for split, file in reversed(files.items()):
        more = f" and {file['tables'] - 1:,} more" * (file["tables"] > 1)
        name = split if len(files) > 1 else "file"
        yield name, f"{file['file']}: {in_words(file)}, {_size(file['bytes'])}{more}"
    for role, names in (facts.get("columns") or {}).items():
        if names:
            yield "not used" if role == "unused" else role.replace("_", "-"), ", ".join(names)


def splits(facts: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table of the splits: rows, labels, duplicates, lengths in tokens."""
    header = [f"{name} (drawn)" if split.get("drawn") else name for name, split in facts["splits"].items()]
    return ["", *header], list(_split_rows(facts["splits"])) if header else []


def share(value: float) -> str:
    """Return a share in percent; one that is not 0 does not look like it."""
    return "0 %" if not value else "< 0.1 %" if value < 0.001 else f"{100 * value:.1f} %"


def _split_rows(splits: Mapping[str, Mapping[str, Any]]) -> Iterator[list[str]]:
    parts = list(splits.values())
    yield ["rows", *(f"{part['rows']:,}" for part in parts)]
    yield from _label_rows([part["labels"] for part in parts])
    if parts[0].get("values"):
        for name in ("smallest", "median", "largest"):
            yield [f"label, {name}", *(f"{part['values'][name]:g}" for part in parts)]
    if "duplicates" in parts[0]:
        yield ["duplicates", *(f"{part['duplicates']:,}" for part in parts)]
        in_train = ("–" if name == "train" else f"{part['in_train']:,}" for name, part in splits.items())
        yield ["also in train", *in_train]
    if "tokens" not in parts[0]:
        return
    for key, name in LENGTHS.items():
        if key in parts[0]["tokens"]:
            yield [f"tokens, {name}", *(f"{part['tokens'][key]:,}" for part in parts)]
    maximum = parts[0]["tokens"].get("maximum", "the maximum")
    yield [f"tokens, over {maximum}", *(_with_share(part["tokens"]["truncated"], part["rows"]) for part in parts)]
    if "unknown_share" in parts[0]:
        yield ["unknown text", *(share(part["unknown_share"]) for part in parts)]


def _label_rows(counts: Sequence[Mapping[str, int]]) -> Iterator[list[str]]:
    def row(name: str) -> list[str]:
        label = shorten(name, LABEL_WIDTH, placeholder=" …") or repr(name)
        return [f"  {label}", *(f"{each.get(name, 0):,}" for each in counts)]

    names = list(counts[0])
    if len(names) <= MOST_LABELS:
        yield from map(row, names)
        return
    names.sort(key=lambda name: -counts[0][name])
    yield from map(row, names[: MOST_LABELS - RAREST])
    yield [f"  … {len(names) - MOST_LABELS:,} more labels", *("…" for _ in counts)]
    yield from map(row, names[-RAREST:])


def _with_share(number: int, whole: int) -> str:
    return f"{number:,} ({share(number / whole)})" if number else "0"


def _size(n_bytes: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes} bytes"
