"""The model card: README.md of a model directory, in the format of the Hugging Face hub (YAML metadata, Markdown).

License and language are unknown here; `gpt1 push` adds them from flags.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpt1.backends.parameters import count
from gpt1.config import Head, ModelConfig, TaskName

USAGE = """With gpt1 on the command line, where `DIR` is this directory:

```
{commands}
```"""

USAGE_PYTHON = """In Python:

```python
import gpt1

model = gpt1.load("DIR")
print(model.{call})
```"""

EXAMPLES: dict[TaskName, tuple[str, str]] = {
    "classification": ('"a text"', '["a text"]'),
    "entailment": ('"a premise" "a hypothesis"', '[("a premise", "a hypothesis")]'),
    "similarity": ('"a text" "another text"', '[("a text", "another text")]'),
    "multiple-choice": ('"a context" "a choice" "another choice"', '[("a context", ["a choice", "another choice"])]'),
}
"""Example of each task: command-line arguments, and the argument of `predict`."""

USAGE_ONNX = """With ONNX Runtime:

```python
import numpy as np, onnxruntime, tokenizers

tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
tokenizer.enable_padding(pad_id=tokenizer.token_to_id("<pad>"), pad_token="<pad>")
rows = tokenizer.encode_batch([{example}])
session = onnxruntime.InferenceSession("model.onnx")
inputs = {{
    "tokens": [row.ids for row in rows],  # right-padded; no mask is required
    "eos_positions": [sum(row.attention_mask) - 1 for row in rows],  # positions of <eos>
{segments}}}
[logits] = session.run(None, {{each.name: np.array(inputs[each.name]) for each in session.get_inputs()}})
{answer}
```

{logits}"""

SEGMENTS = """    "segments": np.maximum(0, [np.subtract(row.type_ids, {}) for row in rows]),
"""

ONNX_ROWS: dict[TaskName | None, tuple[str, str]] = {
    None: ('"a text"', "`logits[i, t]` are the scores of the token after position t."),
    "classification": ('"a text"', "`logits[i, c]` is the score of label c; softmax gives probabilities."),
    "entailment": ('("a premise", "a hypothesis")', "`logits[i, c]` is the score of label c."),
    "similarity": ('("a text", "another"), ("another", "a text")', "Both orders of a pair give one row of `logits`."),
    "multiple-choice": ('("context", "a choice"), ("context", "another")', "`logits[i, 0]` is the score of choice i."),
}
"""Encoded rows of an example of each task, and the meaning of the outputs."""

USAGE_TRANSFORMERS = """```python
from transformers import pipeline

print(pipeline("text-classification", "DIR")({example}))
```"""

PIPELINE_EXAMPLES: dict[TaskName | None, str] = {
    "classification": '"a text"',
    "entailment": '{"text": "a premise", "text_pair": "a hypothesis"}',
}
"""Argument of a `transformers` pipeline for the tasks that it supports."""

TRANSFORMERS: dict[TaskName | None, str] = {
    None: "The tokenizer adds `<eos>` to every text; remove it from the end of a prompt.",
    "similarity": "The score of a pair is the sum of the scores of both orders of its texts.",
    "multiple-choice": "Encode each choice as a pair of context and choice; the scores of the choices are logits.",
}
"""Notes on the usage of some tasks with `transformers`."""

PROVENANCE = {
    "before": "details of the base model", "drawn": "randomly initialized tokens", "from": "converted from",
    "step": "training steps", "tokens": "training tokens", "validation": "validation score",
}  # fmt: skip
"""Keys of a model's provenance -> names in the card, where they differ."""

METRIC_TYPES = {
    "f1": "f1", "macro_f1": "f1", "matthews": "matthews_correlation", "pearson": "pearsonr", "spearman": "spearmanr",
}  # fmt: skip
"""Metric names of gpt1 -> names on the hub, where they differ."""
PLAIN = re.compile(r"[a-z][a-z0-9_/-]*")
YAML_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
"""Words that YAML does not parse as strings."""
NO_METRICS = {"loss", "examples", "truncated", "tokens", "bytes"}


@dataclass(frozen=True)
class Results:
    """Scores of a finished run, with its data and base model."""

    scores: Mapping[str, Any]
    """Content of `metrics.json`."""
    data: str
    """Name of the data set."""
    dataset: str | None = None
    """Repository of the data set on the hub."""
    base_model: str | None = None
    """Repository of the base model on the hub."""

    @property
    def split(self) -> str:
        """Split of the reported scores: test, or valid if there is no test split."""
        return str(self.scores.get("baseline_split", "valid"))

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of that split by name."""
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
    """Return the model card as Markdown with YAML metadata.

    Args:
        config: Configuration of the model.
        pretokenizer: Name of the pre-tokenizer.
        labels: Label names in the order of their ids.
        max_length: Maximum length of an input in tokens.
        provenance: Origin of the weights.
        differences: Descriptions of differences between `transformers` and gpt1.
        library: Library that loads the weights: transformers, mindspore or onnx.
        results: Scores of the run, if it is finished.
    """
    head, onnx = config.head, library == "onnx"
    task = _task(head)
    details = {
        "Task": task,
        "Labels": ", ".join(labels),
        "Architecture": f"{config.n_layer} layers, width {config.n_embd}, {config.n_head} heads, "
        f"context {config.n_ctx}, vocabulary {config.vocab_size:,}",
        "Parameters": f"{count(config) / 1e6:.1f} M",
        "Maximum input length": f"{max_length} tokens",
        "Pre-tokenizer": pretokenizer,
    }
    training = {PROVENANCE.get(key, key): value for key, value in provenance.items() if value is not None}
    sections = [
        "\n".join(["---", *_yaml(_metadata(library, head, results)), "---"]),
        f"# GPT-1 for {task}",
        f"A GPT-1 model (Radford et al. 2018) for {task}, created with gpt1.",
        f"## Model details\n\n{_list(details)}",
        f"## Usage\n\n{_usage_onnx(config, labels) if onnx else _usage(head)}",
        _transformers(head, differences, exact=not onnx),
        *([f"## Training\n\n{_list(training)}"] if training else ()),
        *([_table(results)] if results else ()),
        _limitations(head, max_length),
    ]
    return "\n\n".join(sections) + "\n"


def _task(head: Head | None) -> str:
    if head is None:
        return "language modelling"
    return f"{head.task} (regression)" if head.regression else head.task


def _list(values: Mapping[str, Any]) -> str:
    entries = ((name[:1].upper() + name[1:], value) for name, value in values.items() if value != "")
    return "\n".join(f"- {name}: {_formatted(value)}" for name, value in entries)


def _usage(head: Head | None) -> str:
    if head is None:
        commands, call = 'gpt1 generate DIR "a prompt"\ngpt1 score DIR "a text"', 'generate("a prompt")'
    else:
        arguments, values = EXAMPLES.get(head.task, ('"a text" …', ""))
        commands, call = f"gpt1 predict DIR {arguments}", f"predict({values})" if values else ""
    usage = USAGE.format(commands=commands)
    return f"{usage}\n\n{USAGE_PYTHON.format(call=call)}" if call else usage


def _usage_onnx(config: ModelConfig, labels: Sequence[str]) -> str:
    example, logits = ONNX_ROWS.get(config.head.task if config.head else None, ONNX_ROWS["classification"])
    segments = SEGMENTS.format(config.vocab_size) if config.n_segments else ""
    return USAGE_ONNX.format(example=example, logits=logits, answer=_onnx_answer(labels), segments=segments)


def _transformers(head: Head | None, differences: Sequence[str], *, exact: bool) -> str:
    """Return the section about `transformers`; `exact` is whether gpt1 loads the directory."""
    task = head.task if head else None
    title = "## Usage with transformers\n\n"
    if differences:
        listed = "\n".join(f"- {difference}" for difference in differences)
        text = f"{title}Results of `transformers` differ from those of gpt1:\n\n{listed}"
        return f"{text}\n\nThe results of gpt1 are the reference." if exact else text
    text = f"{title}`transformers` loads this directory and computes the same results from raw text."
    if task in PIPELINE_EXAMPLES:
        return f"{text}\n\n{USAGE_TRANSFORMERS.format(example=PIPELINE_EXAMPLES[task])}"
    return f"{text} {TRANSFORMERS[task]}" if task in TRANSFORMERS else text


def _limitations(head: Head | None, max_length: int) -> str:
    text = (
        f"Inputs of more than {max_length} tokens are truncated. Evaluate the model on your own data before you use it."
        if head
        else "The model continues texts: it does not follow instructions, and its statements of fact are unreliable."
    )
    return f"## Limitations\n\n{text}"


def _onnx_answer(labels: Sequence[str]) -> str:
    names = json.dumps(list(labels), ensure_ascii=False)
    return f"names = {names}\nprint([names[best] for best in logits.argmax(axis=1)])" if labels else "print(logits)"


def _is_number(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _metadata(library: str, head: Head | None, results: Results | None) -> dict[str, Any]:
    """Return the metadata of the card; results are in the format of the hub's `model-index`."""
    tag = "text-classification" if head else "text-generation"
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
    measured = {"task": {"type": tag, "name": _task(head)}, "dataset": dataset, "metrics": metrics}
    return metadata | {"model-index": [{"name": f"GPT-1 for {_task(head)}", "results": [measured]}]}


def _yaml(value: Any, indent: str = "") -> Iterator[str]:
    """Yield the lines of a value as YAML, with mappings and lists in block style."""
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
    """Return a value as JSON, which is valid YAML, or a plain word without quotes."""
    plain = isinstance(value, str) and PLAIN.fullmatch(value) and value not in YAML_WORDS
    return str(value) if plain else json.dumps(value, ensure_ascii=False)


def _table(results: Results) -> str:
    """Return the table of scores and baselines, with 95 % intervals if available."""
    scored = results.scores[results.split]
    metrics = list(results.metrics)
    size = f"{scored['examples']:,} examples" if "examples" in scored else f"{scored['tokens']:,} tokens"
    rows = {"GPT-1": scored, **results.scores.get("baseline", {})}
    lines = [
        f"## Evaluation results\n\n{results.data}, {results.split} split, {size}"
        + (" (in brackets: 95 % bootstrap interval):\n" if scored.get("interval") else ":\n"),
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


def _formatted(value: Any) -> str:
    match value:
        case Mapping():
            named = {PROVENANCE.get(key, key): inner for key, inner in value.items() if inner is not None}
            return "; ".join(f"{name} {_formatted(inner)}" for name, inner in named.items())
        case list() | tuple():
            return " ".join(f"`{item}`" for item in value)
        case float():
            return f"{value:.4g}"
        case _:
            return str(value)
