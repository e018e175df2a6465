"""Encoding of a text file into a shard: token ids, an index of its documents, and metadata.

A shard consists of `NAME.bin` (ids as uint16, or uint32 if the vocabulary has more than 65,536 tokens),
`NAME.index.bin` (int64 rows: first token of a chunk, its first byte in the text, 1 if a document starts there) and
`NAME.json`, which is written last and marks the shard as complete. Run as a program, this module encodes files named on
stdin.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from gpt1.data.corpus.documents import DocumentChunk, documents
from gpt1.errors import UserError
from gpt1.system.files import read_json, sha256, sync, write_json
from gpt1.tokenization.tokenizer import Tokenizer
from gpt1.tokenization.trainer import NEWLINE

FORMAT = 1
"""Version of a shard's files."""

CHARACTERS_AT_ONCE = 1_000_000
"""Characters that are encoded in one batch."""

Request = dict[str, Any]
"""A file to encode: `shard` and `source` (paths), `name`, `asked` (settings). Plain data, to be sent to processes."""

Answer = dict[str, Any]
"""Progress or result of a request: `size` (bytes of text encoded since the last answer), `note` (a line for the user),
then one of `done` (content of
the shard's JSON file), `refused` (user error) or `failed` (internal error)."""


def is_progress(answer: Answer) -> bool:
    """Return whether more answers to the same request follow."""
    return "size" in answer or "note" in answer


def token_type(vocab_size: int) -> np.dtype[Any]:
    """Return the dtype of the ids in a shard."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def tokenizer_digest(tokenizer: Tokenizer) -> str:
    """Return the SHA-256 of everything that determines token ids: vocabulary, merges, normalizer and pre-tokenizer."""
    pipeline = json.loads(tokenizer.backend.to_str())
    parts = [tokenizer.pretokenizer, *(pipeline[name] for name in ("normalizer", "pre_tokenizer", "model"))]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def source_state(source: Path) -> dict[str, int]:
    """Return size and modification time, by which changes of a file are detected."""
    state = source.stat()
    return {"size": state.st_size, "mtime_ns": state.st_mtime_ns}


def finished(shard: Path, source: Path, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the content of the shard's JSON file if it matches `asked` and the current `source`, else None."""
    try:
        details = read_json(shard.with_suffix(".json"))
        state = source_state(source)
        if details["asked"] != asked or details["read"]["size"] != state["size"]:
            return None
        if details["read"]["mtime_ns"] != state["mtime_ns"] and details["shard"]["source_sha256"] != sha256(source):
            return None
        return details if is_complete(shard, details["shard"]) else None
    except (UserError, OSError, KeyError, TypeError):
        return None


def is_complete(shard: Path, facts: Mapping[str, Any]) -> bool:
    """Return whether the files of a shard exist and have the sizes in `facts`."""
    expected = {
        shard: facts["tokens"] * np.dtype(facts["dtype"]).itemsize,
        shard.with_suffix(".index.bin"): facts["pieces"] * 24,
    }
    try:
        return shard.with_suffix(".json").exists() and all(
            path.stat().st_size == size for path, size in expected.items()
        )
    except OSError:
        return False


def write_shard(request: Request, tokenizer: Tokenizer) -> Iterator[Answer]:
    """Encode a text file, each document as `<bos> text <eos>`; yield `size` answers for progress, then `done`.

    Raises:
        UserError: the file cannot be read, or changes while it is read.
    """
    shard, source, asked = Path(request["shard"]), Path(request["source"]), request["asked"]
    before = source_state(source)
    digest = sha256(source)
    dtype = token_type(tokenizer.vocab_size)
    tokens = size = n_chunks = n_documents = 0
    with _Partial(shard) as ids_file, _Partial(shard.with_suffix(".index.bin")) as index_file:
        notes: list[str] = []
        for group in _groups(documents(source, asked["end_of_document"], asked.get("encoding"), notes.append)):
            yield from ({"note": note} for note in notes)
            notes.clear()
            for chunk, ids in _encoded(group, tokenizer):
                index_file.write(np.array([tokens, size, chunk.starts], "<i8").tobytes())
                ids_file.write(np.array(ids, dtype).tobytes())
                tokens, size = tokens + len(ids), size + chunk.size
                n_chunks, n_documents = n_chunks + 1, n_documents + chunk.starts
            yield {"size": sum(chunk.size for chunk in group)}
        if source_state(source) != before:
            raise UserError(f"{source}: changed while it was read; rerun the command when the file is complete")
    facts = {
        "file": shard.name, "source": request["name"], "source_sha256": digest, "sha256": ids_file.digest.hexdigest(),
        "index_sha256": index_file.digest.hexdigest(), "dtype": dtype.name, "tokens": tokens, "bytes": size,
        "documents": n_documents, "pieces": n_chunks,
    }  # fmt: skip
    details = {"format": FORMAT, "asked": dict(asked), "read": before, "shard": facts}
    write_json(shard.with_suffix(".json"), details)
    yield {"done": details}


def answers(request: Request, tokenizer: Tokenizer) -> Iterator[Answer]:
    """Yield the answers of `write_shard`, with errors as answers too, for use in other processes."""
    try:
        yield from write_shard(request, tokenizer)
    except (UserError, OSError) as error:
        yield {"refused": str(error)}
    except Exception:
        yield {"failed": traceback.format_exc()}


def _encoded(group: list[DocumentChunk], tokenizer: Tokenizer) -> Iterator[tuple[DocumentChunk, list[int]]]:
    line_break = tokenizer.backend.token_to_id(NEWLINE)
    between = [tokenizer.unk if line_break is None else line_break]
    for chunk, ids in zip(group, tokenizer.encode_batch([chunk.text for chunk in group]), strict=True):
        before = [tokenizer.bos] if chunk.starts else between if chunk.after_break else []
        yield chunk, [*before, *ids, *([tokenizer.eos] if chunk.ends else [])]


def _groups(chunks: Iterable[DocumentChunk]) -> Iterator[list[DocumentChunk]]:
    group: list[DocumentChunk] = []
    characters = 0
    for chunk in chunks:
        group.append(chunk)
        characters += len(chunk.text)
        if characters >= CHARACTERS_AT_ONCE:
            yield group
            group, characters = [], 0
    yield group


class _Partial:
    """A file that is hashed while it is written and renamed to its final name when complete."""

    def __init__(self, path: Path):
        self.path = path
        self.partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        self.digest = hashlib.sha256()

    def __enter__(self) -> _Partial:
        self.file: IO[bytes] = self.partial.open("wb")
        return self

    def write(self, data: bytes) -> None:
        self.digest.update(data)
        self.file.write(data)

    def __exit__(self, kind: type | None, *_: object) -> None:
        self.file.close()
        if kind is not None:
            self.partial.unlink()
            return
        sync(self.partial)
        self.partial.replace(self.path)


# ---- in another process


def tokenizer_to_json(tokenizer: Tokenizer) -> dict[str, str]:
    """Serialize a tokenizer for another process."""
    return {"pipeline": tokenizer.backend.to_str(), "pretokenizer": tokenizer.pretokenizer}


def tokenizer_from_json(data: Mapping[str, str]) -> Tokenizer:
    """Restore a tokenizer from the output of `tokenizer_to_json`."""
    import tokenizers

    return Tokenizer(tokenizers.Tokenizer.from_str(data["pipeline"]), data["pretokenizer"])


def main() -> None:
    """Read a tokenizer and then requests from stdin, one JSON value per line; print answers as lines of JSON."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C also reaches the parent, which ends this process
    requests = iter(sys.stdin)
    tokenizer = tokenizer_from_json(json.loads(next(requests)))
    for request in requests:
        for answer in answers(json.loads(request), tokenizer):
            try:
                print(json.dumps(answer), flush=True)
            except BrokenPipeError:  # the parent process has ended
                return


if __name__ == "__main__":
    main()
