"""`--group COLUMN`: rows of one group are never drawn into different splits.

Run: pytest tests/test_groups.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpt1.config import DataConfig
from gpt1.data.dataset import load_dataset
from gpt1.data.example import Example
from gpt1.errors import UserError
from support.command_line import assert_refused, gpt1
from support.labelled_files import error_of, folder_of, write_jsonl


def rows(groups: list[Any], n: int = 120) -> list[dict[str, Any]]:
    """Rows of two labels whose groups take turns."""
    return [{"text": f"review {i}", "label": i // 7 % 2, "Author": groups[i % len(groups)]} for i in range(n)]


def file_of(tmp_path: Path, groups: list[Any]) -> Path:
    return write_jsonl(tmp_path / "x.jsonl", rows(groups))


def groups_of(examples: list[Example]) -> set[str | None]:
    return {example.group for example in examples}


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_in_two_splits(tmp_path: Path, seed: int) -> None:
    data = load_dataset(file_of(tmp_path, [f"a{i}" for i in range(20)]), group="author", seed=seed)
    train, valid, test = (groups_of(examples) for examples in data.splits.values())
    assert len(train) + len(valid) + len(test) == len(train | valid | test) == 20
    assert [len(examples) for examples in data.splits.values()] == [96, 12, 12]
    assert f"test: 12 of 120 rows (2 of 20 groups, author) drawn from x.jsonl, stratified by label (seed {seed})." in (
        data.notes
    )
    assert not [note for note in data.notes if note.startswith("Columns not used")]


@pytest.mark.parametrize("values", [[1, 2, 3, 4], [1.5, 2.5, 3.5, 4.5], [True, False, "x", "y"]])
def test_groups_may_be_numbers(tmp_path: Path, values: list[Any]) -> None:
    splits = load_dataset(file_of(tmp_path, values), group="Author").splits
    assert groups_of([example for examples in splits.values() for example in examples]) == set(map(str, values))


def test_identical_texts_and_groups_are_kept_together_at_once(tmp_path: Path) -> None:
    """Author a wrote what b wrote, b what c wrote: the rows of all three stay together."""
    table = rows(list("abcdefgh"))
    for row in table[:3]:
        row["text"] = "The same" if row["Author"] != "c" else "another"
    table[9]["text"] = "ANOTHER"  # by b
    for seed in range(8):
        splits = load_dataset(write_jsonl(tmp_path / "x.jsonl", table), group="Author", seed=seed).splits
        assert sum(bool(groups_of(examples) & {"a", "b", "c"}) for examples in splits.values()) == 1


@pytest.mark.parametrize("empty", [None, "", "  ", float("nan")])
def test_a_row_without_a_group_is_a_group_of_its_own_and_counted(tmp_path: Path, empty: Any) -> None:
    data = load_dataset(file_of(tmp_path, ["a", empty, "b", "c"]), group="Author")
    assert "train: 30 of 120 rows have no group (Author)." in data.notes
    assert {None} < groups_of(data.splits["train"]), "30 rows that are drawn one by one are in each split"


def test_groups_of_a_test_file_that_occur_in_train_are_counted(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, train=rows(list("abcdef")), test=[*rows(["a", "x"], 4), {"text": "t", "label": 1}])
    notes = load_dataset(folder, group="Author").notes
    assert "test: 2 of 5 rows are of a group (Author) that also occurs in train." in notes
    assert "test: 1 of 5 rows have no group (Author)." in notes


# ---- bad input


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (["web"], "--group Author: 1 group ('web') in x.jsonl; at least 3 are required for train, valid and test; "
                  "its columns are text, label, Author"),
        (["a", "b"], "--group Author: 2 groups in x.jsonl; at least 3 are required for train, valid and test; "
                     "its columns are text, label, Author"),
    ],
)  # fmt: skip
def test_too_few_groups_are_refused_with_the_columns(tmp_path: Path, groups: list[str], said: str) -> None:
    path = file_of(tmp_path, groups)
    assert error_of(lambda: load_dataset(path, group="Author")) == said


def test_groups_that_identical_texts_join_are_refused(tmp_path: Path) -> None:
    table = [row | {"text": "ok"} if i < 5 else row for i, row in enumerate(rows(list("abcde")))]
    path = write_jsonl(tmp_path / "x.jsonl", table)
    message = error_of(lambda: load_dataset(path, group="Author"))
    assert message.startswith("--group Author: 5 groups in x.jsonl, which identical texts join into 1; at least 3 are")


def test_groups_that_hold_all_rows_of_a_label_are_refused(tmp_path: Path) -> None:
    table = [row | {"label": row["Author"]} for row in rows(list("abc"))]
    path = write_jsonl(tmp_path / "x.jsonl", table)
    message = error_of(lambda: load_dataset(path, group="Author"))
    assert message.startswith("x.jsonl: 120 rows with 3 groups, too few for a test split; add rows")


def test_unknown_column_and_list_cells_are_refused(tmp_path: Path) -> None:
    path = file_of(tmp_path, ["a", ["b"], "c"])
    assert error_of(lambda: load_dataset(path, group="authors")) == (
        "--group authors: no such column in x.jsonl; its columns are text, label, Author; did you mean --group Author?"
    )
    with pytest.raises(UserError, match=r"x\.jsonl row 2: the group 'Author' is \['b'\] \(list\), expected"):
        load_dataset(path, group="Author")


@pytest.mark.parametrize(("name", "value"), [("split_strategy", "openai"), ("split_version", 1)])
def test_draws_row_by_row_keep_no_groups_together(name: str, value: Any) -> None:
    flag = name.replace("_", "-")
    with pytest.raises(UserError, match=f"--group Author: does not apply to --{flag} {value}"):
        DataConfig(group="Author", **{name: value})


def test_command_refuses_a_single_group_before_anything_is_written(tmp_path: Path) -> None:
    flags = ["--data", file_of(tmp_path, ["web"]), "--out", tmp_path / "run", "--model", "random:tiny"]
    assert_refused(gpt1("finetune", *flags, "--group", "Author"), "--group Author: 1 group ('web') in x.jsonl")
    assert not (tmp_path / "run").exists()
