"""Encoding of a corpus in this process or in several processes of this machine."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gpt1.data.corpus.shards import Answer, Request, is_progress, tokenizer_to_json, write_shard
from gpt1.errors import UserError
from gpt1.system.processes import cores, start_python
from gpt1.tokenization.tokenizer import Tokenizer

WORTH_A_PROCESS = 4_000_000
"""Minimum bytes of source files per process; with less, starting a process takes longer than it saves."""

Answers = Generator[tuple[Request, Answer], None, None]


class Workers(Protocol):
    """Interface of the workers that encode files."""

    def encode(self, requests: Sequence[Request], tokenizer: Tokenizer) -> Answers:
        """Yield (request, answer) in any order until all requests are finished; stop all work if closed early."""
        ...


@dataclass(frozen=True)
class LocalWorkers:
    """Processes of this machine; small corpora are encoded in this process."""

    processes: int | None = None
    """Maximum number of files encoded in parallel (default: number of cores)."""

    def __post_init__(self) -> None:
        if self.processes is not None and self.processes < 1:
            raise UserError(f"--processes {self.processes}: expected 1 or more")

    def encode(self, requests: Sequence[Request], tokenizer: Tokenizer) -> Answers:
        """Encode as `Workers.encode` specifies."""
        total = sum(Path(request["source"]).stat().st_size for request in requests)
        processes = min(self.processes or min(cores(), total // WORTH_A_PROCESS), len(requests))
        if processes > 1:
            yield from _by_processes(requests, tokenizer, processes)
            return
        for request in requests:
            for answer in write_shard(request, tokenizer):
                yield request, answer


def largest_first(requests: Sequence[Request]) -> list[Request]:
    """Return the requests sorted by file size, largest first, which balances the load of the workers."""
    return sorted(requests, key=lambda each: -Path(each["source"]).stat().st_size)


def _by_processes(requests: Sequence[Request], tokenizer: Tokenizer, count: int) -> Answers:
    """Distribute the requests over new processes, which are never forked."""
    waiting: queue.SimpleQueue[Request] = queue.SimpleQueue()
    for request in largest_first(requests):
        waiting.put(request)
    answers: queue.SimpleQueue[tuple[Request, Answer]] = queue.SimpleQueue()
    processes = [_started(tokenizer) for _ in range(count)]
    for process in processes:
        threading.Thread(target=_converse, args=(process, waiting, answers), daemon=True).start()
    try:
        left = len(requests)
        while left:
            request, answer = answers.get()
            left -= not is_progress(answer)
            yield request, answer
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _started(tokenizer: Tokenizer) -> subprocess.Popen[str]:
    process = start_python("gpt1.data.corpus.shards", {"TOKENIZERS_PARALLELISM": "false"}, text=True, encoding="utf-8")
    assert process.stdin
    print(json.dumps(tokenizer_to_json(tokenizer)), file=process.stdin)
    return process


def _converse(
    process: subprocess.Popen[str],
    waiting: queue.SimpleQueue[Request],
    answers: queue.SimpleQueue[tuple[Request, Answer]],
) -> None:
    assert process.stdin
    assert process.stdout
    while True:
        try:
            request = waiting.get_nowait()
        except queue.Empty:
            process.stdin.close()
            return
        try:
            print(json.dumps(request), file=process.stdin, flush=True)
            for line in process.stdout:
                answer = json.loads(line)
                answers.put((request, answer))
                if not is_progress(answer):
                    break
            else:
                raise EOFError
        except (OSError, EOFError, ValueError):
            answers.put((request, {"failed": "the process that encoded it ended; rerun the same command to resume"}))
            return
