"""A language model that writes on from a prompt: prefill, decode with a cache, draw, stop.

A sequence that has filled the context cannot slide in the cache, because positions are learned: it begins again with
its last half, at position 0. Text is defined that way. What the model sees before token m + 1 of a sequence is all m
tokens while they fit into n_ctx; of the first token that does not fit, and of a prompt that is longer, the last
n_ctx // 2; and so on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from gpt1 import backends, console
from gpt1.backends.base import Decoder, Engine
from gpt1.classifier import open_model
from gpt1.config import MOST_SAMPLES, DeviceConfig, GenerateConfig
from gpt1.errors import UserError
from gpt1.sampling import Sampler
from gpt1.text.bpe import SPECIAL_TOKENS, Tokenizer
from gpt1.text.stream import TextStream
from gpt1.text.words import valid_unicode

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
    written: list[int] = field(default_factory=list)
    """Every token drawn, but for `<eos>`."""
    finish_reason: FinishReason | None = None

    def take(self, token: int, eos: int, max_tokens: int) -> Piece:
        """Add a token that was drawn; return what it adds to the text."""
        if token == eos:
            self.finish_reason = "stop"
            return Piece(self.number, self.text.finish(), "stop")
        self.written.append(token)
        self.seen.append(token)
        piece = self.text.push(token)
        if not self.text.stopped and len(self.written) == max_tokens:
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
    def open(cls, path: Path, hardware: DeviceConfig | None = None) -> Self:
        """Load a run directory's best model, or a model directory; a fine-tuned one is a language model too.

        A special token whose embedding was drawn when a foreign model was loaded is never written.
        """
        if hardware and hardware.compile:
            raise UserError("--compile: training and scoring only; text is written a token at a time")
        model = open_model(path)
        drawn = set(model.provenance.get("drawn", {}).get("tokens", ()))
        never = [getattr(model.tokenizer, token[1:-1]) for token in SPECIAL_TOKENS if token in drawn]
        return cls(model.tokenizer, backends.get(model.config, model.params, hardware=hardware), never)

    # ---- what people call

    def next(self, prompt: str, top: int = 10) -> list[dict[str, Any]]:
        """Return {token, id, probability} of the `top` likeliest next tokens, of all tokens, special ones too."""
        if top < 1:
            raise UserError(f"--top {top}: expected 1 or more")
        [(_, context)] = self._starts([prompt])
        logits = self._prefill(self.engine.decoder(1, len(context)), [context], [0])[0].astype(np.float64)
        weights = np.exp(logits - logits.max())
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
        drafts = self._drafts(prompts, config)
        texts = [""] * len(drafts)
        for piece in self._write(drafts, config):
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

    def _drafts(self, prompts: Sequence[str], config: GenerateConfig) -> list[Draft]:
        starts = self._starts(prompts)
        drafts = [
            Draft(
                place * config.n + sample, sample, list(prompt), context,
                TextStream(self.tokenizer, prompt, config.stop),
            )
            for place, (prompt, context) in enumerate(starts)
            for sample in range(config.n)
        ]  # fmt: skip
        if any(len(context) + config.max_tokens > self.n_ctx for _, context in starts):
            console.say(
                f"The model sees {self.n_ctx} tokens at once: a text that grows beyond goes on from its last "
                f"{self.n_ctx // 2}."
            )
        return drafts

    def _starts(self, prompts: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """Return the tokens of each prompt, and those of them that the model sees, or `<bos>` where there are none."""
        starts = []
        for prompt in prompts:
            ids = self.tokenizer.encode(prompt)
            if len(ids) > self.n_ctx:
                console.say(
                    f"The prompt has {len(ids):,} tokens, the model sees {self.n_ctx}: it goes on from the last "
                    f"{self.n_ctx // 2}."
                )
            if prompt and not ids:
                console.say("Nothing of the prompt is a token: the text starts as after an empty one, from <bos>.")
            if unknown := ids.count(self.tokenizer.unk):
                console.say(f"{unknown:,} of the prompt's {len(ids):,} tokens are unknown characters (<unk>).")
            starts.append((ids, visible(ids, self.n_ctx) or [self.tokenizer.bos]))
        return starts

    # ---- prefill, decode one, decode many

    def _write(self, drafts: Sequence[Draft], config: GenerateConfig) -> Iterator[Piece]:
        sampler = Sampler(config, self.never)
        for start in range(0, len(drafts), MOST_SAMPLES):
            group = list(drafts[start : start + MOST_SAMPLES])
            longest = max(len(draft.context) for draft in group) + config.max_tokens
            decoder = self.engine.decoder(len(group), min(longest, self.n_ctx))
            yield from self._decode_many(decoder, group, self._begin(decoder, group), sampler)

    def _begin(self, decoder: Decoder, drafts: Sequence[Draft]) -> list[NDArray[np.float32]]:
        """Prefill the prompts, each once; return the logits after each draft's."""
        first: dict[int, int] = {}
        sources = [first.setdefault(draft.number - draft.sample, row) for row, draft in enumerate(drafts)]
        rows = list(first.values())
        found = dict(zip(rows, self._prefill(decoder, [drafts[row].context for row in rows], rows), strict=True))
        for row, source in enumerate(sources):
            if row != source:
                decoder.copy(source, row)
        return [found[source] for source in sources]

    def _prefill(
        self, decoder: Decoder, contexts: Sequence[Sequence[int]], rows: Sequence[int]
    ) -> list[NDArray[np.float32]]:
        """Begin `rows` with `contexts`, as many at once as the device likes; return the logits after each."""
        at_once = max(1, self.engine.tokens_at_once // max(map(len, contexts)))
        logits: list[NDArray[np.float32]] = []
        for start in range(0, len(rows), at_once):
            some = contexts[start : start + at_once]
            lengths = np.array([len(context) for context in some])
            tokens = np.full((len(some), lengths.max()), self.tokenizer.pad, np.int32)
            for line, context in zip(tokens, some, strict=True):
                line[: len(context)] = context
            logits += [*decoder.prefill(tokens, lengths, rows[start : start + at_once])]
        return logits

    def _decode_one(self, decoder: Decoder, drafts: Sequence[Draft]) -> NDArray[np.float32]:
        """Let the model see each draft's newest token; return the logits of what follows."""
        full = [row for row, draft in enumerate(drafts) if len(draft.context) == self.n_ctx]
        for draft in drafts:
            draft.context = visible([*draft.context, draft.written[-1]], self.n_ctx)
        if full:
            self._prefill(decoder, [drafts[row].context[:-1] for row in full], full)
        return decoder.step(np.array([draft.written[-1] for draft in drafts], np.int32))

    def _decode_many(
        self, decoder: Decoder, drafts: list[Draft], logits: Sequence[NDArray[np.float32]], sampler: Sampler
    ) -> Iterator[Piece]:
        """Write all drafts to their ends; row r of the decoder is drafts[r], those that have ended leave it."""
        while drafts:
            for draft, values in zip(drafts, logits, strict=True):
                token = sampler.pick(values, draft.seen, draft.sample, len(draft.written))
                piece = draft.take(token, self.tokenizer.eos, sampler.config.max_tokens)
                if piece.text or piece.finish_reason:
                    yield piece
            for row in reversed(range(len(drafts))):
                if drafts[row].finish_reason:
                    last = drafts.pop()
                    if row < len(drafts):
                        drafts[row] = last
                        decoder.copy(len(drafts), row)
            logits = [*self._decode_one(decoder, drafts)] if drafts else []


def visible(tokens: list[int], n_ctx: int) -> list[int]:
    """Return what of a sequence the model sees: all that fit into its context, else the last half of it."""
    return tokens if len(tokens) <= n_ctx else tokens[-(n_ctx // 2) :]
