"""Facts about the data of a fine-tuning, for `gpt1 check` and the report: files, columns, rows, labels, lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt1.config import TableFormat
from gpt1.data.bad_rows import BadRows
from gpt1.data.batching import EncodedExamples
from gpt1.data.dataset import Source
from gpt1.data.readers.description import describe
from gpt1.tasks.dataset import TaskData
from gpt1.tasks.unknown_text import share_of_all

MOST_FILES = 10
"""Maximum number of tables of a split that are described; the others are counted."""


def file_facts(files: Mapping[str, Sequence[Path]], table: TableFormat) -> list[dict[str, Any]]:
    """Return {split, tables, …} of the first tables of each split: its number of tables and `describe` of this one."""
    return [
        {"split": split, "tables": len(paths), **describe(path, table)}
        for split, paths in files.items()
        for path in paths[:MOST_FILES]
    ]


def data_facts(
    data: TaskData, encoded: Mapping[str, EncodedExamples] | None = None, max_length: int = 0
) -> dict[str, Any]:
    """Return facts about data as JSON values.

    Args:
        data: Data of the fine-tuning.
        encoded: Its splits as token ids; None: without `tokens` and `unknown_share`.
        max_length: Maximum length in tokens to which they were truncated.

    Returns:
        {task, columns, splits, contradictory, bad_rows}. `columns` are {role: names, …, unused: names}; `splits`
        {split: {rows, drawn, labels: {label: rows}, values: {smallest, median, largest} of a regression, duplicates,
        in_train, tokens: {median, p90, p99, longest, maximum, truncated}, unknown_share}}; `contradictory` is the
        number of rows whose texts occur with other labels; `bad_rows` {rows, kinds: {kind: rows}, first: messages} are
        those left out.
    """
    duplicates = data.duplicates
    own_files = data.splits if data.source is None else data.source.files
    splits = {
        name: {
            "rows": len(examples),
            "drawn": name not in own_files,
            "labels": data.labels.problem_type.label_counts(data.labels.ids(examples), data.labels.names),
            "values": _quantiles(data.labels.ids(examples)) if data.labels.regression else None,
            "duplicates": duplicates.repeated[name],
            "in_train": duplicates.leaked.get(name, 0),
            **(_token_facts(encoded[name], max_length) if encoded else {}),
        }
        for name, examples in data.splits.items()
    }
    return {
        "task": data.task.name,
        "columns": _columns(data.source) if data.source else None,
        "splits": splits,
        "contradictory": sum(each.rows for each in duplicates.contradictions),
        "bad_rows": _bad_rows(data.source.bad if data.source else BadRows()),
    }


def _columns(source: Source) -> dict[str, list[str]]:
    """Return the columns by what they are used as."""
    used = {role: list(names) for role, names in source.layout.roles.items()}
    return used | {"unused": source.layout.unused(source.names)}


def _bad_rows(bad: BadRows) -> dict[str, Any]:
    return {"rows": bad.bad, "kinds": dict(bad.by_kind.most_common()), "first": list(map(str, bad.first))}


def _quantiles(values: NDArray[Any]) -> dict[str, float]:
    smallest, median, largest = map(float, _percentiles(values, 0, 50, 100))
    return {"smallest": smallest, "median": median, "largest": largest}


def _percentiles(values: NDArray[Any], *percents: int) -> list[Any]:
    """Return percentiles that occur among the values: p % of these are at most so large."""
    found: list[Any] = np.percentile(values, percents, method="inverted_cdf").tolist()
    return found


def _token_facts(encoded: EncodedExamples, max_length: int) -> dict[str, Any]:
    assert encoded.full_lengths is not None
    median, p90, p99, longest = _percentiles(encoded.full_lengths, 50, 90, 99, 100)
    return {
        "tokens": {
            "median": median, "p90": p90, "p99": p99, "longest": longest, "maximum": max_length,
            "truncated": encoded.truncated,
        },
        "unknown_share": share_of_all(encoded),
    }  # fmt: skip
