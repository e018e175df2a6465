"""One text file to one shard: its token ids, where its documents lie, and what it was made from.

A shard is `NAME.bin` (ids as uint16, or uint32 where the vocabulary has more than 65,536 tokens), `NAME.index.bin`
(int64 rows: first token of a chunk, its first byte in the text, 1 where a document starts) and `NAME.json`, written
last: with it the shard is whole. Run as a program, this module encodes files that come through stdin.
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
"""Characters that are encoded at a time."""

Request = dict[str, Any]
"""A file to encode: `shard` and `source` (paths), `name`, `asked`. Plain data, for it may go to another process."""

Answer = dict[str, Any]
"""What comes of it: `size` (bytes of text encoded since the last one), until `done` (what the shard's JSON holds),
`refused` (the person's file is at fault) or `failed` (gpt1 is)."""


def token_type(vocab_size: int) -> np.dtype[Any]:
    """Return the type of the ids in a shard."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def tokenizer_digest(tokenizer: Tokenizer) -> str:
    """Return a sha256 of all that decides a text's ids: vocabulary, merges, normaliser and pre-tokenizer."""
    pipeline = json.loads(tokenizer.backend.to_str())
    parts = [tokenizer.pretokenizer, *(pipeline[name] for name in ("normalizer", "pre_tokenizer", "model"))]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def source_state(source: Path) -> dict[str, int]:
    """Return what changes when a file is written to."""
    state = source.stat()
    return {"size": state.st_size, "mtime_ns": state.st_mtime_ns}


def finished(shard: Path, source: Path, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the shard's JSON holds where it was made from `source` as it is now, and as `asked`; else `None`."""
    try:
        details = read_json(shard.with_suffix(".json"))
        state = source_state(source)
        if details["asked"] != asked or details["read"]["size"] != state["size"]:
            return None
        if details["read"]["mtime_ns"] != state["mtime_ns"] and details["shard"]["source_sha256"] != sha256(source):
            return None
        return details if whole(shard, details["shard"]) else None
    except (UserError, OSError, KeyError, TypeError):
        return None


def whole(shard: Path, facts: Mapping[str, Any]) -> bool:
    """Return whether a shard's files are there, and as large as its JSON says."""
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
    """Encode a text file, each document as `<bos> text <eos>`; yield `size` again and again, then `done`.

    Raises:
        UserError: the file cannot be read, or changed meanwhile.
    """
    shard, source, asked = Path(request["shard"]), Path(request["source"]), request["asked"]
    before = source_state(source)
    digest = sha256(source)
    dtype = token_type(tokenizer.vocab_size)
    tokens = size = n_chunks = n_documents = 0
    with _Partial(shard) as ids_file, _Partial(shard.with_suffix(".index.bin")) as index_file:
        for group in _groups(documents(source, asked["end_of_document"])):
            for chunk, ids in _encoded(group, tokenizer):
                index_file.write(np.array([tokens, size, chunk.starts], "<i8").tobytes())
                ids_file.write(np.array(ids, dtype).tobytes())
                tokens, size = tokens + len(ids), size + chunk.size
                n_chunks, n_documents = n_chunks + 1, n_documents + chunk.starts
            yield {"size": sum(chunk.size for chunk in group)}
        if source_state(source) != before:
            raise UserError(f"{source}: changed while it was read; run the command again when it is complete")
    facts = {
        "file": shard.name, "source": request["name"], "source_sha256": digest, "sha256": ids_file.digest.hexdigest(),
        "index_sha256": index_file.digest.hexdigest(), "dtype": dtype.name, "tokens": tokens, "bytes": size,
        "documents": n_documents, "pieces": n_chunks,
    }  # fmt: skip
    details = {"format": FORMAT, "asked": dict(asked), "read": before, "shard": facts}
    write_json(shard.with_suffix(".json"), details)
    yield {"done": details}


def answers(request: Request, tokenizer: Tokenizer) -> Iterator[Answer]:
    """Yield what `write_shard` yields, and its errors as answers: for whoever is not in the process that asked."""
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
    """A file that takes its name when it is whole, hashed on the way."""

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
    """Return a tokenizer as JSON data, for another process."""
    return {"pipeline": tokenizer.backend.to_str(), "pretokenizer": tokenizer.pretokenizer}


def tokenizer_from_json(data: Mapping[str, str]) -> Tokenizer:
    """Return the tokenizer that `tokenizer_to_json` wrote."""
    import tokenizers

    return Tokenizer(tokenizers.Tokenizer.from_str(data["pipeline"]), data["pretokenizer"])


def main() -> None:
    """Encode what comes through stdin: a tokenizer, then files, each a line of JSON; answer with lines of JSON."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process
    requests = iter(sys.stdin)
    tokenizer = tokenizer_from_json(json.loads(next(requests)))
    for request in requests:
        for answer in answers(json.loads(request), tokenizer):
            try:
                print(json.dumps(answer), flush=True)
            except BrokenPipeError:  # whoever asked is gone
                return


if __name__ == "__main__":
    main()
