"""Fine-tuning: load the data, train, select the best model, score it and write the report (`gpt1 finetune`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt1 import backends, console
from gpt1.backends.base import Engine
from gpt1.backends.dist import Ranks, rank_zero_first, require_work
from gpt1.backends.parameters import count
from gpt1.checkpoint import event_log, hub
from gpt1.checkpoint.event_log import Event
from gpt1.checkpoint.loading import random_shape
from gpt1.checkpoint.model_card import Results
from gpt1.checkpoint.model_dir import Model, add_results, huggingface_differences, save_model
from gpt1.checkpoint.run_dir import ADAPTED, RunDirectory
from gpt1.checkpoint.train_state import Progress
from gpt1.config import FinetuneConfig, ModelConfig
from gpt1.data.batching import Collator, EncodedExamples
from gpt1.errors import UserError
from gpt1.evaluation import report, verdict
from gpt1.evaluation.scoring import baselines, score_split, show_scores
from gpt1.inference.batched import task_logits
from gpt1.inference.classifier import Classifier
from gpt1.inference.explainer import Explainer, explain_mistakes
from gpt1.system.files import read_json, replace_directory, unused, write_json
from gpt1.tasks import Task
from gpt1.tasks.dataset import TaskData, load_data
from gpt1.tasks.metrics import Metric, compute, own_metric
from gpt1.tasks.unknown_text import check_texts
from gpt1.training.adaptation import Adaptation
from gpt1.training.defaults import with_split_version
from gpt1.training.overview import print_overview, print_paths
from gpt1.training.setup import FinetuneSetup, encode_splits, require_start, starting_model
from gpt1.training.signals import stop_at_once
from gpt1.training.trackers import attach_trackers


def finetune(
    config: FinetuneConfig, metric: Metric | None = None, files: hub.DatasetFiles | None = None, *,
    on_event: Callable[[Event], None] | None = None, score: bool = True, adapted: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Fine-tune a model, or resume the run in `config.out`; return the content of its `metrics.json`.

    `metric` is a custom metric (labels, predictions) -> value, larger is better; it is reported under its name and
    selects the best model. `files` overrides the files of the data set if its folder does not have the layout that
    `--data` expects; `config.data` is then only its name. `on_event` is called with each event written to the log.
    `adapted` is the folder of adapted models that several runs share (default: OUT/adapted; see `adaptation`).

    With `score=False` the run stops after training and returns {"best": best validation value, "best_step", "steps"};
    a later call with `score=True` completes it.

    `finetune(recipe("quickstart", data="reviews", out="runs/demo"))["test"]["accuracy"]` is the accuracy on the test
    split.

    Raises:
        UserError: the settings, the data or the model are invalid.
        Interrupted: stopped by the user after saving a checkpoint.
    """
    require_settings(config)
    config = with_split_version(config, config.out)
    require_work(config.loop.batch_size)
    with backends.init_distributed(config.hardware) as ranks, console.muted(ranks.rank > 0):
        run = RunDirectory(config.out, read_only=ranks.rank > 0)
        with closing(run), attach_trackers(config.tracking, run.log, run.path, config):
            if on_event:
                run.log.followers.append(on_event)
            return _finetune(config, run, ranks, metric, files, score, adapted or run.path / ADAPTED)


@dataclass(frozen=True)
class _Loaded:
    """Data and starting model of a run."""

    data: TaskData
    start: Model
    encoded: dict[str, EncodedExamples]
    extra_metrics: dict[str, Metric]
    adaptation: Adaptation | None
    facts: dict[str, Any]
    """Digests and labels with which a resumed run is compared."""


def _finetune(
    config: FinetuneConfig, run: RunDirectory, ranks: Ranks, metric: Metric | None, files: hub.DatasetFiles | None,
    score: bool, adapted: Path,
) -> dict[str, Any]:  # fmt: skip
    if not run.finished:
        backends.check(config.hardware)
    with rank_zero_first(ranks):
        run.require_seen()
        loaded = _load(config, run, ranks, metric, files, adapted)
        data, start, encoded, adaptation = loaded.data, loaded.start, loaded.encoded, loaded.adaptation
        if run.finished:
            run.open("finetune", config, loaded.facts, data.columns)
            return _finished(config, run, data.task)
        # before the run is opened, so that an unavailable device leaves no files
        training = FinetuneSetup(config, start, encoded, loaded.extra_metrics, ranks)
        run.open("finetune", config, loaded.facts, data.columns)
        run.hold()
        run.save_rows(data.duplicates.keys)
        if not run.tokenizer.exists():
            replace_directory(run.tokenizer, start.tokenizer.save)
    engine = training.engine
    adapted_results: dict[str, Any] | None = None
    if adaptation:
        start, adapted_results = adaptation.run()
        engine.load_parameters(start.params)
    print_overview(config, data, start, encoded, training, run)

    def save_best(progress: Progress) -> None:
        if not run.read_only:
            best = replace(start, params=engine.parameters(), provenance=_provenance(config, start, progress))
            save_model(run.model, best, config.dropout)

    progress = training.run(save_best, run.checkpoints, run.log)
    console.say(f"Best model: step {progress.best_step:,} ({training.criterion} {progress.best:.4f} on validation).")
    if not score:
        return {"best": progress.best, "best_step": progress.best_step, "steps": progress.step}
    ranks.total()  # barrier: rank 0 has written the best model
    with stop_at_once():
        best = run.load_model()
        scorer = _scoring_engine(config, engine, best)
        logits = _final_logits(encoded, scorer, training.collator, ranks)
        if run.read_only:
            ranks.total()  # barrier: rank 0 has written the scores
            return read_results(run)
        results = _final_scores(config, data, encoded, logits, scorer.config, loaded.extra_metrics, run)
        if adapted_results:
            results["adaptation"] = adapted_results
        split = results["baseline_split"]
        explain_mistakes(Explainer(Classifier(best, scorer)), results[split]["mistakes"])
        run.log.write("mistakes", {"split": split, "mistakes": results[split]["mistakes"]})
        report.draw_curves(event_log.read(run.log.path), run.curves)
        add_results(run.model, Results(results, hub.dataset_name(config.data), *_hub_repositories(config, files)))
        write_json(run.metrics_path, results)  # marks the run as finished
        ranks.total()
        report.write([run.path])
    show_scores(results)
    if differences := huggingface_differences(start):
        console.say(f"Differences when loaded with transformers: {'; '.join(differences)}.")
    print_paths(run, data.task)
    return results


def _load(
    config: FinetuneConfig, run: RunDirectory, ranks: Ranks, metric: Metric | None, files: hub.DatasetFiles | None,
    adapted: Path,
) -> _Loaded:  # fmt: skip
    extra_metrics = own_metric(config.metric if metric is None else metric)
    require_start(config, run)
    data = load_data(config, files)
    for note in data.notes:
        console.say(note)
    start = starting_model(config, data, run)
    encoded = encode_splits(config, data, start)
    unknown = check_texts(config, data.splits, encoded, resumed=run.tokenizer.exists())
    for note in unknown:
        console.say(note)
    data = replace(data, notes=(*data.notes, *unknown))
    valid = encoded["valid"]
    assert valid.labels is not None
    compute((), valid.labels, valid.labels, extra_metrics)  # a custom metric that fails must fail before training
    digests = {split: part.sha256() for split, part in encoded.items()}
    adaptation = Adaptation(config, data, start, adapted, ranks) if config.adaptation.adapt else None
    if adaptation:
        digests["--adapt"] = adaptation.texts.sha256
    facts = {"data_sha256": digests, "labels": list(data.labels.names)}
    return _Loaded(data, start, encoded, extra_metrics, adaptation, facts)


def _finished(config: FinetuneConfig, run: RunDirectory, task: Task) -> dict[str, Any]:
    console.say(f"{config.out} is already finished; results with recipe {config.recipe or 'none'}:")
    if not (run.read_only or run.report.exists()):
        report.write([run.path])
    results = read_results(run)
    show_scores(results)
    print_paths(run, task)
    return results


# ---- settings, provenance, messages


def require_settings(config: FinetuneConfig) -> None:
    """Raise UserError if `data` or `out` is missing."""
    if not config.data:
        raise UserError(
            "--data is missing: a folder, a table (.csv .json .jsonl .parquet .xlsx …) or a catalogue name such as imdb"
        )
    if config.out == Path():
        example = unused(Path("runs", "first")).as_posix()
        raise UserError(f"--out is missing: the directory of the run, for example --out {example}")


def _hub_repositories(config: FinetuneConfig, files: hub.DatasetFiles | None) -> tuple[str | None, str | None]:
    """Return the hub repositories of the data set and of the starting model; None for local ones."""
    return (
        None if files else hub.repository(config.data, "dataset"),
        None if random_shape(config.model, flag="--model") else hub.repository(config.model, "model"),
    )


def _provenance(config: FinetuneConfig, start: Model, progress: Progress) -> dict[str, Any]:
    return {
        "fine-tuned from": config.model,
        **({"before": start.provenance} if config.adaptation.adapt else {}),
        "data": hub.dataset_name(config.data),
        "recipe": config.recipe,
        "seed": config.loop.seed,
        "step": progress.best_step,
        "validation": progress.best,
    }


def _scoring_engine(config: FinetuneConfig, engine: Engine, best: Model) -> Engine:
    """Return an engine with the best weights for the final scores: float32 unless --dtype is set.

    float32 makes the scores equal to those of `gpt1 evaluate` and `gpt1 predict`. If training uses bfloat16 by default,
    scoring in float32 takes up to twice as long (docs/performance.md).
    """
    if engine.dtype == "float32" or config.hardware.dtype != "auto":
        engine.load_parameters(best.params)
        return engine
    return backends.for_answers(best.config, best.params, config.hardware)


def _final_logits(
    encoded: Mapping[str, EncodedExamples], engine: Engine, collator: Collator, ranks: Ranks
) -> dict[str, NDArray[np.float32]]:
    started = time.perf_counter()
    logits = {
        split: task_logits(engine, encoded[split], collator, label=f"scoring {split}", ranks=ranks)
        for split in ("valid", "test")
        if split in encoded
    }
    console.say(f"Scored in {time.perf_counter() - started:.1f} s.")
    return logits


def _final_scores(
    config: FinetuneConfig, data: TaskData, encoded: Mapping[str, EncodedExamples],
    logits: Mapping[str, NDArray[np.float32]], shape: ModelConfig, extra_metrics: dict[str, Metric], run: RunDirectory,
) -> dict[str, Any]:  # fmt: skip
    head = shape.head
    assert head is not None
    results: dict[str, Any] = {}
    for split, of_split in logits.items():
        results[split] = score_split(
            of_split, encoded[split], data.splits[split], head, data.labels, extra_metrics, seed=config.loop.seed
        ) | {"trained_on": data.duplicates.leaked[split]}
        run.log.write("score", {"split": split} | _numbers(results[split]))
    split = "test" if "test" in encoded else "valid"
    results["baseline"] = {}
    if config.baseline:
        labels = encoded["train"].labels
        assert labels is not None
        results["baseline"] = baselines(
            data.task, data.splits["train"], labels, data.splits[split], encoded[split], head, extra_metrics,
            config.loop.seed,
        )  # fmt: skip
    results["baseline_split"] = split
    size = count(shape), len(encoded["train"])
    results["notes"] = list(data.notes)
    return results | {"verdict": verdict.of_run(results, config, *size, seed=config.loop.seed)}


def _numbers(scored: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in scored.items() if isinstance(value, int | float)}


def read_results(run: RunDirectory) -> dict[str, Any]:
    """Return the content of a finished run's `metrics.json`."""
    return read_json(run.metrics_path)
