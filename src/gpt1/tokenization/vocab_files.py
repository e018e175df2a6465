"""Reading and validation of vocabularies (token -> id) and merges, from files of every supported layout."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt1.errors import UserError

UNK_TOKEN = "<unk>"
END_OF_WORD = "</w>"
BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))
"""Tokens of single UTF-8 bytes, as named by `tokenizers`. A vocabulary that has all of them uses byte fallback."""
END_OF_WORD_BYTES = tuple(BYTE_TOKENS[byte] for byte in END_OF_WORD.encode())
"""Byte tokens of `</w>`, which end a word whose last character is encoded as bytes."""

Vocab = dict[str, int]
Merges = list[tuple[str, str]]

_FILE_PAIRS = (("vocab.json", "merges.txt"), ("encoder_bpe_40000.json", "vocab_40000.bpe"))


def read_vocab(directory: Path) -> tuple[Vocab, Merges]:
    """Read and validate the vocabulary, including added tokens, and the merges in `directory`.

    Raises:
        UserError: there are no such files, or they are invalid.
    """
    if not directory.is_dir():
        raise UserError(f"{directory}: no such directory; expected a directory with a tokenizer")
    path = directory / "tokenizer.json"
    if path.exists():
        vocab, merges = _from_tokenizer_json(path)
        check(vocab, merges, path, path)
        return vocab, merges
    for vocab_path, merges_path in ((directory / a, directory / b) for a, b in _FILE_PAIRS):
        if _packed(vocab_path).exists() or _packed(merges_path).exists():
            vocab = mapping(read_json(vocab_path), vocab_path)
            merges = list(_merges(_merge_lines(read_text(merges_path)), merges_path))
            added = directory / "added_tokens.json"
            every = vocab | mapping(read_json(added), added) if added.exists() else vocab
            check(every, merges, vocab_path, merges_path)
            _require_whole(vocab, merges, vocab_path, merges_path)
            return every, merges
    known = ", or ".join(" and ".join(pair) for pair in _FILE_PAIRS)
    raise UserError(f"{directory}: no tokenizer here; expected tokenizer.json, or {known} (plain or .xz)")


def _from_tokenizer_json(path: Path) -> tuple[Vocab, Merges]:
    """Read vocabulary and merges from `tokenizer.json`."""
    content = mapping(read_json(path), path)
    model = mapping(content.get("model"), f"{path}: model")
    kind, suffix = model.get("type", "BPE"), model.get("end_of_word_suffix")
    if kind != "BPE" or suffix != END_OF_WORD:
        raise UserError(f"{path}: a {kind} model with end_of_word_suffix {suffix!r}; expected BPE with {END_OF_WORD!r}")
    vocab = mapping(model.get("vocab"), f"{path}: vocab")
    for entry in content.get("added_tokens") or []:
        token = mapping(entry, f"{path}: added_tokens")
        vocab[str(token.get("content"))] = token.get("id")
    return vocab, list(_merges(model.get("merges"), path))


def _merge_lines(text: str) -> list[str]:
    lines = text.split("\n")  # not splitlines: a symbol may be another line-break character
    if lines[0].startswith("#version"):
        del lines[0]
    return [line for line in lines if line]


def _merges(entries: Any, source: Path) -> Iterator[tuple[str, str]]:
    """Yield the pairs of a list of merges, in either form: `"a b"` or `["a", "b"]`."""
    if not isinstance(entries, list):
        raise UserError(f"{source}: merges: expected a list, found {type(entries).__name__}")
    for number, entry in enumerate(entries, start=1):
        pair = entry.split(" ") if isinstance(entry, str) else entry
        match pair:
            case [str(left), str(right)]:
                yield left, right
            case _:
                raise UserError(f"{source}: merge {number} is {entry!r}; expected two symbols, one blank between them")


def _require_whole(vocab: Vocab, merges: Merges, vocab_path: Path, merges_path: Path) -> None:
    """Raise UserError if a token of several characters is not the result of a merge: the merges are truncated."""
    made = {left + right for left, right in merges}
    lost = [token for token in vocab if len(token.removesuffix(END_OF_WORD)) > 1 and token not in made]
    lost = [token for token in lost if not (token.startswith("<") and token.endswith(">"))]  # special tokens
    if lost:
        raise UserError(
            f"{merges_path}: {len(merges):,} merges make none of {len(lost):,} tokens of {vocab_path.name}, such as "
            f"{lost[0]!r}; the file is truncated, or belongs to another vocabulary"
        )


def check(vocab: Vocab, merges: Merges, vocab_source: Path | str, merges_source: Path | str) -> None:
    """Validate that ids are 0 to V - 1, `<unk>` exists, and all symbols of the merges are in the vocabulary.

    Raises:
        UserError: the first violation, with `vocab_source` or `merges_source`.
    """
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
        raise UserError(f"{vocab_source}: no token {UNK_TOKEN}; it is required for unknown characters")
    for number, (left, right) in enumerate(merges, start=1):
        if " " in left + right or "\n" in left + right:
            raise UserError(
                f"{merges_source}: merge {number} of {left!r} and {right!r} contains a blank or a line break"
            )
        for symbol in (left, right, left + right):
            if symbol not in vocab:
                description = f"merge {number} ({left!r} and {right!r})"
                raise UserError(f"{merges_source}: {description} needs {symbol!r}, which is not in the vocabulary")


def has_byte_tokens(vocab: Vocab) -> bool:
    """Return whether a vocabulary has all byte tokens, so that unknown characters are encoded as UTF-8 bytes."""
    return all(token in vocab for token in BYTE_TOKENS)


def _packed(path: Path) -> Path:
    """Return `path`, or `path` with .xz if only that exists."""
    packed = path.with_name(path.name + ".xz")
    return packed if packed.exists() and not path.exists() else path


def read_text(path: Path) -> str:
    """Read a UTF-8 text file, plain or .xz, with CRLF converted to LF. Raises UserError if that fails."""
    path = _packed(path)
    try:
        data = path.read_bytes()
        return (lzma.decompress(data) if path.suffix == ".xz" else data).decode("utf-8").replace("\r\n", "\n")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def read_json(path: Path) -> Any:
    """Read a JSON file, plain or .xz. Raises UserError if that fails."""
    try:
        return json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from error


def mapping(value: Any, source: Path | str) -> dict[str, Any]:
    """Return `value` if it is a JSON object; otherwise raise UserError with `source`."""
    if not isinstance(value, dict):
        raise UserError(f"{source}: expected a JSON object, found {type(value).__name__}")
    return value
