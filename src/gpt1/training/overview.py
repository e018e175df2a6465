"""Notices of a fine-tuning: what is trained, before the training, and what to do next, after it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from gpt1 import console
from gpt1.backends.parameters import count
from gpt1.checkpoint.model_dir import Model
from gpt1.checkpoint.run_dir import RunDirectory
from gpt1.config import FinetuneConfig
from gpt1.config.recipes import DEFAULT_FOR, recipe_for
from gpt1.data.batching import EncodedExamples
from gpt1.tasks import Labels, Task
from gpt1.tasks.data_facts import data_facts, file_facts
from gpt1.tasks.dataset import TaskData
from gpt1.training.setup import FinetuneSetup


def print_overview(
    config: FinetuneConfig, data: TaskData, start: Model, encoded: Mapping[str, EncodedExamples],
    training: FinetuneSetup, run: RunDirectory,
) -> None:  # fmt: skip
    """Print data, model, device and recipe; write them to the log of a new run."""
    engine = training.engine
    rows = ", ".join(f"{len(part):,} {name}" for name, part in encoded.items())
    shape = start.config
    console.say(f"{data.task.name} ({data.labels}): {rows} examples")
    if config.loop.drop_last and (dropped := len(encoded["train"]) % config.loop.batch_size):
        console.say(f"--drop-last: each epoch skips {dropped:,} training examples (different ones each time).")
    console.say(
        f"{config.model}: {count(shape) / 1e6:.1f} M parameters, {shape.n_layer} layers × {shape.n_embd}, "
        f"vocabulary {shape.vocab_size:,}; {f'{training.ranks.size} × ' if training.ranks.size > 1 else ''}"
        f"{engine.device}, {engine.dtype}"
    )
    if training.ranks.size > 1:
        console.say(f"Micro-batches of at most {training.batches.at_once} examples.")
    console.say(_recipe_line(config, count(shape), training))
    if not run.log.path.exists():
        files = file_facts(data.source.files, config.table) if data.source else []
        facts = {"files": files, **data_facts(data, encoded, start.max_length)}
        run.log.write("start", {"examples": {name: len(part) for name, part in encoded.items()},
                                "truncated": {name: part.truncated for name, part in encoded.items()},
                                "labels": {name: _label_counts(part, data.labels) for name, part in encoded.items()},
                                "parameters": count(shape), "device": engine.device, "dtype": engine.dtype,
                                "steps": training.steps, "notes": list(data.notes), "data": facts})  # fmt: skip


def _recipe_line(config: FinetuneConfig, parameters: int, training: FinetuneSetup) -> str:
    """Return the recipe, whether it is the default for the model, and the main settings, flags included."""
    optim, loop = config.optim, config.loop
    epochs = loop.epochs_of(training.batches.steps_per_epoch)
    name = config.recipe or "none"
    default = f" (the default for {DEFAULT_FOR[name]})" if name == recipe_for(parameters) else ""
    return (
        f"Recipe {name}{default}: --lr {optim.lr:g} --epochs {epochs:g} --batch-size {loop.batch_size} --warmup "
        f"{optim.warmup:g} --lm-coef {config.loss.lm_coef:g}"
    )


def print_paths(run: RunDirectory, task: Task) -> None:
    """Print where model, scores and report are, and the next command."""
    console.say(run.result_paths)
    console.say(f"Next: {shlex.join(['gpt1', 'predict', str(run.path)])} {task.input_kind.arguments}")


def _label_counts(part: EncodedExamples, labels: Labels) -> dict[str, int]:
    """Return {label name: number of examples}; empty if labels have no names."""
    assert part.labels is not None
    return labels.problem_type.label_counts(part.labels, labels.names)
