"""Time and memory of training a tokenizer and preparing a corpus, on a folder of text files and on a tenth of it.

    python benchmarks/corpus.py --corpus DIR

Each command runs from its console script. Memory is the peak resident memory of its largest process.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from finetune import BUSY, machine
from gpt1.console import say, table
from gpt1.data.corpus.documents import documents
from gpt1.data.corpus.prepare import sources
from gpt1.errors import UserError


@dataclass(frozen=True)
class Measured:
    command: str
    files: int
    text_megabytes: float
    seconds: float
    peak_megabytes: float


def measure(command: str, words: list[object], files: list[Path], size: float) -> Measured:
    """Run `gpt1 WORDS` in a process.

    Raises:
        UserError: the command failed; its error message is printed above.
    """
    started = time.perf_counter()
    process = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-m", "gpt1", *map(str, words)])
    _, status, usage = os.wait4(process, 0)
    if status:
        raise UserError(f"gpt1 {command} ended with {os.waitstatus_to_exitcode(status)}")
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return Measured(command, len(files), size, time.perf_counter() - started, usage.ru_maxrss * unit / 1e6)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, nargs="+", required=True, help="text files (.txt .gz .xz .zst), folders")
    parser.add_argument("--vocab-size", type=int, default=8_192)
    parser.add_argument("--json", type=Path, help="JSON file for the results")
    args = parser.parse_args()
    about = machine()
    if (about["load"] or 0) > BUSY:
        say("Other programs are using this machine: the times are unreliable, the memory figures are not affected.")
    try:
        files = list(sources(args.corpus).values())
        found = []
        with TemporaryDirectory() as folder:
            for share in (files[: max(1, len(files) // 10)], files):
                size = sum(len(piece.text.encode()) for file in share for piece in documents(file)) / 1e6
                vocabulary, tokens = Path(folder, f"vocabulary-{len(share)}"), Path(folder, f"tokens-{len(share)}")
                learn: list[object] = ["tokenizer", "train", "--input", *share, "--vocab-size", args.vocab_size]
                found.append(measure("tokenizer train", [*learn, "--out", vocabulary], share, size))
                encode: list[object] = ["prepare", "--corpus", *share, "--tokenizer", vocabulary, "--out", tokens]
                found.append(measure("prepare", encode, share, size))
    except UserError as error:
        say(str(error))
        return 2
    say(f"{about['cpu']}, {about['cores']} cores, {about['date']}")
    table(
        ("gpt1", "files", "text MB", "seconds", "MB/s", "peak MB"),
        [
            (each.command, each.files, f"{each.text_megabytes:.1f}", f"{each.seconds:.0f}",
             f"{each.text_megabytes / each.seconds:.1f}", f"{each.peak_megabytes:.0f}")
            for each in sorted(found, key=lambda each: each.command)
        ],
    )  # fmt: skip
    if args.json:
        rows = [asdict(each) for each in found]
        args.json.write_text(json.dumps({"machine": about, "measured": rows}, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
