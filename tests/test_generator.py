"""Text generation: visible context, samples, stopping, streaming. Run: pytest tests/test_generator.py

Tests with the argument `backend` run on each installed backend; the others use a fake engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpt1 import backends
from gpt1.config import GenerateConfig, ModelConfig
from gpt1.errors import UserError
from gpt1.inference import generator
from gpt1.inference.generator import TextDelta, TextGenerator
from gpt1.inference.sampling import Sampler
from gpt1.tokenization.streaming_decoder import TextStream
from gpt1.tokenization.tokenizer import Tokenizer
from support import reference_model
from support.engines import hardware
from support.model_cases import random_params

WORDS = ["the", "cat", "sat", "on", "a", "mat", ".", ",", "(", ")", "4", "2", "do", "n't", "'s", "so", "can", "not"]
WORDS += ["thing", "é", "\n"]
"""Words with a space before them and words without."""
PIECES = ["n'", "'", "no", "s", "th", "ing", "t</w>", "ing</w>"]
"""Parts of words, which can form either."""


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return {token: id} with a token for each word, and merges from left to right."""
    merges = [
        (word[:end], word[end] + "</w>" * (end == len(word) - 1)) for word in WORDS for end in range(1, len(word))
    ]
    tokens = ["<unk>", *(word + "</w>" for word in WORDS), *PIECES]
    tokens += [symbol for left, right in merges for symbol in (left, right, left + right)]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}, list(dict.fromkeys(merges))


SPLITTERS = {words: Tokenizer.from_vocab(*vocabulary(), words) for words in ("fast", "openai")}
TOKENIZER = SPLITTERS["fast"]

CONFIG = ModelConfig(n_layer=2, n_head=2, n_embd=16, n_ctx=12, vocab_size=TOKENIZER.vocab_size)
PARAMS = {name: value.astype(np.float32) for name, value in random_params(CONFIG, scale=0.6).items()}
GREEDY = {"temperature": 0.0}
SPECIAL = [TOKENIZER.pad, TOKENIZER.bos, TOKENIZER.sep, TOKENIZER.unk]


def ids(*tokens: str) -> list[int]:
    """Return the ids of words, and of subwords written with a hyphen: th- ing."""
    names = TOKENIZER.backend.get_vocab()
    return [
        names[token[:-1] if token.endswith("-") else token if token[0] == "<" else token + "</w>"] for token in tokens
    ]


# ---- a fake engine with scripted tokens


class Script:
    """Fake engine that continues every sequence with the next token of `tokens`, whatever the input."""

    config, device, dtype, tokens_at_once = CONFIG, "nowhere", "float32", 64

    def __init__(self, tokens: Sequence[int]):
        self.tokens = tokens

    def decoder(self, n_sequences: int, length: int) -> Script:
        self.places = [0] * n_sequences
        return self

    def prefill(self, tokens: Any, lengths: Any, rows: Sequence[int]) -> NDArray[np.float32]:
        return np.stack([self._logits(row) for row in rows])

    def step(self, tokens: Any) -> NDArray[np.float32]:
        for row in range(len(tokens)):
            self.places[row] += 1
        return np.stack([self._logits(row) for row in range(len(tokens))])

    def copy(self, source: int, target: int) -> None:
        self.places[target] = self.places[source]

    def _logits(self, row: int) -> NDArray[np.float32]:
        """The scripted token is the likeliest after the forbidden special tokens."""
        logits = np.zeros(CONFIG.vocab_size, np.float32)
        logits[SPECIAL] = 9.0
        logits[self.tokens[self.places[row] % len(self.tokens)]] += 5.0
        return logits


def scripted(*tokens: str, prompt: str = "", **settings: Any) -> dict[str, Any]:
    config = GenerateConfig(**GREEDY | {"max_tokens": len(tokens)} | settings)
    [found] = TextGenerator(TOKENIZER, Script(ids(*tokens))).generate([prompt], config)  # type: ignore[arg-type]
    return found


# ---- visible context


def by_definition(prompt: str, config: GenerateConfig, sample: int = 0) -> list[int]:
    """Return the tokens of a sample, computed by full forward passes of the reference without a cache."""
    tokens = TOKENIZER.encode(prompt)
    seen, written = list(tokens), []
    if len(tokens) > CONFIG.n_ctx:
        tokens = tokens[-CONFIG.n_ctx // 2 :]
    tokens = tokens or [TOKENIZER.bos]
    sampler = Sampler(config, SPECIAL)
    for place in range(config.max_tokens):
        states = reference_model.hidden(PARAMS, CONFIG, np.array([tokens]))[0, -1]
        logits = (states @ PARAMS["tokens_embed.weight"].T.astype(np.float64)).astype(np.float32)
        token = sampler.sample_token(logits, seen, sample, place)
        if token == TOKENIZER.eos:
            break
        written.append(token)
        seen.append(token)
        tokens = [*tokens, token]
        if len(tokens) > CONFIG.n_ctx:
            tokens = tokens[-CONFIG.n_ctx // 2 :]
    return written


PROMPTS = ["", "the cat", "a mat .", " ".join(["the cat sat on"] * 3), " ".join(["can not do a thing so"] * 4)]
"""Prompts of 0, 2, 3, 12 and 24 tokens: empty, short, a full context, longer than the context."""
RULES: dict[str, dict[str, Any]] = {
    "greedy": GREEDY,
    "drawn": {"temperature": 1.0, "top_p": 1.0},
    "all rules": {"temperature": 0.7, "top_k": 9, "top_p": 0.9, "repetition_penalty": 1.3, "seed": 7},
}

Write = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def write(backend: str) -> Write:
    engine = backends.get(CONFIG, PARAMS, hardware=hardware(backend))

    def texts(prompts: Sequence[str], **settings: Any) -> list[dict[str, Any]]:
        return TextGenerator(TOKENIZER, engine).generate(prompts, GenerateConfig(**settings))

    return texts


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_text_is_what_the_full_forward_says_also_past_the_context(write: Write, prompt: str, rules: str) -> None:
    """45 tokens with a context of 12: it restarts from the last 6 tokens six times."""
    config = {**RULES[rules], "max_tokens": 45}
    [found] = write([prompt], **config)
    assert found["tokens"] == TOKENIZER.tokens(by_definition(prompt, GenerateConfig(**config)))


@pytest.mark.parametrize("rules", RULES)
def test_prompts_of_unequal_lengths_get_what_each_gets_alone(write: Write, rules: str) -> None:
    """Sequences end and restart at different times."""
    config = {**RULES[rules], "max_tokens": 45, "stop": ("m",)}
    together = write(PROMPTS, **config)
    assert rules == "greedy" or len({len(found["tokens"]) for found in together}) > 3
    assert together == [write([prompt], **config)[0] for prompt in PROMPTS]


def test_a_sample_does_not_depend_on_how_many_are_written(write: Write) -> None:
    config = {**RULES["drawn"], "max_tokens": 30}
    many = write(PROMPTS[:3], n=5, **config)
    assert [found["prompt"] for found in many] == [prompt for prompt in PROMPTS[:3] for _ in range(5)]
    assert len({tuple(found["tokens"]) for found in many}) == 15
    assert many[5:7] == write([PROMPTS[1]], n=2, **config)
    assert many[5:10] == write([PROMPTS[1]], n=5, **config) != write([PROMPTS[1]], n=5, seed=1, **config)
    assert many[7]["tokens"] == TOKENIZER.tokens(by_definition(PROMPTS[1], GenerateConfig(**config), sample=2))


def test_groups_of_another_size_change_nothing(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {**RULES["drawn"], "max_tokens": 20, "n": 3}
    expected = write(PROMPTS, **config)
    monkeypatch.setattr(generator, "MOST_SAMPLES", 4)
    assert write(PROMPTS, **config) == expected


def test_a_long_prompt_and_a_text_that_may_outgrow_the_context_are_said(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write([PROMPTS[1]], max_tokens=10, **GREEDY)
    assert capsys.readouterr().err == ""
    write([PROMPTS[1]] * 2, max_tokens=30, **GREEDY)
    outgrows = "The model sees 12 tokens at once: a longer text continues from its last 6 tokens.\n"
    assert capsys.readouterr().err == outgrows
    write([PROMPTS[4]], max_tokens=2, **GREEDY)
    assert capsys.readouterr().err == "The prompt has 24 tokens, the model sees 12: only the last 6 are used.\n"


def test_the_next_tokens_are_those_of_the_full_forward_special_ones_too(backend: str) -> None:
    engine = backends.get(CONFIG, PARAMS, hardware=hardware(backend))
    generator = TextGenerator(TOKENIZER, engine)
    for prompt in PROMPTS[:4]:
        tokens = np.array([TOKENIZER.encode(prompt) or [TOKENIZER.bos]])
        states = reference_model.hidden(PARAMS, CONFIG, tokens)[0, -1]
        expected = np.exp(reference_model.log_softmax(states @ PARAMS["tokens_embed.weight"].T.astype(np.float64)))
        found = generator.next(prompt, top=10**6)
        assert [row["id"] for row in found] == np.argsort(-expected).tolist()
        assert [row["probability"] for row in found] == pytest.approx(np.sort(expected)[::-1].tolist(), abs=1e-6)
        assert [row["token"] for row in found] == TOKENIZER.tokens(row["id"] for row in found)
        assert generator.next(prompt, top=3) == found[:3]
    with pytest.raises(UserError, match=r"^--top 0: expected 1 or more"):
        generator.next("the cat", top=0)


# ---- stopping, forbidden tokens


def test_a_text_ends_with_eos_or_at_max_tokens() -> None:
    found = scripted("the", "cat", "<eos>", "sat", prompt="so", max_tokens=9)
    assert found == {"prompt": "so", "text": " the cat", "finish_reason": "stop", "tokens": ["the</w>", "cat</w>"]}
    found = scripted("the", "cat", "<eos>", prompt="so", max_tokens=2)
    assert (found["text"], found["finish_reason"]) == (" the cat", "length")
    assert scripted("<eos>")["tokens"] == []


def test_special_tokens_are_never_written_however_likely() -> None:
    """Also if it is by far the likeliest, at a high temperature; `<eos>` too if it was never trained."""
    generator = TextGenerator(TOKENIZER, Script(ids("the")), forbidden=[TOKENIZER.eos])  # type: ignore[arg-type]
    for found in generator.generate(["so"], GenerateConfig(temperature=1e9, top_p=1.0, max_tokens=400, n=2)):
        assert len(found["tokens"]) == 400
        assert len({*found["tokens"]}) > 20
        assert not {*found["tokens"]} & {"<unk>", "<pad>", "<bos>", "<sep>", "<eos>"}


def test_an_empty_prompt_and_one_without_tokens_start_alike(capsys: pytest.CaptureFixture[str]) -> None:
    assert scripted("the", "cat")["text"] == "the cat"
    assert capsys.readouterr().err == ""
    assert scripted("the", "cat", prompt="<br />")["text"] == "the cat"
    assert capsys.readouterr().err.startswith("The prompt has no tokens: the text starts from <bos>")


def test_unknown_characters_of_a_prompt_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert scripted("the", "cat", prompt="the \u2603")["text"] == " the cat"
    assert capsys.readouterr().err == "50.0% of the prompt's bytes are unknown to the vocabulary and became <unk>.\n"


def test_a_context_too_short_to_begin_again_is_refused() -> None:
    script = Script([])
    script.config = ModelConfig(n_ctx=3)  # type: ignore[misc]
    with pytest.raises(UserError, match="context is 3 tokens; generation needs at least 4"):
        TextGenerator(TOKENIZER, script)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        ([" sat"], " the cat"),
        (["cat sat on a"], " the "),
        (["at s"], " the c"),
        (["mat", "sat"], " the cat "),
        ([" THE CAT"], ""),
        (["on a cat", "."], " the cat sat on a mat"),
        (["\n"], " the cat sat on a mat."),
        (["nothing"], " the cat sat on a mat.\nth"),
        ([".\nth"], " the cat sat on a mat"),
    ],
)
def test_a_text_ends_before_a_stop_string_wherever_its_tokens_end(stop: list[str], text: str) -> None:
    tokens = ["the", "cat", "sat", "on", "a", "mat", ".", "\n", "th-"]
    found = scripted(*tokens, prompt="so", stop=tuple(stop))
    assert found["text"] == text
    assert found["finish_reason"] == ("length" if stop == ["nothing"] else "stop")


def test_a_stop_string_ends_the_work_at_the_word_that_completes_it() -> None:
    assert scripted("the", "cat", "sat", "on", stop=("e c",))["tokens"] == ["the</w>", "cat</w>"]


# ---- streaming


def pieces(tokenizer: Tokenizer, before: Sequence[int], new: Sequence[int], stop: Sequence[str] = ()) -> list[str]:
    stream = TextStream(tokenizer, before, stop)
    return [*(stream.push(token) for token in new), stream.finish()]


TOKENS = st.lists(st.sampled_from(range(TOKENIZER.vocab_size)), max_size=12)
STOPS = st.lists(st.sampled_from(["t", " ", "n't", "cat sat", "so ", "\n", "42", "can't", "thing)"]), max_size=2)


@pytest.mark.parametrize("words", SPLITTERS)
@settings(max_examples=300, deadline=None)
@given(before=TOKENS, new=TOKENS, stop=STOPS)
def test_pieces_make_up_the_text_of_all_tokens_up_to_the_first_stop_string(
    words: str, before: list[int], new: list[int], stop: list[str]
) -> None:
    tokenizer = SPLITTERS[words]
    before = [*before, *ids("cat")]  # a prompt ends with a whole word
    whole = tokenizer.decode([*before, *new])
    assert whole.startswith(tokenizer.decode(before))
    whole = whole[len(tokenizer.decode(before)) :]
    cut = min([whole.find(text) for text in stop if text in whole], default=len(whole))
    assert "".join(pieces(tokenizer, before, new, stop)) == whole[:cut]


def test_a_word_comes_when_it_is_whole_and_its_blank_with_it() -> None:
    tokenizer = SPLITTERS["openai"]
    assert pieces(tokenizer, ids("do"), ids("n't", "th-", "ing", ",", "so")) == ["n't", "", " thing", ",", " so", ""]
    assert pieces(tokenizer, ids("do"), ids("n'-", "t")) == ["", "n't", ""]
    assert pieces(tokenizer, ids("do"), ids("n'-", "th-")) == ["", "", " n'th"]
    assert pieces(tokenizer, ids("can"), ids("no-", "t", "no-", "thing")) == ["", "not", "", " nothing", ""]


def test_no_more_is_held_back_than_may_begin_a_stop_string() -> None:
    assert pieces(TOKENIZER, [], ids("the", "cat", "on"), ["cat sat"]) == ["the", " ", "cat on", ""]


def test_pieces_are_shown_as_they_come_and_make_up_each_text() -> None:
    script = Script(ids("the", "cat", "sat", "th-", "ing", "<eos>"))
    shown: list[TextDelta] = []
    found = TextGenerator(TOKENIZER, script).generate(["so", "a"], GenerateConfig(**GREEDY, n=2), shown.append)  # type: ignore[arg-type]
    assert len(found) == 4
    for index, text in enumerate(found):
        parts = [delta for delta in shown if delta.sequence == index]
        assert [delta.text for delta in parts] == [" the", " cat", " sat", " thing", ""]
        assert "".join(delta.text for delta in parts) == text["text"]
        assert [delta.finish_reason for delta in parts] == [None, None, None, None, "stop"]
