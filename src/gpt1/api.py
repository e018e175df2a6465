"""One function per command, which returns the results that `--json` prints; notices go to the console."""

from __future__ import annotations

import importlib.util
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from gpt1 import backends, console
from gpt1.checkpoint.convert import convert
from gpt1.checkpoint.loading import open_tokenizer, resolve_model
from gpt1.checkpoint.model_dir import DETAILS
from gpt1.checkpoint.push import push
from gpt1.checkpoint.run_dir import RunDirectory, versions
from gpt1.config import (
    DETECTED,
    END_OF_DOCUMENT,
    Columns,
    DeviceConfig,
    GenerateConfig,
    ModelConfig,
    ServeConfig,
    TableFormat,
    TextColumns,
)
from gpt1.data.corpus.local_workers import LocalWorkers
from gpt1.data.corpus.prepare import prepare, sources
from gpt1.data.corpus.ray_workers import RayWorkers
from gpt1.data.corpus.texts import read_texts
from gpt1.data.example import Example
from gpt1.data.examples import Reader, stream_rows
from gpt1.data.paper_kinds import SINGLE
from gpt1.data.readers.table import require_table
from gpt1.errors import UserError
from gpt1.evaluation.evaluate import evaluate, evaluate_zero_shot
from gpt1.evaluation.report import write as write_report
from gpt1.inference import highlight
from gpt1.inference.batch_prediction import Predictor, faster_dtype, require_new, write_predictions
from gpt1.inference.classifier import Classifier
from gpt1.inference.explainer import MOST_TOKENS, Explainer, attention_weights, sequence_of
from gpt1.inference.explainer import attention as attention_of
from gpt1.inference.generator import TextDelta, TextGenerator
from gpt1.inference.scorer import NO_SCORE, Scorer
from gpt1.system.extras import install_command
from gpt1.system.files import require_page, write_text
from gpt1.tasks.unknown_text import require_known
from gpt1.tokenization.trainer import train
from gpt1.training.check import check
from gpt1.training.finetune import finetune
from gpt1.training.pretrain import pretrain
from gpt1.training.reproduce import reproduce
from gpt1.training.seeds import finetune_seeds
from gpt1.training.sweep import sweep

EXAMPLES_AT_ONCE = 2_048
"""Number of rows of `--input` that are read and scored at once."""

__all__ = [
    "check", "convert", "decode", "doctor", "encode", "evaluate", "evaluate_zero_shot", "explain_texts", "finetune",
    "finetune_seeds", "generate", "next_tokens", "predict_file", "predict_texts", "prepare_corpus", "pretrain", "push",
    "report", "reproduce", "score_file", "score_texts", "serve", "sweep", "train_tokenizer",
]  # fmt: skip


def predict_texts(
    name: str | Path, texts: Sequence[str], *, hardware: DeviceConfig | None = None
) -> list[dict[str, Any]]:
    """Predict the labels of texts from the command line; `gpt1.predict` is the function for Python.

    Each text is one example; for a model of text pairs, every two texts; for multiple choice, all texts are the context
    and the choices of one question. The dtype is float32 unless `hardware` sets it.

    Raises:
        UserError: the model does not exist or has no head, the texts do not form examples of its task, or its
            vocabulary knows nothing of a text.
    """
    if not texts:
        raise UserError('nothing to predict: give texts, as in gpt1 predict RUN "a text", or --input FILE')
    model = Classifier.open(name, hardware)
    examples = model.examples(texts)
    require_known(examples, model.encode(examples))
    return model.predict(examples)


def explain_texts(
    name: str | Path, texts: Sequence[str], *, label: str | None = None, occlusion: bool = False,
    attention: str | None = None, html: Path | None = None, hardware: DeviceConfig | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the weight of each word for the label of each example (`explainer.Explainer.explain`).

    Texts form examples as in `predict_texts`. `attention`, given as "LAYER" or "LAYER.HEAD", adds {"attention": …}
    (`explainer.attention`) for the sequence of the explained label; `html` is the path of a page to write. The dtype is
    float32 unless `hardware` sets it.

    Raises:
        UserError: the model does not exist or has no head; the label, layer or head does not exist; the texts do not
            form examples of its task; or the page cannot be written.
    """
    if not texts:
        raise UserError('nothing to explain: give a text, as in gpt1 explain RUN "a text"')
    if html is not None:
        require_page(html, "--html")
    model = Classifier.open(name, hardware)
    layer, head = _layer_and_head(attention, model.model.config)
    examples = model.examples(texts)
    require_known(examples, model.encode(examples))
    results = Explainer(model).explain_all(examples, [label] * len(examples), occlusion=occlusion)
    indices = [model.head.pooling.sequence_of(result["explained"]) for result in results]
    sequences = [sequence_of(model, *each) for each in zip(examples, indices, strict=True)]
    if html is not None:
        tokens = [model.model.tokenizer.tokens(ids[:MOST_TOKENS]) for ids, _ in sequences]
        weights = [attention_weights(model.engine, *sequence) for sequence in sequences]
        looks = list(zip(tokens, weights, strict=True))
        write_text(html, highlight.page(f"{Path(name).name}: words that the prediction depends on", results, looks))
        console.say(f"Page: {html}")
    if layer is not None:
        for result, (ids, segments) in zip(results, sequences, strict=True):
            result["attention"] = attention_of(model.engine, model.model.tokenizer, ids, layer, segments)
            if head is not None:
                result["attention"] |= {"head": head, "heads": [result["attention"]["heads"][head]]}
    return results


def _layer_and_head(flag: str | None, config: ModelConfig) -> tuple[int | None, int | None]:
    """Return the layer and head that --attention names: (None, None), (layer, None) or (layer, head)."""
    if flag is None:
        return None, None
    layer, _, head = flag.partition(".")
    numbers = [int(number) if number.isdecimal() else -1 for number in (layer, head or "0")]
    if not (0 <= numbers[0] < config.n_layer and 0 <= numbers[1] < config.n_head):
        raise UserError(
            f"--attention {flag}: expected LAYER or LAYER.HEAD, with layers 0 to {config.n_layer - 1} and heads 0 to "
            f"{config.n_head - 1}"
        )
    return numbers[0], numbers[1] if head else None


def predict_file(
    name: str | Path, source: Path, output: Path | None, *, columns: TextColumns | None = None,
    table: TableFormat = DETECTED, hardware: DeviceConfig | None = None, with_input: bool = False,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Predict the labels of the rows of a .csv, .tsv, .jsonl or .parquet file, in order and in constant memory.

    Yields one prediction per row, or writes the predictions to `output` (.jsonl, .csv, .tsv, .parquet) and yields none;
    an interrupted call with `output` is resumed by the same call (`batch_prediction`). `with_input` adds the row's
    columns to its prediction. The dtype is float32 unless `hardware` sets it.
    """
    if output is not None:
        require_new(output, source)
    require_table(source)
    model = Classifier.open(name, hardware)
    remembered = RunDirectory(resolve_model(name)).columns()
    predictor = Predictor(model, source, Columns.of(columns), table, remembered=remembered, with_input=with_input)
    engine = predictor.model.engine
    console.say(
        f"{source.name}: {engine.device}, {engine.dtype}{faster_dtype(hardware or DeviceConfig(), engine.device)}"
    )
    if output is None:
        yield from predictor.stream()
    else:
        rows = write_predictions(predictor, output)
        predicted = rows - predictor.without_prediction
        if predicted == rows:
            console.say(f"{console.counted(rows, 'prediction')} in {output}")
        else:
            console.say(f"{console.counted(rows, 'row')} in {output}, {predicted:,} with a prediction")


def score_texts(
    name: str | Path, texts: Sequence[str], *, hardware: DeviceConfig | None = None
) -> list[dict[str, Any]]:
    """Return {text, ids, tokens, logprobs, perplexity, bits_per_byte, unknown_share} of each text (`scorer.Scorer`)."""
    if not texts:
        raise UserError('nothing to score: give texts, as in gpt1 score MODEL "a text", or --input FILE')
    if any(not text.strip() for text in texts):
        raise UserError("an empty text was given; there is nothing to score")
    return Scorer.open(name, hardware).score(texts)


def score_file(
    name: str | Path, source: Path, *, columns: TextColumns | None = None, table: TableFormat = DETECTED,
    hardware: DeviceConfig | None = None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Yield the scores of the texts of a table in order, in the form of `score_texts`, with an "error".

    A row that cannot be used has no scores and its reason as the error, unless `table.on_bad_row` is set.
    """
    require_table(source)
    scorer = Scorer.open(name, hardware)
    reader = Reader(Columns.of(columns), SINGLE, table)
    rows = stream_rows(reader, source)
    while chunk := list(islice(rows, EXAMPLES_AT_ONCE)):
        reader.require_usable(answered=True)
        scores = iter(scorer.score([example.parts[0] for _, example in chunk if isinstance(example, Example)]))
        for row, example in chunk:
            if isinstance(example, Example):
                yield next(scores) | {"error": None}
            else:
                yield NO_SCORE | {"error": example.reason(row.where)}
    reader.require_usable(answered=True)
    for note in reader.answered_notes("have no score"):
        console.say(note)


def generate(
    name: str | Path, prompt: str, config: GenerateConfig, *, hardware: DeviceConfig | None = None,
    on_text: Callable[[TextDelta], None] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return {prompt, text, finish_reason, tokens} of each sample (`TextGenerator.generate`) and print the speed.

    `on_text` is called with each part of a text as it is generated. The dtype is float32 unless `hardware` sets it; in
    float32 a sample does not depend on the number of samples.
    """
    generator = TextGenerator.open(name, hardware)
    started = time.perf_counter()
    samples = generator.generate([prompt], config, on_text)
    seconds = time.perf_counter() - started
    count = sum(len(sample["tokens"]) for sample in samples)
    console.say(
        f"{count:,} tokens in {seconds:.1f} s, prompt included: {count / seconds:,.0f} tokens/s; "
        f"{generator.engine.device}, {generator.engine.dtype}"
    )
    return samples


def next_tokens(
    name: str | Path, prompt: str, top: int = 10, *, hardware: DeviceConfig | None = None
) -> dict[str, Any]:
    """Return {tokens: [{token, id, probability}]}: the `top` most likely tokens after `prompt`, most likely first."""
    return {"tokens": TextGenerator.open(name, hardware).next(prompt, top)}


def serve(name: str | Path, config: ServeConfig, *, hardware: DeviceConfig | None = None) -> None:
    """Serve a model over HTTP until the process is stopped; the dtype is float32 unless `hardware` sets it."""
    missing = [name for name in ("fastapi", "uvicorn", "prometheus_client") if not importlib.util.find_spec(name)]
    if missing:
        raise UserError(f"{missing[0]} is not installed; run: {install_command('serve')}")
    from gpt1.serve import server

    server.serve(name, config, hardware)


def train_tokenizer(
    inputs: Sequence[Path], vocab_size: int, out: Path, *, columns: TextColumns | None = None,
    table: TableFormat = DETECTED, end_of_document: str = END_OF_DOCUMENT, byte_fallback: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Train a tokenizer on text files, folders of text files, or the texts of tables, and write it to `out`.

    With `byte_fallback` the vocabulary has a token for each byte, so that no text contains unknown tokens.

    Returns:
        {out, vocab_size}. The vocabulary is smaller than requested if the text does not support it.
    """
    if not inputs:
        raise UserError(
            "--input is missing: text files (.txt, also .gz .xz .zst), folders of them, or tables "
            "(.csv .tsv .jsonl .parquet)"
        )
    if (out / DETAILS).exists():
        raise UserError(f"--out {out}: holds a model, which needs its tokenizer; choose another directory")
    if (out / "tokenizer.json").exists():
        raise UserError(f"--out {out}: holds a tokenizer, which prepared corpora may need; choose a new directory")
    files = [file for path in inputs for file in (sources((path,), "--input").values() if path.is_dir() else [path])]
    texts = console.reading(read_texts(files, Columns.of(columns), end_of_document, table=table))
    tokenizer = train(texts, vocab_size, byte_fallback=byte_fallback)
    if tokenizer.vocab_size < vocab_size:
        console.say(f"The text supports {tokenizer.vocab_size:,} tokens, not {vocab_size:,}.")
    tokenizer.save(out)
    console.say(f"{tokenizer.vocab_size:,} tokens in {out}")
    return {"out": str(out), "vocab_size": tokenizer.vocab_size}


def prepare_corpus(
    corpus: Sequence[Path],
    tokenizer: str | Path,
    out: Path,
    *,
    end_of_document: str,
    encoding: str | None = None,
    processes: int | None = None,
    ray: str | None = None,
) -> dict[str, Any]:
    """Encode text files into shards in `out`, with local processes or on the Ray cluster at `ray`.

    Returns:
        {out, tokens, bytes, documents, shards}.
    """
    TableFormat(encoding=encoding)  # validates the name
    texts = sources(corpus)
    workers = RayWorkers(ray, processes) if ray is not None else LocalWorkers(processes)
    vocabulary = open_tokenizer(tokenizer, flag="--tokenizer")
    prepared = prepare(texts, vocabulary, out, end_of_document=end_of_document, encoding=encoding, workers=workers)
    sizes = {key: prepared.manifest[key] for key in ("tokens", "bytes", "documents")}
    console.say(
        f"{console.counted(len(texts), 'file')}, {console.counted(sizes['documents'], 'document')}, "
        f"{sizes['bytes'] / 1e6:,.1f} MB: {sizes['tokens']:,} tokens in {out}"
    )
    return {"out": str(out), **sizes, "shards": len(prepared.manifest["shards"])}


def encode(name: str | Path, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Return {ids, tokens} of each text, without special tokens."""
    if not texts:
        raise UserError('nothing to encode: give texts, as in gpt1 tokenizer encode MODEL "a text"')
    tokenizer = open_tokenizer(name)
    return [{"ids": ids, "tokens": tokenizer.tokens(ids)} for ids in tokenizer.encode_batch(texts)]


def decode(name: str | Path, ids: Sequence[int]) -> dict[str, Any]:
    """Return {text}, the text of token ids."""
    if not ids:
        raise UserError("nothing to decode: give token ids, as in gpt1 tokenizer decode MODEL 17 42")
    return {"text": open_tokenizer(name).decode(ids)}


def report(runs: Sequence[Path | str], out: Path | str | None = None) -> dict[str, Any]:
    """Write the report of a run, or the comparison of several, as one HTML file; return {"report": its path}.

    `report(["runs/demo"])` writes `runs/demo/report.html`, a comparison `comparison.html` in the working directory,
    unless `out` sets the path.

    Raises:
        UserError: a directory is not a run, or `out` cannot be written.
    """
    written = write_report([Path(run) for run in runs], None if out is None else Path(out))
    console.say(f"Report: {written}")
    return {"report": str(written)}


def doctor() -> dict[str, Any]:
    """Return and print installed versions, usable devices and dtypes, and the measured speed of matrix products."""
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions(),
    }
    facts["backends"] = {}
    unusable = []
    for name in backends.installed():
        try:
            backends.require(name, name)
            facts["backends"][name] = backends.describe(name)
        except UserError as error:
            unusable.append(str(error))
    console.say(f"Python {facts['python']} on {facts['platform']}")
    console.table(["package", "version"], [row for row in versions().items() if row[0] != "python"])
    for name, traits in facts["backends"].items():
        heading = f"\n{name} {traits['version']}"
        if traits["unavailable"]:
            heading += f"; not found: {', '.join(traits['unavailable'])}"
        if "cpu_instructions" in traits:
            heading += f"; CPU instructions: {', '.join(traits['cpu_instructions'])}"
        console.say(heading)
        dtypes = list(dict.fromkeys(dtype for device in traits["devices"] for dtype in device["gflops"]))
        rows = [
            [device["name"], device["auto_dtype"], *(_speed(device["gflops"].get(dtype)) for dtype in dtypes)]
            for device in traits["devices"]
        ]
        console.table(["device", "--dtype auto in training", *(f"{dtype} GFLOP/s" for dtype in dtypes)], rows)
    for reason in unusable:
        console.say(f"\n{reason}")
    if not facts["backends"] and not unusable:
        console.say(f"No framework is installed; run: {install_command('torch')} (or: {install_command('mindspore')})")
    return facts


def _speed(gflops: int | None) -> str:
    """Return a speed for the table; a dash for a dtype that the device lacks."""
    return "–" if gflops is None else f"{gflops:,}"
