"""Speed of gpt1's original tokenization, of OpenAI's code and of `tokenizers`' GPT-1 pipeline, in one run on one core.

    python benchmarks/tokenizer.py --data D        D holds gpt1-bpe/, imdb/ and books/ (see docs/performance.md)
    python benchmarks/tokenizer.py --data D --golden FILE      also compares with ids of OpenAI's encoder

OpenAI's `text_utils.py` applies ftfy, a regular expression and spaCy to the text, then BPE to one token at a time with
a cache (tests/support/openai_text.py). The pipeline of `tokenizers` is that of `transformers.OpenAIGPTTokenizer`:
BERT's normalizer and pre-tokenizer before the same merges.

All contestants get the same texts, one at a time; their order alternates between rounds; the table shows medians.
"Cold" includes loading ftfy and spaCy and an empty cache. "New texts" are further texts of the same kind; "warm" are
the same texts again. Both follow the cold run.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

import tokenizers
from tokenizers.models import BPE
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from gpt1.console import say, table
from gpt1.tokenization import openai_pretokenizer
from gpt1.tokenization.tokenizer import Tokenizer
from gpt1.tokenization.vocab_files import END_OF_WORD, UNK_TOKEN, read_vocab

BOOK_PART = 40_000
"""Characters per text of a book (spaCy accepts at most a million)."""
ORIGINAL_SHARE = 8
"""OpenAI's code is timed on one text in so many, since it is about that much slower."""

ORIGINAL, BERT = "OpenAI's method, warm", "tokenizers' GPT-1 pipeline"

Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class Speed:
    contestant: str
    data: str
    megabytes_per_s: float
    spread: float
    """Slowest round over fastest round, minus 1."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with gpt1-bpe/, imdb/ and books/")
    parser.add_argument("--golden", type=Path, help='.jsonl.xz of {"text", "ids"} as OpenAI\'s encoder gives them')
    parser.add_argument("--megabytes", type=float, default=8, help="MB of each kind of text")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="JSON file for all results")
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    kinds = {"imdb": imdb(args.data / "imdb"), "books": books(args.data / "books")}
    texts = {name: take(found, args.megabytes) for name, found in kinds.items()}
    others = {name: take(found, args.megabytes) for name, found in kinds.items()}
    vocabulary = args.data / "gpt1-bpe"
    speeds = measure(vocabulary, texts, others, args.rounds)
    show_speeds(speeds, texts)
    agreement = compare(vocabulary, texts, args.golden)
    show_agreement(agreement)
    if args.json:
        report = {"speeds": [asdict(speed) for speed in speeds], "agreement": agreement}
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


# ---- texts


def imdb(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*.jsonl.xz"), reverse=True):
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            yield from (json.loads(line)["text"] for line in lines)


def books(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("train-*.txt.xz")):
        part = ""
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                part += line
                if len(part) > BOOK_PART:
                    yield part
                    part = ""


def take(texts: Iterator[str], megabytes: float) -> list[str]:
    """Return the next texts of `megabytes` MB in all."""
    found, size = [], 0
    for text in texts:
        found.append(text)
        size += len(text.encode())
        if size >= megabytes * 1e6:
            break
    return found


def n_bytes(texts: Sequence[str]) -> int:
    return sum(len(text.encode()) for text in texts)


# ---- contestants


def openai_method(vocabulary: Path) -> Encode:
    from support.openai_text import OpenAITokenizer

    return OpenAITokenizer(*read_vocab(vocabulary)).ids


def bert_pipeline(vocabulary: Path) -> Encode:
    vocab, merges = read_vocab(vocabulary)
    pipeline = tokenizers.Tokenizer(BPE(vocab, merges, unk_token=UNK_TOKEN, end_of_word_suffix=END_OF_WORD))
    pipeline.normalizer = BertNormalizer(lowercase=True)
    pipeline.pre_tokenizer = BertPreTokenizer()
    return lambda text: pipeline.encode(text, add_special_tokens=False).ids


def nearest_pipeline(vocabulary: Path) -> Encode:
    backend = Tokenizer.load(vocabulary, "openai").backend
    return lambda text: backend.encode(text, add_special_tokens=False).ids


# ---- speed


def measure(vocabulary: Path, texts: dict[str, list[str]], others: dict[str, list[str]], rounds: int) -> list[Speed]:
    slow, bert = openai_method(vocabulary), bert_pipeline(vocabulary)
    fast = Tokenizer.load(vocabulary, "fast").encode
    slow("Load spaCy.")
    speeds = []
    for kind in texts:
        found: dict[str, list[float]] = {}
        for number in range(rounds):
            openai_pretokenizer.spacy_tokenizer.cache_clear()
            exact: list[Tokenizer] = []

            def cold(some: Sequence[str], exact: list[Tokenizer] = exact) -> None:
                exact[:] = [Tokenizer.load(vocabulary, "openai")]
                run(exact[0].encode, some)

            contestants: list[tuple[str, Callable[[], float]]] = [
                (ORIGINAL, partial(timed, partial(run, slow), texts[kind][::ORIGINAL_SHARE])),
                (BERT, partial(timed, partial(run, bert), texts[kind])),
                ("gpt1 `fast`", partial(timed, partial(run, fast), texts[kind])),
                ("gpt1 `openai`, cold", partial(timed, cold, texts[kind])),
            ]
            run(slow, texts[kind][::ORIGINAL_SHARE] if number == 0 else ())
            for name, speed in contestants if number % 2 == 0 else reversed(contestants):
                found.setdefault(name, []).append(speed())
            found.setdefault("gpt1 `openai`, warm", []).append(timed(partial(run, exact[0].encode), texts[kind]))
            found.setdefault("gpt1 `openai`, new texts", []).append(timed(partial(run, exact[0].encode), others[kind]))
        for name, values in found.items():
            speeds.append(Speed(name, kind, statistics.median(values), max(values) / min(values) - 1))
    return speeds


def run(encode: Encode, texts: Sequence[str]) -> None:
    for text in texts:
        encode(text)


def timed(work: Callable[[Sequence[str]], None], texts: Sequence[str]) -> float:
    """Return MB/s."""
    start = time.perf_counter()
    work(texts)
    return n_bytes(texts) / (time.perf_counter() - start) / 1e6


def show_speeds(speeds: Sequence[Speed], texts: dict[str, list[str]]) -> None:
    for kind, some in texts.items():
        those = {speed.contestant: speed for speed in speeds if speed.data == kind}
        slow, bert = (those[name].megabytes_per_s for name in (ORIGINAL, BERT))
        say(f"\n{kind}: {n_bytes(some) / 1e6:.1f} MB in {len(some):,} texts, one core")
        table(
            ["", "MB/s", "spread", "× OpenAI's method", "× tokenizers"],
            [
                [name, f"{each.megabytes_per_s:.2f}", f"{each.spread:.0%}", f"{each.megabytes_per_s / slow:.1f}",
                 f"{each.megabytes_per_s / bert:.1f}"]
                for name, each in those.items()
            ],
        )  # fmt: skip


# ---- agreement


def compare(vocabulary: Path, texts: dict[str, list[str]], golden: Path | None) -> dict[str, dict[str, Any]]:
    """Return, for each kind of text, how many texts each contestant encodes exactly as OpenAI's code (or --golden)."""
    slow = openai_method(vocabulary)
    contestants: dict[str, Encode] = {
        "gpt1 `openai`": Tokenizer.load(vocabulary, "openai").encode,
        "gpt1's tokenizer.json for `openai`": nearest_pipeline(vocabulary),
        BERT: bert_pipeline(vocabulary),
        "gpt1 `fast`": Tokenizer.load(vocabulary, "fast").encode,
    }
    rows = {kind: [(text, slow(text)) for text in some[::ORIGINAL_SHARE]] for kind, some in texts.items()}
    rows["lines of books"] = [(line, slow(line)) for text in texts["books"][:10] for line in text.split("\n") if line]
    if golden:
        with lzma.open(golden, "rt", encoding="utf-8") as lines:
            rows["OpenAI's own ids"] = [(row["text"], row["ids"]) for row in map(json.loads, lines)]
        contestants["OpenAI's method"] = slow
    return {
        kind: {"texts": len(some)}
        | {name: sum(encode(text) == ids for text, ids in some) for name, encode in contestants.items()}
        for kind, some in rows.items()
    }


def show_agreement(agreement: dict[str, dict[str, Any]]) -> None:
    say("\nTexts encoded exactly as by OpenAI's method")
    names = [name for name in next(iter(agreement.values())) if name != "texts"]
    table(
        ["", *(f"{kind} ({found['texts']:,})" for kind, found in agreement.items())],
        [[name, *(f"{found[name]:,}  {found[name] / found['texts']:.1%}" for found in agreement.values())]
         for name in names],
    )  # fmt: skip


if __name__ == "__main__":
    main()
