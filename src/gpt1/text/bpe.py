"""GPT-1's byte-pair encoding: words to token ids and back, and the files that hold a vocabulary.

A vocabulary is `<unk>`, the characters, the characters that end a word (`e</w>`), what the merges make of them, and the
line break `\\n</w>`; the special tokens follow.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import tokenizers
from tokenizers import AddedToken, Regex, decoders
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing

from gpt1.config import ModelConfig
from gpt1.errors import UserError
from gpt1.text.words import splitter, valid_unicode

UNK_TOKEN = "<unk>"
SPECIAL_TOKENS = ("<pad>", "<bos>", "<sep>", "<eos>")
END_OF_WORD = "</w>"

Vocab = dict[str, int]
Merges = list[tuple[str, str]]

_FILE_PAIRS = (("vocab.json", "merges.txt"), ("encoder_bpe_40000.json", "vocab_40000.bpe"))
_MERGES_HEADER = "#version: 0.2"

# Blanks that stand between words but not in the text: around a line break, before closing punctuation, after an opening
# bracket, between the digits of a number.
_NO_BLANK = r" ?\n ?", r" (?=[,.!?;:%)\]}])|(?<=[(\[{]) |(?<=\d) (?=\d)"


class Tokenizer:
    """GPT-1's BPE over a `tokenizers.Tokenizer`.

    Text never produces a special token: `<eos>` in a text is text (to the splitter `fast` an HTML tag, which vanishes).
    Encoding changes nothing in the object, so threads may share it.
    """

    words: str
    """Name of the word splitter."""
    backend: tokenizers.Tokenizer
    """The pipeline itself, for those who need offsets."""
    vocab_size: int
    """Number of tokens, the special ones included; ids are 0 to `vocab_size` - 1."""
    pad: int
    bos: int
    sep: int
    eos: int
    unk: int

    def __init__(self, backend: tokenizers.Tokenizer, words: str) -> None:
        backend.encode_special_tokens = True
        backend.no_truncation()
        backend.no_padding()
        self.backend = backend
        self.words = words
        vocab = backend.get_vocab()
        self.vocab_size = len(vocab)
        self.unk = vocab[UNK_TOKEN]
        self.pad, self.bos, self.sep, self.eos = (vocab[token] for token in SPECIAL_TOKENS)

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without special tokens; `<unk>` for each symbol that the vocabulary lacks.

        A lone surrogate counts as U+FFFD.
        """
        return self.backend.encode(valid_unicode(text), add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return `encode` of each text, computed on all cores.

        The threads are those of `tokenizers`: `TOKENIZERS_PARALLELISM=false` switches them off, and in a process forked
        after this call it does so by itself and says so. `encode` starts none.
        """
        encodings = self.backend.encode_batch_fast([valid_unicode(text) for text in texts], add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Iterable[int]) -> str:
        """Return readable text: words with blanks between them, special tokens and `<unk>` left out.

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
    def from_vocab(cls, vocab: Vocab, merges: Merges, words: str = "fast") -> Self:
        """Put the pipeline of splitter `words` around a vocabulary (token -> id) and its merges, most frequent first.

        Special tokens that `vocab` lacks follow it, in the order of `SPECIAL_TOKENS`. Raises UserError where the ids
        are not 0 to V - 1, `<unk>` is missing, or a merge joins or makes a symbol that `vocab` lacks.
        """
        _check(vocab, merges, "vocabulary", "merges")
        missing = [token for token in SPECIAL_TOKENS if token not in vocab]
        vocab = vocab | {token: i for i, token in enumerate(missing, start=len(vocab))}
        backend = tokenizers.Tokenizer(BPE(vocab, merges, unk_token=UNK_TOKEN, end_of_word_suffix=END_OF_WORD))
        backend.normalizer, backend.pre_tokenizer = splitter(words)
        backend.post_processor = _template(vocab, (0, 1))
        between_words = [decoders.Replace(Regex(_NO_BLANK[0]), "\n"), decoders.Replace(Regex(_NO_BLANK[1]), "")]
        backend.decoder = decoders.Sequence([decoders.BPEDecoder(END_OF_WORD), decoders.Fuse(), *between_words])
        backend.add_special_tokens([AddedToken(token, normalized=False) for token in (UNK_TOKEN, *SPECIAL_TOKENS)])
        return cls(backend, words)

    @classmethod
    def load(cls, directory: Path, words: str | None = None) -> Self:
        """Load a model directory of ours, a Hugging Face openai-gpt directory, or OpenAI's files (also packed with xz).

        Of our own directories (`gpt1.json` names the word splitter) `tokenizer.json` is used as it stands; of all
        others, and where `words` asks for another splitter, the vocabulary and merges are taken and the pipeline is
        put around them. Raises UserError that names the file and the entry at fault.
        """
        directory = Path(directory)
        saved_words = _saved_words(directory)
        words = words or saved_words or "fast"
        splitter(words)
        vocab, merges = _read_vocab(directory)
        path = directory / "tokenizer.json"
        if words != saved_words or not path.exists():
            return cls.from_vocab(vocab, merges, words)
        for token in SPECIAL_TOKENS:
            if token not in vocab:
                raise UserError(f"{path}: no token {token}; expected {', '.join(SPECIAL_TOKENS)}")
        try:
            return cls(tokenizers.Tokenizer.from_str(_read(path)), words)
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
        pipeline = backend.to_str(pretty=True)
        model = json.loads(pipeline)["model"]
        config = {
            # The model type alone would make AutoTokenizer build OpenAIGPTTokenizer, with words of its own.
            "tokenizer_class": "PreTrainedTokenizerFast",
            **{f"{token[1:-1]}_token": token for token in (UNK_TOKEN, *SPECIAL_TOKENS)},
            "clean_up_tokenization_spaces": False,
            "model_input_names": inputs,
            "model_max_length": max_length,
            "padding_side": "right",
            "split_special_tokens": True,
            "truncation_side": "right",
        }
        files = {
            "tokenizer.json": pipeline,
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


def _saved_words(directory: Path) -> str | None:
    """Return the splitter that `gpt1.json` names; None where there is no such file."""
    path = directory / "gpt1.json"
    if not path.exists():
        return None
    words = _mapping(_read_json(path), path).get("words")
    if not isinstance(words, str):
        raise UserError(f"{path}: words {words!r}: expected the name of a word splitter")
    return words


def _read_vocab(directory: Path) -> tuple[Vocab, Merges]:
    """Return the vocabulary, added tokens included, and the merges of whatever stands in `directory`, checked."""
    if not directory.is_dir():
        raise UserError(f"{directory}: no such directory; expected one that holds a tokenizer")
    path = directory / "tokenizer.json"
    if path.exists():
        vocab, merges = _from_tokenizer_json(path)
        _check(vocab, merges, path, path)
        return vocab, merges
    for vocab_path, merges_path in ((directory / a, directory / b) for a, b in _FILE_PAIRS):
        if _packed(vocab_path).exists() or _packed(merges_path).exists():
            vocab = _mapping(_read_json(vocab_path), vocab_path)
            added = directory / "added_tokens.json"
            if added.exists():
                vocab = vocab | _mapping(_read_json(added), added)
            merges = list(_merges(_merge_lines(_read(merges_path)), merges_path))
            _check(vocab, merges, vocab_path, merges_path)
            return vocab, merges
    known = ", or ".join(" and ".join(pair) for pair in _FILE_PAIRS)
    raise UserError(f"{directory}: no tokenizer here; expected tokenizer.json, or {known} (plain or .xz)")


def _from_tokenizer_json(path: Path) -> tuple[Vocab, Merges]:
    content = _mapping(_read_json(path), path)
    model = _mapping(content.get("model"), f"{path}: model")
    kind, suffix = model.get("type", "BPE"), model.get("end_of_word_suffix")
    if kind != "BPE" or suffix != END_OF_WORD:
        raise UserError(f"{path}: a {kind} model with end_of_word_suffix {suffix!r}; expected BPE with {END_OF_WORD!r}")
    vocab = _mapping(model.get("vocab"), f"{path}: vocab")
    for entry in content.get("added_tokens") or []:
        token = _mapping(entry, f"{path}: added_tokens")
        vocab[str(token.get("content"))] = token.get("id")
    return vocab, list(_merges(model.get("merges"), path))


def _merge_lines(text: str) -> list[str]:
    lines = text.split("\n")  # not splitlines: a symbol may be one of the rarer line breaks
    if lines[0].startswith("#version"):
        del lines[0]
    return [line for line in lines if line]


def _merges(entries: Any, source: Path) -> Iterator[tuple[str, str]]:
    """Yield the pairs of a list of merges, each `"a b"` or `["a", "b"]`."""
    if not isinstance(entries, list):
        raise UserError(f"{source}: merges: expected a list, found {type(entries).__name__}")
    for number, entry in enumerate(entries, start=1):
        pair = entry.split(" ") if isinstance(entry, str) else entry
        match pair:
            case [str(left), str(right)]:
                yield left, right
            case _:
                raise UserError(f"{source}: merge {number} is {entry!r}; expected two symbols, one blank between them")


def _check(vocab: Vocab, merges: Merges, vocab_source: Path | str, merges_source: Path | str) -> None:
    """Raise UserError where a vocabulary is not 0 to V - 1 with `<unk>`, or a merge is not of it."""
    tokens: dict[int, str] = {}
    for token, i in vocab.items():
        if type(i) is not int:
            raise UserError(f"{vocab_source}: token {token!r} has id {i!r}; expected a whole number")
        if i in tokens:
            raise UserError(f"{vocab_source}: id {i} belongs to both {tokens[i]!r} and {token!r}")
        tokens[i] = token
    for i in range(len(vocab)):
        if i not in tokens:
            raise UserError(f"{vocab_source}: no token has id {i}; expected {len(vocab)} tokens with the ids from 0 on")
    if UNK_TOKEN not in vocab:
        raise UserError(f"{vocab_source}: no token {UNK_TOKEN}, which stands for unknown characters")
    for number, (left, right) in enumerate(merges, start=1):
        if " " in left + right or "\n" in left + right:
            raise UserError(f"{merges_source}: merge {number} of {left!r} and {right!r} holds a blank or a line break")
        for symbol in (left, right, left + right):
            if symbol not in vocab:
                found = f"merge {number} ({left!r} and {right!r})"
                raise UserError(f"{merges_source}: {found} needs {symbol!r}, which is not in the vocabulary")


def _packed(path: Path) -> Path:
    """Return `path`, or its xz-packed form where only that exists."""
    packed = path.with_name(path.name + ".xz")
    return packed if packed.exists() and not path.exists() else path


def _read(path: Path) -> str:
    path = _packed(path)
    try:
        data = path.read_bytes()
        return (lzma.decompress(data) if path.suffix == ".xz" else data).decode("utf-8").replace("\r\n", "\n")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_read(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from error


def _mapping(value: Any, source: Path | str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{source}: expected a JSON object, found {type(value).__name__}")
    return value
