"""The model card: what a person who finds a model directory wants to know, in the README.md of that directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpt1.config import ModelConfig
from gpt1.params import count

USE = """```
gpt1 {command} DIR "{example}"
```
"""


def model_card(
    config: ModelConfig,
    *,
    words: str,
    labels: Sequence[str],
    max_length: int,
    provenance: Mapping[str, Any],
    differences: Sequence[str],
) -> str:
    """Return the card as Markdown, with the header that the Hugging Face hub reads.

    `words` names the word splitter; `differences` are what `transformers` will do otherwise than gpt1, in words.
    """
    head = config.head
    kind = "language model" if head is None else "regression" if head.regression else head.task
    tag = "text-generation" if head is None else "text-classification"
    facts = {
        "kind": kind,
        "labels": ", ".join(labels),
        "shape": f"{config.n_layer} layers × {config.n_embd}, {config.n_head} heads, context {config.n_ctx}, "
        f"vocabulary {config.vocab_size:,}; {count(config) / 1e6:.1f} M parameters",
        "longest input": f"{max_length} tokens",
        "word splitter": words,
        **{name: value for name, value in provenance.items() if value is not None},
    }
    told = "\n".join(f"- {difference}" for difference in differences)
    sections = [
        f"---\nlibrary_name: transformers\npipeline_tag: {tag}\ntags: [openai-gpt, gpt1]\n---",
        f"# GPT-1, {kind}",
        "\n".join(f"- {name}: {_told(value)}" for name, value in facts.items() if value != ""),
        USE.format(command="score" if head is None else "predict", example="a text").rstrip(),
        f"In `transformers` something differs:\n\n{told}\n\nWith gpt1 the directory is exact."
        if differences
        else "`transformers` loads this directory as it is and gives the same answers, from raw text on.",
    ]
    return "\n\n".join(sections) + "\n"


def _told(value: Any) -> str:
    match value:
        case Mapping():
            return "; ".join(f"{name} {_told(inner)}" for name, inner in value.items() if inner is not None)
        case list() | tuple():
            return " ".join(f"`{item}`" for item in value)
        case _:
            return str(value)
