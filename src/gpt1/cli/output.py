"""What commands print on stdout: JSON for programs, lines for people."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from gpt1.cli.streams import is_utf8
from gpt1.system.serialization import to_json

BAR_WIDTH = 40
"""Characters of the longest bar of `gpt1 next`."""


def print_json(value: Any) -> None:
    """Print JSON, with ASCII escapes where stdout is not UTF-8."""
    print(to_json(value, ascii_only=not is_utf8(sys.stdout.encoding)))


def print_one(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(result)


def print_some(results: list[dict[str, Any]], as_json: bool, line: Callable[[dict[str, Any]], str]) -> None:
    """Print one document for one result, a list for several."""
    if as_json:
        print_json(results[0] if len(results) == 1 else results)
    else:
        for result in results:
            print(line(result))


def print_lines(results: Iterable[dict[str, Any]], as_json: bool, line: Callable[[dict[str, Any]], str]) -> None:
    for result in results:
        if as_json:
            print_json(result)
        else:
            print(line(result))


def prediction(result: dict[str, Any]) -> str:
    if result["label"] is None:
        return f"{result['score']:.4f}"
    return f"{result['label']}  {result['score']:.4f}"


def explanation(result: dict[str, Any]) -> str:
    """Return the words that moved a label, coloured on a terminal, and where attention looks, if that was asked for."""
    from gpt1.evaluation.report.highlight import attention_lines, in_terminal

    lines = [in_terminal(result, colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))]
    if looks := result.get("attention"):
        heads = f"head {looks['head']}" if "head" in looks else "the mean of its heads"
        cut = f" (the first {len(looks['tokens'])} tokens)" if looks["truncated"] else ""
        lines += [f"layer {looks['layer']}, {heads}{cut}: each token and what it looks at", *attention_lines(looks)]
    return "\n".join(lines)


def scored(result: dict[str, Any]) -> str:
    lines = [
        f"{'' if value is None else f'{value:9.3f}':>9}  {token.replace('</w>', '')}"
        for token, value in zip(result["tokens"], result["logprobs"], strict=True)
    ]
    if result["perplexity"] is not None:
        lines.append(
            f"perplexity {result['perplexity']:.2f}, {result['bits_per_byte'] or float('nan'):.3f} bits per byte, "
            f"{result['unknown_share']:.1%} of the bytes unknown"
        )
    return "\n".join(lines)


def write(text: str) -> None:
    print(text, end="", flush=True)


def shown(prompt: str) -> str:
    """Return the prompt as the text goes on from it: with the blank of its own, where one comes next."""
    return prompt.rstrip(" ")


def bars(result: dict[str, Any]) -> str:
    """Return a line for each token: name, probability and bar."""
    from gpt1.tokenization.tokenizer import token_name

    tokens = result["tokens"]
    names = [token_name(row["token"]) for row in tokens]
    width, most = max(map(len, names)), tokens[0]["probability"]
    return "\n".join(
        f"{name:<{width}}  {row['probability']:7.2%}  {'█' * round(BAR_WIDTH * row['probability'] / most)}".rstrip()
        for name, row in zip(names, tokens, strict=True)
    )
