"""Splits of examples: stratified, reproducible, and as in OpenAI's code.

Run: pytest tests/test_splits.py
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt1.data.dataset import load_dataset
from gpt1.data.duplicates import find_duplicates, keys
from gpt1.data.example import Example
from gpt1.data.splits import draw, linked, openai_split, stratified_split
from support.labelled_files import (
    SHARED,
    error_of,
    folder_of,
    labels_of,
    needs_shared_data,
    reviews,
    sizes,
    write_jsonl,
)

# ---- Draws and repeated texts


def labelled(labels: list[Any]) -> list[Example]:
    return [Example((f"text {i}",), label=label) for i, label in enumerate(labels)]


@settings(max_examples=150, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4) | st.sampled_from(["a", "b"]), max_size=120),
    fraction=st.floats(0, 0.99),
    seed=st.integers(0, 3),
)
def test_stratified_split_loses_nothing_and_keeps_the_shares_of_labels(
    labels: list[Any], fraction: float, seed: int
) -> None:
    examples = labelled(labels)
    rest, drawn = stratified_split(examples, fraction, seed)
    position = {example: i for i, example in enumerate(examples)}
    for part in (rest, drawn):
        assert [position[e] for e in part] == sorted(position[e] for e in part)
    assert sorted(position[e] for e in (*rest, *drawn)) == list(range(len(examples)))
    count, total = Counter(labels_of(drawn)), Counter(labels)
    if len(total) <= len(labels) / 2:
        for label, n in total.items():
            assert abs(count[label] - fraction * n) < 1 + 1e-9  # rounding of fraction * n
            assert count[label] < n  # every drawn label also occurs in train
    assert (rest, drawn) == stratified_split(examples, fraction, seed)


def test_total_drawn_is_the_rounded_fraction() -> None:
    """Rounding each label down would draw nothing from labels of few rows."""
    _, drawn = stratified_split(labelled(list(range(20)) * 4), 0.1, seed=0)
    assert len(drawn) == 8


def test_label_of_one_row_stays_in_the_rest() -> None:
    for seed in range(20):
        rest, _ = stratified_split(labelled(["common"] * 50 + ["rare"]), 0.5, seed)
        assert "rare" in labels_of(rest)


@pytest.mark.parametrize("labels", [[i / 7 for i in range(100)], [f"label {i}" for i in range(100)]])
def test_floats_and_all_different_labels_are_drawn_plainly(labels: list[Any]) -> None:
    rest, drawn = stratified_split(labelled(labels), 0.25, seed=0)
    assert (len(rest), len(drawn)) == (75, 25)


def test_numbers_of_a_regression_are_stratified_by_quantiles() -> None:
    examples = labelled([i * 37 % 100 / 7 for i in range(100)])
    for seed in range(10):
        _, drawn = stratified_split(examples, 0.2, seed)
        assert Counter(int(example.label * 7.001) // 10 for example in drawn) == dict.fromkeys(range(10), 2)  # type: ignore[operator]


def test_version_1_does_not_stratify_numbers() -> None:
    """Runs of former versions draw as they did."""
    examples = labelled([0.5, 1.5] * 20)
    shares = {labels_of(stratified_split(examples, 0.5, seed, version=1)[1]).count(0.5) for seed in range(10)}
    assert len(shares) > 1


def test_draw_is_pinned_across_machines_and_versions() -> None:
    """Golden value: a change would alter every published split."""
    _, drawn = stratified_split(labelled([0, 1] * 10), 0.2, seed=0)
    assert [example.parts[0] for example in drawn] == ["text 0", "text 10", "text 13", "text 19"]


def test_draws_of_groups_are_pinned_across_machines_and_versions() -> None:
    """Golden value: a change needs a new --split-version."""
    groups = linked([i // 2 for i in range(20)])
    _, drawn = stratified_split(labelled([0, 1] * 10), 0.3, 0, groups)
    assert [example.parts[0] for example in drawn] == [f"text {i}" for i in (0, 1, 4, 5, 10, 11)]


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), min_size=1, max_size=80),
    fraction=st.floats(0, 0.99),
    seed=st.integers(0, 3),
)
def test_no_group_is_divided_and_each_label_remains(rows: list[tuple[str, int]], fraction: float, seed: int) -> None:
    labels, columns = zip(*rows, strict=True)
    examples, groups = labelled(list(labels)), linked(columns)
    drawn = draw(examples, fraction, seed, groups)
    assert {groups[row] for row in drawn}.isdisjoint(groups[row] for row in range(len(rows)) if row not in drawn)
    if len(set(labels)) <= len(labels) / 2:
        assert {labels[row] for row in range(len(rows)) if row not in drawn} == set(labels)
    assert draw(examples, fraction, seed, groups) == drawn


def test_groups_are_stratified_and_their_rows_count_not_their_number() -> None:
    """scikit-learn's GroupShuffleSplit draws a share of the groups, whatever their sizes, and ignores labels."""
    sizes = [3, 7, 12, 2, 25, 4, 9, 1, 6, 5] * 10
    groups = linked([number for number, size in enumerate(sizes) for _ in range(size)])
    examples = labelled([row * 7 % 10 < 3 for row in range(len(groups))])
    for seed in range(10):
        _, drawn = stratified_split(examples, 0.2, seed, groups)
        counts = Counter(labels_of(drawn))
        assert abs(len(drawn) - 148) <= 25 / 2  # half the largest group
        assert abs(counts[True] / len(drawn) - 0.3) < 0.03


def test_a_group_is_drawn_although_all_are_larger_than_the_fraction() -> None:
    groups = linked([i // 10 for i in range(50)])
    assert len(draw(labelled([0, 1] * 25), 0.1, 0, groups)) == 10


def test_rows_are_linked_by_any_column_also_by_way_of_others() -> None:
    assert linked("abcad", [1, 2, 2, 3, None]) == [0, 1, 1, 0, 4]
    assert linked("abcde", [1, 2, 1, 3, 4], "vwxxw") == [0, 1, 0, 0, 1]
    assert linked([None, None]) == [0, 1]


def test_second_draw_is_not_the_first_one_shifted() -> None:
    examples = labelled([0] * 1000)
    rest, _ = stratified_split(examples, 0.5, seed=0)
    _, second = stratified_split(rest, 0.5, seed=0)
    ranks = [examples.index(example) for example in second]
    assert 350 < sum(ranks) / len(ranks) < 650  # a uniform draw has mean 500 and standard deviation about 13


def test_openai_draw_is_train_test_splits_with_their_seed_in_its_order(tmp_path: Path) -> None:
    """ROCStories: 1,871 labelled rows, of which 1,497 train and 374 validate (openai/finetune-transformer-lm)."""
    from sklearn.model_selection import train_test_split

    rows = [{"text": f"text {i}", "label": i % 2} for i in range(1_871)]
    data = load_dataset(folder_of(tmp_path, train=rows, test=rows[:3]), split_strategy="openai", seed=5)
    found = {
        split: [int(example.parts[0].partition(" ")[2]) for example in examples]
        for split, examples in data.splits.items()
    }
    assert {split: len(examples) for split, examples in found.items()} == {"train": 1_497, "valid": 374, "test": 3}
    train, valid = train_test_split(range(1_871), test_size=374, random_state=3535999445)
    assert (found["train"], found["valid"]) == (train, valid)
    assert found["train"][:4] == [187, 1591, 1646, 169], "golden: scikit-learn may not change it"
    assert found["valid"][:4] == [1058, 198, 1174, 806]
    assert "valid: 374 of 1,871 rows drawn from train, as in OpenAI's split of ROCStories (seed 3535999445)." in (
        data.notes
    )


def test_openai_draw_takes_the_fraction_that_is_asked_for_or_theirs(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, train=reviews(100))
    assert sizes(folder, split_strategy="openai") == {"train": 80, "valid": 20}  # 374 / 1,871 is 0.19989
    assert sizes(folder, split_strategy="openai", valid_fraction=0.35) == {"train": 65, "valid": 35}


def test_openai_draw_is_of_valid_alone(tmp_path: Path) -> None:
    """The test split of a single file is stratified; a separate test file is unchanged."""
    path = write_jsonl(tmp_path / "x.jsonl", reviews(200))
    usual, theirs = (
        load_dataset(path, split_strategy=split_strategy, valid_fraction=0.2).splits
        for split_strategy in ("stratified", "openai")
    )  # type: ignore[arg-type]
    assert usual["test"] == theirs["test"]
    assert usual["valid"] != theirs["valid"]
    assert len(usual["valid"]) == len(theirs["valid"]) == 40


def test_openai_draw_leaves_a_valid_file_as_it_is(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, train=reviews(10), valid=reviews(4))
    assert load_dataset(folder, split_strategy="openai") == load_dataset(folder)


def test_openai_draw_does_not_care_for_labels() -> None:
    drawn = [Counter(labels_of(openai_split(labelled([0, 1] * n), 0.2)[1]))[0] / (0.4 * n) for n in range(20, 60, 5)]
    assert len(set(drawn)) > 1


def test_openai_draw_leaves_a_row_to_train_on_and_draws_none_of_too_few() -> None:
    assert [len(part) for part in openai_split(labelled([0, 1, 0]), 0.99)] == [1, 2]
    assert [len(part) for part in openai_split(labelled([0, 1]), 0.1)] == [2, 0]
    assert [len(part) for part in openai_split(labelled([0]), 0.9)] == [1, 0]


@needs_shared_data
def test_openai_draw_of_the_story_cloze_validation_file_has_their_sizes(tmp_path: Path) -> None:
    shutil.copy(SHARED / "storycloze" / "val.jsonl.xz", tmp_path / "train.jsonl.xz")
    assert sizes(tmp_path, split_strategy="openai") == {"train": 1_497, "valid": 374}


# ---- Identical examples


def repeated(tmp_path: Path, times: int = 3) -> Path:
    rows = [{"text": f"Review {i}", "label": i % 2} for i in range(60)]
    copies = [row | {"text": row["text"].upper() + " "} for row in rows]
    return write_jsonl(tmp_path / "x.jsonl", [*rows, *(copies * (times - 1))])


def test_identical_examples_are_never_drawn_apart(tmp_path: Path) -> None:
    data = load_dataset(repeated(tmp_path))
    assert {split: len(examples) for split, examples in data.splits.items()} == {"train": 144, "valid": 18, "test": 18}
    assert all(set(Counter(keys(examples)).values()) == {3} for examples in data.splits.values())
    assert data.notes[0].startswith("test: 18 of 180 rows drawn from x.jsonl, stratified by label, identical examples")


def test_splits_of_version_1_are_drawn_row_by_row(tmp_path: Path) -> None:
    splits = load_dataset(repeated(tmp_path), split_version=1).splits
    assert find_duplicates(splits).leaked["test"] > 0


def test_without_identical_examples_both_versions_draw_the_same(tmp_path: Path) -> None:
    """Published splits stay."""
    path = write_jsonl(tmp_path / "x.jsonl", reviews(200))
    assert load_dataset(path, train_fraction=0.7) == load_dataset(path, train_fraction=0.7, split_version=1)


def test_too_few_rows_or_texts_are_refused_with_what_works(tmp_path: Path) -> None:
    def message(n_rows: int, n_texts: int, **fractions: float) -> str:
        rows = [{"text": f"text {i % n_texts}", "label": i % 2} for i in range(n_rows)]
        return error_of(lambda: load_dataset(write_jsonl(tmp_path / "x.jsonl", rows), **fractions))

    needed = "at least 3 are required for train, valid and test; add rows, or give a folder with the files train, valid"
    assert message(1, 1).startswith(f"x.jsonl: 1 row; {needed} and test")
    assert message(40, 2).startswith(f"x.jsonl: 40 rows with 2 different texts; {needed}")
    folder = "or add rows, or give a folder with the files train and"
    assert message(4, 4) == f"x.jsonl: 4 rows, too few for a test split; set --test-fraction 0.2, {folder} test"
    second = f"x.jsonl: 3 rows, too few for a valid split; set --valid-fraction 0.2, {folder} valid"
    assert message(4, 4, test_fraction=0.2) == second
    splits = load_dataset(tmp_path / "x.jsonl", test_fraction=0.2, valid_fraction=0.2).splits
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 2, "valid": 1, "test": 1}


def test_no_larger_share_is_advised_where_none_works(tmp_path: Path) -> None:
    """A row of each label stays in train."""
    rows = [{"text": f"text {i}", "label": i // 4, "author": i // 4} for i in range(12)]
    message = error_of(lambda: load_dataset(write_jsonl(tmp_path / "x.jsonl", rows), group="author"))
    found = "x.jsonl: 12 rows with 3 groups, too few for a test split"
    assert message == f"{found}; add rows, or give a folder with the files train and test"
