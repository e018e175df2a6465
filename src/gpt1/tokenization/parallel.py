"""Encoding in several processes, for the pre-tokenizer `openai`, which runs in Python.

The processes are spawned, not forked, so that they do not inherit a loaded framework and its threads; they exit at the
end of the call. Pipes connect them with the parent: texts are sent as JSON, counts and ids returned as int32.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import IO

import numpy as np
from numpy.typing import NDArray

from gpt1.system.processes import cores, start_python

WORTH_A_PROCESS = 6_000_000
"""Characters per process from which starting it pays off: loading spaCy takes as long as encoding a few million."""
CHARACTERS_AT_ONCE = 500_000
"""Minimum number of characters in a portion of work."""

Encode = Callable[[str], list[int]]
Texts = Sequence[str]


def encode_all(encode: Encode, texts: Texts, pipeline: Callable[[], str]) -> list[list[int]]:
    """Return `encode` of each text, computed on all cores if the batch is large.

    `pipeline` returns the tokenizer as JSON, for the workers. With `TOKENIZERS_PARALLELISM=false` there are no workers.
    """
    processes = min(cores(), sum(map(len, texts)) // WORTH_A_PROCESS)
    if processes < 2 or os.environ.get("TOKENIZERS_PARALLELISM", "").lower() in ("0", "false", "no", "off"):
        return [encode(text) for text in texts]
    portions = dict(enumerate(_portions(texts)))
    waiting = deque(portions)
    encoded: dict[int, list[list[int]]] = {}

    def by_worker() -> None:
        with _started() as worker:
            try:
                _send(worker, pipeline())
                while waiting:
                    number = waiting.popleft()
                    try:
                        _send(worker, json.dumps(portions[number]))
                        encoded[number] = _received(worker)
                    except (OSError, EOFError):
                        waiting.append(number)
                        raise
            except (OSError, EOFError, IndexError):
                return  # the worker died, or there is no portion left; the parent encodes the rest

    def here() -> None:
        with suppress(IndexError):
            while waiting:
                number = waiting.popleft()
                encoded[number] = [encode(text) for text in portions[number]]

    threads = [threading.Thread(target=by_worker, daemon=True) for _ in range(processes - 1)]
    for thread in threads:
        thread.start()
    here()
    for thread in threads:
        thread.join()
    here()
    return [ids for number in portions for ids in encoded[number]]


def _portions(texts: Texts) -> Iterator[Texts]:
    start = size = 0
    for index, text in enumerate(texts):
        size += len(text)
        if size >= CHARACTERS_AT_ONCE:
            yield texts[start : index + 1]
            start, size = index + 1, 0
    if start < len(texts):
        yield texts[start:]


# ---- the pipes


def _started() -> subprocess.Popen[bytes]:
    return start_python("gpt1.tokenization.parallel_worker", stderr=subprocess.DEVNULL)


def _send(worker: subprocess.Popen[bytes], line: str) -> None:
    assert worker.stdin
    worker.stdin.write(line.encode() + b"\n")  # JSON has no line break, and surrogates are escaped in it
    worker.stdin.flush()


def _received(worker: subprocess.Popen[bytes]) -> list[list[int]]:
    assert worker.stdout
    (n_texts,) = _numbers(worker.stdout, 1)
    counts = _numbers(worker.stdout, int(n_texts))
    ids = _numbers(worker.stdout, int(counts.sum()))
    return [part.tolist() for part in np.split(ids, np.cumsum(counts)[:-1])]


def _numbers(stream: IO[bytes], count: int) -> NDArray[np.int32]:
    data = stream.read(4 * count)
    if len(data) < 4 * count:
        raise EOFError
    return np.frombuffer(data, np.int32)
