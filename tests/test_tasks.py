"""Input transformations of the paper, truncation, labels. Run: pytest tests/test_tasks.py"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt1.config import Head, TaskName
from gpt1.data.batching import EncodedExamples
from gpt1.data.example import Example
from gpt1.errors import UserError
from gpt1.tasks import TASKS, Labels, encode, limit
from gpt1.tasks.encoding import kept_lengths
from gpt1.tasks.labels import MOST_LABELS
from gpt1.tokenization.tokenizer import Tokenizer

LETTERS = "abcdefgh"
"""Words of the test vocabulary with ids 1 to 8; the special tokens are 10 to 13."""
TOKENIZER = Tokenizer.from_vocab({"<unk>": 0, **{f"{c}</w>": i for i, c in enumerate(LETTERS, 1)}, "\n</w>": 9}, [])
BOS, SEP, EOS = 11, 12, 13

properties = settings(deadline=None, max_examples=150)


def layout(encoded: EncodedExamples) -> list[str]:
    """Return the sequences as readable text: `<bos> a b <eos>`."""
    return [" ".join(TOKENIZER.tokens(ids)).replace("</w>", "") for ids in encoded.sequences]


def words(count: int, letter: str = "a") -> str:
    return " ".join(letter * count)


# ---- layouts


@pytest.mark.parametrize(
    ("task", "example", "expected"),
    [
        ("classification", Example(("a b c",)), ["<bos> a b c <eos>"]),
        ("classification", Example(("<br />",)), ["<bos> <eos>"]),
        ("entailment", Example(("a b", "c")), ["<bos> a b <sep> c <eos>"]),
        ("similarity", Example(("a b", "c")), ["<bos> a b <sep> c <eos>", "<bos> c <sep> a b <eos>"]),
        (
            "multiple-choice",
            Example(("a b",), ("c", "d e", "f")),
            ["<bos> a b <sep> c <eos>", "<bos> a b <sep> d e <eos>", "<bos> a b <sep> f <eos>"],
        ),
        (
            "multiple-choice",
            Example(("a b", "h g"), ("c", "d e")),
            ["<bos> a b h g <sep> c <eos>", "<bos> a b h g <sep> d e <eos>"],
        ),
    ],
    ids=["classification", "no word", "entailment", "both orders", "choices", "choices of a question"],
)
def test_each_task_lays_its_tokens_out_as_the_paper_does(task: TaskName, example: Example, expected: list[str]) -> None:
    encoded = encode(TASKS[task], [example, example], TOKENIZER, 512)
    assert layout(encoded) == expected * 2
    assert encoded.per_example == len(expected)
    assert len(encoded) == 2
    assert encoded.truncated == 0
    assert encoded.labels is None
    assert encoded.segments is None
    assert encoded.weights is None
    assert all(sequence.dtype == np.int32 for sequence in encoded.sequences)


def test_the_layout_in_ids_is_exactly_this() -> None:
    encoded = encode(TASKS["entailment"], [Example(("a c", "b \n h"))], TOKENIZER, 512)
    assert [sequence.tolist() for sequence in encoded.sequences] == [[BOS, 1, 3, SEP, 2, 9, 8, EOS]]


def test_segments_number_the_parts_and_the_separator_belongs_to_the_part_before_it() -> None:
    def segments(task: TaskName, example: Example) -> list[list[int]]:
        encoded = encode(TASKS[task], [example], TOKENIZER, 512, segments=True)
        assert encoded.segments is not None
        return [numbers.tolist() for numbers in encoded.segments]

    assert segments("classification", Example(("a b",))) == [[0, 0, 0, 0]]
    assert segments("entailment", Example(("a b", "c"))) == [[0, 0, 0, 0, 1, 1]]
    assert segments("similarity", Example(("a b", "c"))) == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1]]
    assert segments("multiple-choice", Example(("a", "b"), ("c", "d e"))) == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 1, 1, 1]]


def test_weights_go_along_where_any_example_has_one() -> None:
    encoded = encode(TASKS["classification"], [Example(("a",)), Example(("b",), weight=2.5)], TOKENIZER, 512)
    assert encoded.weights is not None
    assert encoded.weights.tolist() == [1.0, 2.5]
    assert encoded.weights.dtype == np.float32


def test_special_tokens_in_a_text_are_text() -> None:
    [ids] = encode(TASKS["classification"], [Example(("a <eos> b <pad>",))], TOKENIZER, 512).sequences
    assert (ids[0], ids[-1]) == (BOS, EOS)
    assert not {BOS, SEP, EOS, TOKENIZER.pad} & set(ids[1:-1].tolist())


# ---- truncation


def test_a_long_text_loses_its_end_and_keeps_its_special_tokens() -> None:
    texts = [Example((words(n),)) for n in (5, 6, 7, 20)]
    encoded = encode(TASKS["classification"], texts, TOKENIZER, 8)
    assert layout(encoded) == [f"<bos> {words(n)} <eos>" for n in (5, 6, 6, 6)]
    assert encoded.truncated == 2


@pytest.mark.parametrize(
    ("a", "b", "kept"),
    [(3, 2, (3, 2)), (9, 2, (3, 2)), (2, 9, (2, 3)), (9, 9, (2, 3)), (1, 9, (1, 4)), (9, 8, (3, 2)), (9, 0, (5, 0))],
)
def test_of_a_pair_the_longer_text_gives_first(a: int, b: int, kept: tuple[int, int]) -> None:
    encoded = encode(TASKS["entailment"], [Example((words(a), words(b, "b")))], TOKENIZER, 8)
    assert layout(encoded) == [" ".join(f"<bos> {words(kept[0])} <sep> {words(kept[1], 'b')} <eos>".split())]
    assert encoded.truncated == (kept != (a, b))


def test_both_orders_of_a_similarity_keep_the_same_words_and_count_once() -> None:
    encoded = encode(TASKS["similarity"], [Example((words(9), words(2, "b")))], TOKENIZER, 8)
    assert layout(encoded) == ["<bos> a a a <sep> b b <eos>", "<bos> b b <sep> a a a <eos>"]
    assert encoded.truncated == 1


def test_a_choice_is_cut_only_when_it_is_longer_than_context_and_question() -> None:
    example = Example((words(9), words(3, "b")), (words(2, "c"), words(9, "d")))
    encoded = encode(TASKS["multiple-choice"], [example], TOKENIZER, 11)
    assert layout(encoded) == ["<bos> a a a b b b <sep> c c <eos>", "<bos> a a a b b <sep> d d d <eos>"]
    assert encoded.truncated == 1


def test_a_length_that_holds_the_special_tokens_alone_leaves_just_them() -> None:
    assert layout(encode(TASKS["classification"], [Example(("a b",))], TOKENIZER, 2)) == ["<bos> <eos>"]
    assert layout(encode(TASKS["entailment"], [Example(("a b", "c"))], TOKENIZER, 3)) == ["<bos> <sep> <eos>"]
    assert layout(encode(TASKS["entailment"], [Example(("a b", "c"))], TOKENIZER, 4)) == ["<bos> a <sep> <eos>"]


@pytest.mark.parametrize(("task", "length"), [("classification", 1), ("entailment", 2), ("similarity", 0)])
def test_a_length_below_the_special_tokens_is_refused(task: TaskName, length: int) -> None:
    parts = ("a",) if task == "classification" else ("a", "b")
    with pytest.raises(UserError, match=f"--max-length {length}: too small for the"):
        encode(TASKS[task], [Example(parts)], TOKENIZER, length)


def test_an_example_is_counted_as_truncated_when_any_of_its_choices_is() -> None:
    example = Example(("a",), (words(9, "b"), "c"))
    encoded = encode(TASKS["multiple-choice"], [example, Example(("a",), ("b", "c"))], TOKENIZER, 8)
    assert layout(encoded)[:2] == ["<bos> a <sep> b b b b <eos>", "<bos> a <sep> c <eos>"]
    assert encoded.truncated == 1


# ---- truncation as in OpenAI's code


@pytest.mark.parametrize(("length", "most"), [(512, 254), (13, 4), (12, 4), (8, 2), (5, 0), (3, 0)])
def test_each_of_two_parts_is_cut_to_half_the_length_minus_two(length: int, most: int) -> None:
    """Even if the other part is short."""
    pairs = [Example((words(a), words(b, "b"))) for a, b in [(1, 600), (600, 1), (600, 600), (1, 1)]]
    encoded = encode(TASKS["entailment"], pairs, TOKENIZER, length, truncation="half")
    expected = [(min(1, most), most), (most, min(1, most)), (most, most), (min(1, most), min(1, most))]
    assert layout(encoded) == [" ".join(f"<bos> {words(a)} <sep> {words(b, 'b')} <eos>".split()) for a, b in expected]
    assert encoded.lengths.max() <= length
    assert encoded.truncated == (3 if most else 4)


def test_parts_that_fit_together_are_cut_all_the_same() -> None:
    pair = [Example((words(5), "b"))]
    assert layout(encode(TASKS["entailment"], pair, TOKENIZER, 12)) == ["<bos> a a a a a <sep> b <eos>"]
    halved = encode(TASKS["entailment"], pair, TOKENIZER, 12, truncation="half")
    assert layout(halved) == ["<bos> a a a a <sep> b <eos>"]
    assert halved.truncated == 1


def test_a_single_text_has_the_whole_length_either_way() -> None:
    text = [Example((words(20),))]
    found = [
        layout(encode(TASKS["classification"], text, TOKENIZER, 8, truncation=truncation))
        for truncation in ("longest", "half")
    ]  # type: ignore[arg-type]
    assert found == [[f"<bos> {words(6)} <eos>"]] * 2


def test_a_context_and_its_question_are_one_part_and_the_longer_one_gives_first() -> None:
    """A long context then leaves the question intact. ROCStories, the task of OpenAI's code, has no question."""
    example = Example((words(9), words(2, "b")), (words(9, "c"), "d"))
    encoded = encode(TASKS["multiple-choice"], [example], TOKENIZER, 16, truncation="half")
    assert layout(encoded) == ["<bos> a a a a b b <sep> c c c c c c <eos>", "<bos> a a a a b b <sep> d <eos>"]
    assert encoded.truncated == 1


def test_both_orders_of_a_similarity_are_halved_alike() -> None:
    encoded = encode(TASKS["similarity"], [Example((words(9), words(2, "b")))], TOKENIZER, 10, truncation="half")
    assert layout(encoded) == ["<bos> a a a <sep> b b <eos>", "<bos> b b <sep> a a a <eos>"]


def test_people_are_told_what_sequences_are_cut_to() -> None:
    assert limit(TASKS["entailment"], 512, "longest") == limit(TASKS["classification"], 512, "half") == "512 tokens"
    assert limit(TASKS["multiple-choice"], 512, "half") == "254 tokens per part"


@properties
@given(st.lists(st.integers(0, 40), min_size=1, max_size=4), st.integers(0, 60))
def test_what_is_kept_fills_the_room_and_only_the_longest_are_cut(lengths: list[int], room: int) -> None:
    kept = kept_lengths(lengths, room)
    assert sum(kept) == min(sum(lengths), room)
    assert all(0 <= k <= n for k, n in zip(kept, lengths, strict=True))
    cut = [k for k, n in zip(kept, lengths, strict=True) if k < n]
    assert all(k >= max(kept) - 1 for k in cut)  # a truncated text is still among the longest, within one token


@properties
@given(st.integers(0, 15), st.integers(0, 15), st.integers(3, 24))
def test_pairs_are_cut_as_the_tokenizers_library_cuts_them(a: int, b: int, max_length: int) -> None:
    """`transformers.pipeline` therefore reads the same tokens as gpt1."""
    library = tokenizers.Tokenizer.from_str(TOKENIZER.backend.to_str())
    library.enable_truncation(max_length, strategy="longest_first")
    first, second = words(a), words(b, "b")
    [ours] = encode(TASKS["entailment"], [Example((first, second))], TOKENIZER, max_length).sequences
    assert ours.tolist() == library.encode(first, second).ids


# ---- labels


def examples(*labels: str | int | float) -> list[Example]:
    return [
        Example((f"{LETTERS[i % 8]} a",), label=label, origin=f"train.csv row {i}") for i, label in enumerate(labels)
    ]


def learned(*labels: str | int | float, given: Sequence[str] | None = None) -> Labels:
    return Labels.of(examples(*labels), given)


def test_words_are_labels_in_alphabetical_order() -> None:
    labels = learned("good", "bad", "good", "so-so")
    assert labels == Labels(("bad", "good", "so-so"))
    assert labels.head("classification") == Head("classification", 3)
    ids = labels.ids(examples("so-so", "bad"))
    assert ids.tolist() == [2, 0]
    assert ids.dtype == np.int64


def test_whole_numbers_are_labels_in_the_order_of_numbers() -> None:
    labels = learned(10, 9, -1, 9)
    assert labels.names == ("-1", "9", "10")
    assert labels.ids(examples(9, 10, -1)).tolist() == [1, 2, 0]
    assert labels.ids(examples(9.0, 10.0)).tolist() == [1, 2]
    assert learned(1.0, 0.0, 1.0).names == ("0", "1")


def test_numbers_with_a_fraction_are_a_regression_of_pairs_and_else_classes() -> None:
    labels = TASKS["similarity"].labels(examples(0.0, 2.5, 5.0, 4.0))
    assert labels == TASKS["entailment"].labels(examples(0.5, 1.5)) == Labels(regression=True)
    assert labels.head("similarity") == Head("similarity", 1, regression=True)
    values = labels.ids(examples(1, 3.25, "4.50"))
    assert values.tolist() == [1.0, 3.25, 4.5]
    assert values.dtype == np.float32
    with pytest.raises(UserError, match=r"^train.csv row 1: found label 'high', expected a number"):
        labels.ids(examples(1, "high"))
    classes = TASKS["classification"].labels(examples(0.5, 10.0, 2.0, 0.5))
    assert classes.names == ("0.5", "2.0", "10.0")
    assert classes.ids(examples(2, "10", "0.50", 0.5)).tolist() == [1, 2, 0, 0]


def test_the_catalogue_names_numbered_labels() -> None:
    labels = learned(1, 0, 1, given=("neg", "pos"))
    assert labels.names == ("neg", "pos")
    assert labels.ids(examples(1, 0)).tolist() == [1, 0]
    assert labels.ids(examples(1.0, 0.0)).tolist() == [1, 0]
    assert labels.ids(examples("pos", "neg")).tolist() == [1, 0]
    assert learned(1, 2, 1, given=("one", "two", "three")).names == ("one", "two", "three")
    for strange in ((0, 2, 0), (-1, 0, 1, 1)):  # labels without a name
        names = learned(*strange, given=("neg", "pos")).names
        assert names == tuple(str(value) for value in sorted(set(strange)))
    assert learned("a", "b", "a", given=("neg", "pos")).names == ("a", "b")


def test_multiple_choice_counts_its_choices_and_has_one_score_for_each() -> None:
    labels = TASKS["multiple-choice"].labels(examples(0, 0))
    assert labels.head("multiple-choice") == Head("multiple-choice", 1)
    ids = labels.ids(examples(3, 1))
    assert ids.tolist() == [3, 1]
    assert ids.dtype == np.int64


@pytest.mark.parametrize(
    ("train", "label"),
    [
        (("good", "bad", "bad"), "great"),
        ((10, 9, 9), 0),
        ((1, 0, 0), 2),
        ((1, 0, 0), "1.5"),
        (("x", "y", "y"), 2),
        ((1, 0, 0), 0.5),
    ],
)
def test_a_label_that_training_never_had_is_named_with_its_row(
    train: tuple[str | int, ...], label: str | int | float
) -> None:
    labels = learned(*train)
    unseen = [*examples(train[0]), Example(("a",), label=label, origin="test.csv row 7 (line 8)")]
    with pytest.raises(UserError, match=r"^test.csv row 7 \(line 8\): label .* does not occur in the training split"):
        labels.ids(unseen)
    with pytest.raises(UserError, match=f"label '{label}' \\(1 row\\)"):
        encode(TASKS["classification"], unseen, TOKENIZER, 512, labels=labels)


def test_labels_reach_the_encoded_examples() -> None:
    labels = learned("x", "y", "x")
    encoded = encode(TASKS["classification"], examples("y", "x"), TOKENIZER, 512, labels=labels)
    assert encoded.labels is not None
    assert encoded.labels.tolist() == [1, 0]


def test_one_label_only_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"^train.csv row 0: every training example has the label 'x', expected at least two"
    ):
        learned("x", "x", "x")


def test_a_column_of_all_different_values_is_refused() -> None:
    with pytest.raises(
        UserError,
        match=r"^train.csv row 0: 'x' is one of 3 different labels in 3 training examples: .* one with --label",
    ):
        learned("x", "y", "z")
    assert learned("x", "y").names == ("x", "y")  # two examples with two labels are valid
    many = [value for value in range(MOST_LABELS + 1) for _ in range(2)]
    with pytest.raises(UserError, match=r"1,001 different labels"):
        learned(*many)
    assert len(learned(*many[2:]).names) == MOST_LABELS


def test_examples_of_different_numbers_of_choices_are_refused_with_the_row() -> None:
    two = Example(("a",), ("b", "c"), origin="train.jsonl row 1")
    three = Example(("a",), ("b", "c", "d"), origin="train.jsonl row 2")
    with pytest.raises(UserError, match=r"^train.jsonl row 2: found 3 choices, expected 2"):
        encode(TASKS["multiple-choice"], [two, three], TOKENIZER, 512)


def test_no_examples_are_no_sequences() -> None:
    for task in TASKS.values():
        assert len(encode(task, [], TOKENIZER, 512)) == 0


def test_every_task_is_found_by_its_own_name() -> None:
    assert [task.name for task in TASKS.values()] == list(TASKS)
    assert {task.input_kind.name for task in TASKS.values()} == {"single", "pair", "choices"}
