"""Evaluation of a model on labelled rows, with its task head or zero-shot: `gpt1 evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt1 import console
from gpt1.checkpoint.loading import open_model, resolve_model
from gpt1.checkpoint.run_dir import RunDirectory
from gpt1.config import DETECTED, Columns, DataConfig, DeviceConfig, FinetuneConfig, TableFormat, ZeroShotConfig
from gpt1.data.batching import EncodedExamples
from gpt1.data.duplicates import keys
from gpt1.data.example import Example
from gpt1.data.python_tables import as_path, is_path
from gpt1.errors import UserError
from gpt1.evaluation import verdict
from gpt1.evaluation.results import Results
from gpt1.evaluation.scoring import baselines, majority, score_split, show_scores
from gpt1.evaluation.zero_shot import HEURISTICS, ZeroShot, find_heuristic, find_labels
from gpt1.inference.classifier import Classifier
from gpt1.inference.explainer import Explainer, explain_mistakes
from gpt1.tasks.dataset import TaskData, limited, load_data, load_evaluation_data
from gpt1.tasks.metrics import Metric, own_metric


def evaluate(
    model: Path | str, data: Any, labels: Any = None, *, split: str = "test", columns: Columns | None = None,
    hardware: DeviceConfig | None = None, max_examples: int | None = None, metric: str | Metric | None = None,
    baseline: bool = True, compare: Sequence[Path | str] = (), table: TableFormat = DETECTED,
) -> Results:  # fmt: skip
    """Score a fine-tuned model on one split of a data set; see `from_python.evaluate`.

    Raises:
        UserError: the model has no task head, the data is missing, or a row is invalid.
    """
    path = resolve_model(model)
    trained_on = _run_settings(path)
    classifier = Classifier.open(path, hardware, shown=str(model), zero_shot=True)
    others = {str(other): _of_the_same_kind(other, str(model), classifier, hardware) for other in compare}
    kind = classifier.task.input_kind
    run = RunDirectory(path)
    recorded = run.load_rows()
    with as_path(data, labels, [kind]) as source:
        rows = load_evaluation_data(
            trained_on, source, split, columns or Columns(), kind, table, run.columns(), classifier.labels.names,
            recorded,
        )  # fmt: skip
        examples = _at_most(max_examples, rows.read(split))
    extra = own_metric(metric)
    encoded = classifier.encode(examples, labelled=True)
    if encoded.truncated:
        console.say(
            f"{split}: {encoded.truncated:,} of {len(encoded):,} examples were truncated to {classifier.limit}."
        )
    console.say(f"{len(encoded):,} examples; {classifier.engine.device}, {classifier.engine.dtype}")
    scored = _scores(str(model), classifier, recorded, examples, encoded, extra, split)
    _log_mistakes(run, source if is_path(data) else "data in memory", split, scored["mistakes"])
    fitted = {}
    if baseline and trained_on:
        fitted = _fit_baselines(trained_on, classifier, examples, encoded, extra, recorded, rows.of_run)
    results: dict[str, Any] = {split: scored, "baseline": fitted, "baseline_split": split}
    size = verdict.size_of_run(run.log.path)
    results["verdict"] = verdict.of_run(results, trained_on, *size) if trained_on else verdict.finding(results)
    if others:
        results["compare"] = {
            name: _scores(
                name, other, RunDirectory(resolve_model(name)).load_rows(), examples,
                other.encode(examples, labelled=True), extra, name,
            )
            for name, other in others.items()
        }  # fmt: skip
    show_scores(results, str(model) if others else "GPT-1")
    return Results(results, path)


def _scores(
    name: str, classifier: Classifier, recorded: Mapping[str, Sequence[bytes]] | None, examples: list[Example],
    encoded: EncodedExamples, extra: dict[str, Metric], label: str,
) -> dict[str, Any]:  # fmt: skip
    """Return the scores of the model `name`, whose run has `recorded` its rows; `label` is that of the progress bar."""
    logits = classifier.logits(encoded, label=f"scoring {label}")
    scored = score_split(logits, encoded, examples, classifier.head, classifier.labels, extra)
    scored["trained_on"] = _n_trained_on(name, recorded, examples)
    explain_mistakes(Explainer(classifier), scored["mistakes"])
    return scored


def _n_trained_on(
    model: str, recorded: Mapping[str, Sequence[bytes]] | None, examples: Sequence[Example]
) -> int | None:
    """Return how many of the examples the run `model` was trained on, and print it; None if it is unknown."""
    if recorded is None:
        console.say(f"{model} has no record of its training examples; it may have been trained on some of these.")
        return None
    train = set(recorded["train"])
    count = sum(key in train for key in keys(examples))
    caution = ", so the scores are not those on new texts" if count else ""
    console.say(f"{model} was trained on {count:,} of these examples{caution}.")
    return count


def _log_mistakes(run: RunDirectory, data: str, split: str, mistakes: Sequence[dict[str, Any]]) -> None:
    """Append the mistakes, with the weights of their words, to the log of a run."""
    if not run.log.path.exists():
        return
    try:
        run.log.write("mistakes", {"data": data, "split": split, "mistakes": mistakes})
    except OSError as error:  # the run may belong to another user
        console.say(f"{run.log.path}: {error.strerror}; the mistakes were not added to the run's log")


def _of_the_same_kind(
    other: Path | str, name: str, classifier: Classifier, hardware: DeviceConfig | None
) -> Classifier:  # fmt: skip
    """Load a model given by --compare.

    Raises:
        UserError: its task or labels differ from those of the model `name`.
    """
    compared = Classifier.open(other, hardware, flag="--compare")
    if (compared.task, compared.labels) != (classifier.task, classifier.labels):
        expected, found = (
            f"{each.task.name} ({', '.join(each.labels.names) or 'no label names'})" for each in (classifier, compared)
        )
        raise UserError(f"--compare {other}: {found} found, {expected} as in {name} expected")
    return compared


def evaluate_zero_shot(
    model: Path | str, data: str, how: ZeroShotConfig, *, split: str = "test", columns: Columns | None = None,
    hardware: DeviceConfig | None = None, max_examples: int | None = None, metric: str | None = None,
    baseline: bool = True, table: TableFormat = DETECTED,
) -> dict[str, Any]:  # fmt: skip
    """Score a language model zero-shot, without fine-tuning (see `zero_shot`).

    Returns the same form as `evaluate`; the only baseline is the majority class. The dtype is float32 unless `hardware`
    sets one.
    """
    kind = HEURISTICS[how.heuristic].input_kind if how.heuristic else None
    path = resolve_model(model)
    recorded = RunDirectory(path).load_rows()
    rows = load_evaluation_data(_run_settings(path), data, split, columns or Columns(), kind, table, recorded=recorded)
    examples = rows.read(split)
    heuristic = find_heuristic(how, data, examples)
    labels = find_labels(how, heuristic, examples, rows.label_names)
    extra = own_metric(metric)
    examples = _at_most(max_examples, examples)
    judge = ZeroShot(open_model(path), how, hardware)
    console.say(f"{len(examples):,} examples; zero-shot {heuristic}; {judge.engine.device}, {judge.engine.dtype}")
    judged = judge.judge(heuristic, examples, labels, rows.readers.get("train"))
    constant = majority(judged.encoded, judged.head, extra) if baseline else {}
    results: dict[str, Any] = {split: judged.scores(examples, extra), "baseline": constant, "baseline_split": split}
    results["verdict"] = verdict.finding(results)
    show_scores(results)
    return results


def _at_most(max_examples: int | None, examples: list[Example]) -> list[Example]:
    if max_examples is None:
        return examples
    DataConfig(max_examples=max_examples)  # validates the value
    return limited(examples, max_examples, seed=0)


def _run_settings(path: Path) -> FinetuneConfig | None:
    """Return the settings of the run in `path`; `None` for a bare model directory."""
    run = RunDirectory(path)
    settings = run.settings() if run.started else {}
    return FinetuneConfig.from_dict(settings["config"]) if settings.get("command") == "finetune" else None


def _fit_baselines(
    trained_on: FinetuneConfig,
    model: Classifier,
    examples: list[Example],
    encoded: EncodedExamples,
    extra: dict[str, Metric],
    recorded: Mapping[str, Sequence[bytes]] | None,
    data: TaskData | None,
) -> dict[str, Any]:
    """Return the scores of the baselines, fitted on the run's training rows; `data` is that of the run, if loaded."""
    try:
        train = data or load_data(trained_on)
        labels = model.labels.ids(train.splits["train"])
    except UserError as error:
        console.say(f"Baselines skipped: the run's training data cannot be read ({error}).")
        return {}
    if recorded is not None and recorded["train"] != train.duplicates.keys["train"]:
        console.say("Baselines skipped: the run's training data has changed since.")
        return {}
    return baselines(
        model.task, train.splits["train"], labels, examples, encoded, model.head, extra, trained_on.loop.seed
    )
