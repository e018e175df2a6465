"""A language model that writes on from a prompt: prefill, decode with a cache, draw, stop.

A sequence that has filled the context cannot slide in the cache, because positions are learned: it begins again with
its last half, at position 0. Text is defined that way. What the model sees before token m + 1 of a sequence is all m
tokens while they fit into n_ctx; of the first token that does not fit, and of a prompt that is longer, the last
n_ctx // 2; and so on from there.
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
from gpt1.tokenization.pretokenizers import valid_unicode
from gpt1.tokenization.streaming_decoder import TextStream
from gpt1.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer

FinishReason = Literal["stop", "length"]

SHORTEST_CONTEXT = 4
"""Tokens of the smallest context that a text can go on beyond: its half holds the newest token and one before it."""


class Piece(NamedTuple):
    """What a step adds to one text."""

    number: int
    """Which text: sample i of prompt p is number p * n + i."""
    text: str
    finish_reason: FinishReason | None = None
    """Set in a text's last piece: `stop` (`<eos>` or a stop string) or `length` (max_tokens)."""


@dataclass
class Draft:
    """One text that is being written."""

    number: int
    sample: int
    """Its number among the samples of its prompt."""
    seen: list[int]
    """The tokens of the prompt and of the text."""
    context: list[int]
    """Those that the model sees, or `<bos>` where there is none yet."""
    text: TextStream
    sampler: Sampler
    written: list[int] = field(default_factory=list)
    """Every token drawn, but for `<eos>`."""
    finish_reason: FinishReason | None = None

    def draw(self, logits: NDArray[np.float32], eos: int) -> Piece:
        """Draw the next token from logits (V,); return what it adds to the text."""
        token = self.sampler.pick(logits, self.seen, self.sample, len(self.written))
        if token == eos:
            self.finish_reason = "stop"
            return Piece(self.number, self.text.finish(), "stop")
        self.written.append(token)
        self.seen.append(token)
        piece = self.text.push(token)
        if not self.text.stopped and len(self.written) == self.sampler.config.max_tokens:
            self.finish_reason = "length"
            piece += self.text.finish()
        if self.text.stopped:  # also by what `finish` found in a word that was cut off
            self.finish_reason = "stop"
        return Piece(self.number, piece, self.finish_reason)


class Writer:
    """A model as a language model that writes, on one device.

    `never` are tokens that it does not write besides `<pad> <bos> <sep> <unk>`.
    """

    def __init__(self, tokenizer: Tokenizer, engine: Engine, never: Sequence[int] = ()):
        self.tokenizer, self.engine, self.n_ctx = tokenizer, engine, engine.config.n_ctx
        if self.n_ctx < SHORTEST_CONTEXT:
            raise UserError(f"this model's context is {self.n_ctx} tokens; generation needs {SHORTEST_CONTEXT}")
        self.never = sorted({tokenizer.pad, tokenizer.bos, tokenizer.sep, tokenizer.unk, *never})

    @classmethod
    def open(cls, name: str | Path, hardware: DeviceConfig | None = None) -> Self:
        """Load a model by its name (`loading.resolve_model`); a fine-tuned one is a language model too.

        It computes in float32 unless `hardware` names a dtype. A special token whose embedding was drawn when a foreign
        model was loaded is never written.
        """
        if hardware and hardware.compile:
            raise UserError("--compile: training and scoring only; text is written a token at a time")
        model = open_model(name)
        return cls.of(model, backends.for_answers(model.config, model.params, hardware))

    @classmethod
    def of(cls, model: Model, engine: Engine) -> Self:
        """Return the writer of a model whose engine is there already."""
        drawn = set(model.provenance.get("drawn", {}).get("tokens", ()))
        never = [getattr(model.tokenizer, token[1:-1]) for token in SPECIAL_TOKENS if token in drawn]
        return cls(model.tokenizer, engine, never)

    # ---- what people call

    def next(self, prompt: str, top: int = 10) -> list[dict[str, Any]]:
        """Return {token, id, probability} of the `top` likeliest next tokens, of all tokens, special ones too."""
        if top < 1:
            raise UserError(f"--top {top}: expected 1 or more")
        context = self._context(*self._encoded([prompt]))
        decoder = self.engine.decoder(1, len(context))
        [logits] = prefill(self.engine, decoder, [context], [0], self.tokenizer.pad)
        weights = np.exp(logits.astype(np.float64) - logits.max())
        probabilities = weights / weights.sum()
        if not np.isfinite(probabilities).all():
            raise UserError("the model's logits are no numbers: its weights are damaged, or training diverged")
        ids = np.argsort(-probabilities, kind="stable")[:top]
        names = self.tokenizer.tokens(ids)
        return [
            {"token": name, "id": int(i), "probability": float(probabilities[i])}
            for name, i in zip(names, ids, strict=True)
        ]

    def generate(
        self, prompts: Sequence[str], config: GenerateConfig, show: Callable[[Piece], None] | None = None
    ) -> list[dict[str, Any]]:
        """Return {prompt, text, finish_reason, tokens} of n samples of each prompt, in order.

        `text` is what follows the prompt, with the blank between; `tokens` are all that were drawn but for `<eos>`,
        also those that a stop string cut off. `show` is given each piece of a text as soon as no later token can change
        it.
        """
        drafts = self.drafts(self._encoded(prompts), config)
        if any(len(draft.context) + config.max_tokens > self.n_ctx for draft in drafts):
            console.say(
                f"The model sees {self.n_ctx} tokens at once: a text that grows beyond goes on from its last "
                f"{self.n_ctx // 2}."
            )
        texts = [""] * len(drafts)
        for piece in self._write(drafts):
            texts[piece.number] += piece.text
            if show:
                show(piece)
        return [self._told(prompts[draft.number // config.n], draft, texts[draft.number]) for draft in drafts]

    def _told(self, prompt: str, draft: Draft, text: str) -> dict[str, Any]:
        return {
            "prompt": valid_unicode(prompt),
            "text": text,
            "finish_reason": draft.finish_reason,
            "tokens": self.tokenizer.tokens(draft.written),
        }

    # ---- prompts

    def drafts(self, prompts: Sequence[Sequence[int]], config: GenerateConfig) -> list[Draft]:
        """Return n drafts for each prompt of token ids, those of one prompt next to each other, not yet begun."""
        sampler = Sampler(config, self.never)
        return [
            Draft(
                place * config.n + sample, sample, list(prompt), self._context(prompt),
                TextStream(self.tokenizer, list(prompt), config.stop), sampler,
            )
            for place, prompt in enumerate(prompts)
            for sample in range(config.n)
        ]  # fmt: skip

    def _context(self, prompt: Sequence[int]) -> list[int]:
        """Return what the model sees of a prompt, or `<bos>` where there is nothing."""
        return visible(list(prompt), self.n_ctx) or [self.tokenizer.bos]

    def _encoded(self, prompts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each prompt, and tell the person what of it the model will not see."""
        encoded = [self.tokenizer.encode(prompt) for prompt in prompts]
        for prompt, ids in zip(prompts, encoded, strict=True):
            if len(ids) > self.n_ctx:
                console.say(
                    f"The prompt has {len(ids):,} tokens, the model sees {self.n_ctx}: it goes on from the last "
                    f"{self.n_ctx // 2}."
                )
            if prompt and not ids:
                console.say("Nothing of the prompt is a token: the text starts as after an empty one, from <bos>.")
            if unknown := ids.count(self.tokenizer.unk):
                console.say(f"{unknown:,} of the prompt's {len(ids):,} tokens are unknown characters (<unk>).")
        return encoded

    # ---- prefill, decode one, decode many

    def _write(self, drafts: Sequence[Draft]) -> Iterator[Piece]:
        for start in range(0, len(drafts), MOST_SAMPLES):
            group = drafts[start : start + MOST_SAMPLES]
            longest = max(len(draft.context) + draft.sampler.config.max_tokens for draft in group)
            desk = Desk(self, len(group), min(longest, self.n_ctx))
            yield from desk.begin(group)
            while desk.drafts:
                yield from desk.step()


class Desk:
    """Texts that are written side by side, each by its own rules; others may join while they are being written.

    Row r of the decoder is `drafts[r]`; those that have ended leave it.
    """

    def __init__(self, writer: Writer, n_sequences: int, length: int):
        """Make room for `n_sequences` texts of which the model sees `length` tokens at most."""
        self.engine, self.tokenizer, self.n_ctx = writer.engine, writer.tokenizer, writer.n_ctx
        self.decoder = self.engine.decoder(n_sequences, length)
        self.room = n_sequences
        """How many texts can begin now."""
        self.drafts: list[Draft] = []

    def begin(self, drafts: Sequence[Draft]) -> list[Piece]:
        """Prefill the prompts of `drafts` (`room` at most), each prompt once; return what their first tokens add.

        Drafts of one prompt stand next to each other and have consecutive numbers.
        """
        start = len(self.drafts)
        first: dict[int, int] = {}
        sources = [first.setdefault(draft.number - draft.sample, row) for row, draft in enumerate(drafts, start)]
        rows = list(first.values())
        found = dict(zip(rows, self._prefill([drafts[row - start].context for row in rows], rows), strict=True))
        for row, source in enumerate(sources, start):
            if row != source:
                self.decoder.copy(source, row)
        self.drafts += drafts
        self.room -= len(drafts)
        return self._draw(start, [found[source] for source in sources])

    def step(self) -> list[Piece]:
        """Let the model see each draft's newest token, draw what follows; return what that adds to each text."""
        full = [row for row, draft in enumerate(self.drafts) if len(draft.context) == self.n_ctx]
        for draft in self.drafts:
            draft.context = visible([*draft.context, draft.written[-1]], self.n_ctx)
        if full:
            self._prefill([self.drafts[row].context[:-1] for row in full], full)
        return self._draw(0, self.decoder.step(np.array([draft.written[-1] for draft in self.drafts], np.int32)))

    def drop(self, draft: Draft) -> None:
        """Stop writing a text that nobody waits for any more."""
        self._leave(next(row for row, each in enumerate(self.drafts) if each is draft))

    def _draw(self, start: int, logits: Iterable[NDArray[np.float32]]) -> list[Piece]:
        """Draw the next token of each draft from row `start` on, from the logits (V,) of each."""
        drafts = self.drafts[start:]
        pieces = [draft.draw(values, self.tokenizer.eos) for draft, values in zip(drafts, logits, strict=True)]
        for row in reversed(range(start, len(self.drafts))):
            if self.drafts[row].finish_reason:
                self._leave(row)
        return [piece for piece in pieces if piece.text or piece.finish_reason]

    def _leave(self, row: int) -> None:
        last = self.drafts.pop()
        if row < len(self.drafts):
            self.drafts[row] = last
            self.decoder.copy(len(self.drafts), row)
        self.room += 1

    def _prefill(self, contexts: Sequence[Sequence[int]], rows: Sequence[int]) -> list[NDArray[np.float32]]:
        return prefill(self.engine, self.decoder, contexts, rows, self.tokenizer.pad)


def prefill(
    engine: Engine, decoder: Decoder, contexts: Sequence[Sequence[int]], rows: Sequence[int], pad: int
) -> list[NDArray[np.float32]]:
    """Begin `rows` with `contexts`, as many at once as the device likes; return the logits (V,) after each."""
    at_once = max(1, engine.tokens_at_once // max(map(len, contexts)))
    logits: list[NDArray[np.float32]] = []
    for start in range(0, len(rows), at_once):
        some = contexts[start : start + at_once]
        lengths = np.array([len(context) for context in some])
        tokens = np.full((len(some), lengths.max()), pad, np.int32)
        for line, context in zip(tokens, some, strict=True):
            line[: len(context)] = context
        logits += [*decoder.prefill(tokens, lengths, rows[start : start + at_once])]
    return logits


def visible(tokens: list[int], n_ctx: int) -> list[int]:
    """Return what of a sequence the model sees: all that fit into its context, else the last half of it."""
    return tokens if len(tokens) <= n_ctx else tokens[-(n_ctx // 2) :]
