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
from gpt1.data.example import Example
from gpt1.data.splits import openai_split, stratified_split
from support.labelled_files import (
    SHARED,
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


def test_repeated_floats_are_no_strata() -> None:
    shares = {labels_of(stratified_split(labelled([0.5, 1.5] * 20), 0.5, seed)[1]).count(0.5) for seed in range(10)}
    assert len(shares) > 1


def test_draw_is_pinned_across_machines_and_versions() -> None:
    """Golden value: a change would alter every published split."""
    _, drawn = stratified_split(labelled([0, 1] * 10), 0.2, seed=0)
    assert [example.parts[0] for example in drawn] == ["text 0", "text 10", "text 13", "text 19"]


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
