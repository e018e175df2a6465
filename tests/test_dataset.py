"""Data sets: folders and files of splits, fractions, labels, duplicates.

Run: pytest tests/test_dataset.py
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gpt1.data.dataset import TEST_FRACTION, VALID_FRACTION, find_splits, load_dataset
from gpt1.data.duplicates import find_duplicates
from gpt1.data.input_kinds import InputKind
from gpt1.data.paper_kinds import CHOICES, PAIR, SINGLE
from support.labelled_files import (
    CHOICE,
    SHARED,
    error_of,
    folder_of,
    labels_of,
    needs_shared_data,
    reviews,
    sizes,
    write,
    write_jsonl,
)

# ---- Folders


def names(splits: dict[str, list[Path]]) -> dict[str, list[str]]:
    return {split: [file.name for file in files] for split, files in splits.items()}


def touch(folder: Path, *files: str) -> Path:
    for file in files:
        write(folder / file, "text,label\na,1\n")
    return folder


@pytest.mark.parametrize("valid", ["valid", "dev", "val", "validation", "Dev"])
def test_splits_are_found_by_stem(tmp_path: Path, valid: str) -> None:
    touch(tmp_path, "train.csv", f"{valid}.jsonl.xz", "test.parquet", "README.md", "training_log.txt", ".train.csv")
    assert names(find_splits(tmp_path)) == {
        "train": ["train.csv"],
        "valid": [f"{valid}.jsonl.xz"],
        "test": ["test.parquet"],
    }


def test_shards_are_sorted_by_number(tmp_path: Path) -> None:
    touch(tmp_path, "train-10.csv", "train-2.csv", "test-00001-of-00002.parquet", "test-00000-of-00002.parquet")
    assert names(find_splits(tmp_path)) == {
        "train": ["train-2.csv", "train-10.csv"],
        "test": ["test-00000-of-00002.parquet", "test-00001-of-00002.parquet"],
    }


def test_missing_shard_is_an_error(tmp_path: Path) -> None:
    assert "1 of 2 shards of train" in error_of(lambda: find_splits(touch(tmp_path, "train-00000-of-00002.csv")))


@pytest.mark.parametrize(
    "rivals",
    [
        ("train.csv", "train.jsonl"),
        ("dev.csv", "valid.csv"),
        ("test.csv", "test-000.csv"),
        ("train.csv", "train.csv.gz"),
    ],
)
def test_split_under_two_names_is_an_error(tmp_path: Path, rivals: tuple[str, str]) -> None:
    message = error_of(lambda: find_splits(touch(tmp_path, *rivals)))
    assert all(name in message for name in rivals)


def test_similar_names_do_not_count_beside_the_split_itself_and_are_noted(tmp_path: Path) -> None:
    touch(tmp_path, "train.csv", "dev.csv", "dev-mirrored.csv", "extra.csv", "test.txt", ".hidden.csv")
    assert names(find_splits(tmp_path)) == {"train": ["train.csv"], "valid": ["dev.csv"]}
    [note] = [note for note in load_dataset(tmp_path).notes if "Not used" in note]
    assert ".hidden.csv" not in note
    assert all(name in note for name in ("dev-mirrored.csv", "extra.csv", "test.txt"))


def test_single_similar_name_is_taken_and_noted_but_several_are_not(tmp_path: Path) -> None:
    for name in ("train-part.csv", "dev-high.csv", "dev-middle.csv"):
        write(tmp_path / name, "text,label\n" + "".join(f"a {i},1\nb {i},0\n" for i in range(20)))
    assert names(find_splits(tmp_path)) == {"train": ["train-part.csv"]}
    notes = " ".join(load_dataset(tmp_path).notes)
    assert "using train-part.csv" in notes and "dev-high.csv, dev-middle.csv" in notes


def test_folder_without_train_says_what_is_there_and_what_works(tmp_path: Path) -> None:
    folder = tmp_path / "my data"
    folder.mkdir()
    file = write_jsonl(folder / "test.jsonl", reviews(40))
    message = error_of(lambda: load_dataset(folder))
    assert "no train file" in message and f"--data '{file.as_posix()}'" in message
    assert load_dataset(file).splits.keys() == {"train", "valid", "test"}


def test_folder_of_other_things_says_what_is_there(tmp_path: Path) -> None:
    assert "and no other data file" in error_of(lambda: find_splits(tmp_path))
    write(tmp_path / "train.txt", "text")
    assert "train.txt" in error_of(lambda: find_splits(tmp_path))
    assert "no such file or folder" in error_of(lambda: find_splits(tmp_path / "nowhere"))


def test_single_file_is_split_by_label_and_nothing_is_lost(tmp_path: Path) -> None:
    data = load_dataset(write_jsonl(tmp_path / "reviews.jsonl", reviews(200)))
    n_test, n_valid = round(200 * TEST_FRACTION), round(200 * VALID_FRACTION)
    assert {split: len(examples) for split, examples in data.splits.items()} == {
        "train": 200 - n_test - n_valid,
        "valid": n_valid,
        "test": n_test,
    }
    assert data.kind == SINGLE
    for examples in data.splits.values():
        assert Counter(labels_of(examples)) == {0: len(examples) // 2, 1: len(examples) // 2}
    texts = [example.parts[0] for examples in data.splits.values() for example in examples]
    assert sorted(texts) == sorted(row["text"] for row in reviews(200))
    assert any("reviews.jsonl" in note and "stratified" in note for note in data.notes)


def test_same_seed_same_splits_and_another_seed_others(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", reviews(200))
    assert load_dataset(path, seed=1) == load_dataset(path, seed=1)
    assert load_dataset(path, seed=1).splits != load_dataset(path, seed=2).splits


def test_folder_without_valid_gives_part_of_train_and_says_so(tmp_path: Path) -> None:
    data = load_dataset(folder_of(tmp_path, train=reviews(100), test=reviews(10)))
    assert {split: len(examples) for split, examples in data.splits.items()} == {"train": 90, "valid": 10, "test": 10}
    assert any(note.startswith("valid: 10 of 100 rows drawn from train") for note in data.notes)


def test_folder_without_test_has_none_and_says_so(tmp_path: Path) -> None:
    data = load_dataset(folder_of(tmp_path, train=reviews(10), dev=reviews(4)))
    assert {split: len(examples) for split, examples in data.splits.items()} == {"train": 10, "valid": 4}
    assert "No test split." in data.notes
    assert sizes(tmp_path, test_fraction=0.2) == {"train": 8, "valid": 4, "test": 2}


def test_train_fraction_cuts_train_before_valid_is_drawn(tmp_path: Path) -> None:
    """The recipe mindspore-imdb: a stratified tenth of train, split 70/30."""
    folder = folder_of(tmp_path, train=reviews(1000), test=reviews(50))
    data = load_dataset(folder, train_fraction=0.1, valid_fraction=0.3)
    assert {split: len(examples) for split, examples in data.splits.items()} == {"train": 70, "valid": 30, "test": 50}
    assert Counter(labels_of(data.splits["train"])) == {0: 35, 1: 35}
    assert Counter(labels_of(data.splits["valid"])) == {0: 15, 1: 15}


def test_fraction_for_a_split_with_its_own_file_is_an_error(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, train=reviews(10), valid=reviews(10), test=reviews(10))
    assert "--valid-fraction 0.3" in (message := error_of(lambda: load_dataset(folder, valid_fraction=0.3)))
    assert "valid.jsonl" in message and "remove the flag" in message
    assert "--test-fraction 0.3" in error_of(lambda: load_dataset(folder, test_fraction=0.3))


@pytest.mark.parametrize(
    "fractions",
    [
        {"train_fraction": 0.0},
        {"train_fraction": 1.1},
        {"train_fraction": math.nan},
        {"valid_fraction": 1.0},
        {"test_fraction": -0.1},
        {"valid_fraction": 0.5, "test_fraction": 0.5},
        {"valid_fraction": 0.95},
    ],
)
def test_impossible_fractions_are_refused(tmp_path: Path, fractions: dict[str, float]) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", reviews(100))
    assert "-fraction" in error_of(lambda: load_dataset(path, **fractions))


def test_too_few_rows_to_draw_from_are_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", reviews(4))
    assert "too few" in (message := error_of(lambda: load_dataset(path))) and "--test-fraction" in message


def test_splits_may_be_given_as_files(tmp_path: Path) -> None:
    shards = [write_jsonl(tmp_path / f"{i}.jsonl", reviews(10)) for i in range(3)]
    assert sizes({"train": shards, "valid": shards[:1]}) == {"train": 30, "valid": 10}
    assert "no train split" in error_of(lambda: load_dataset({"test": shards}))
    with pytest.raises(ValueError, match="dev"):
        load_dataset({"train": shards, "dev": shards})


@pytest.mark.parametrize("mark", [{"label": -1}, {"label": None}, {}])
def test_split_without_labels_is_left_out_and_noted(tmp_path: Path, mark: dict[str, Any]) -> None:
    unlabelled = [{"text": f"t{i}", **mark} for i in range(5)]
    data = load_dataset(folder_of(tmp_path, train=reviews(20), valid=reviews(4), test=unlabelled))
    assert data.splits.keys() == {"train", "valid"}
    assert "test: skipped, because none of its 5 rows has a label." in data.notes


def test_unlabelled_csv_test_with_the_label_minus_one_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "text,label\n" + "".join(f"a {i},1\nb {i},0\n" for i in range(10)))
    write(tmp_path / "test.csv", "text,label\na,-1\nb,-1\n")
    assert load_dataset(tmp_path).splits.keys() == {"train", "valid"}


def test_unlabelled_multiple_choice_test_is_left_out(tmp_path: Path) -> None:
    choices = [{**CHOICE, "context": f"c {i}", "label": i % 2} for i in range(20)]
    data = load_dataset(folder_of(tmp_path, train=choices, test=[{**CHOICE, "label": -1}] * 3))
    assert data.kind == CHOICES and data.splits.keys() == {"train", "valid"}


def test_one_missing_label_in_a_labelled_split_is_an_error(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, train=reviews(20), test=[*reviews(3), {"text": "t", "label": None}])
    assert "test.jsonl row 4: no label" in error_of(lambda: load_dataset(folder))


def test_train_without_any_label_is_an_error(tmp_path: Path) -> None:
    assert "nothing to train on" in error_of(lambda: load_dataset(folder_of(tmp_path, train=reviews(20, (-1,)))))
    no_column = folder_of(tmp_path, train=[{"text": "t", "id": 1}])
    assert "no column for label" in error_of(lambda: load_dataset(no_column))


def test_some_rows_labelled_minus_one_are_kept_and_noted(tmp_path: Path) -> None:
    data = load_dataset(folder_of(tmp_path, train=reviews(40, (0, 1, 2, -1)), valid=reviews(4)))
    assert len(data.splits["train"]) == 40
    assert any("10 rows have the label -1" in note for note in data.notes)


def test_columns_of_train_hold_for_the_other_splits(tmp_path: Path) -> None:
    """A `score` column in test must not replace the `label` column of train."""
    test = [{"text": f"t{i}", "score": i} for i in range(3)]
    data = load_dataset(folder_of(tmp_path, train=reviews(20), test=test))
    assert "test" not in data.splits
    write_jsonl(tmp_path / "test.jsonl", [{"sentence": "t", "label": 1}])
    assert "test.jsonl row 1: no 'text'" in error_of(lambda: load_dataset(tmp_path))


def test_columns_not_used_are_noted(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", [{"id": i, **row, "weight": 2} for i, row in enumerate(reviews(40))])
    assert "Columns not used: id, weight." in load_dataset(path).notes


def test_csv_labels_of_all_splits_get_one_type(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "text,label\n" + "".join(f"a {i},1\nb {i},0\n" for i in range(10)))
    write(tmp_path / "test.csv", "text,label\na,1\nb,0.5\n")
    data = load_dataset(tmp_path)
    assert {type(label) for examples in data.splits.values() for label in labels_of(examples)} == {float}
    write(tmp_path / "test.csv", "text,label\na,1\nb,maybe\n")
    assert labels_of(load_dataset(tmp_path).splits["test"]) == ["1", "maybe"]
    assert set(labels_of(load_dataset(tmp_path).splits["train"])) == {"0", "1"}


def test_splits_of_different_choice_counts_are_an_error(tmp_path: Path) -> None:
    three = {**CHOICE, "choices": ["x", "y", "z"]}
    folder = folder_of(tmp_path, train=[CHOICE] * 20, test=[three])
    assert "test.jsonl row 1: 3 choices, expected 2" in error_of(lambda: load_dataset(folder))


# ---- Real data


@needs_shared_data
def test_imdb_is_read_split_and_its_repeated_texts_counted() -> None:
    """The numbers of duplicate and shared reviews are known for the original data set."""
    splits = load_dataset(SHARED / "imdb", valid_fraction=0.3).splits
    assert {split: Counter(labels_of(examples)) for split, examples in splits.items()} == {
        "train": {0: 8750, 1: 8750},
        "valid": {0: 3750, 1: 3750},
        "test": {0: 12_500, 1: 12_500},
    }
    found = find_duplicates({"train": [*splits["train"], *splits["valid"]], "test": splits["test"]})
    assert (found.repeated["test"], found.leaked["test"]) == (199, 123)


@needs_shared_data
@pytest.mark.parametrize(
    ("path", "kind", "expected"),
    [
        ("cola", SINGLE, {"train": 8551, "valid": 1043}),
        ("rte", PAIR, {"train": 2490, "valid": 277}),
        ("stsb", PAIR, {"train": 5749, "valid": 1500, "test": 1379}),
        ("storycloze/val.jsonl.xz", CHOICES, {"train": 1497, "valid": 187, "test": 187}),
        ("copa/dev.jsonl.xz", CHOICES, {"train": 400, "valid": 50, "test": 50}),
        ("ag_news/test.jsonl.xz", SINGLE, {"train": 6080, "valid": 760, "test": 760}),
    ],
)
def test_real_data_sets_of_every_kind_are_read(path: str, kind: InputKind, expected: dict[str, int]) -> None:
    data = load_dataset(SHARED / path)
    assert data.kind == kind
    assert {split: len(examples) for split, examples in data.splits.items()} == expected


@needs_shared_data
def test_folder_of_parts_names_them_and_the_command_that_works() -> None:
    message = error_of(lambda: load_dataset(SHARED / "race"))
    assert "train-middle.jsonl.xz" in message and "--data" in message and "race/train-" in message
