"""Speed of greedy generation with gpt1 and with `transformers.generate`, one text at a time, in one run.

    python benchmarks/generate.py              12 layers, 256 new tokens: speeds, ratios, share of the memory bandwidth
    python benchmarks/generate.py --quick      smoke test with a tiny model; the speeds mean nothing

Both use the same random weights, prompt, number of new tokens and excluded tokens. `transformers` has no key-value
cache for this architecture, so each of its tokens costs a forward pass over the whole text. Timing covers token ids to
token ids for `transformers`, and text to text for gpt1 (`TextGenerator.generate`), after a short untimed text. The
tokens that both generate in float32 are compared.

With a cache, each token reads every weight once, so memory bandwidth is the lower bound of the time: the table shows
the bytes of weights read per second and the bandwidth of a sum over a large array. Each measurement runs in its own
process; the order of the contestants alternates between rounds; the table shows medians. PyTorch's waiting threads do
not spin (OMP_WAIT_POLICY=PASSIVE, unless the variable is set): on a shared machine spinning distorts the measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import string
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from finetune import Given, Measured, introduce, measure, parsed, peak_resident, quiet_transformers
from gpt1 import backends
from gpt1.backends.parameters import initialise
from gpt1.checkpoint.model_dir import Model, load_model, save_model
from gpt1.config import SIZES, DType, GenerateConfig, ModelConfig
from gpt1.console import say, table
from gpt1.inference.generator import TextGenerator
from gpt1.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer
from gpt1.tokenization.vocab_files import END_OF_WORD, UNK_TOKEN

WARMUP_TOKENS = 4
BANDWIDTH_BYTES = 1 << 28
"""Size of the array whose sum measures the memory bandwidth: several times any cache."""
BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Work(Given):
    """Workload: model, prompt and number of new tokens."""

    prompt: str
    new_tokens: int
    device: str


# ---- contestants: (folder, seed) -> measurement of this process


def write_with_transformers(folder: Path, seed: int, *, dtype: DType) -> Measured:
    """Generate with `transformers`, which reads the whole text again for each token."""
    transformers = quiet_transformers()
    import torch

    work, tokenizer = Work.load(folder), Tokenizer.load(folder / "model")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "model", dtype=getattr(torch, dtype))
    model = model.to(work.device).eval()
    ids = torch.tensor([tokenizer.encode(work.prompt)], device=work.device)

    def write(new_tokens: int) -> list[int]:
        found = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new_tokens,
            suppress_tokens=_forbidden(tokenizer),
        )  # fmt: skip
        written: list[int] = found[0, ids.shape[1] :].tolist()
        return written

    return _timed(work, write, lambda found: found, dtype)


def write_with_gpt1(folder: Path, seed: int, *, dtype: DType) -> Measured:
    """Generate with `gpt1.inference.generator.TextGenerator`."""
    work, model = Work.load(folder), load_model(folder / "model")
    engine = backends.get(model.config, model.params, hardware=work.hardware(dtype))
    generator = TextGenerator(model.tokenizer, engine, forbidden=_forbidden(model.tokenizer))

    def write(new_tokens: int) -> dict[str, Any]:
        return generator.generate([work.prompt], GenerateConfig(temperature=0.0, max_tokens=new_tokens))[0]

    ids = model.tokenizer.backend.get_vocab()
    return _timed(work, write, lambda found: [ids[token] for token in found["tokens"]], dtype)


CONTESTANTS: dict[str, Callable[[Path, int], Measured]] = {
    "transformers float32": partial(write_with_transformers, dtype="float32"),
    "transformers bfloat16": partial(write_with_transformers, dtype="bfloat16"),
    "gpt1 float32": partial(write_with_gpt1, dtype="float32"),
    "gpt1 bfloat16": partial(write_with_gpt1, dtype="bfloat16"),
}


def _timed(work: Work, write: Callable[[int], Any], ids: Callable[[Any], list[int]], dtype: str) -> Measured:
    write(WARMUP_TOKENS)
    started = time.perf_counter()
    found = write(work.new_tokens)
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "ids": ids(found),
        "dtype": dtype,
        "memory_gb": peak_resident(),
        "bandwidth": memory_bandwidth(work.device),
    }


def _forbidden(tokenizer: Tokenizer) -> list[int]:
    """Return the tokens excluded on both sides: special tokens including `<eos>`, so that all texts have one length."""
    return [tokenizer.unk, *(getattr(tokenizer, token[1:-1]) for token in SPECIAL_TOKENS)]


def memory_bandwidth(device: str) -> float:
    """Return the memory bandwidth in bytes per second: the best of ten sums over a large array."""
    import torch

    array = torch.ones(BANDWIDTH_BYTES // 4, device=device)
    best = float("inf")
    for _ in range(10):
        started = time.perf_counter()
        array.sum().item()
        best = min(best, time.perf_counter() - started)
    return BANDWIDTH_BYTES / best


# ---- workload


def prepare(args: argparse.Namespace, folder: Path) -> ModelConfig:
    """Write the input of all contestants; return the model's shape. The prompt consists of letters."""
    model = random_model(SIZES["tiny" if args.quick else "gpt1"])
    save_model(folder / "model", model)
    letters_of_prompt = np.random.default_rng(0).choice([*string.ascii_lowercase], args.prompt_tokens)
    Work(" ".join(letters_of_prompt), args.tokens, args.device).save(folder)
    return model.config


def random_model(shape: ModelConfig) -> Model:
    """Return a model with random weights and a vocabulary without merges, in which every embedding row is a token."""
    letters = [letter + END_OF_WORD for letter in string.ascii_lowercase]
    rest = shape.vocab_size - len(SPECIAL_TOKENS) - len(letters) - 1
    vocab = {token: i for i, token in enumerate([UNK_TOKEN, *letters, *(f"w{i}{END_OF_WORD}" for i in range(rest))])}
    tokenizer = Tokenizer.from_vocab(vocab, [])
    shape = replace(shape, vocab_size=tokenizer.vocab_size)
    return Model(shape, initialise(shape, seed=0), tokenizer)


def weights_a_token(shape: ModelConfig) -> int:
    """Return the number of weights that one token reads: those of all layers and of the tied softmax."""
    per_layer = 12 * shape.n_embd**2 + 13 * shape.n_embd
    return shape.n_layer * per_layer + shape.vocab_size * shape.n_embd


# ---- results


def summarise(results: Mapping[str, Sequence[Measured]], shape: ModelConfig) -> dict[str, dict[str, Any]]:
    bandwidth = max(found["bandwidth"] for rounds in results.values() for found in rounds)
    summary: dict[str, dict[str, Any]] = {}
    for name, rounds in results.items():
        seconds = statistics.median(found["seconds"] for found in rounds)
        speed, dtype = len(rounds[0]["ids"]) / seconds, rounds[0]["dtype"]
        read = weights_a_token(shape) * BYTES[dtype] * speed
        summary[name] = {
            "dtype": dtype,
            "seconds": [found["seconds"] for found in rounds],
            "tokens_per_second": speed,
            "weights_gb_per_second": read / 1e9,
            "share_of_bandwidth": read / bandwidth,
            "bandwidth_gb_per_second": bandwidth / 1e9,
            "memory_gb": max((found["memory_gb"] for found in rounds if found["memory_gb"]), default=None),
        }
    for found in summary.values():
        for column, other in (("default", "float32"), ("same_dtype", found["dtype"])):
            peer = summary[f"transformers {other}"]
            found[f"times_transformers_{column}"] = found["tokens_per_second"] / peer["tokens_per_second"]
    return summary


def show(summary: Mapping[str, Mapping[str, Any]], new_tokens: int) -> None:
    columns = ["s", "spread", "tokens/s", "× default", "× same dtype", "weights GB/s", "of bandwidth", "GB"]

    def row(name: str, found: Mapping[str, Any]) -> list[str]:
        cached = name.startswith("gpt1")
        return [
            name,
            f"{statistics.median(found['seconds']):.2f}",
            f"{max(found['seconds']) / min(found['seconds']) - 1:.0%}",
            f"{found['tokens_per_second']:,.1f}",
            f"{found['times_transformers_default']:.1f}",
            f"{found['times_transformers_same_dtype']:.1f}",
            f"{found['weights_gb_per_second']:.1f}" if cached else "–",
            f"{found['share_of_bandwidth']:.0%}" if cached else "–",
            "–" if found["memory_gb"] is None else f"{found['memory_gb']:.1f}",
        ]

    say()
    table([f"{new_tokens} new tokens", *columns], [row(name, found) for name, found in summary.items()])
    bandwidth = next(iter(summary.values()))["bandwidth_gb_per_second"]
    say("\n× default: speed over that of transformers in float32. weights GB/s: each weight is read once per token;")
    say(f"bandwidth: a sum over {BANDWIDTH_BYTES / 1e6:.0f} MB reads {bandwidth:.1f} GB/s here. GB: peak memory.")


def common_start(first: Sequence[int], second: Sequence[int]) -> int:
    """Return the length of the common prefix of two texts, in tokens."""
    pairs = zip(first, second, strict=True)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), len(first))


# ---- command


def main() -> int:
    """Run the script; return its exit code: 1 if the texts differ in float32."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=256, help="new tokens to generate")
    parser.add_argument("--prompt-tokens", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2, help="measurements per contestant")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="smoke test with a tiny model and one round")
    parser.add_argument("--json", type=Path, help="JSON file for the results and the machine's description")
    args = parsed(parser, CONTESTANTS)
    if args is None:
        return 0
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    about = introduce()
    with tempfile.TemporaryDirectory() as folder:
        shape = prepare(args, Path(folder))
        results = measure(list(CONTESTANTS), Path(folder), 1 if args.quick else args.rounds, __file__)
    summary = summarise(results, shape)
    show(summary, args.tokens)
    ours, theirs = (results[f"{side} float32"][0]["ids"] for side in ("gpt1", "transformers"))
    same = common_start(ours, theirs)
    say(f"Common prefix of the greedy tokens of gpt1 and transformers in float32: {same} of {len(theirs)}.")
    if args.json:
        figures = {"machine": about, "tokens": args.tokens, "same_tokens": same, "figures": summary}
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0 if same == len(theirs) else 1


if __name__ == "__main__":
    sys.exit(main())
