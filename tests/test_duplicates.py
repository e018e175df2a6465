"""Identical examples: duplicates, leaks between splits, contradictory labels.

Run: pytest tests/test_duplicates.py
"""

from __future__ import annotations

import pytest

from gpt1.data.duplicates import DIGEST_BYTES, find_duplicates, keys
from gpt1.data.example import Example


def same(one: Example, other: Example) -> bool:
    return keys([one]) == keys([other])


def rows(*labelled: tuple[str, object]) -> list[Example]:
    return [Example((text,), label=label, origin=f"row {i}") for i, (text, label) in enumerate(labelled, 1)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other",
    ["ONE café two", " one  café\n\ttwo ", "one cafe\N{COMBINING ACUTE ACCENT} two", "one\N{NO-BREAK SPACE}café two"],
)
def test_case_blanks_and_composed_characters_make_no_difference(other: str) -> None:
    assert same(Example(("one café two",)), Example((other,)))


@pytest.mark.parametrize("other", ["one cafe two", "one café, two", "onecafé two", "one café"])
def test_other_letters_marks_and_words_do(other: str) -> None:
    assert not same(Example(("one café two",)), Example((other,)))


def test_label_weight_and_origin_are_not_part_of_the_key() -> None:
    assert same(Example(("a",), label=1, weight=2.0, origin="row 1", group="x"), Example(("a",)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Example(("a", "b")), Example(("b", "a"))),
        (Example(("a b", "c")), Example(("a", "b c"))),
        (Example(("a", "b")), Example(("a b",))),
        (Example(("a", "b")), Example(("a\x1fb",))),
        (Example(("a",), ("b", "c")), Example(("a", "b"), ("c",))),
        (Example(("a",), ("b", "c")), Example(("a",), ("c", "b"))),
        (Example(("a",), ("b", "c")), Example(("a",), ("b\x1ec",))),
    ],
)
def test_pairs_and_choices_are_the_same_only_if_each_text_is(one: Example, other: Example) -> None:
    assert not same(one, other)


def test_keys_are_digests_of_one_size() -> None:
    """A run stores them; texts cannot be restored from them."""
    assert {len(key) for key in keys(rows(("a", 0), ("a long text " * 99, 0)))} == {DIGEST_BYTES}


def test_duplicates_are_counted_by_split_and_leaks_against_train() -> None:
    found = find_duplicates(
        {"train": rows(("a", 0), ("b", 0), ("A ", 0)), "valid": rows(("c", 0)), "test": rows(("b", 0), ("B", 0))}
    )
    assert found.repeated == {"train": 1, "valid": 0, "test": 1}
    assert found.leaked == {"valid": 0, "test": 2}
    assert found.notes() == [
        "train: 1 examples are duplicates of earlier examples of the same split.",
        "test: 1 examples are duplicates of earlier examples of the same split.",
        "test: 2 of 2 examples also occur in the training split.",
    ]


def test_contradictions_name_the_first_row_of_each_label() -> None:
    train = rows(("a", "good"), ("b", "bad"), ("A", "good"), ("c", "bad"), ("a ", "bad"), ("b", "bad"))
    test = [Example(("C",), label="good", origin="test row 1")]
    found = find_duplicates({"train": train, "test": test})
    assert [[example.origin for example in each.examples] for each in found.contradictions] == [
        ["row 1", "row 5"],
        ["row 4", "test row 1"],
    ]
    assert [each.rows for each in found.contradictions] == [3, 2]
    assert found.notes()[-1] == (
        "Contradictory labels: 5 examples have a text that occurs with several labels, such as good in row 1 and bad "
        "in row 5."
    )


def test_unlabelled_examples_contradict_none() -> None:
    assert find_duplicates({"train": rows(("a", 1), ("a", None))}).contradictions == ()


def test_no_duplicates_no_notes() -> None:
    assert find_duplicates({"train": rows(("a", 0), ("b", 1)), "test": rows(("c", 1))}).notes() == []
