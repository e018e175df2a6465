"""The paper's zero-shot heuristics, compared with the NumPy reference. Run: pytest tests/test_zero_shot.py"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt1 import backends, cli
from gpt1.backends.base import Engine
from gpt1.backends.parameters import initialise, shapes
from gpt1.checkpoint.model_dir import Model, save_model
from gpt1.config import DeviceConfig, Heuristic, ModelConfig, ZeroShotConfig
from gpt1.data.batching import Collator, EncodedExamples
from gpt1.data.example import Example
from gpt1.errors import UserError
from gpt1.evaluation.zero_shot import LOWEST, Verdict, ZeroShot, best_threshold, find_heuristic, find_labels
from gpt1.inference.batched import mean_logprobs
from gpt1.tasks.metrics import METRICS
from gpt1.tokenization.tokenizer import Tokenizer
from support import reference_model
from support.engines import hardware

FLOAT32 = 1e-5
"""float32 forward pass of two layers against float64; log-probabilities are about 3, 1e-6 was measured."""

LETTERS = "abcdefgh"
"""The words of the hand-made vocabulary: ids 1 to 8; the special tokens are 10 to 13."""
TOKENIZER = Tokenizer.from_vocab({"<unk>": 0, **{f"{c}</w>": i for i, c in enumerate(LETTERS, 1)}, "\n</w>": 9}, [])
SHAPE = ModelConfig(n_layer=2, n_head=2, n_embd=8, n_ctx=12, vocab_size=TOKENIZER.vocab_size)
NO_TOKEN = "<br />"
"""A text of which the pre-tokenizer keeps nothing."""


def random_model() -> Model:
    """Return a model with weights so large that a word's probability depends on the words before it."""
    rng = np.random.default_rng(0)
    params = {name: rng.normal(0.0, 0.7, shape).astype(np.float32) for name, shape in shapes(SHAPE).items()}
    return Model(SHAPE, params, TOKENIZER)


def unigram_model(**probabilities: float) -> Model:
    """Return a model that gives each word a fixed probability at every position, and `<unk>` the rest."""
    shape = ModelConfig(n_layer=1, n_head=1, n_embd=4, n_ctx=12, vocab_size=TOKENIZER.vocab_size)
    params = initialise(shape, 0)
    params["h.0.ln_2.weight"][:] = 0.0
    params["h.0.ln_2.bias"][:] = [1.0, 0.0, 0.0, 0.0]  # every state, so that the logits are the first column
    known = np.full(shape.vocab_size, 1e-9)
    known[[TOKENIZER.encode(word)[0] for word in probabilities]] = list(probabilities.values())
    known[0] = 1.0 - known[1:].sum()
    params["tokens_embed.weight"][:, 0] = np.log(known)
    return Model(shape, params, TOKENIZER)


def judged(
    model: Model, heuristic: Heuristic, examples: Sequence[Example], train: list[Example] | None = None, **settings: Any
) -> Verdict:
    config = ZeroShotConfig(zero_shot=True, **settings)
    labels = find_labels(config, heuristic, train or examples)
    zero_shot = ZeroShot(model, config, DeviceConfig(device="cpu", dtype="float32"))
    return zero_shot.judge(heuristic, examples, labels, (lambda: train) if train else None)


def expected(model: Model, before: str, scored: str, n_ctx: int = SHAPE.n_ctx) -> float:
    """Return the reference's mean log-probability of `scored` after as much of `before` as fits."""
    context, continuation = TOKENIZER.encode(before), TOKENIZER.encode(scored)
    tokens = (context + continuation)[-n_ctx:]
    return reference_model.mean_logprob(model.params, model.config, tokens, max(1, len(tokens) - len(continuation)))


def texts(*labelled: tuple[str, int]) -> list[Example]:
    return [Example((text,), label=label, origin=f"row {i}") for i, (text, label) in enumerate(labelled, 1)]


# ---- mean log-probabilities


@pytest.fixture
def engine(backend: str) -> Engine:
    model = random_model()
    return backends.get(model.config, model.params, hardware=hardware(backend))


def test_means_are_the_references_whatever_stands_beside_a_sequence(engine: Engine) -> None:
    rng = np.random.default_rng(1)
    sequences = [rng.integers(1, 9, n).astype(np.int32) for n in (2, 12, 5, 3, 9, 12, 4, 2)]
    starts = np.array([1, 11, 2, 1, 8, 1, 3, 1]).reshape(-1, 2)
    for budget in (16, 1_000):
        engine.tokens_at_once = budget
        found = mean_logprobs(
            engine, EncodedExamples(sequences, per_example=2), starts, Collator(0, SHAPE.n_ctx, lm_targets=True)
        )
        wanted = [
            reference_model.mean_logprob(random_model().params, SHAPE, list(tokens), start)
            for tokens, start in zip(sequences, starts.ravel(), strict=True)
        ]
        assert found.ravel() == pytest.approx(wanted, abs=FLOAT32)


def test_nothing_to_score_is_minus_infinity(engine: Engine) -> None:
    one = EncodedExamples([np.array([3], np.int32), np.array([3, 4], np.int32)])
    found = mean_logprobs(engine, one, np.array([[1], [1]]), Collator(0, SHAPE.n_ctx, lm_targets=True))
    assert found[0, 0] == -np.inf
    assert np.isfinite(found[1, 0])


# ---- acceptability


def test_acceptable_is_what_the_model_finds_likely() -> None:
    model = unigram_model(a=0.5, b=0.25, c=0.125)
    train = texts(("h a a", 1), ("h a b", 1), ("h b c", 0), ("h c c", 0))
    verdict = judged(model, "acceptability", texts(("h a", 1), ("h c a c", 0), ("h b a b", 1)), train)
    between = (np.log(0.5 * 0.25) + np.log(0.25 * 0.125)) / 4  # between the last good and the first bad of train
    assert verdict.settings["threshold"] == pytest.approx(between, abs=FLOAT32)
    assert verdict.settings["threshold_matthews"] == 1.0
    means = np.array([np.log(0.5), (2 * np.log(0.125) + np.log(0.5)) / 3, (2 * np.log(0.25) + np.log(0.5)) / 3])
    assert verdict.logits[:, 1] == pytest.approx(means - between, abs=FLOAT32)
    scored = verdict.scores(texts(("h a", 1), ("h c a c", 0), ("h b a b", 1)), {})
    assert (scored["accuracy"], scored["matthews"], scored["examples"]) == (1.0, 1.0, 3)
    assert "loss" not in scored
    assert scored["confusion_matrix"] == [[1, 0], [0, 2]]


def test_a_whole_text_is_scored_from_its_second_word_on() -> None:
    model = random_model()
    verdict = judged(model, "acceptability", texts(("a b c d", 1), ("h g", 0)), threshold=0.0)
    wanted = [expected(model, "a", "b c d"), expected(model, "h", "g")]
    assert verdict.logits == pytest.approx(np.array([[0.0, wanted[0]], [0.0, wanted[1]]]), abs=FLOAT32)


def test_a_text_of_one_word_or_none_counts_as_the_least_likely_and_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    examples = texts(("a", 1), (NO_TOKEN, 1), ("a b", 0))
    verdict = judged(random_model(), "acceptability", examples, threshold=-50.0)
    assert verdict.scores(examples, {})["confusion_matrix"] == [[0, 1], [2, 0]]
    assert list(verdict.logits[:2, 1]) == [LOWEST + 50.0] * 2
    assert "2 of 3 examples have a text without a log-probability" in capsys.readouterr().err


def test_a_long_text_is_read_to_the_end_of_the_context_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    model, long = random_model(), " ".join(LETTERS * 3)
    verdict = judged(model, "acceptability", texts((long, 1), ("a b", 0)), threshold=0.0)
    assert verdict.logits[0, 1] == pytest.approx(expected(model, "a", " ".join((LETTERS * 3)[1:12])), abs=FLOAT32)
    assert verdict.encoded.truncated == 1
    assert "1 of 2 examples were truncated: only their first 12 tokens" in capsys.readouterr().err


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_is_the_best_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(-9, 0, 40) / 2.0  # with ties
    labels = (scores + rng.normal(0.0, 2.0, 40) > -2.5).astype(np.int64)
    threshold, matthews = best_threshold(scores, labels)
    everywhere = {cut: METRICS["matthews"](labels, scores > cut) for cut in np.arange(-9.75, 0.0, 0.25)}
    assert matthews == pytest.approx(max(everywhere.values()), abs=FLOAT32)
    assert METRICS["matthews"](labels, scores > threshold) == pytest.approx(matthews, abs=FLOAT32)
    assert threshold not in scores


def test_scores_that_are_all_the_same_have_no_threshold() -> None:
    with pytest.raises(UserError, match="all training texts have the same mean log-probability; give --threshold"):
        best_threshold(np.full(4, -2.0), np.array([0, 1, 0, 1]))


# ---- sentiment


def test_the_sentiment_is_the_word_that_follows_the_appended_one() -> None:
    model = random_model()
    examples = texts(("a b c", 0), ("g", 1), (NO_TOKEN, 1))
    verdict = judged(model, "sentiment", examples, label_words="d,e f", prompt_suffix="h")
    wanted = [[expected(model, f"{text} h", word) for word in ("d", "e f")] for text in ("a b c", "g", "")]
    assert verdict.logits == pytest.approx(np.array(wanted), abs=FLOAT32)
    assert verdict.settings == {"heuristic": "sentiment", "label_words": {"0": "d", "1": "e f"}, "prompt_suffix": "h"}


def test_a_long_text_loses_its_beginning_before_the_appended_word_and_the_label() -> None:
    model, long = random_model(), " ".join(LETTERS * 2)
    verdict = judged(model, "sentiment", texts((long, 0), ("a", 1)), label_words="d,e f", prompt_suffix="h")
    wanted = [
        expected(model, " ".join((LETTERS * 2)[-10:]) + " h", "d"),
        expected(model, " ".join((LETTERS * 2)[-9:]) + " h", "e f"),
    ]
    assert verdict.logits[0] == pytest.approx(wanted, abs=FLOAT32)
    assert verdict.encoded.truncated == 1


def test_each_label_may_have_its_word() -> None:
    model = unigram_model(a=0.1, b=0.3, c=0.2)
    examples = texts(("h", 0), ("h h", 1), ("g", 2), ("g h", 2))
    scored = judged(model, "sentiment", examples, label_words="a,b,c", prompt_suffix="").scores(examples, {})
    assert scored["confusion_matrix"] == [[0, 1, 0], [0, 1, 0], [0, 2, 0]]


# ---- choice


def test_the_choice_is_the_likeliest_after_context_and_question_by_the_mean_of_its_words() -> None:
    model = random_model()
    examples = [
        Example(("a b", "h"), ("c", "d e f", "g g"), label=0),
        Example(("f", "e"), ("b a c", NO_TOKEN, "h"), label=2),
    ]
    verdict = judged(model, "choice", examples)
    wanted = [
        [expected(model, f"{' '.join(e.parts)}", choice) for choice in e.choices if choice != NO_TOKEN]
        for e in examples
    ]
    assert verdict.logits[0] == pytest.approx(wanted[0], abs=FLOAT32)
    assert verdict.logits[1, [0, 2]] == pytest.approx(wanted[1], abs=FLOAT32)
    assert verdict.logits[1, 1] == LOWEST
    right = [int(np.argmax(row)) == example.label for row, example in zip(verdict.logits, examples, strict=True)]
    assert verdict.scores(examples, {})["accuracy"] == np.mean(right)


def test_a_long_context_keeps_its_end_and_the_choice_stays_whole(capsys: pytest.CaptureFixture[str]) -> None:
    model, long = random_model(), " ".join(LETTERS * 2)
    examples = [Example((long,), ("a", " ".join("b" * 11)), label=0), Example(("c",), ("a", "b b"), label=1)]
    verdict = judged(model, "choice", examples)
    wanted = [expected(model, " ".join((LETTERS * 2)[-11:]), "a"), expected(model, "h", " ".join("b" * 11))]
    assert verdict.logits[0] == pytest.approx(wanted, abs=FLOAT32)
    assert verdict.encoded.truncated == 1
    assert "1 of 2 examples were truncated: only the end of the context" in capsys.readouterr().err


def test_a_choice_that_leaves_no_room_for_its_context_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"row 7: the choice 'b b .* has 12 tokens, too many for the model's context of 12"
    ):
        judged(random_model(), "choice", [Example(("a",), ("c", " ".join("b" * 12)), label=0, origin="row 7")])


# ---- selection of the heuristic, invalid settings

TEXT, CHOICE, PAIR = Example(("a",), label=0), Example(("a",), ("b", "c"), label=0), Example(("a", "b"), label=0)


@pytest.mark.parametrize(
    ("data", "example", "flag", "found"),
    [
        ("cola", TEXT, None, "acceptability"),
        ("data/SST2", TEXT, None, "sentiment"),
        ("imdb", TEXT, None, "sentiment"),
        ("reviews", TEXT, None, "sentiment"),
        ("anything", CHOICE, None, "choice"),
        ("cola", TEXT, "sentiment", "sentiment"),
    ],
)
def test_the_heuristic_follows_from_flag_columns_or_name(
    data: str, example: Example, flag: Heuristic | None, found: str
) -> None:
    assert find_heuristic(ZeroShotConfig(zero_shot=True, heuristic=flag), data, [example]) == found


def test_a_files_name_or_its_folders_says_the_heuristic(tmp_path: Path) -> None:
    (tmp_path / "cola").mkdir()
    for name in ("cola/dev.jsonl.xz", "cola.csv"):
        (tmp_path / name).touch()
        assert find_heuristic(ZeroShotConfig(zero_shot=True), str(tmp_path / name), [TEXT]) == "acceptability"


@pytest.mark.parametrize(
    ("example", "settings", "said"),
    [
        (TEXT, {}, "choose how to label them: --heuristic acceptability or sentiment"),
        (PAIR, {}, "holds pairs of texts"),
        (TEXT, {"heuristic": "choice"}, "--heuristic choice: .* holds texts"),
        (CHOICE, {"heuristic": "sentiment"}, "--heuristic sentiment: .* holds contexts with choices"),
        (TEXT, {"heuristic": "sentiment", "threshold": 0.0}, r"--threshold 0\.0: not used by --heuristic sentiment"),
        (CHOICE, {"prompt_suffix": "so"}, "--prompt-suffix so: not used by --heuristic choice"),
    ],
)
def test_what_does_not_go_together_is_refused(example: Example, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        find_heuristic(ZeroShotConfig(zero_shot=True, **settings), "mine", [example])


@pytest.mark.parametrize(
    ("heuristic", "settings", "said"),
    [
        ("acceptability", {}, "--threshold is required: the data has no training split"),
        ("sentiment", {"label_words": "a,b,c"}, r"--label-words a,b,c: predicts 3 labels, the data has 2 \(0, 1\)"),
        ("sentiment", {"label_words": "a,a"}, "--label-words a,a: in this model's tokenizer, two are identical"),
        ("sentiment", {"label_words": "a,"}, "or one is empty"),
        ("sentiment", {"label_words": "a," + "b " * 12}, "longer than the model's context of 12 tokens"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(heuristic: Heuristic, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        judged(random_model(), heuristic, texts(("a b", 0), ("c d", 1), ("e f", 1)), **settings)


def test_labels_of_another_number_are_refused() -> None:
    with pytest.raises(UserError, match=r"--heuristic acceptability: predicts 2 labels, the data has 3 \(0, 1, 2\)"):
        judged(random_model(), "acceptability", texts(("a b", 0), ("c d", 1), ("e f", 2), ("g h", 2)), threshold=-1.0)


# ---- the command


def written(folder: Path, **splits: list[tuple[str, Any]]) -> Path:
    folder.mkdir()
    for split, rows in splits.items():
        lines = (json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return folder


ROWS = [("h a a", "good"), ("h a b", "good"), ("h b c", "bad"), ("h c c", "bad")]


def test_a_language_model_without_a_head_labels_a_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(tmp_path / "lm", unigram_model(a=0.5, b=0.25, c=0.125))
    data = written(tmp_path / "cola", train=ROWS, test=[*ROWS, ("h b a", "good")])
    words = ["evaluate", str(tmp_path / "lm"), "--data", str(data), "--device", "cpu"]
    assert cli.main([*words, "--zero-shot", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert set(found) == {"test", "baseline", "baseline_split", "verdict"}
    assert (found["test"]["accuracy"], found["test"]["labels"], found["baseline_split"]) == (
        1.0,
        ["bad", "good"],
        "test",
    )
    assert found["baseline"]["majority class"]["accuracy"] == 0.6
    assert found["verdict"] == (  # even of five correct answers the interval includes 0
        "No better than always predicting the majority class, as far as 5 examples can show: "
        "accuracy 1.000 against 0.600 (difference +0.400 [+0.000, +0.800])."
    )
    assert "Label 'good' (id 1) means acceptable." in err
    assert "float32" in err
    assert cli.main([*words, "--zero-shot", "--max-examples", "2", "--split", "train", "--no-baseline", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["train"]["examples"], found["baseline"], found["verdict"]) == (2, {}, None)
    assert cli.main([*words, "--zero-shot", "--threshold", "-99", "--json"]) == 0
    out, err = capsys.readouterr()
    verdict = json.loads(out)["verdict"]
    assert verdict.startswith(
        "Never predicted: bad (2 examples). No better than always predicting the majority class: "
    )
    assert "Try" not in verdict and verdict in err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--zero-shot", "--data", "cola/test.jsonl"], "gpt1: --threshold is required"),
        (
            ["--zero-shot", "--data", "cola", "--split", "valid"],
            "gpt1: --split valid: no such split in cola; expected one of train, test",
        ),
        (["--zero-shot", "--data", "cola", "--threshold", "nan"], "--threshold nan: expected a number"),
        (["--zero-shot", "--data", "cola", "--heuristic", "choice"], "no column for"),
        (
            ["--data", "cola", "--label-words", "a,b"],
            "--threshold, --label-words and --prompt-suffix require --zero-shot",
        ),
        (["--data", "cola"], "is a language model without a task"),
        (["--data", "cola"], "; or label without training: add --zero-shot"),
    ],
)
def test_bad_input_of_the_command_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, flags: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "lm", unigram_model(a=0.5, b=0.25, c=0.125))
    written(tmp_path / "cola", train=ROWS, test=ROWS)
    assert cli.main(["evaluate", "lm", *flags]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err.splitlines()[-1]
