"""GPT-1's byte-pair encoding: text to token ids and back, loading and saving.

A vocabulary consists of `<unk>`, the characters, the characters at the end of a word (`e</w>`), the tokens made by
merges, the line break `\\n</w>`, and the special tokens. With byte fallback (Kudo & Richardson 2018) it also has a
token for each byte, and unknown characters are encoded as their UTF-8 bytes; without, they are encoded as `<unk>`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self, cast

import tokenizers
from tokenizers import AddedToken, Regex, decoders
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing

from gpt1.config import ModelConfig
from gpt1.errors import UserError
from gpt1.tokenization import openai_pretokenizer
from gpt1.tokenization.offsets import Span, Word, find_words, words_in
from gpt1.tokenization.parallel import encode_all
from gpt1.tokenization.pretokenizers import find_pretokenizer, split, valid_unicode
from gpt1.tokenization.vocab_files import (
    END_OF_WORD,
    END_OF_WORD_BYTES,
    UNK_TOKEN,
    Merges,
    Vocab,
    check,
    has_byte_tokens,
    mapping,
    read_json,
    read_text,
    read_vocab,
)

SPECIAL_TOKENS = ("<pad>", "<bos>", "<sep>", "<eos>")
_MERGES_HEADER = "#version: 0.2"

# Blanks between words that decoding removes: around a line break, before closing punctuation, after an opening bracket,
# between digits (each of which is a word of `fast`), before a suffix that spaCy splits off (n't, 's).
_AROUND_LINE_BREAK = r" ?\n ?"
_NO_BLANK = {
    "fast": r" (?=[,.!?;:%)\]}])|(?<=[(\[{]) |(?<=\d) (?=\d)",
    "openai": r" (?=[,.!?;:%)\]}])|(?<=[(\[{]) | (?=n't\b|'(?:s|m|d|ll|re|ve)\b)|(?<=\bcan) (?=not\b)",
}

_PIPELINE_CLASS = "PreTrainedTokenizerFast"
_PRETOKENIZER_KEY = "word_splitter"
"""Key of the pre-tokenizer's name in `tokenizer_config.json`, for directories without `gpt1.json`."""


class Tokenizer:
    """GPT-1's BPE on a `tokenizers.Tokenizer`. Use `load` or `from_vocab` to create one.

    Text never yields a special token: `<eos>` in a text is encoded as text. Encoding does not modify the object, so
    threads may share it.
    """

    pretokenizer: str
    """Name of the pre-tokenizer."""
    backend: tokenizers.Tokenizer
    """Pipeline of `tokenizers`, which also returns offsets."""
    vocab_size: int
    """Number of tokens, special tokens included; ids are 0 to `vocab_size` - 1."""
    pad: int
    bos: int
    sep: int
    eos: int
    unk: int
    byte_fallback: bool
    """Whether unknown characters are encoded as UTF-8 bytes, so that no text contains `<unk>`."""

    def __init__(self, backend: tokenizers.Tokenizer, pretokenizer: str) -> None:
        backend.encode_special_tokens = True
        backend.no_truncation()
        backend.no_padding()
        self.backend = backend
        self.pretokenizer = pretokenizer
        vocab = backend.get_vocab()
        self.vocab_size = len(vocab)
        self.unk = vocab[UNK_TOKEN]
        self.pad, self.bos, self.sep, self.eos = (vocab[token] for token in SPECIAL_TOKENS)
        self.byte_fallback = has_byte_tokens(vocab)
        self._bare = tokenizers.Tokenizer(backend.model)
        self._exact = openai_pretokenizer.Encoder(self._ids_of_words) if pretokenizer == "openai" else None

    def encode(self, text: str) -> list[int]:
        """Return the token ids of `text`, without special tokens.

        Symbols that are not in the vocabulary become bytes or `<unk>`; a lone surrogate is treated as U+FFFD.
        """
        if self._exact:
            return self._exact.encode(text)
        return self.backend.encode(valid_unicode(text), add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return `encode` of each text, computed on all cores; with `TOKENIZERS_PARALLELISM=false` on one.

        `fast` uses the threads of `tokenizers`; a process that is forked after this call warns and works without them.
        `openai` starts processes for large batches (`parallel.py`).
        """
        if self._exact:
            return encode_all(self._exact.encode, texts, self.backend.to_str)
        encodings = self.backend.encode_batch_fast([valid_unicode(text) for text in texts], add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def encode_with_sizes(self, text: str) -> tuple[list[int], list[int]]:
        """Return the token ids of `text` and the number of UTF-8 bytes of each.

        The bytes are counted in `text`, or, with the pre-tokenizer `openai`, in the repaired lower-case text.
        """
        if not self._exact:
            text = valid_unicode(text)
            encoding = self.backend.encode(text, add_special_tokens=False)
            return encoding.ids, _sizes((text, 0, span) for span in self._spans(encoding))
        words = split(text, self.pretokenizer)
        encoding = self._encode_words(words)
        spans = zip(cast("list[int]", encoding.word_ids), self._spans(encoding), strict=True)
        return encoding.ids, _sizes((words[word], word, span) for word, span in spans)

    def unknown_bytes(self, text: str, ids: Sequence[int]) -> int:
        """Return how many UTF-8 bytes of `text` became `<unk>` in its token ids; only such a text is encoded again."""
        if self.unk not in ids:
            return 0
        return sum(size for i, size in zip(*self.encode_with_sizes(text), strict=True) if i == self.unk)

    def encode_with_words(self, text: str) -> tuple[list[int], list[Word]]:
        """Return the token ids of `text` and its words, in order, each with its offsets.

        Offsets are in `valid_unicode(text)`. The pre-tokenizer `openai` returns none, so `offsets.find_words` searches
        for the words; a word that is not found has no offsets.
        """
        text = valid_unicode(text)
        if self._exact:
            names = split(text, self.pretokenizer)
            encoding = self._encode_words(names)
            spans: list[Span | None] = find_words(names, text)
        else:
            encoding = self.backend.encode(text, add_special_tokens=False)
            count = 1 + max(cast("list[int]", encoding.word_ids), default=-1)
            spans, names = [None] * count, [""] * count
            for word, span in zip(cast("list[int]", encoding.word_ids), self._spans(encoding), strict=True):
                if span is not None:
                    start, end = spans[word] or span
                    spans[word] = min(start, span[0]), max(end, span[1])
        sizes = Counter(cast("list[int]", encoding.word_ids))
        each = ((name, span, sizes[word]) for word, (name, span) in enumerate(zip(names, spans, strict=True)))
        return encoding.ids, words_in(text, each)

    def _spans(self, encoding: tokenizers.Encoding) -> list[Span | None]:
        """Return the span of characters of each token; None for the byte tokens of `</w>` after an unknown character.

        The spans that `tokenizers` returns for those are outside the word.
        """
        spans: list[Span | None] = list(encoding.offsets)
        if self.byte_fallback:
            word_ids, tokens = cast("list[int]", encoding.word_ids), encoding.tokens
            for end in range(len(END_OF_WORD), len(tokens) + 1):
                whole = end == len(tokens) or word_ids[end] != word_ids[end - 1]
                if whole and tuple(tokens[end - len(END_OF_WORD) : end]) == END_OF_WORD_BYTES:
                    spans[end - len(END_OF_WORD) : end] = [None] * len(END_OF_WORD)
        return spans

    def _ids_of_words(self, words: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the token ids of each word."""
        encoding = self._encode_words(words)
        ids: list[list[int]] = [[] for _ in words]
        for word, i in zip(cast("list[int]", encoding.word_ids), encoding.ids, strict=True):
            ids[word].append(i)
        return [*map(tuple, ids)]

    def _encode_words(self, words: Sequence[str]) -> tokenizers.Encoding:
        return self._bare.encode(words, is_pretokenized=True, add_special_tokens=False)

    def decode(self, ids: Iterable[int]) -> str:
        """Return readable text: words separated by blanks, without special tokens and `<unk>`.

        There is no blank before punctuation, nor before n't and 's, which the pre-tokenizer `openai` splits off.
        Capital letters, typography, and the original blanks around hyphens and quotation marks cannot be restored.

        Raises:
            UserError: an id is outside the vocabulary.
        """
        return self.backend.decode(self._checked(ids), skip_special_tokens=True)

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Return the token of each id, including `</w>`.

        Raises:
            UserError: an id is outside the vocabulary.
        """
        return [str(self.backend.id_to_token(i)) for i in self._checked(ids)]

    def _checked(self, ids: Iterable[int]) -> list[int]:
        ids = [int(i) for i in ids]
        for i in ids:
            if not 0 <= i < self.vocab_size:
                raise UserError(f"token id {i}: expected 0 to {self.vocab_size - 1}")
        return ids

    @classmethod
    def from_vocab(cls, vocab: Vocab, merges: Merges, pretokenizer: str = "fast") -> Self:
        """Create a tokenizer from a vocabulary (token -> id) and its merges, most frequent first.

        Special tokens that are not in `vocab` are appended to it, in the order of `SPECIAL_TOKENS`.

        Raises:
            UserError: the pre-tokenizer is unknown, the ids are not 0 to V - 1, `<unk>` is missing, or a symbol of a
                merge is not in `vocab`.
        """
        check(vocab, merges, "vocabulary", "merges")
        missing = [token for token in SPECIAL_TOKENS if token not in vocab]
        vocab = vocab | {token: i for i, token in enumerate(missing, start=len(vocab))}
        byte_fallback = has_byte_tokens(vocab)
        backend = tokenizers.Tokenizer(
            BPE(vocab, merges, unk_token=UNK_TOKEN, end_of_word_suffix=END_OF_WORD, byte_fallback=byte_fallback)
        )
        backend.normalizer, backend.pre_tokenizer = find_pretokenizer(pretokenizer)
        backend.post_processor = _template(vocab, (0, 1))
        between_words = [
            decoders.Replace(Regex(_AROUND_LINE_BREAK), "\n"), decoders.Replace(Regex(_NO_BLANK[pretokenizer]), "")
        ]  # fmt: skip
        words_of_tokens = [decoders.BPEDecoder(END_OF_WORD), decoders.Fuse()]
        if byte_fallback:  # the bytes of several words are fused to one token, in which BPEDecoder replaces one </w>
            last_end = decoders.Replace(Regex(rf"{END_OF_WORD}\z"), "")
            words_of_tokens = [
                decoders.ByteFallback(), decoders.Fuse(), last_end, decoders.Replace(END_OF_WORD, " ")
            ]  # fmt: skip
        backend.decoder = decoders.Sequence([*words_of_tokens, *between_words])
        backend.add_special_tokens([AddedToken(token, normalized=False) for token in (UNK_TOKEN, *SPECIAL_TOKENS)])
        return cls(backend, pretokenizer)

    @classmethod
    def load(cls, directory: Path, pretokenizer: str | None = None) -> Self:
        """Load a model directory of ours, a Hugging Face openai-gpt directory, or OpenAI's files (plain or .xz).

        For a directory of ours, which names its pre-tokenizer, `tokenizer.json` is used unchanged, so that the ids of a
        model, a run or a prepared corpus do not change when the rules of a pre-tokenizer do. For any other, or with
        another `pretokenizer`, the pipeline is built from the vocabulary and merges. The default pre-tokenizer of a
        vocabulary that does not name one is OpenAI's own, `openai`.

        Raises:
            UserError: a file is missing or invalid; the message names the file and the entry.
        """
        directory = Path(directory)
        saved = _saved_pretokenizer(directory)
        pretokenizer = pretokenizer or saved or _default_pretokenizer(directory)
        find_pretokenizer(pretokenizer)  # raises for an unknown one
        vocab, merges = read_vocab(directory)
        path = directory / "tokenizer.json"
        if pretokenizer != saved or not path.exists():
            return cls.from_vocab(vocab, merges, pretokenizer)
        for token in SPECIAL_TOKENS:
            if token not in vocab:
                raise UserError(f"{path}: no token {token}; expected {', '.join(SPECIAL_TOKENS)}")
        try:
            return cls(tokenizers.Tokenizer.from_str(read_text(path)), pretokenizer)
        except Exception as error:  # the library raises nothing narrower
            raise UserError(f"{path}: `tokenizers` {tokenizers.__version__} cannot read it: {error}") from error

    def save(self, directory: Path, *, max_length: int = ModelConfig.n_ctx, n_segments: int = 0) -> None:
        """Write `tokenizer.json`, `vocab.json`, `merges.txt` and `tokenizer_config.json` to `directory`.

        With these files `transformers.AutoTokenizer` yields the same ids, with the special tokens of the paper's input
        transformations (Radford et al. 2018, §3.3) around them. `max_length` is its length for truncation. For a model
        with segments its `token_type_ids` are the segments' rows of the token embedding.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        backend, inputs = self.backend, ["input_ids", "attention_mask"]
        if n_segments:  # without segments no token_type_ids: the model would add the embeddings of tokens 0 and 1
            backend = tokenizers.Tokenizer.from_str(backend.to_str())
            types = self.vocab_size, self.vocab_size + n_segments - 1
            backend.post_processor = _template(backend.get_vocab(), types)
            inputs.insert(1, "token_type_ids")
        text = backend.to_str(pretty=True)
        model = json.loads(text)["model"]
        config = {
            # Without it, AutoTokenizer selects OpenAIGPTTokenizer by the model type, which splits words differently.
            "tokenizer_class": _PIPELINE_CLASS,
            _PRETOKENIZER_KEY: self.pretokenizer,
            **{f"{token[1:-1]}_token": token for token in (UNK_TOKEN, *SPECIAL_TOKENS)},
            "clean_up_tokenization_spaces": False,
            "model_input_names": inputs,
            "model_max_length": max_length,
            "padding_side": "right",
            "split_special_tokens": True,
            "truncation_side": "right",
        }
        files = {
            "tokenizer.json": text,
            "vocab.json": json.dumps(model["vocab"], ensure_ascii=False),
            "merges.txt": "\n".join([_MERGES_HEADER, *(f"{left} {right}" for left, right in model["merges"])]),
            "tokenizer_config.json": json.dumps(config, indent=2),
        }
        for name, text in files.items():
            (directory / name).write_text(text + "\n", encoding="utf-8", newline="\n")


def _template(vocab: Vocab, types: tuple[int, int]) -> TemplateProcessing:
    """Return the paper's input transformation, with token types `types` for the first and the second text."""
    a, b = types
    return TemplateProcessing(
        single=f"<bos>:{a} $A:{a} <eos>:{a}",
        pair=f"<bos>:{a} $A:{a} <sep>:{a} $B:{b} <eos>:{b}",
        special_tokens=[(token, vocab[token]) for token in ("<bos>", "<sep>", "<eos>")],
    )


def _sizes(spans: Iterable[tuple[str, int, Span | None]]) -> list[int]:
    """Return the number of UTF-8 bytes of each span (text, number of the text, span); 0 for no span.

    The byte tokens of one character all have its span: the first counts all its bytes, the others 0.
    """
    sizes, last = [], (-1, (-1, -1))
    for text, number, span in spans:
        start, end = span or (0, 0)
        sizes.append(0 if (number, (start, end)) == last else len(text[start:end].encode()))
        last = number, (start, end)
    return sizes


def _saved_pretokenizer(directory: Path) -> str | None:
    """Return the name of the pre-tokenizer in `gpt1.json` or else in `tokenizer_config.json`; None if there is none."""
    path = directory / "gpt1.json"
    if not path.exists():
        name = _config(directory).get(_PRETOKENIZER_KEY)
        return None if name is None else str(name)
    name = mapping(read_json(path), path).get("words")
    if not isinstance(name, str):
        raise UserError(f"{path}: words {name!r}: expected the name of a pre-tokenizer")
    return name


def _default_pretokenizer(directory: Path) -> str:
    """Return the name of the pre-tokenizer of a directory that does not name one."""
    return "fast" if _config(directory).get("tokenizer_class") == _PIPELINE_CLASS else "openai"


def _config(directory: Path) -> dict[str, Any]:
    """Return the content of `tokenizer_config.json`; empty if there is no such file."""
    path = directory / "tokenizer_config.json"
    return mapping(read_json(path), path) if path.exists() else {}


def token_name(token: str) -> str:
    """Return a token for display; … at its end marks an unfinished word."""
    whole = token.endswith("</w>") or token.startswith("<")
    return repr(token.removesuffix("</w>"))[1:-1] + ("" if whole else "…")
