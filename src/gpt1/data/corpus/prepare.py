"""Prepared corpora: text files encoded into shards of token ids, which are read as one sequence.

A prepared corpus is a directory with one shard for each text file (`shards.py`) and `manifest.json`, which lists the
shards in order and is written last. Preparation can be interrupted and rerun: finished shards are kept, and the
resulting files are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt1 import console
from gpt1.data.corpus.local_workers import LocalWorkers, Workers
from gpt1.data.corpus.shards import FORMAT, Request, finished, token_type, tokenizer_digest
from gpt1.errors import UserError
from gpt1.system.files import read_json, sha256, write_json
from gpt1.tokenization.tokenizer import Tokenizer

MANIFEST = "manifest.json"
PACKINGS = (".gz", ".bz2", ".xz", ".zst", ".zip")


# ---- text files


def sources(paths: Sequence[Path], flag: str = "--corpus") -> dict[str, Path]:
    """Return {name: file} of the given text files; folders are searched recursively, sorted by path.

    Raises:
        UserError: a path is missing, a folder has no text file, or two files have the same name.
    """
    if not paths:
        raise UserError(f"{flag} is missing: text files (.txt, also .gz .xz .zst), or folders of them")
    files: dict[str, Path] = {}
    taken: set[str] = set()
    for path in paths:
        if not path.exists():
            raise UserError(f"{flag} {path}: no such file or folder")
        inside = sorted(file for file in path.rglob("*") if file.is_file() and is_text(file)) if path.is_dir() else []
        if path.is_dir() and not inside:
            raise UserError(f"{flag} {path}: no .txt file (or .txt.gz .txt.xz .txt.zst) in this folder")
        for file in inside or [path]:
            name = file.relative_to(path).as_posix() if inside else file.name
            if shard_name(name) in taken:
                raise UserError(f"{flag} {file}: another file is also called {shard_name(name)}; rename one of them")
            taken.add(shard_name(name))
            files[name] = file
    return files


def is_text(file: Path) -> bool:
    """Return whether the name of a file is that of a text file, compressed or not."""
    plain = file.stem if file.suffix.lower() in PACKINGS else file.name
    return plain.lower().endswith(".txt") and not file.name.startswith(".")


def shard_name(name: str) -> str:
    """Return the name, without suffix, of the shard of the text file `name`."""
    path = Path(name)
    while path.suffix.lower() in (".txt", *PACKINGS):
        path = path.with_suffix("")
    return "__".join(path.parts)


# ---- preparing


def is_prepared(path: Path) -> bool:
    """Return whether a folder is a prepared corpus, complete or not."""
    return (path / MANIFEST).exists() or any(path.glob("*.index.bin"))


def prepare(
    texts: Mapping[str, Path],
    tokenizer: Tokenizer,
    out: Path,
    *,
    end_of_document: str,
    encoding: str | None = None,
    workers: Workers = LocalWorkers(),  # noqa: B008 - frozen
) -> Corpus:
    """Encode text files into the directory `out` with `workers`, in parallel; return the corpus.

    Args:
        texts: {name: file}, as `sources` returns it.
        tokenizer: Tokenizer to encode with.
        out: A new directory, or one in which a preparation was interrupted.
        end_of_document: A line that ends a document ("" for one document per file).
        encoding: Encoding of the files; None = detected.
        workers: Workers that encode the files.

    Raises:
        UserError: a file cannot be read or changes while it is read, no file contains text, or `out` contains other
            files or a corpus of another tokenizer.
    """
    asked = {"tokenizer_sha256": tokenizer_digest(tokenizer), "end_of_document": end_of_document, "format": FORMAT}
    if encoding is not None:
        asked["encoding"] = encoding
    _require_own(out, asked)
    out.mkdir(parents=True, exist_ok=True)
    for leftover in out.glob(".*.partial"):
        leftover.unlink()
    shards = {name: out / f"{shard_name(name)}.bin" for name in texts}
    details = {name: finished(shards[name], source, asked) for name, source in texts.items()}
    todo = [name for name, detail in details.items() if detail is None]
    if todo:
        requests = [
            {"shard": str(shards[name]), "source": str(texts[name]), "name": name, "asked": asked} for name in todo
        ]
        details |= _encode_all(requests, tokenizer, workers)
    facts = [detail["shard"] for detail in details.values() if detail]
    if not sum(each["tokens"] for each in facts):
        raise UserError(f"{_listed(texts)}: no text found; expected UTF-8 text with at least one word")
    totals = {key: sum(each[key] for each in facts) for key in ("tokens", "bytes", "documents")}
    manifest = asked | {
        "vocab_size": tokenizer.vocab_size, "dtype": token_type(tokenizer.vocab_size).name, **totals, "shards": facts,
    }  # fmt: skip
    write_json(out / MANIFEST, manifest)
    return Corpus.open(out, tokenizer)


def is_of(out: Path, texts: Mapping[str, Path]) -> bool:
    """Return whether the content of the text files is that from which the corpus in `out` was prepared."""
    prepared = {shard["source"]: shard["source_sha256"] for shard in read_json(out / MANIFEST)["shards"]}
    return list(prepared) == list(texts) and all(sha256(texts[name]) == digest for name, digest in prepared.items())


def _require_own(out: Path, asked: Mapping[str, Any]) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; choose a new directory")
    if not (out / MANIFEST).exists():
        if others := sorted(
            path.name for path in out.glob("[!.]*") if path.suffix != ".bin" and not path.with_suffix(".bin").exists()
        ):
            raise UserError(f"--out {out}: contains {others[0]} and is not a corpus; choose a new directory")
        return
    manifest = read_json(out / MANIFEST)
    if manifest.get("tokenizer_sha256") != asked["tokenizer_sha256"]:
        raise UserError(f"--out {out}: contains a corpus of another tokenizer; choose a new directory")


def _listed(texts: Mapping[str, Path]) -> str:
    first, *others = map(str, texts.values())
    return first + (f" and {len(others):,} more" if others else "")


def _encode_all(requests: list[Request], tokenizer: Tokenizer, workers: Workers) -> dict[str, dict[str, Any]]:
    """Encode the files of all requests; return {name: content of the shard's JSON file}."""
    shards = {}
    bar = console.Bar(0, "preparing", "B", scaled=True)
    try:
        with closing(workers.encode(requests, tokenizer)) as answers:
            for request, answer in answers:
                match answer:
                    case {"size": size}:
                        bar.advance(size)
                    case {"note": text}:
                        console.say(text)
                    case {"done": details}:
                        shards[request["name"]] = details
                    case {"refused": message}:
                        raise UserError(message)
                    case {"failed": message}:
                        raise RuntimeError(f"{request['source']}: {message}")
        return shards
    finally:
        bar.close()


# ---- reading


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus as one sequence of tokens: consecutive documents, each `<bos> text <eos>`."""

    directory: Path
    manifest: dict[str, Any]
    _open: dict[int, NDArray[Any]] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, directory: Path, tokenizer: Tokenizer) -> Corpus:
        """Open a prepared corpus.

        Raises:
            UserError: the preparation is unfinished, a shard is missing or truncated, or the tokenizer differs.
        """
        if not (directory / MANIFEST).exists():
            raise UserError(f"{directory}: no {MANIFEST}; the preparation was interrupted: run gpt1 prepare again")
        manifest = read_json(directory / MANIFEST)
        if manifest.get("format") != FORMAT:
            raise UserError(f"{directory / MANIFEST}: format {manifest.get('format')} found, {FORMAT} expected")
        if manifest["tokenizer_sha256"] != tokenizer_digest(tokenizer):
            raise UserError(
                f"{directory}: was prepared with another tokenizer ({manifest['vocab_size']:,} tokens); "
                "pass that one with --tokenizer, or prepare the text again"
            )
        itemsize = np.dtype(manifest["dtype"]).itemsize
        for shard in manifest["shards"]:
            path, expected = directory / shard["file"], shard["tokens"] * itemsize
            size = path.stat().st_size if path.exists() else None
            if size != expected:
                raise UserError(f"{path}: {size or 'no'} bytes, {expected} expected; run gpt1 prepare again")
        return cls(directory, manifest)

    def __len__(self) -> int:
        tokens: int = self.manifest["tokens"]
        return tokens

    @property
    def sha256(self) -> str:
        """SHA-256 of all tokens."""
        return hashlib.sha256("".join(shard["sha256"] for shard in self.manifest["shards"]).encode()).hexdigest()

    def check(self) -> None:
        """Raise UserError if the checksum of a shard differs from the manifest."""
        for shard in self.manifest["shards"]:
            if sha256(self.directory / shard["file"]) != shard["sha256"]:
                raise UserError(f"{self.directory / shard['file']}: damaged; delete it and run gpt1 prepare again")

    def tokens(self, start: int, stop: int) -> NDArray[np.int32]:
        """Return the token ids of the range [start, stop), across shards."""
        first = int(np.searchsorted(self._starts, start, "right")) - 1
        parts = []
        for number in range(first, len(self.manifest["shards"])):
            begin = int(self._starts[number])
            if begin >= stop:
                break
            parts.append(self._shard(number)[max(0, start - begin) : stop - begin])
        tokens: NDArray[np.int32] = np.concatenate(parts).astype(np.int32, copy=False)
        return tokens

    @property
    def _starts(self) -> NDArray[np.int64]:
        if -1 not in self._open:
            counts = [shard["tokens"] for shard in self.manifest["shards"]]
            self._open[-1] = np.concatenate([[0], np.cumsum(counts[:-1])]).astype(np.int64)
        return self._open[-1]

    def _shard(self, number: int) -> NDArray[Any]:
        if number not in self._open:
            shard = self.manifest["shards"][number]
            if not shard["tokens"]:
                return np.zeros(0, np.int32)
            self._open[number] = np.memmap(self.directory / shard["file"], shard["dtype"], "r")
        return self._open[number]

    def chunk_index(self) -> NDArray[np.int64]:
        """Return (chunks, 3): first token and first byte of each chunk in the corpus, and 1 if it starts a document."""
        parts, size = [], 0
        for shard, start in zip(self.manifest["shards"], self._starts, strict=True):
            path = self.directory / Path(shard["file"]).with_suffix(".index.bin")
            rows = np.fromfile(path, "<i8").reshape(-1, 3)
            parts.append(rows + np.array([start, size, 0]))
            size += shard["bytes"]
        return np.concatenate(parts)
