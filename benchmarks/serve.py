"""gpt1's server under load, compared with itself without batching and with offline prediction, in one run.

    python benchmarks/serve.py           5 minutes: bundled model with a classification head, bundled reviews
    python benchmarks/serve.py --data FILE --model RUN       your texts and classifier
    python benchmarks/serve.py --quick   smoke test of some seconds; the speeds mean nothing

The server is `gpt1 serve` in its own process, on loopback; the clients are connections of this process, which shares
the machine's cores with it. Every response is compared with `Classifier.predict` on the same text: the label must be
equal and the probability within 1e-5 (float32; batches of other shapes sum in other orders).

    load       64 clients with texts of all lengths: throughput, p50 and p99 latency, memory, wrong or lost responses
    overhead   the same texts offline and through the server, each at full speed
    batching   short and long texts, with batches and one at a time (--batch-tokens 1), in alternating rounds
    overload   128 clients and a queue of 32: number of refused requests, and responses afterwards
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from finetune import introduce
from gpt1.backends.parameters import initialise
from gpt1.checkpoint.hub import resolve_dataset
from gpt1.checkpoint.loading import resolve_model
from gpt1.checkpoint.model_dir import load_model, save_model
from gpt1.config import DeviceConfig, Head
from gpt1.console import muted, say, table
from gpt1.data.dataset import read_examples
from gpt1.data.paper_kinds import SINGLE
from gpt1.inference.classifier import Classifier
from gpt1.tokenization.tokenizer import Tokenizer

TOLERANCE = 1e-5
"""Tolerance of a float32 probability between batches of different shapes."""
HEAD_SCALE = 20.0
"""Factor of the random head's weights, so that its predictions differ between texts."""
HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
SHORT, LONG = 20, 256
"""Tokens of the short and long texts of `batching`, including special tokens."""


@dataclass
class Text:
    text: str
    request: bytes
    """Complete HTTP request."""
    expected: dict[str, Any]


@dataclass
class Answer:
    text: Text
    status: int
    body: bytes
    seconds: float


# ---- server


@contextmanager
def server(model: Path, *flags: str) -> Iterator[tuple[int, int]]:
    """Run `gpt1 serve`; yield its port and process id."""
    command = [sys.executable, "-u", "-m", "gpt1", "serve", str(model), "--port", "0", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        line = ""
        while "http://" not in line:
            line = process.stderr.readline()
            if not line:
                sys.exit("the server did not start")
        yield int(line.split("http://")[1].split()[0].rpartition(":")[2]), process.pid
    finally:
        process.terminate()
        process.wait(timeout=60)


def resident(pid: int) -> float:
    """Return the resident memory of a process in MB (Linux); nan elsewhere."""
    try:
        fields = Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()
    except (OSError, IndexError):
        return float("nan")
    return int(fields[0]) / 1024


# ---- clients


async def client(port: int, texts: Iterator[Text], until: float, answers: list[Answer]) -> None:
    """Send requests over one connection until the time or the texts run out."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for text in texts:
            if time.perf_counter() > until:
                return
            started = time.perf_counter()
            writer.write(text.request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            answers.append(Answer(text, int(head.split(b" ", 2)[1]), body, time.perf_counter() - started))
    finally:
        writer.close()


async def ask(port: int, texts: Iterator[Text], clients: int, seconds: float) -> tuple[list[Answer], float]:
    """Distribute the texts over `clients`; return the responses and the total seconds."""
    answers: list[Answer] = []
    started = time.perf_counter()
    await asyncio.gather(*(client(port, texts, started + seconds, answers) for _ in range(clients)))
    return answers, time.perf_counter() - started


def run(port: int, texts: Iterator[Text], clients: int, seconds: float = float("inf")) -> tuple[list[Answer], float]:
    return asyncio.run(ask(port, texts, clients, seconds))


def wrong(answers: Sequence[Answer]) -> int:
    """Return the number of responses that differ from the offline predictions."""
    count = 0
    for answer in answers:
        found = json.loads(answer.body)["data"][0] if answer.status == 200 else {"label": None, "score": 0.0}
        expected = answer.text.expected
        same = found["label"] == expected["label"] and abs(found["score"] - expected["score"]) <= TOLERANCE
        count += not same
    return count


# ---- texts


def cut(text: str, tokens: int, tokenizer: Tokenizer) -> str:
    """Return the longest prefix of whole words with at most so many tokens, special tokens excluded."""
    words = text.split()
    low, high = 1, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(tokenizer.encode(" ".join(words[:middle]))) <= tokens else (low, middle - 1)
    return " ".join(words[:low])


def prepared(texts: Sequence[str], model: Classifier) -> list[Text]:
    found = []
    for text, expected in zip(texts, model.predict([model.example([text]) for text in texts]), strict=True):
        body = json.dumps({"input": text}).encode()
        found.append(Text(text, HEAD % len(body) + body, expected))
    return found


def mixed(texts: Sequence[str], tokenizer: Tokenizer, count: int, stream: random.Random) -> list[str]:
    """Return texts of all lengths: a third of about one sentence, a third up to 128 tokens, a third unchanged."""
    limits = (SHORT, 128, 510)
    drawn = [stream.choice(texts) for _ in range(count)]
    return [
        cut(text, stream.randint(4, limits[i % 3]), tokenizer) if i % 3 < 2 else text for i, text in enumerate(drawn)
    ]


def endless(texts: Sequence[Text]) -> Iterator[Text]:
    while True:
        yield from texts


# ---- workloads


def load(model: Path, texts: Sequence[Text], clients: int, seconds: float) -> None:
    with server(model) as (port, pid):
        run(port, endless(texts), clients, min(5.0, seconds / 4))  # warm-up
        before = resident(pid)
        answers, took = run(port, endless(texts), clients, seconds)
        after = resident(pid)
    times = sorted(answer.seconds for answer in answers)
    say(f"\nload: {clients} clients for {took:.0f} s, texts of all lengths")
    say(f"  {len(answers):,} responses, {wrong(answers):,} wrong or lost; {len(answers) / took:,.1f} texts/s")
    say(f"  p50 {times[len(times) // 2] * 1e3:,.0f} ms, p99 {times[int(len(times) * 0.99)] * 1e3:,.0f} ms")
    say(f"  memory of the server: {before:,.0f} MB after the warm-up, {after:,.0f} MB at the end")


def overhead(model: Path, offline: Classifier, texts: Sequence[Text], clients: int, rounds: int) -> None:
    examples = [offline.example([text.text]) for text in texts]
    plain, served = [], []
    with server(model) as (port, _):
        run(port, iter(texts[: 2 * clients]), clients)
        for _ in range(rounds):
            started = time.perf_counter()
            with muted(True):  # notices about truncated texts
                offline.predict(examples)
            plain.append(time.perf_counter() - started)
            answers, took = run(port, iter(texts), clients)
            assert len(answers) == len(texts)
            served.append(took)
    ratios = [b / a for a, b in zip(plain, served, strict=True)]
    say(f"\noverhead: {len(texts):,} texts of all lengths, {rounds} rounds, medians")
    speeds = [len(texts) / statistics.median(times) for times in (plain, served)]
    say(f"  offline {speeds[0]:,.1f} texts/s, server {speeds[1]:,.1f} texts/s")
    say(f"  the server takes {statistics.median(ratios):.2f} x the time ({min(ratios):.2f} to {max(ratios):.2f})")


def batching(model: Path, by_length: dict[str, Sequence[Text]], clients: int, rounds: int) -> None:
    say(f"\nbatching: {clients} clients, {rounds} alternating rounds, medians of texts/s")
    rows = []
    with server(model) as (batched, _), server(model, "--batch-tokens", "1") as (single, _):
        for name, texts in by_length.items():
            speeds: dict[int, list[float]] = {batched: [], single: []}
            for number in range(rounds + 1):
                for port in (batched, single) if number % 2 else (single, batched):
                    answers, took = run(port, iter(texts), clients)
                    assert len(answers) == len(texts) and not wrong(answers)
                    if number:  # the first round is the warm-up
                        speeds[port].append(len(texts) / took)
            ratios = [a / b for a, b in zip(speeds[batched], speeds[single], strict=True)]
            figures = [statistics.median(speeds[port]) for port in (single, batched)]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            rows.append([name, *(f"{each:,.1f}" for each in figures), f"{statistics.median(ratios):.2f}", spread])
    table(["texts", "one at a time", "batches", "ratio", "spread"], rows)


def overload(model: Path, texts: Sequence[Text]) -> None:
    with server(model, "--max-queue-size", "32") as (port, _):
        answers, _ = run(port, iter(texts), 128)
        refused = sum(answer.status == 429 for answer in answers)
        others = [answer for answer in answers if answer.status != 429]
        after, _ = run(port, iter(texts[:32]), 8)
    say("\noverload: 128 clients, a queue of 32")
    say(f"  {len(answers):,} requests: {refused:,} refused with 429, {wrong(others):,} of the others wrong or lost")
    say(f"  afterwards: {len(after) - wrong(after)} of {len(after)} correct")


def classifier_directory(folder: Path) -> Path:
    """Write the bundled model with a random classification head; return its directory."""
    model = load_model(resolve_model("mini"))
    config = replace(model.config, head=Head("classification", 2))
    params = initialise(config, 0, model.params)
    params["score.weight"] = params["score.weight"] * np.float32(HEAD_SCALE)
    save_model(folder, replace(model, config=config, params=params, label_names=("negative", "positive")))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="file of texts (default: the bundled reviews)")
    parser.add_argument("--model", type=Path, help="classifier: run or model directory (default: mini)")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120.0, help="duration of `load` in seconds")
    parser.add_argument("--texts", type=int, default=600, help="number of different texts")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["load", "overhead", "batching", "overload"], help="run one workload")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if args.quick:
        args.seconds, args.texts, args.rounds, args.clients = 2.0, 40, 1, 8
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with tempfile.TemporaryDirectory() as folder:
        introduce()
        model = args.model or classifier_directory(Path(folder) / "classifier")
        offline = Classifier.open(model, DeviceConfig(dtype="float32"))
        say(f"{model.name}: {offline.engine.device}, {offline.engine.dtype}; {args.data or 'the bundled reviews'}")
        stream, tokenizer = random.Random(0), offline.model.tokenizer
        named = resolve_dataset("reviews")
        assert isinstance(named, Path)
        source = Path(args.data) if args.data else named / "train.jsonl"
        raw = [row.parts[0] for row in read_examples(source, kind=SINGLE, labelled=False)][:5_000]
        longer = [text for text in raw if len(text) > 6 * LONG] or raw
        texts = prepared(mixed(raw, tokenizer, args.texts, stream), offline)
        works = {
            "load": lambda: load(model, texts, args.clients, args.seconds),
            # each text three times: reduces the weight of a round's end, when few clients are still active
            "overhead": lambda: overhead(model, offline, 3 * texts, args.clients, args.rounds),
            "batching": lambda: batching(model, {
                f"up to {SHORT} tokens": prepared(
                    [cut(stream.choice(raw), SHORT - 2, tokenizer) for _ in range(2 * args.texts)], offline
                ),
                f"{LONG} tokens": prepared(
                    [cut(stream.choice(longer), LONG - 2, tokenizer) for _ in range(args.texts // 3)], offline
                ),
            }, args.clients, args.rounds),
            "overload": lambda: overload(model, texts),
        }  # fmt: skip
        for name, work in works.items():
            if args.only in (None, name):
                work()


if __name__ == "__main__":
    main()
