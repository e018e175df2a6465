"""Output of commands on stdout: JSON with --json, otherwise text."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from gpt1.cli.streams import is_utf8
from gpt1.system.serialization import to_json

BAR_WIDTH = 40
"""Length of the longest bar of `gpt1 next`, in characters."""


def print_json(value: Any) -> None:
    """Print JSON in one line, with ASCII escapes if stdout is not UTF-8."""
    print(to_json(value, ascii_only=not is_utf8(sys.stdout.encoding)))


def print_one(result: dict[str, Any], as_json: bool) -> None:
    """Print the result as JSON; nothing without `as_json`, since the console has printed it."""
    if as_json:
        print_json(result)


def print_some(results: list[dict[str, Any]], as_json: bool, line: Callable[[dict[str, Any]], str]) -> None:
    """Print the results: as JSON one object, or a list of several; otherwise a `line` for each."""
    if as_json:
        print_json(results[0] if len(results) == 1 else results)
    else:
        for result in results:
            print(line(result))


def print_predictions(results: list[dict[str, Any]], as_json: bool) -> None:
    """Print predictions as `print_some` does, with the labels and the probabilities each in a column."""
    width = max(len(str(result["label"])) for result in results)
    print_some(results, as_json, lambda result: prediction(result, width))


def print_lines(results: Iterable[dict[str, Any]], as_json: bool, line: Callable[[dict[str, Any]], str]) -> None:
    """Print each result as it is computed: one line of JSON, or its `line`."""
    for result in results:
        if as_json:
            print_json(result)
        else:
            print(line(result))


def prediction(result: dict[str, Any], width: int = 0) -> str:
    """Return a prediction as text: the label, padded to `width`, and its probability, or the value of a regression."""
    if result.get("error"):
        return f"no prediction: {result['error']}"
    if result["label"] is None:
        return f"{result['score']:.4f}"
    return f"{result['label']!s:<{width}}  {result['score']:.4f}"


def explanation(result: dict[str, Any]) -> str:
    """Return an explanation as text, coloured on a terminal, with the attention weights if it has them."""
    from gpt1.inference.highlight import attention_lines, in_terminal

    lines = [in_terminal(result, colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))]
    if looks := result.get("attention"):
        heads = f"head {looks['head']}" if "head" in looks else "the mean of its heads"
        first = f" (the first {len(looks['tokens'])} tokens)" if looks["truncated"] else ""
        title = f"layer {looks['layer']}, {heads}{first}: each token and the tokens it attends to most"
        lines += [title, *attention_lines(looks)]
    return "\n".join(lines)


def scored(result: dict[str, Any]) -> str:
    """Return the log-probability of each token as text, and the text's perplexity and bits per byte."""
    if result.get("error"):
        return f"no score: {result['error']}"
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
    """Print a part of a text at once, without a line end."""
    print(text, end="", flush=True)


def shown(prompt: str) -> str:
    """Return the prompt without trailing blanks, since generated text begins with its own."""
    return prompt.rstrip(" ")


def bars(result: dict[str, Any]) -> str:
    """Return a line for each token with its name, its probability and a bar."""
    from gpt1.tokenization.tokenizer import token_name

    tokens = result["tokens"]
    names = [token_name(row["token"]) for row in tokens]
    width, most = max(map(len, names)), tokens[0]["probability"]
    return "\n".join(
        f"{name:<{width}}  {row['probability']:7.2%}  {'█' * round(BAR_WIDTH * row['probability'] / most)}".rstrip()
        for name, row in zip(names, tokens, strict=True)
    )
