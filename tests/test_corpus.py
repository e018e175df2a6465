"""Preparation of a corpus: ids of whole documents, resuming without repeated work, errors that name the file.

Run: pytest tests/test_corpus.py
"""

from __future__ import annotations

import gzip
import json
import lzma
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt1.cli import main
from gpt1.data.corpus import documents as documents_module
from gpt1.data.corpus import local_workers as workers_module
from gpt1.data.corpus import shards
from gpt1.data.corpus.documents import DocumentChunk, chunks, documents
from gpt1.data.corpus.prepare import MANIFEST, Corpus, prepare, sources
from gpt1.data.corpus.shards import Answer, Request
from gpt1.errors import UserError
from gpt1.tokenization.tokenizer import Tokenizer
from gpt1.tokenization.trainer import NEWLINE, train
from support.corpora import END, PATIENCE, files_of, prepared_corpus, story

NASTY = [
    "a", "bc", "the", " ", "  ", "\n", "\n\n", "\r\n", "\t", "\r", "<", "<br>", "<i", "/>", ">", "\u00a0", "\x1c",
    "\x85", "\u2028", "é", "e\u0301", "\u0301", "'", '"', "…", "漢字", "7", "-",
]  # fmt: skip
"""Text that is difficult to split: all kinds of blanks, parts of HTML tags, combining marks."""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train(["the fox ran over the hill and the hen sat still", "a bc a bc 7 - ' \" . < > /"], 80)


def lines_of(text: str) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def joined(found: list[DocumentChunk], tokenizer: Tokenizer) -> list[int]:
    ids: list[int] = []
    for chunk in found:
        if chunk.after_break:
            ids.append(tokenizer.backend.token_to_id(NEWLINE))
        ids += tokenizer.encode(chunk.text)
    return ids


# ---- documents in chunks


@pytest.mark.parametrize("seed", range(4))
def test_chunks_have_the_ids_of_the_whole_document(
    seed: int, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents_module, "CHUNK_SIZE", 20)
    draw = random.Random(seed)
    n_chunks = 0
    for _ in range(1_000):
        text = "".join(draw.choices(NASTY, k=draw.randint(1, 200)))
        found = list(chunks(lines_of(text)))
        assert joined(found, tokenizer) == tokenizer.encode(text.strip(documents_module._BLANKS)), repr(text)
        assert sum(chunk.size for chunk in found) in (len(text.encode()), 0)
        n_chunks += len(found)
    assert n_chunks > 2_000, "the texts were hardly split"


def test_a_marker_line_ends_a_document_and_so_does_the_end_of_the_file() -> None:
    text = f"one\n\ntwo\n{END}\n \n{END}\nthree {END}\n  {END}  \nfour"
    found = [(chunk.text, chunk.starts, chunk.ends) for chunk in chunks(lines_of(text), END)]
    assert found == [("one\n\ntwo", True, True), (f"three {END}", True, True), ("four", True, True)]
    assert [chunk.text for chunk in chunks(lines_of(text))] == [text]


def test_chunks_are_bounded_and_only_the_first_starts_the_document() -> None:
    found = list(chunks(lines_of(story(0, 400)), END))
    assert len(found) > 3
    assert [chunk.starts for chunk in found] == [True] + [False] * (len(found) - 1)
    assert [chunk.ends for chunk in found] == [False] * (len(found) - 1) + [True]
    assert max(len(chunk.text) for chunk in found) < documents_module.CHUNK_SIZE + 200


def test_a_line_of_megabytes_is_cut_at_blanks(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents_module, "LONGEST_LINE", 4_096)
    text = story(1, 4_000).replace("\n\n", " ") + "é" * 3_000
    (tmp_path / "one-line.txt").write_text(text, encoding="utf-8")
    found = list(documents(tmp_path / "one-line.txt"))
    assert len(found) > 3
    assert joined(found, tokenizer) == tokenizer.encode(text.strip())
    assert max(len(chunk.text) for chunk in found) < 3 * 4_096


def test_a_line_without_a_blank_is_cut_between_two_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents_module, "LONGEST_LINE", 5_000)
    (tmp_path / "one-word.txt").write_text("漢" * 10_001, encoding="utf-8")
    found = list(documents(tmp_path / "one-word.txt"))
    assert "".join(chunk.text for chunk in found) == "漢" * 10_001
    assert [len(chunk.text) for chunk in found] == [5_000, 5_000, 1]


# ---- preparing


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder of four text files: two compressed, one with two documents, one in a subfolder."""
    folder = tmp_path / "texts"
    (folder / "more").mkdir(parents=True)
    (folder / "a.txt").write_text(f"{story(1)}{END}\n{story(2)}", encoding="utf-8")
    (folder / "b.txt.gz").write_bytes(gzip.compress(story(3).encode()))
    (folder / "more" / "c.txt.xz").write_bytes(lzma.compress(f"{story(4)}{END}\n".encode()))
    (folder / "d.TXT").write_text(story(5), encoding="utf-8")
    (folder / "notes.md").write_text("not a text file")
    return folder


def test_a_corpus_is_its_documents_one_after_the_other(texts: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    corpus = prepared_corpus(texts, tokenizer, tmp_path / "out")
    assert list(sources([texts])) == ["a.txt", "b.txt.gz", "d.TXT", "more/c.txt.xz"]
    order = [story(1), story(2), story(3), story(5), story(4)]
    expected = [[tokenizer.bos, *tokenizer.encode(text.strip()), tokenizer.eos] for text in order]
    flat = [i for ids in expected for i in ids]
    assert corpus.tokens(0, len(corpus)).tolist() == flat
    assert len(corpus) == len(flat) == corpus.manifest["tokens"]
    assert corpus.manifest["documents"] == 5
    assert corpus.manifest["bytes"] == sum(len(text.encode()) for text in order)
    starts = [int(row[0]) for row in corpus.chunk_index() if row[2]]
    assert starts == np.cumsum([0, *map(len, expected)])[:-1].tolist()
    for start, stop in (
        (0, 3),
        (len(expected[0]) - 2, len(expected[0]) + 2),
        (5, len(flat)),
        (len(flat) - 1, len(flat)),
    ):
        assert corpus.tokens(start, stop).tolist() == flat[start:stop]
    corpus.check()


def test_chunks_tell_where_tokens_and_bytes_are(tokenizer: Tokenizer, tmp_path: Path) -> None:
    text = story(6, 400)
    (tmp_path / "a.txt").write_text(story(7), encoding="utf-8")
    (tmp_path / "b.txt").write_text(text, encoding="utf-8")
    corpus = prepare(sources([tmp_path]), tokenizer, tmp_path / "out", end_of_document=END)
    rows = corpus.chunk_index()
    assert len(rows) > 5
    for tokens, size, _ in rows[1:]:
        rest = (story(7) + text).encode()[size:].decode().strip()
        after = corpus.tokens(int(tokens), len(corpus)).tolist()
        assert after[1:-1] == tokenizer.encode(rest)  # after <bos> or the line break


def test_several_processes_make_the_same_files(texts: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    prepared_corpus(texts, tokenizer, tmp_path / "one", processes=1)
    prepared_corpus(texts, tokenizer, tmp_path / "three", processes=3)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "three")
    assert not [path for path in (tmp_path / "three").iterdir() if "partial" in path.name]


def test_a_finished_shard_is_not_made_again_and_a_changed_file_is(
    texts: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    prepared_corpus(texts, tokenizer, out)
    asked: list[str] = []
    real = shards.write_shard

    def watched(request: Request, tokenizer: Tokenizer) -> Iterator[Answer]:
        asked.append(Path(request["shard"]).name)
        return real(request, tokenizer)

    monkeypatch.setattr(workers_module, "write_shard", watched)
    before = files_of(out)
    prepared_corpus(texts, tokenizer, out)
    assert asked == []
    os.utime(texts / "a.txt", (1, 1))  # another modification time, same content, like a copy
    prepared_corpus(texts, tokenizer, out)
    assert asked == []
    (out / "b.bin").write_bytes(b"cut")
    (texts / "d.TXT").write_text(story(9), encoding="utf-8")
    prepared_corpus(texts, tokenizer, out)
    assert sorted(asked) == ["b.bin", "d.bin"]
    assert files_of(out)["b.bin"] == before["b.bin"]
    assert files_of(out)["d.bin"] != before["d.bin"]
    prepare(sources([texts]), tokenizer, out, end_of_document="###")
    assert len(asked) == 2 + 4, "other document boundaries"


@pytest.mark.skipif(os.name == "nt", reason="kills a process group")
def test_a_killed_preparation_goes_on_and_gives_the_same_files(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """The command and its workers are killed at random times."""
    folder, out = tmp_path / "texts", tmp_path / "out"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number:02}.txt").write_text(story(number, 6_000), encoding="utf-8")
    tokenizer.save(tmp_path / "bpe")
    words = ["prepare", "--corpus", folder, "--tokenizer", tmp_path / "bpe", "--out", out, "--processes", "2"]
    command = [sys.executable, "-m", "gpt1", *map(str, words)]
    kept: dict[str, int] = {}
    for wanted in (1, 4):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + PATIENCE
        while len(list(out.glob("*.json"))) < wanted and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(random.uniform(0.0, 0.05))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        made_so_far = {path.name: path.stat().st_mtime_ns for path in out.glob("*.json") if path.name != MANIFEST}
        assert len(made_so_far) >= wanted
        assert kept.items() <= made_so_far.items(), "a finished shard was written again"
        kept = made_so_far
        if len(kept) < 12:
            assert not (out / MANIFEST).exists()
            with pytest.raises(UserError, match="interrupted: run gpt1 prepare again"):
                Corpus.open(out, tokenizer)
    assert main(list(map(str, words))) == 0
    assert kept.items() <= {path.name: path.stat().st_mtime_ns for path in out.glob("*.json")}.items()
    prepared_corpus(folder, tokenizer, tmp_path / "whole", processes=1)
    assert files_of(out) == files_of(tmp_path / "whole")
    assert not [path for path in out.iterdir() if "partial" in path.name]


@pytest.mark.parametrize(("vocab_size", "name"), [(65_536, "uint16"), (65_537, "uint32")])
def test_ids_take_the_smaller_type_that_holds_them(vocab_size: int, name: str) -> None:
    assert shards.token_type(vocab_size).name == name
    assert np.iinfo(shards.token_type(vocab_size)).max >= vocab_size - 1


# ---- refusals


def test_a_file_that_changes_while_it_is_read_is_refused_and_leaves_no_shard(
    texts: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def growing(path: Path, *settings: Any) -> Iterator[DocumentChunk]:
        yield from documents(path, *settings)
        if path.name == "a.txt":
            with path.open("a") as file:
                file.write("and more\n")

    monkeypatch.setattr(shards, "documents", growing)
    with pytest.raises(UserError, match=r"a\.txt: changed while it was read"):
        prepared_corpus(texts, tokenizer, tmp_path / "out")
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert not {name for name in left if name.startswith(("a.", ".a.")) or name == MANIFEST}


def test_shards_of_another_tokenizer_are_refused(texts: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepared_corpus(texts, tokenizer, out)
    other = train(["the fox ran over the hill and sat"], 60)
    with pytest.raises(UserError, match="was prepared with another tokenizer \\(47 tokens\\)"):
        Corpus.open(out, other)
    with pytest.raises(UserError, match=f"--out {re.escape(str(out))}: contains a corpus of another tokenizer"):
        prepared_corpus(texts, other, out)


def test_a_shard_that_is_cut_off_or_damaged_is_named(texts: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepared_corpus(texts, tokenizer, out)
    whole = (out / "b.bin").read_bytes()
    (out / "b.bin").write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(UserError, match=r"b\.bin: damaged"):
        Corpus.open(out, tokenizer).check()
    (out / "b.bin").write_bytes(whole[:-2])
    with pytest.raises(UserError, match=rf"b\.bin: {len(whole) - 2} bytes, {len(whole)} expected"):
        Corpus.open(out, tokenizer)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"--corpus .*texts: no \.txt file"),
        ({"a.txt": b""}, r"a\.txt: no text found"),
        ({"a.txt": b" \n\n<|endofbook|>\n", "b.txt": b"\n"}, r"a\.txt and 1 more: no text found"),
        ({"a.txt": b"fine\n\xff\xfe\x00binary"}, r"a\.txt line 2: byte ff in .*: not UTF-8"),
        ({"a.txt.gz": b"\x1f\x8b\x08\x00not gzip"}, r"a\.txt\.gz is damaged or incomplete"),
        ({"a.txt.xz": lzma.compress(b"text " * 999)[:-20]}, r"a\.txt\.xz is damaged or incomplete"),
        ({"a.txt": b"one", "a.txt.gz": gzip.compress(b"two")}, r"another file is also called a"),
    ],
)
@pytest.mark.parametrize("processes", [1, 2])
def test_text_that_cannot_be_used_is_one_line_with_the_files_name(
    files: dict[str, bytes], message: str, processes: int, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    with pytest.raises(UserError, match=message):
        prepared_corpus(folder, tokenizer, tmp_path / "out", processes)
    assert not (tmp_path / "out" / MANIFEST).exists()


def test_a_folder_of_something_else_is_no_place_for_a_corpus(texts: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--out .*: contains a\.txt and is not a corpus"):
        prepared_corpus(texts, tokenizer, texts)


def test_prepare_says_what_it_made(
    texts: Path, tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer.save(tmp_path / "bpe")
    words = ["prepare", "--corpus", texts, "--tokenizer", tmp_path / "bpe", "--out", tmp_path / "out", "--json"]
    assert main(list(map(str, words))) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["documents"] == 5
    assert found["shards"] == 4
    assert f"4 files, 5 documents, 0.0 MB: {found['tokens']:,} tokens in" in printed.err
    assert main([*map(str, words), "--processes", "0"]) == 2
    assert "--processes 0: expected 1 or more" in capsys.readouterr().err
