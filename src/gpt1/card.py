"""The model card: what a person who finds a model directory wants to know, in the README.md of that directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpt1.config import ModelConfig, TaskName
from gpt1.params import count

USE = """```
gpt1 {command} DIR "{example}"
```
"""

USE_ONNX = """```python
import numpy as np, onnxruntime, tokenizers

tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
tokenizer.enable_padding(pad_id=tokenizer.token_to_id("<pad>"), pad_token="<pad>")
rows = tokenizer.encode_batch([{example}])
session = onnxruntime.InferenceSession("model.onnx")
inputs = {{
    "tokens": [row.ids for row in rows],  # padded on the right; no mask is needed
    "read_at": [sum(row.attention_mask) - 1 for row in rows],  # the place of <eos>
{segments}}}
[logits] = session.run(None, {{each.name: np.array(inputs[each.name]) for each in session.get_inputs()}})
```

{logits}"""
"""How a graph for ONNX Runtime is used."""
SEGMENTS = """    "segments": np.maximum(0, [np.subtract(row.type_ids, {}) for row in rows]),
"""

ONNX_ROWS: dict[TaskName | None, tuple[str, str]] = {
    None: ('"a text"', "`logits[i, t]` are over the token after place t."),
    "classification": ('"a text"', "`logits[i, c]` is the score of label c; softmax gives probabilities."),
    "entailment": ('("a premise", "a hypothesis")', "`logits[i, c]` is the score of label c."),
    "similarity": ('("a text", "another"), ("another", "a text")', "Both orders of a pair give one row of `logits`."),
    "multiple-choice": ('("context", "a choice"), ("context", "another")', "`logits[i, 0]` is the score of choice i."),
}
"""What is encoded for an example of each task, and what comes out."""


def model_card(
    config: ModelConfig,
    *,
    words: str,
    labels: Sequence[str],
    max_length: int,
    provenance: Mapping[str, Any],
    differences: Sequence[str],
    onnx: bool = False,
) -> str:
    """Return the card as Markdown, with the header that the Hugging Face hub reads.

    `words` names the word splitter; `differences` are what `transformers` will do otherwise than gpt1, in words. With
    `onnx` the weights are a graph for ONNX Runtime.
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
    example, logits = ONNX_ROWS.get(head.task if head else None, ONNX_ROWS["classification"])
    told = "\n".join(f"- {difference}" for difference in differences)
    sections = [
        f"---\nlibrary_name: transformers\npipeline_tag: {tag}\ntags: [openai-gpt, gpt1]\n---",
        f"# GPT-1, {kind}",
        "\n".join(f"- {name}: {_told(value)}" for name, value in facts.items() if value != ""),
        USE_ONNX.format(
            example=example, logits=logits, segments=SEGMENTS.format(config.vocab_size) if config.n_segments else ""
        )
        if onnx
        else USE.format(command="score" if head is None else "predict", example="a text").rstrip(),
        f"In `transformers` something differs:\n\n{told}" + ("" if onnx else "\n\nWith gpt1 the directory is exact.")
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
