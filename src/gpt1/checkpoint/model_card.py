"""The model card: what a person who finds a model directory wants to know, in the README.md of that directory.

Its form is the Hugging Face hub's: metadata in YAML between two lines of dashes, then Markdown. What gpt1 cannot know
(the licence, the language) is left out; `gpt1 push` takes it from flags.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpt1.backends.parameters import count
from gpt1.config import ModelConfig, TaskName

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
    "eos_positions": [sum(row.attention_mask) - 1 for row in rows],  # the place of <eos>
{segments}}}
[logits] = session.run(None, {{each.name: np.array(inputs[each.name]) for each in session.get_inputs()}})
{answer}
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


METRIC_TYPES = {
    "f1": "f1", "macro_f1": "f1", "matthews": "matthews_correlation", "pearson": "pearsonr", "spearman": "spearmanr",
}  # fmt: skip
"""gpt1's names of metrics -> the hub's; others are the same."""
PLAIN = re.compile(r"[a-z][a-z0-9_/-]*")
YAML_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
"""Plain words that YAML does not read as strings."""
NO_METRICS = {"loss", "examples", "truncated", "tokens", "bytes"}


@dataclass(frozen=True)
class Results:
    """What a finished run reached, and where it came from."""

    scores: Mapping[str, Any]
    """`metrics.json`"""
    data: str
    """What the data is called."""
    dataset: str | None = None
    """The data's repository on the hub."""
    base_model: str | None = None
    """The repository on the hub of the model that it started from."""

    @property
    def split(self) -> str:
        """The split that the table and the metadata are about: the test's, where there is one."""
        return str(self.scores.get("baseline_split", "valid"))

    @property
    def metrics(self) -> dict[str, float]:
        """{metric: value} of that split."""
        scores = self.scores[self.split].items()
        return {name: value for name, value in scores if name not in NO_METRICS and _is_number(value)}


def model_card(
    config: ModelConfig,
    *,
    pretokenizer: str,
    labels: Sequence[str],
    max_length: int,
    provenance: Mapping[str, Any],
    differences: Sequence[str],
    library: str = "transformers",
    results: Results | None = None,
) -> str:
    """Return the card as Markdown, with the header that the Hugging Face hub reads.

    `differences` are what `transformers` will do otherwise than gpt1, in words.
    `library` is what reads the weights: transformers, mindspore or onnx. `results` are those of the run, once it is
    finished.
    """
    head, onnx = config.head, library == "onnx"
    kind = head.description if head else "language model"
    tag = "text-generation" if head is None else "text-classification"
    facts = {
        "kind": kind,
        "labels": ", ".join(labels),
        "shape": f"{config.n_layer} layers × {config.n_embd}, {config.n_head} heads, context {config.n_ctx}, "
        f"vocabulary {config.vocab_size:,}; {count(config) / 1e6:.1f} M parameters",
        "longest input": f"{max_length} tokens",
        "pre-tokenizer": pretokenizer,
        **{name: value for name, value in provenance.items() if value is not None},
    }
    example, logits = ONNX_ROWS.get(head.task if head else None, ONNX_ROWS["classification"])
    listed = "\n".join(f"- {difference}" for difference in differences)
    sections = [
        "\n".join(["---", *_yaml(_metadata(library, tag, results, kind)), "---"]),
        f"# GPT-1, {kind}",
        "\n".join(f"- {name}: {_told(value)}" for name, value in facts.items() if value != ""),
        USE_ONNX.format(
            example=example,
            logits=logits,
            answer=_onnx_answer(labels),
            segments=SEGMENTS.format(config.vocab_size) if config.n_segments else "",
        )
        if onnx
        else USE.format(command="score" if head is None else "predict", example="a text").rstrip(),
        f"In `transformers` something differs:\n\n{listed}" + ("" if onnx else "\n\nWith gpt1 the directory is exact.")
        if differences
        else "`transformers` loads this directory as it is and gives the same answers, from raw text on.",
        *([_table(results)] if results else ()),
    ]
    return "\n\n".join(sections) + "\n"


def _onnx_answer(labels: Sequence[str]) -> str:
    names = json.dumps(list(labels), ensure_ascii=False)
    return f"names = {names}\nprint([names[best] for best in logits.argmax(axis=1)])" if labels else "print(logits)"


def _is_number(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _metadata(library: str, tag: str, results: Results | None, kind: str) -> dict[str, Any]:
    """Return the card's metadata, with the form of the hub's `model-index` where there are results."""
    metadata: dict[str, Any] = {"library_name": library, "pipeline_tag": tag, "tags": ["openai-gpt", "gpt1"]}
    if results is None:
        return metadata
    if results.base_model:
        metadata["base_model"] = results.base_model
    if results.dataset:
        metadata["datasets"] = [results.dataset]
    metadata["metrics"] = sorted({METRIC_TYPES.get(name, name) for name in results.metrics})
    metrics = [
        {"type": METRIC_TYPES.get(name, name), "name": name, "value": value} for name, value in results.metrics.items()
    ]
    dataset = {"name": results.data, "type": results.dataset or results.data, "split": results.split}
    measured = {"task": {"type": tag, "name": kind}, "dataset": dataset, "metrics": metrics}
    return metadata | {"model-index": [{"name": f"GPT-1, {kind}", "results": [measured]}]}


def _yaml(value: Any, indent: str = "") -> Iterator[str]:
    """Yield the lines of plain values as YAML: mappings and lists as blocks."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(inner, Mapping | list):
                yield f"{indent}{key}:"
                yield from _yaml(inner, indent + "  ")
            else:
                yield f"{indent}{key}: {_scalar(inner)}"
    else:
        for inner in value:
            first, *rest = _yaml(inner, indent + "  ") if isinstance(inner, Mapping) else [_scalar(inner)]
            yield f"{indent}- {first.lstrip()}"
            yield from rest


def _scalar(value: Any) -> str:
    """Return a value in JSON, which is YAML too; a plain word without its quotes."""
    plain = isinstance(value, str) and PLAIN.fullmatch(value) and value not in YAML_WORDS
    return str(value) if plain else json.dumps(value, ensure_ascii=False)


def _table(results: Results) -> str:
    """Return the scores beside those of the plain baselines, with their 95 % intervals where there are some."""
    scored = results.scores[results.split]
    metrics = list(results.metrics)
    size = f"{scored['examples']:,} examples" if "examples" in scored else f"{scored['tokens']:,} tokens"
    rows = {"GPT-1": scored, **results.scores.get("baseline", {})}
    lines = [
        f"## Results\n\n{results.data}, {results.split}, {size}"
        + (" (95 % bootstrap interval):\n" if scored.get("interval") else ":\n"),
        f"| | {' | '.join(metrics)} |",
        "|---" * (len(metrics) + 1) + "|",
        *(f"| {name} | {' | '.join(_figure(row, metric) for metric in metrics)} |" for name, row in rows.items()),
    ]
    return "\n".join(lines)


def _figure(row: Mapping[str, Any], metric: str) -> str:
    if metric not in row:
        return ""
    low_high = row.get("interval", {}).get(metric)
    return f"{row[metric]:.3f}" + (f" [{low_high[0]:.3f}, {low_high[1]:.3f}]" if low_high else "")


def _told(value: Any) -> str:
    match value:
        case Mapping():
            return "; ".join(f"{name} {_told(inner)}" for name, inner in value.items() if inner is not None)
        case list() | tuple():
            return " ".join(f"`{item}`" for item in value)
        case _:
            return str(value)
