"""Text generation: prefill, decode with a cache, sample, stop.

Positions are learned, so the cache cannot slide: a sequence that has filled the context restarts with its last half at
position 0. This defines which tokens the model sees: all previous tokens while they fit into n_ctx; when they do not,
or for a longer prompt, the last n_ctx // 2, to which new tokens are added until the context is full again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from gpt1 import backends, console
from gpt1.backends.base import Decoder, Engine
from gpt1.checkpoint.loading import open_model
from gpt1.checkpoint.model_dir import Model
from gpt1.config import MOST_SAMPLES, DeviceConfig, GenerateConfig
from gpt1.errors import UserError
from gpt1.inference.sampling import Sampler
from gpt1.tasks.unknown_text import unknown_share
from gpt1.tokenization.pretokenizers import valid_unicode
from gpt1.tokenization.streaming_decoder import TextStream
from gpt1.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer

FinishReason = Literal["stop", "length"]

SHORTEST_CONTEXT = 4
"""Minimum context length for generation: its half holds the newest token and the one before it."""


class TextDelta(NamedTuple):
    """Text that one step adds to one sequence."""

    sequence: int
    """Index of the sequence: sample i of prompt p has index p * n + i."""
    text: str
    finish_reason: FinishReason | None = None
    """Set in the last delta of a sequence: `stop` (`<eos>` or a stop string) or `length` (max_tokens)."""


@dataclass
class SequenceState:
    """State of one sequence that is being generated."""

    index: int
    sample: int
    """Index among the samples of its prompt."""
    tokens: list[int]
    """Tokens of the prompt and of the generated text."""
    context: list[int]
    """Tokens that the model sees, or `<bos>` if there are none yet."""
    text: TextStream
    sampler: Sampler
    generated: list[int] = field(default_factory=list)
    """Sampled tokens without `<eos>`."""
    finish_reason: FinishReason | None = None

    def advance(self, logits: NDArray[np.float32], eos: int) -> TextDelta:
        """Sample the next token from logits (V,); return the text that it adds."""
        token = self.sampler.sample_token(logits, self.tokens, self.sample, len(self.generated))
        if token == eos:
            self.finish_reason = "stop"
            return TextDelta(self.index, self.text.finish(), "stop")
        self.generated.append(token)
        self.tokens.append(token)
        text = self.text.push(token)
        if not self.text.stopped and len(self.generated) == self.sampler.config.max_tokens:
            self.finish_reason = "length"
            text += self.text.finish()
        if self.text.stopped:  # also by what `finish` found in an incomplete word
            self.finish_reason = "stop"
        return TextDelta(self.index, text, self.finish_reason)


class TextGenerator:
    """Text generation with a language model on one device.

    `forbidden` are tokens that are never sampled, besides `<pad> <bos> <sep> <unk>`.
    """

    def __init__(self, tokenizer: Tokenizer, engine: Engine, forbidden: Sequence[int] = ()):
        self.tokenizer, self.engine, self.n_ctx = tokenizer, engine, engine.config.n_ctx
        if self.n_ctx < SHORTEST_CONTEXT:
            raise UserError(
                f"this model's context is {self.n_ctx} tokens; generation needs at least {SHORTEST_CONTEXT}"
            )
        self.forbidden = sorted({tokenizer.pad, tokenizer.bos, tokenizer.sep, tokenizer.unk, *forbidden})

    @classmethod
    def open(cls, name: str | Path, hardware: DeviceConfig | None = None) -> Self:
        """Load a model by its name (`loading.resolve_model`), also a fine-tuned one.

        It computes in float32 unless `hardware` sets a dtype. Special tokens whose embeddings were initialized at
        random, because the original model lacks them, are never generated.
        """
        if hardware and hardware.compile:
            raise UserError("--compile: only for training and scoring, not for text generation")
        model = open_model(name)
        return cls.of(model, backends.for_answers(model.config, model.params, hardware))

    @classmethod
    def of(cls, model: Model, engine: Engine) -> Self:
        """Return a generator for a model with an existing engine."""
        untrained = set(model.provenance.get("drawn", {}).get("tokens", ()))
        forbidden = [getattr(model.tokenizer, token[1:-1]) for token in SPECIAL_TOKENS if token in untrained]
        return cls(model.tokenizer, engine, forbidden)

    # ---- public methods

    def next(self, prompt: str, top: int = 10) -> list[dict[str, Any]]:
        """Return {token, id, probability} of the `top` likeliest next tokens, special tokens included."""
        if top < 1:
            raise UserError(f"--top {top}: expected 1 or more")
        context = self._context(*self._encode([prompt]))
        decoder = self.engine.decoder(1, len(context))
        [logits] = prefill(self.engine, decoder, [context], [0], self.tokenizer.pad)
        weights = np.exp(logits.astype(np.float64) - logits.max())
        probabilities = weights / weights.sum()
        if not np.isfinite(probabilities).all():
            raise UserError("the model's logits are not finite: its weights are damaged, or training diverged")
        ids = np.argsort(-probabilities, kind="stable")[:top]
        names = self.tokenizer.tokens(ids)
        return [
            {"token": name, "id": int(i), "probability": float(probabilities[i])}
            for name, i in zip(names, ids, strict=True)
        ]

    def generate(
        self, prompts: Sequence[str], config: GenerateConfig, on_text: Callable[[TextDelta], None] | None = None
    ) -> list[dict[str, Any]]:
        """Return {prompt, text, finish_reason, tokens} of n samples of each prompt, in order.

        `text` continues the prompt and starts with the space between, if any. `tokens` are all sampled tokens except
        `<eos>`, including those that a stop string removed from the text. `on_text` is called with each delta once no
        later token can change it.
        """
        sequences = self.sequences(self._encode(prompts), config)
        if any(len(sequence.context) + config.max_tokens > self.n_ctx for sequence in sequences):
            console.say(
                f"The model sees {self.n_ctx} tokens at once: "
                f"a longer text continues from its last {self.n_ctx // 2} tokens."
            )
        texts = [""] * len(sequences)
        for delta in self._generate(sequences):
            texts[delta.sequence] += delta.text
            if on_text:
                on_text(delta)
        return [
            {
                "prompt": valid_unicode(prompts[sequence.index // config.n]),
                "text": texts[sequence.index],
                "finish_reason": sequence.finish_reason,
                "tokens": self.tokenizer.tokens(sequence.generated),
            }
            for sequence in sequences
        ]

    # ---- prompts

    def sequences(self, prompts: Sequence[Sequence[int]], config: GenerateConfig) -> list[SequenceState]:
        """Return n new sequences for each prompt of token ids, those of one prompt in a row."""
        sampler = Sampler(config, self.forbidden)
        return [
            SequenceState(
                index * config.n + sample, sample, list(prompt), self._context(prompt),
                TextStream(self.tokenizer, list(prompt), config.stop), sampler,
            )
            for index, prompt in enumerate(prompts)
            for sample in range(config.n)
        ]  # fmt: skip

    def _context(self, prompt: Sequence[int]) -> list[int]:
        """Return the tokens of a prompt that the model sees, or `<bos>` for an empty one."""
        return visible(list(prompt), self.n_ctx) or [self.tokenizer.bos]

    def _encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each prompt; print a notice for truncated prompts and unknown tokens."""
        encoded = [self.tokenizer.encode(prompt) for prompt in prompts]
        for prompt, ids in zip(prompts, encoded, strict=True):
            if len(ids) > self.n_ctx:
                console.say(
                    f"The prompt has {len(ids):,} tokens, the model sees {self.n_ctx}: only the last "
                    f"{self.n_ctx // 2} are used."
                )
            if prompt and not ids:
                console.say("The prompt has no tokens: the text starts from <bos>, as with an empty prompt.")
            if unknown := unknown_share(self.tokenizer, prompt, ids):
                console.say(f"{unknown:.1%} of the prompt's bytes are unknown to the vocabulary and became <unk>.")
        return encoded

    # ---- decoding

    def _generate(self, sequences: Sequence[SequenceState]) -> Iterator[TextDelta]:
        for start in range(0, len(sequences), MOST_SAMPLES):
            group = sequences[start : start + MOST_SAMPLES]
            longest = max(len(sequence.context) + sequence.sampler.config.max_tokens for sequence in group)
            batch = GenerationBatch(self, len(group), min(longest, self.n_ctx))
            yield from batch.add(group)
            while batch.sequences:
                yield from batch.step()


class GenerationBatch:
    """A batch of sequences decoded together, each with its own sampling; sequences can be added between steps.

    Row r of the decoder is `sequences[r]`; a finished sequence is removed.
    """

    def __init__(self, generator: TextGenerator, n_sequences: int, length: int):
        """Allocate `n_sequences` rows of at most `length` visible tokens."""
        self.engine, self.tokenizer, self.n_ctx = generator.engine, generator.tokenizer, generator.n_ctx
        self.decoder = self.engine.decoder(n_sequences, length)
        self.free_rows = n_sequences
        """Number of sequences that can be added."""
        self.sequences: list[SequenceState] = []

    def add(self, sequences: Sequence[SequenceState]) -> list[TextDelta]:
        """Prefill each prompt of `sequences` (at most `free_rows`) once; return the text of their first tokens.

        Sequences of one prompt are adjacent and have consecutive indices.
        """
        start = len(self.sequences)
        first: dict[int, int] = {}
        sources = [first.setdefault(each.index - each.sample, row) for row, each in enumerate(sequences, start)]
        rows = list(first.values())
        contexts = [sequences[row - start].context for row in rows]
        logits = dict(zip(rows, self._prefill(contexts, rows), strict=True))
        for row, source in enumerate(sources, start):
            if row != source:
                self.decoder.copy(source, row)
        self.sequences += sequences
        self.free_rows -= len(sequences)
        return self._advance(start, [logits[source] for source in sources])

    def step(self) -> list[TextDelta]:
        """Decode the newest token of each sequence and sample the next one; return the added text."""
        full = [row for row, sequence in enumerate(self.sequences) if len(sequence.context) == self.n_ctx]
        for sequence in self.sequences:
            sequence.context = visible([*sequence.context, sequence.generated[-1]], self.n_ctx)
        if full:
            self._prefill([self.sequences[row].context[:-1] for row in full], full)
        newest = np.array([sequence.generated[-1] for sequence in self.sequences], np.int32)
        return self._advance(0, self.decoder.step(newest))

    def remove(self, sequence: SequenceState) -> None:
        """Stop generating a cancelled sequence."""
        self._free(next(row for row, each in enumerate(self.sequences) if each is sequence))

    def _advance(self, start: int, logits: Iterable[NDArray[np.float32]]) -> list[TextDelta]:
        """Sample the next token of each sequence from row `start` on, from the logits (V,) of each."""
        sequences = self.sequences[start:]
        deltas = [each.advance(values, self.tokenizer.eos) for each, values in zip(sequences, logits, strict=True)]
        for row in reversed(range(start, len(self.sequences))):
            if self.sequences[row].finish_reason:
                self._free(row)
        return [delta for delta in deltas if delta.text or delta.finish_reason]

    def _free(self, row: int) -> None:
        """Free a row of the decoder; the last sequence moves there."""
        last = self.sequences.pop()
        if row < len(self.sequences):
            self.sequences[row] = last
            self.decoder.copy(len(self.sequences), row)
        self.free_rows += 1

    def _prefill(self, contexts: Sequence[Sequence[int]], rows: Sequence[int]) -> list[NDArray[np.float32]]:
        return prefill(self.engine, self.decoder, contexts, rows, self.tokenizer.pad)


def prefill(
    engine: Engine, decoder: Decoder, contexts: Sequence[Sequence[int]], rows: Sequence[int], pad: int
) -> list[NDArray[np.float32]]:
    """Fill `rows` of the cache with `contexts`, in batches that fit the device; return the logits (V,) of each."""
    at_once = max(1, engine.tokens_at_once // max(map(len, contexts)))
    logits: list[NDArray[np.float32]] = []
    for start in range(0, len(rows), at_once):
        group = contexts[start : start + at_once]
        lengths = np.array([len(context) for context in group])
        tokens = np.full((len(group), lengths.max()), pad, np.int32)
        for row, context in zip(tokens, group, strict=True):
            row[: len(context)] = context
        logits += [*decoder.prefill(tokens, lengths, rows[start : start + at_once])]
    return logits


def visible(tokens: list[int], n_ctx: int) -> list[int]:
    """Return the tokens that the model sees: all if they fit into the context, else the last n_ctx // 2."""
    return tokens if len(tokens) <= n_ctx else tokens[-(n_ctx // 2) :]
