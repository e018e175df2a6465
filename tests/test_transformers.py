"""Parity with `transformers` 5: the same weights give the same logits and gradients, and our directories are theirs.

Float32 on both sides, on the CPU.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gpt1 import backends
from gpt1.backends.base import IGNORE, Batch, Engine
from gpt1.backends.parameters import Params, from_huggingface, initialise, shapes, to_huggingface
from gpt1.checkpoint.convert import convert
from gpt1.checkpoint.model_dir import Model, load_model, save_model
from gpt1.config import DeviceConfig, DropoutConfig, Head, LossConfig, ModelConfig, Stored
from gpt1.data.example import Example
from gpt1.inference.classifier import Classifier
from gpt1.inference.scorer import Scorer
from gpt1.system.tensors import read_tensors
from gpt1.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer
from gpt1.tokenization.trainer import train as train_tokenizer
from support.comparisons import assert_identical
from support.model_cases import float32, random_params
from support.shared_data import SHARED_DATA

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors_torch = pytest.importorskip("safetensors.torch")

LOGITS = 1e-5
"""Largest difference of a logit of about 3. At 12 layers either side is up to 4e-6 from the same in float64."""
GRADIENTS = 1e-4
"""Largest difference of a gradient; those of the losses here are about 1."""
PROBABILITIES = 1e-5

CPU = DeviceConfig(device="cpu", dtype="float32")
REVIEWS = Path(__file__).resolve().parents[1] / "src" / "gpt1" / "assets" / "reviews"
IMDB = SHARED_DATA / "imdb" / "test.jsonl.xz"

# ---- the same weights


def peer(kind: str, config: ModelConfig, params: Params, **settings: Any) -> Any:
    """Return a `transformers` model OpenAIGPT`kind` that holds `params`, without dropout."""
    model = getattr(transformers, f"OpenAIGPT{kind}")(
        transformers.OpenAIGPTConfig(
            vocab_size=config.vocab_size, n_positions=config.n_ctx, n_embd=config.n_embd, n_layer=config.n_layer,
            n_head=config.n_head, pad_token_id=0, **settings,
        )
    )  # fmt: skip
    weights = {to_huggingface(name): torch.from_numpy(value) for name, value in params.items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}  # tied
    return model.eval()


def engine_of(config: ModelConfig, params: Params, lm_coef: float = 0.0) -> Engine:
    return backends.get(config, params, hardware=CPU, dropout=DropoutConfig.none(), loss=LossConfig(lm_coef))


def lm_logits(engine: Any, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the (N, T, V) logits of the torch engine: it never forms them by itself."""
    with torch.inference_mode():
        logits = engine.model(torch.from_numpy(tokens), None) @ engine.model.tokens_embed.weight.T
    return np.asarray(logits)


def difference(found: NDArray[Any], expected: Any) -> float:
    expected = expected.detach().numpy() if isinstance(expected, torch.Tensor) else expected
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max())


def assert_gradients_equal(gradients: Params, model: Any) -> None:
    expected = dict(model.named_parameters())
    assert expected.keys() == {to_huggingface(name) for name in gradients}
    assert max(np.abs(gradient).max() for gradient in gradients.values()) > 0.05
    for name, gradient in gradients.items():
        assert difference(gradient, expected[to_huggingface(name)].grad) <= GRADIENTS, name


def random_case(shape: tuple[int, int, int], n: int, time: int, head: Head | None) -> tuple[ModelConfig, Params, Batch]:
    """Return a model of (layers, heads, width) and n texts of up to `time` tokens, padded with 0."""
    n_layer, n_head, n_embd = shape
    config = ModelConfig(n_layer, n_head, n_embd, n_ctx=512, vocab_size=211, head=head)
    rng = np.random.default_rng(time)
    std = np.float32(0.8 / n_embd**0.5)
    params = {name: std * rng.standard_normal(of, np.float32) for name, of in shapes(config).items()}
    for name, value in params.items():
        value += name.endswith(("ln_1.weight", "ln_2.weight"))
    lengths = rng.integers(1, time + 1, n)
    lengths[0] = time
    tokens = np.where(np.arange(time) < lengths[:, None], rng.integers(1, 211, (n, time)), 0).astype(np.int32)
    following = np.arange(1, time + 1) < lengths[:, None]
    labels: NDArray[Any] | None = None
    if head:
        labels = rng.normal(size=n).astype(np.float32) if head.regression else rng.integers(0, head.n_labels, n)
    targets = None if head else np.where(following, np.roll(tokens, -1, 1), IGNORE).astype(np.int32)
    return config, params, Batch(tokens, (lengths - 1).astype(np.int32), labels, lm_targets=targets)


SHAPES = [
    pytest.param((2, 2, 64), 3, 17, id="2x64, T=17"),
    pytest.param((1, 1, 16), 8, 2, id="1x16, T=2"),
    pytest.param((3, 4, 48), 2, 130, id="3x48, T=130"),
    pytest.param((2, 2, 32), 2, 512, id="2x32, T=512"),
    pytest.param((12, 12, 768), 2, 40, id="12x768, T=40", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("shape", "n", "time"), SHAPES)
def test_language_model_equals_transformers(shape: tuple[int, int, int], n: int, time: int) -> None:
    config, params, batch = random_case(shape, n, time, None)
    model, engine = peer("LMHeadModel", config, params), engine_of(config, params)
    assert batch.lm_targets is not None
    wanted = np.pad(batch.lm_targets, ((0, 0), (1, 0)), constant_values=IGNORE)[:, :-1]  # they shift by themselves
    labels = torch.from_numpy(np.where(wanted == IGNORE, -100, wanted)).long()
    out = model(torch.from_numpy(batch.tokens).long(), labels=labels)
    out.loss.backward()
    assert difference(lm_logits(engine, batch.tokens), out.logits) <= LOGITS
    losses, gradients = engine.gradients([batch])
    assert losses["loss"] == pytest.approx(out.loss.item(), abs=LOGITS)
    assert_gradients_equal(gradients, model)


@pytest.mark.parametrize("head", [Head("classification", 3), Head("classification", 1, regression=True)])
@pytest.mark.parametrize(("shape", "n", "time"), SHAPES)
def test_classifier_equals_transformers(shape: tuple[int, int, int], n: int, time: int, head: Head) -> None:
    config, params, batch = random_case(shape, n, time, head)
    problem = "regression" if head.regression else "single_label_classification"
    model = peer("ForSequenceClassification", config, params, num_labels=head.n_labels, problem_type=problem)
    engine = engine_of(config, params)
    out = model(torch.from_numpy(batch.tokens).long(), labels=torch.from_numpy(np.asarray(batch.labels)))
    out.loss.backward()
    assert difference(engine.logits(batch), out.logits) <= LOGITS
    losses, gradients = engine.gradients([batch])
    assert losses["loss"] == pytest.approx(out.loss.item(), abs=LOGITS)
    assert_gradients_equal(gradients, model)


# ---- a model directory of ours, read by transformers


NASTY = [
    "A plain, short review.",
    "I loved it.<br /><br />Then I did not... <b>Really</b> <i>not</i><br>!",
    "First line.\n\n  \nSecond line.\r\nThird.\rFourth\t\ttabs and   blanks ",
    "It’s “good” ‘enough’ — or – well… isn´t it?",
    "Tokens as text: <eos> <pad> <bos> <sep> <unk> </w> e</w> <|endoftext|> [CLS] <s>",
    "<pad>",
    "the end <eos> <pad> <pad>",
    "Café, cafe\u0301, naïve, façade, ﬁne, İstanbul, STRASSE ẞ ß, ǅ, Ω Ω",
    "電影很好看。とても面白い！ 영화가 좋다 и это тоже, وهذا أيضا",
    "👍👩‍👩‍👧 5/5!!! 😀\u200d\u200b\ufeffhidden\xa0spaces\u2028line\u2029paragraph\u3000wide",
    "\x00\x01 control \x7f\x85 characters \ufffd",
    "don't 'tis rock'n'roll y'all'd've O'Neill's dogs' ''quoted''",
    "1234567 3.14 1,000,000 1st 2nd a1b2c3 x_y_z a-b-c http://example.org/?q=1&r=2",
    "a < b > c <3 <- -> << >> <br <<br>> </ > <!-- comment --> <!doctype x> <a href='x>y'>link</a>",
    "<" * 300,
    "b" * 3000,
    "so bad " * 400,
    "One sentence. " * 127 + "Exactly at the limit?",
    "what?!" * 300,
    "MiXeD cAsE AND SHOUTING",
    "",
    " \n ",
]


def pairs(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Return each text with the one that stands as far from the other end, so that short meets long."""
    some = [text for text in texts if text]  # they take an empty second text for none; our data has no empty texts
    return list(zip(some, reversed(some), strict=True))


def reviews(split: str) -> list[str]:
    lines = (REVIEWS / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([*reviews("train"), *NASTY], 700)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "model"


Make = Callable[..., Model]


@pytest.fixture
def make(tokenizer: Tokenizer, directory: Path) -> Make:
    """Write a model directory with random weights that are large enough for decided answers, and return the model."""

    def written(head: Head | None, labels: Sequence[str] = (), *, max_length: int = 512, **shape: int) -> Model:
        config = ModelConfig(2, 2, 32, **{"n_ctx": 512, "vocab_size": tokenizer.vocab_size, **shape}, head=head)
        params = float32(random_params(config, seed=7, scale=0.35 if head else 0.2))
        model = Model(config, params, tokenizer, tuple(labels), max_length)
        save_model(directory, model)
        return model

    return written


def pipeline(directory: Path, **settings: Any) -> Any:
    return transformers.pipeline("text-classification", str(directory), truncation=True, device="cpu", **settings)


def assert_same_labels(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Assert that `predict`'s answers are the pipeline's: label, score."""
    assert [each["label"] for each in found] == [each["label"] for each in expected]
    assert [each["score"] for each in found] == pytest.approx([each["score"] for each in expected], abs=PROBABILITIES)
    assert len({each["label"] for each in found}) > 1, "a model that always says the same would hide a difference"


def test_pipeline_gives_our_labels_and_probabilities_on_raw_text(make: Make, directory: Path) -> None:
    """Also in padded batches, and all scores."""
    make(Head("classification", 3), ["negative", "mixed", "positive"])
    model = Classifier.open(directory, CPU)
    texts = [*NASTY, *reviews("test")[:10]]
    found, pipe = model.predict([Example((text,)) for text in texts]), pipeline(directory)
    assert_same_labels(found, pipe(texts))
    assert_same_labels(found, pipe(texts, batch_size=5))
    for ours, theirs in zip(found, pipe(texts, top_k=None), strict=True):
        assert ours["scores"] == pytest.approx({each["label"]: each["score"] for each in theirs}, abs=PROBABILITIES)
        assert theirs[0]["label"] == ours["label"]


@pytest.mark.skipif(not IMDB.exists(), reason="the IMDB reviews are not here")
def test_pipeline_gives_our_labels_and_probabilities_on_imdb(make: Make, directory: Path) -> None:
    make(Head("classification", 2), ["negative", "positive"])
    model = Classifier.open(directory, CPU)
    texts = imdb_reviews()
    assert len(texts) == 32
    assert sum(len(ids) > 510 for ids in model.model.tokenizer.encode_batch(texts)) >= 4
    found = model.predict([Example((text,)) for text in texts])
    assert_same_labels(found, pipeline(directory)(texts, batch_size=8))


def imdb_reviews() -> list[str]:
    """Return four reviews of each kind that is easily read differently; four once more with newlines for tags."""
    kinds: list[Callable[[str], bool]] = [
        lambda text: any(mark in text for mark in "‘’“”…–"),
        lambda text: "\x85" in text or "\x96" in text,
        lambda text: any(letter in text for letter in "éüñç"),
        lambda text: "<" in text.replace("<br />", ""),
        lambda text: len(text) > 4000,
        lambda text: "<br />" in text,
        lambda text: text.isascii() and "<" not in text,
    ]
    found: list[list[str]] = [[] for _ in kinds]
    with lzma.open(IMDB, "rt", encoding="utf-8") as file:
        for text in (json.loads(line)["text"] for line in file):
            kind = next((some for some, belongs in zip(found, kinds, strict=True) if belongs(text)), None)
            if kind is not None and len(kind) < 4:
                kind.append(text)
    return [*(text for some in found for text in some), *(text.replace("<br /><br />", "\n\n") for text in found[5])]


def test_transformers_leaves_the_bias_of_a_head_out(make: Make, directory: Path) -> None:
    """What `huggingface_differences` in gpt1.json says."""
    model = make(Head("classification", 3, bias=True), ["a", "b", "c"])
    assert loaded("ForSequenceClassification", directory, unexpected={"score.bias"})
    ours = Classifier.open(directory, CPU)
    examples = [Example((text,)) for text in NASTY]
    logits = ours.logits(ours.encode(examples))
    found = pipeline(directory)(NASTY, top_k=None, function_to_apply="none")
    theirs = np.array([[next(e["score"] for e in row if e["label"] == name) for name in "abc"] for row in found])
    np.testing.assert_allclose(logits - theirs, np.tile(model.params["score.bias"], (len(NASTY), 1)), atol=LOGITS)
    assert np.abs(model.params["score.bias"]).max() > 0.1


def test_pipeline_cuts_where_the_model_was_trained_to(make: Make, directory: Path) -> None:
    make(Head("classification", 3), ["a", "b", "c"], max_length=24)
    model = Classifier.open(directory, CPU)
    texts = [text for text in [*NASTY, *reviews("test")] if len(text) > 60]
    assert_same_labels(model.predict([Example((text,)) for text in texts]), pipeline(directory)(texts))


def test_pipeline_agrees_on_pairs(make: Make, directory: Path) -> None:
    """Cut where they are too long as the paper's transformation is: the longer text first."""
    make(Head("entailment", 3), ["entailment", "neutral", "contradiction"])
    model = Classifier.open(directory, CPU)
    two = [*pairs(NASTY), ("so bad " * 400, "it was fine " * 300), ("good " * 255, "bad " * 256)]
    found = model.predict([Example(pair) for pair in two])
    assert_same_labels(found, pipeline(directory)([{"text": a, "text_pair": b} for a, b in two]))


@pytest.mark.parametrize("settings", [{}, {"function_to_apply": "none"}])
def test_pipeline_agrees_on_regression(make: Make, directory: Path, settings: dict[str, str]) -> None:
    make(Head("classification", 1, regression=True))
    model = Classifier.open(directory, CPU)
    found = model.predict([Example((text,)) for text in NASTY])
    expected = [each["score"] for each in pipeline(directory)(NASTY, **settings)]
    assert np.ptp(expected) > 0.5
    assert [each["score"] for each in found] == pytest.approx(expected, abs=LOGITS)


def their_scores(directory: Path, two: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
    """Return the (N, C) logits that their tokenizer and model give pairs of texts."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(directory).eval()
    rows = []
    for a, b in two:
        inputs = tokenizer(a, b, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            rows.append(model(**inputs).logits.numpy())
    return np.concatenate(rows)


@pytest.mark.parametrize(
    ("head", "labels"), [(Head("similarity", 2), ("different", "same")), (Head("similarity", 1, regression=True), ())]
)
def test_similarity_is_the_sum_of_their_scores_over_both_orders(
    make: Make, directory: Path, head: Head, labels: Sequence[str]
) -> None:
    """The head is linear, so adding states (Radford et al. 2018, §3.3) is adding scores."""
    make(head, labels)
    model = Classifier.open(directory, CPU)
    two = pairs(NASTY)
    logits = model.logits(model.encode([Example(pair) for pair in two]))
    expected = their_scores(directory, two) + their_scores(directory, [(b, a) for a, b in two])
    assert difference(logits, expected) <= 2 * LOGITS
    assert np.ptp(expected) > 0.5


def test_multiple_choice_is_one_of_their_scores_for_each_choice(make: Make, directory: Path) -> None:
    make(Head("multiple-choice", 1))
    model = Classifier.open(directory, CPU)
    choices = ("It was “fine”.", "so bad " * 400, "Nobody knows<br />.")
    contexts = [text for text in NASTY if text.strip()]
    logits = model.logits(model.encode([Example((context,), choices) for context in contexts]))
    expected = their_scores(directory, [(context, choice) for context in contexts for choice in choices])
    assert difference(logits, expected.reshape(-1, 3)) <= LOGITS
    asked = model.encode([Example((context, "What happened?"), choices[:2]) for context in NASTY[:4]])
    expected = their_scores(directory, [(f"{text} What happened?", c) for text in NASTY[:4] for c in choices[:2]])
    assert difference(model.logits(asked), expected.reshape(-1, 2)) <= LOGITS


def test_segments_are_their_token_types_on_raw_text(make: Make, directory: Path) -> None:
    """Segment s is row V + s of the embedding: what the tokenizer of the directory says as `token_type_ids`."""
    make(Head("entailment", 3), ["a", "b", "c"], n_segments=2)
    two = pairs(NASTY)
    ours = Classifier.open(directory, CPU)
    logits = ours.logits(ours.encode([Example(pair) for pair in two]))
    assert difference(logits, their_scores(directory, two)) <= LOGITS


def test_language_model_directory_gives_transformers_our_log_probabilities(make: Make, directory: Path) -> None:
    model = make(None)
    theirs = loaded("LMHeadModel", directory)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    texts = [text for text in NASTY if 1 < len(model.tokenizer.encode(text)) <= 512]
    for text, scored in zip(texts, Scorer.open(directory, CPU).score(texts), strict=True):
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        assert scored["ids"] == ids[0].tolist()
        with torch.inference_mode():
            logprobs = torch.log_softmax(theirs(ids).logits[0, :-1], -1)
        expected = logprobs.gather(1, ids[0, 1:, None])[:, 0].numpy()
        assert difference(np.array(scored["logprobs"][1:]), expected) <= LOGITS
        assert scored["perplexity"] == pytest.approx(np.exp(-expected.mean()), rel=LOGITS)


# ---- loading without a gap, and back again


def loaded(kind: str, directory: Path, *, unexpected: set[str] = frozenset()) -> Any:  # type: ignore[assignment]
    """Load a directory in transformers; no key may be missing, and none too many but `unexpected`."""
    cls = getattr(transformers, f"OpenAIGPT{kind}")
    model, info = cls.from_pretrained(directory, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    assert set(info["unexpected_keys"]) == unexpected
    return model.eval()


def theirs_as_ours(model: Any) -> Params:
    names = {from_huggingface(name): value for name, value in model.state_dict().items()}
    return {name: value.numpy() for name, value in names.items() if name}


@pytest.mark.parametrize("kind", ["LMHeadModel", "Model", "ForSequenceClassification"])
def test_transformers_loads_every_weight_and_misses_none(make: Make, directory: Path, kind: str) -> None:
    head = Head("classification", 2) if kind == "ForSequenceClassification" else None
    model = make(head, ["no", "yes"] if head else [])
    assert_identical(theirs_as_ours(loaded(kind, directory)), model.params)


@pytest.mark.parametrize("kind", ["LMHeadModel", "Model"])
def test_transformers_loads_the_body_of_a_classifier(make: Make, directory: Path, kind: str) -> None:
    params = dict(make(Head("classification", 2), ["no", "yes"]).params)
    del params["score.weight"]
    assert_identical(theirs_as_ours(loaded(kind, directory, unexpected={"score.weight"})), params)


def test_transformers_reads_shape_labels_and_special_tokens(make: Make, directory: Path) -> None:
    model = make(Head("classification", 2), ["no", "yes"])
    config = transformers.AutoConfig.from_pretrained(directory)
    assert isinstance(config, transformers.OpenAIGPTConfig)
    shape = (config.n_layer, config.n_head, config.n_embd, config.n_positions, config.vocab_size)
    assert shape == (2, 2, 32, 512, model.tokenizer.vocab_size)
    assert config.id2label == {0: "no", 1: "yes"}
    assert config.label2id == {"no": 0, "yes": 1}
    assert (config.embd_pdrop, config.resid_pdrop, config.attn_pdrop) == (0.1, 0.1, 0.1)
    theirs, ours = transformers.AutoTokenizer.from_pretrained(directory), model.tokenizer
    ids = [(each.pad_token_id, each.bos_token_id, each.eos_token_id) for each in (config, theirs)]
    assert ids == 2 * [(ours.pad, ours.bos, ours.eos)]
    assert (theirs.sep_token_id, theirs.unk_token_id) == (ours.sep, ours.unk)
    assert (theirs.model_max_length, theirs.padding_side) == (512, "right")


@pytest.mark.parametrize("head", [None, Head("classification", 2), Head("classification", 1, regression=True)])
def test_directory_comes_back_from_transformers_bit_for_bit(
    make: Make, directory: Path, tmp_path: Path, head: Head | None
) -> None:
    model = make(head, ["no", "yes"] if head and not head.regression else [])
    other = tmp_path / "other"
    loaded("ForSequenceClassification" if head else "LMHeadModel", directory).save_pretrained(other)
    transformers.AutoTokenizer.from_pretrained(directory).save_pretrained(other)
    ours, theirs = (read_tensors(path / "model.safetensors") for path in (directory, other))
    assert_identical(theirs, ours)
    back = load_model(other)
    assert (back.config, back.label_names) == (model.config, model.label_names)
    assert_identical(back.params, model.params)
    assert back.tokenizer.encode_batch(NASTY) == model.tokenizer.encode_batch(NASTY)


@pytest.mark.parametrize("head", [None, Head("classification", 2), Head("multiple-choice", 1)])
def test_directory_is_the_same_after_loading_and_saving(
    make: Make, directory: Path, tmp_path: Path, head: Head | None
) -> None:
    make(head, ["no", "yes"] if head and head.n_labels == 2 else [], n_segments=1)
    other = tmp_path / "other"
    save_model(other, load_model(directory))
    assert {path.name for path in other.iterdir()} == {path.name for path in directory.iterdir()}
    for path in directory.iterdir():
        assert (other / path.name).read_bytes() == path.read_bytes(), path.name


# ---- a directory of theirs, read by gpt1


@pytest.fixture
def foreign(tokenizer: Tokenizer, directory: Path) -> Callable[..., Any]:
    """Write a random model of transformers with the files of its tokenizer, which has no special tokens."""

    def written(kind: str, dtype: str = "float32", **settings: Any) -> Any:
        tokenizer.save(directory)
        vocab = json.loads((directory / "vocab.json").read_text(encoding="utf-8"))
        for token in SPECIAL_TOKENS:
            vocab.pop(token, None)
        assert sorted(vocab.values()) == list(range(len(vocab)))
        (directory / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (directory / file).unlink()
        config = transformers.OpenAIGPTConfig(
            vocab_size=len(vocab), n_positions=64, n_embd=32, n_layer=2, n_head=4, **settings
        )
        model = getattr(transformers, f"OpenAIGPT{kind}")(config).eval()
        generator = torch.Generator().manual_seed(0)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
        model = model.to(getattr(torch, dtype))
        model.save_pretrained(directory)
        return model

    return written


@pytest.mark.parametrize("kind", ["LMHeadModel", "Model"])
def test_their_language_model_gives_the_same_logits_here(
    foreign: Callable[..., Any], directory: Path, kind: str
) -> None:
    """With four rows more, for our special tokens."""
    theirs, ours = foreign(kind), load_model(directory)
    rows = theirs.config.vocab_size
    assert ours.config == ModelConfig(2, 4, 32, 64, rows + len(SPECIAL_TOKENS))
    expected = theirs_as_ours(theirs)
    found = {**ours.params, "tokens_embed.weight": ours.params["tokens_embed.weight"][:rows]}
    assert_identical(found, expected)
    tokens = np.random.default_rng(0).integers(0, rows, (3, 64), np.int32)
    with torch.inference_mode():
        logits = theirs(torch.from_numpy(tokens).long())[0]
        logits = logits @ theirs.tokens_embed.weight.T if kind == "Model" else logits
    assert difference(lm_logits(engine_of(ours.config, ours.params), tokens)[..., :rows], logits) <= LOGITS


@pytest.mark.parametrize(("n_labels", "regression"), [(3, False), (1, True)])
def test_their_classifier_gives_the_same_logits_here(
    foreign: Callable[..., Any], directory: Path, n_labels: int, regression: bool
) -> None:
    names = {index: f"kind {index}" for index in range(n_labels)}
    theirs, ours = foreign("ForSequenceClassification", id2label=names, pad_token_id=0), load_model(directory)
    assert ours.config.head == Head("classification", n_labels, regression)
    assert ours.label_names == (() if regression else tuple(names.values()))
    rng = np.random.default_rng(0)
    tokens, lengths = rng.integers(1, theirs.config.vocab_size, (4, 20), np.int32), np.array([20, 1, 7, 13], np.int32)
    tokens[np.arange(20) >= lengths[:, None]] = 0
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(tokens).long()).logits
    found = engine_of(ours.config, ours.params).logits(Batch(tokens, lengths - 1))
    assert difference(found, expected) <= LOGITS


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_our_narrow_weights_are_pytorchs_rounding_and_load_in_that_dtype(
    make: Make, directory: Path, tmp_path: Path, dtype: Stored
) -> None:
    model = make(Head("classification", 2), ["no", "yes"])
    narrow = tmp_path / "narrow"
    convert(str(directory), narrow, dtype=dtype)
    theirs = loaded("ForSequenceClassification", narrow)
    assert theirs.dtype == getattr(torch, dtype)
    assert theirs.config.dtype == getattr(torch, dtype)
    expected = {to_huggingface(name): torch.from_numpy(value).to(theirs.dtype) for name, value in model.params.items()}
    safetensors_torch.save_file(expected, tmp_path / "x", {"format": "pt"})
    assert (narrow / "model.safetensors").read_bytes() == (tmp_path / "x").read_bytes()


def test_narrow_weights_that_transformers_widens_give_our_answers(make: Make, directory: Path, tmp_path: Path) -> None:
    """What the model card says."""
    make(Head("classification", 2), ["no", "yes"])
    convert(str(directory), tmp_path / "narrow", dtype="bfloat16")
    texts = [text for text in NASTY if text.strip()]
    found = Classifier.open(tmp_path / "narrow", CPU).predict([Example((text,)) for text in texts])
    assert_same_labels(found, pipeline(tmp_path / "narrow", dtype="float32")(texts))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_their_narrow_weights_are_widened_exactly(foreign: Callable[..., Any], directory: Path, dtype: str) -> None:
    expected = theirs_as_ours(foreign("Model", dtype).float())
    found = load_model(directory).params
    rows = len(expected["tokens_embed.weight"])
    assert_identical({**found, "tokens_embed.weight": found["tokens_embed.weight"][:rows]}, expected)


def test_missing_rows_and_head_are_drawn_and_the_rest_is_kept(foreign: Callable[..., Any], directory: Path) -> None:
    """What fine-tuning starts from: their body, our special tokens, segments of zero, a new head."""
    theirs = theirs_as_ours(foreign("LMHeadModel"))
    model = load_model(directory)
    config = replace(model.config, head=Head("classification", 2), n_segments=2)
    params = initialise(config, 1, model.params)
    rows = len(theirs["tokens_embed.weight"])
    np.testing.assert_array_equal(params["tokens_embed.weight"][:rows], theirs["tokens_embed.weight"])
    special, segments = np.split(params["tokens_embed.weight"][rows:], [len(SPECIAL_TOKENS)])
    assert 0.01 < special.std() < 0.03
    assert segments.shape == (2, 32)
    assert not segments.any()
    body = [name for name in theirs if name != "tokens_embed.weight"]
    assert_identical({name: params[name] for name in body}, {name: theirs[name] for name in body})
