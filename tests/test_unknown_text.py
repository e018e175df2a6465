"""Text that a vocabulary does not know: share, notice, refusal. Run: pytest tests/test_unknown_text.py"""

from __future__ import annotations

import pytest

from gpt1.config import FinetuneConfig
from gpt1.config.overrides import with_overrides
from gpt1.data.batching import EncodedExamples
from gpt1.data.example import Example
from gpt1.errors import UserError
from gpt1.tasks import TASKS, encode
from gpt1.tasks.unknown_text import UnknownCount, check_texts, check_training_texts, require_known, unknown_shares
from gpt1.tokenization.trainer import train

ENGLISH = train(["a warm and funny film"] * 3, 80)
BYTES = train(["a warm and funny film"] * 3, 600, byte_fallback=True)


def encoded(*texts: str, tokenizer: object = ENGLISH) -> tuple[list[Example], EncodedExamples]:
    examples = [Example((text,), origin=f"row {i}") for i, text in enumerate(texts, 1)]
    return examples, encode(TASKS["classification"], examples, tokenizer, 64)  # type: ignore[arg-type]


def test_the_share_is_that_of_the_bytes_without_blanks() -> None:
    _, found = encoded("a film", "a 好 film", "好看 好", "")
    assert unknown_shares(found).tolist() == [0, 3 / 8, 1, 0]


def test_bytes_leave_nothing_unknown() -> None:
    assert unknown_shares(encoded("好看 🤮", tokenizer=BYTES)[1]).tolist() == [0]


def test_a_text_that_occurs_in_several_sequences_counts_once() -> None:
    example = Example(("好 film", "a film"))
    found = encode(TASKS["similarity"], [example], ENGLISH, 64)
    assert found.unknown_bytes is not None and found.text_bytes is not None
    assert (found.unknown_bytes.tolist(), found.text_bytes.tolist()) == ([3], [12])


@pytest.mark.parametrize(("settings", "way"), [
    ({}, "--model random:mini learns a vocabulary"),
    ({"model": "random:tiny"}, "larger --vocab-size"),
    ({"model": "random:tiny", "tokenizer": "mini"}, "without --tokenizer mini"),
])  # fmt: skip
def test_training_texts_that_are_mostly_unknown_are_refused_with_a_way_that_works(
    settings: dict[str, str], way: str
) -> None:
    config = with_overrides(FinetuneConfig(), settings)
    examples, found = encoded("a film", "好看的电影")
    with pytest.raises(UserError, match=r"75\.0% of the bytes .* \(first: row 2\); .*--allow-unknown") as caught:
        check_training_texts(config, examples, found)
    assert way in str(caught.value)
    assert "75.0%" in str(check_training_texts(config, examples, found, resumed=True))
    allowed = with_overrides(config, {"allow_unknown": True})
    assert "75.0%" in str(check_training_texts(allowed, examples, found))


def test_a_few_unknown_characters_are_noted_from_five_percent_on() -> None:
    config = FinetuneConfig()
    assert check_training_texts(config, *encoded("a warm and funny film", "a warm film")) is None
    assert "unknown to the vocabulary" in str(check_training_texts(config, *encoded("a warm 好 film")))


def test_another_split_is_noted_if_it_is_mostly_unknown_and_the_training_texts_are_not() -> None:
    known, unknown = encoded("a film", "a warm film"), encoded("a film", "好看的电影")

    def notes(config: FinetuneConfig = FinetuneConfig(), **parts: tuple[list[Example], EncodedExamples]) -> list[str]:  # noqa: B008
        splits, ids = ({name: part[i] for name, part in parts.items()} for i in (0, 1))
        return check_texts(config, splits, ids)  # type: ignore[arg-type]

    assert notes(train=known, valid=known, test=encoded("a 好", "a film")) == []
    [note] = notes(train=known, valid=known, test=unknown)
    assert note.startswith("test: 75.0% of the bytes of the texts are unknown")
    assert "(first: row 2), 0.0% in train" in note
    [note] = notes(with_overrides(FinetuneConfig(), {"allow_unknown": True}), train=unknown, valid=unknown)
    assert "training texts" in note


def test_rows_are_counted_and_a_single_text_of_nothing_known_is_refused() -> None:
    examples, found = encoded("a film", "a film 好", "🤮🤮")
    count = UnknownCount()
    count.add(unknown_shares(found))
    assert str(count.notice(3, "rows")).startswith("2 of 3 rows: 5% of the bytes or more are unknown")
    assert UnknownCount().notice(3, "rows") is None
    require_known(examples[:2], encoded("a film", "a film 好")[1])
    with pytest.raises(UserError, match="row 3: every character is unknown"):
        require_known(examples, found)
