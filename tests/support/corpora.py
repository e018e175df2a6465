"""Stories, corpora prepared from them, and the files of a corpus."""

from __future__ import annotations

import random
from pathlib import Path

from gpt1.data.corpus.local_workers import LocalWorkers
from gpt1.data.corpus.prepare import MANIFEST, Corpus, prepare, sources
from gpt1.tokenization.tokenizer import Tokenizer

END = "<|endofbook|>"
PATIENCE = 60
"""Timeout in seconds of a command that usually takes one second."""
WORDS = ["the", "fox", "ran", "over", "a", "hill", "and", "hen", "sat", "still"]


def story(seed: int, n_lines: int = 60) -> str:
    draw = random.Random(seed)
    lines = (" ".join(draw.choices(WORDS, k=12)) for _ in range(n_lines))
    return "\n\n".join(lines) + "\n"


def prepared_corpus(folder: Path, tokenizer: Tokenizer, out: Path, processes: int | None = None) -> Corpus:
    return prepare(sources([folder]), tokenizer, out, end_of_document=END, workers=LocalWorkers(processes))


def files_of(out: Path) -> dict[str, bytes]:
    """Return the contents of the files of a corpus, without the shards' JSON files, which contain time stamps."""
    return {path.name: path.read_bytes() for path in out.iterdir() if path.suffix == ".bin" or path.name == MANIFEST}
