"""GPT-1's byte-pair encoding: words to token ids and back, and the files that hold a vocabulary.

A vocabulary is `<unk>`, the characters, the characters that end a word (`e</w>`), what the merges make of them, and the
line break `\\n</w>`; the special tokens follow. It may have a token for each byte besides: then the characters that it
lacks are encoded as their UTF-8 bytes (Kudo & Richardson 2018 call this byte fallback), else as `<unk>`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self, cast

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

# Blanks that stand between words but not in the text: around a line break, before closing punctuation, after an opening
# bracket, between the digits of a number (of which `fast` makes words of their own), before what spaCy splits off.
_AROUND_LINE_BREAK = r" ?\n ?"
_NO_BLANK = {
    "fast": r" (?=[,.!?;:%)\]}])|(?<=[(\[{]) |(?<=\d) (?=\d)",
    "openai": r" (?=[,.!?;:%)\]}])|(?<=[(\[{]) | (?=n't\b|'(?:s|m|d|ll|re|ve)\b)|(?<=\bcan) (?=not\b)",
}

_PIPELINE_CLASS = "PreTrainedTokenizerFast"
_PRETOKENIZER_KEY = "word_splitter"
"""The entry of `tokenizer_config.json` that names the pre-tokenizer, for directories without `gpt1.json`."""


class Tokenizer:
    """GPT-1's BPE over a `tokenizers.Tokenizer`.

    Text never produces a special token: `<eos>` in a text is text (for `fast` an HTML tag, which is removed).
    Encoding changes nothing in the object, so threads may share it.
    """

    pretokenizer: str
    """Name of the pre-tokenizer."""
    backend: tokenizers.Tokenizer
    """The pipeline itself, for those who need offsets."""
    vocab_size: int
    """Number of tokens, the special ones included; ids are 0 to `vocab_size` - 1."""
    pad: int
    bos: int
    sep: int
    eos: int
    unk: int
    byte_fallback: bool
    """Whether unknown characters are encoded as UTF-8 bytes, so that no text holds `<unk>`."""

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
        """Return the ids of `text`, without special tokens; bytes or `<unk>` for each symbol that the vocabulary lacks.

        A lone surrogate counts as U+FFFD.
        """
        if self._exact:
            return self._exact.encode(text)
        return self.backend.encode(valid_unicode(text), add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return `encode` of each text, computed on all cores; `TOKENIZERS_PARALLELISM=false` keeps it to one.

        `fast` uses the threads of `tokenizers`, which a process forked after this call does without, with a warning.
        `openai` starts processes for large batches (`parallel.py`). `encode` starts none.
        """
        if self._exact:
            return encode_all(self._exact.encode, texts, self.backend.to_str)
        encodings = self.backend.encode_batch_fast([valid_unicode(text) for text in texts], add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def encode_with_sizes(self, text: str) -> tuple[list[int], list[int]]:
        """Return the ids of `text` and the UTF-8 bytes that each stands for.

        They are bytes of the text itself, or, with pre-tokenizer `openai`, of the text as it was repaired and lowered.
        """
        if not self._exact:
            text = valid_unicode(text)
            encoding = self.backend.encode(text, add_special_tokens=False)
            return encoding.ids, _sizes((text, 0, span) for span in self._spans(encoding))
        words = split(text, self.pretokenizer)
        encoding = self._encode_words(words)
        spans = zip(cast("list[int]", encoding.word_ids), self._spans(encoding), strict=True)
        return encoding.ids, _sizes((words[word], word, span) for word, span in spans)

    def encode_with_words(self, text: str) -> tuple[list[int], list[Word]]:
        """Return the ids of `text` and the words that they make, in order, each with its place in `text`.

        The offsets are those of `valid_unicode(text)`. The pre-tokenizer `openai` returns none, so they are searched
        for (`offsets.find_words`), and a word that is not found has none.
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
        """Return the characters that each token stands for; None for the bytes that end a word after unknown ones.

        `tokenizers` gives those bytes spans beside the word.
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
        encoding = self._encode_words(words)
        ids: list[list[int]] = [[] for _ in words]
        for word, i in zip(cast("list[int]", encoding.word_ids), encoding.ids, strict=True):
            ids[word].append(i)
        return [*map(tuple, ids)]

    def _encode_words(self, words: Sequence[str]) -> tokenizers.Encoding:
        return self._bare.encode(words, is_pretokenized=True, add_special_tokens=False)

    def decode(self, ids: Iterable[int]) -> str:
        """Return readable text: words with blanks between them, special tokens and `<unk>` left out.

        No blank stands before punctuation, nor before n't and 's, which are words of pre-tokenizer `openai`. What the
        ids do not hold is lost: capitals, blanks (around a hyphen or a quotation mark), typography, `<unk>`.

        Raises UserError for an id outside the vocabulary.
        """
        return self.backend.decode(self._checked(ids), skip_special_tokens=True)

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Return the token of each id, `</w>` and all. Raises UserError for an id outside the vocabulary."""
        return [str(self.backend.id_to_token(i)) for i in self._checked(ids)]

    def _checked(self, ids: Iterable[int]) -> list[int]:
        ids = [int(i) for i in ids]
        for i in ids:
            if not 0 <= i < self.vocab_size:
                raise UserError(f"token id {i}: expected 0 to {self.vocab_size - 1}")
        return ids

    @classmethod
    def from_vocab(cls, vocab: Vocab, merges: Merges, pretokenizer: str = "fast") -> Self:
        """Build the pipeline of a pre-tokenizer around a vocabulary (token -> id) and its merges, most frequent first.

        Special tokens that `vocab` lacks follow it, in the order of `SPECIAL_TOKENS`. Raises UserError where the ids
        are not 0 to V - 1, `<unk>` is missing, or a merge joins or makes a symbol that `vocab` lacks.
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
        if byte_fallback:  # the bytes of several words become one token, of which BPEDecoder sees one end
            last_end = decoders.Replace(Regex(rf"{END_OF_WORD}\z"), "")
            words_of_tokens = [
                decoders.ByteFallback(), decoders.Fuse(), last_end, decoders.Replace(END_OF_WORD, " ")
            ]  # fmt: skip
        backend.decoder = decoders.Sequence([*words_of_tokens, *between_words])
        backend.add_special_tokens([AddedToken(token, normalized=False) for token in (UNK_TOKEN, *SPECIAL_TOKENS)])
        return cls(backend, pretokenizer)

    @classmethod
    def load(cls, directory: Path, pretokenizer: str | None = None) -> Self:
        """Load a model directory of ours, a Hugging Face openai-gpt directory, or OpenAI's files (also packed with xz).

        Of our own directories (`gpt1.json` names the pre-tokenizer) `tokenizer.json` is used as it stands; of all
        others, and where `pretokenizer` asks for another, the vocabulary and merges are taken and the pipeline is
        put around them. A vocabulary that does not name its pre-tokenizer is taken for OpenAI's own: `openai`.

        Raises UserError that names the file and the entry at fault.
        """
        directory = Path(directory)
        saved = _saved_pretokenizer(directory)
        pretokenizer = pretokenizer or saved or _default_pretokenizer(directory)
        find_pretokenizer(pretokenizer)  # refuses an unknown one
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
        """Write `tokenizer.json`, `vocab.json`, `merges.txt` and `tokenizer_config.json` into `directory`.

        With them `transformers.AutoTokenizer` gives the same ids, between the special tokens of the paper's input
        transformations (Radford et al. 2018, §3.3), cut to `max_length` tokens where it is told to truncate; for models
        with segments also the rows of their embeddings, as `token_type_ids`.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        backend, inputs = self.backend, ["input_ids", "attention_mask"]
        if n_segments:  # without them no token_type_ids: the model would add the embeddings of tokens 0 and 1
            backend = tokenizers.Tokenizer.from_str(backend.to_str())
            types = self.vocab_size, self.vocab_size + n_segments - 1
            backend.post_processor = _template(backend.get_vocab(), types)
            inputs.insert(1, "token_type_ids")
        text = backend.to_str(pretty=True)
        model = json.loads(text)["model"]
        config = {
            # The model type alone would make AutoTokenizer build OpenAIGPTTokenizer, with words of its own.
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
    """Return the paper's input transformation, the two parts marked with these token types."""
    a, b = types
    return TemplateProcessing(
        single=f"<bos>:{a} $A:{a} <eos>:{a}",
        pair=f"<bos>:{a} $A:{a} <sep>:{a} $B:{b} <eos>:{b}",
        special_tokens=[(token, vocab[token]) for token in ("<bos>", "<sep>", "<eos>")],
    )


def _sizes(spans: Iterable[tuple[str, int, Span | None]]) -> list[int]:
    """Return the UTF-8 bytes of each span of a text, given with the text and its number; 0 where there is none.

    The tokens of a character's bytes all have its span: the first of them counts it, the others count 0.
    """
    sizes, last = [], (-1, (-1, -1))
    for text, number, span in spans:
        start, end = span or (0, 0)
        sizes.append(0 if (number, (start, end)) == last else len(text[start:end].encode()))
        last = number, (start, end)
    return sizes


def _saved_pretokenizer(directory: Path) -> str | None:
    """Return the pre-tokenizer that `gpt1.json` names; None where there is no such file."""
    path = directory / "gpt1.json"
    if not path.exists():
        return None
    name = mapping(read_json(path), path).get("words")
    if not isinstance(name, str):
        raise UserError(f"{path}: words {name!r}: expected the name of a pre-tokenizer")
    return name


def _default_pretokenizer(directory: Path) -> str:
    path = directory / "tokenizer_config.json"
    config = mapping(read_json(path), path) if path.exists() else {}
    usual = "fast" if config.get("tokenizer_class") == _PIPELINE_CLASS else "openai"
    return str(config.get(_PRETOKENIZER_KEY) or usual)


def token_name(token: str) -> str:
    """Return a token for people: … stands where the word goes on."""
    whole = token.endswith("</w>") or token.startswith("<")
    return repr(token.removesuffix("</w>"))[1:-1] + ("" if whole else "…")
