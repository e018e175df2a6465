"""Pretraining: encode the text, train, select the best model, score it and write the report (`gpt1 pretrain`)."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpt1 import backends, console
from gpt1.backends.base import Engine
from gpt1.backends.dist import Ranks, rank_zero_first, require_work
from gpt1.backends.parameters import HEAD, count, initialise
from gpt1.checkpoint import event_log, hub
from gpt1.checkpoint.loading import open_model, open_tokenizer
from gpt1.checkpoint.model_card import Results
from gpt1.checkpoint.model_dir import Model, add_results, save_model
from gpt1.checkpoint.run_dir import RunDirectory
from gpt1.checkpoint.train_state import Progress
from gpt1.config import SIZES, PretrainConfig
from gpt1.data.corpus.documents import documents
from gpt1.data.corpus.prepare import Corpus, is_of, is_prepared, prepare, sources
from gpt1.data.corpus.windows import ValidationWindows
from gpt1.errors import UserError
from gpt1.evaluation import report
from gpt1.inference.generator import SHORTEST_CONTEXT, TextGenerator
from gpt1.system.files import read_json, replace_directory, unused, write_json
from gpt1.tokenization.tokenizer import Tokenizer
from gpt1.tokenization.trainer import train as train_tokenizer
from gpt1.training.language_model import LanguageModelSetup
from gpt1.training.samples import Sample
from gpt1.training.trackers import attach_trackers

PROMPT_TOKENS = 8
"""Number of validation tokens in the default prompt of samples."""


def pretrain(config: PretrainConfig) -> dict[str, Any]:
    """Pretrain a model, or resume the run in `config.out`; return the content of its `metrics.json`.

    Raises:
        UserError: the settings, the text or the model are invalid.
        Interrupted: stopped by the user after saving a checkpoint.
    """
    _require(config)
    require_work(config.loop.batch_size)
    with backends.init_distributed(config.hardware) as ranks, console.muted(ranks.rank > 0):
        run = RunDirectory(config.out, read_only=ranks.rank > 0)
        with closing(run), attach_trackers(config.tracking, run.log, run.path, config):
            return _pretrain(config, run, ranks)


def _pretrain(config: PretrainConfig, run: RunDirectory, ranks: Ranks) -> dict[str, Any]:
    if run.finished:
        run.require_same("pretrain", config)
        _require_same_text(config, run)
        console.say(f"{config.out} is already finished; results:")
        if not (run.read_only or run.report.exists()):
            report.write([run.path])
        results = read_json(run.metrics_path)
        _show(results)
        _print_paths(run)
        return results
    backends.check(config.hardware)
    with rank_zero_first(ranks):
        run.require_seen()
        start = _starting_model(config, run)
        context = config.context or start.config.n_ctx
        if context > start.config.n_ctx:
            raise UserError(f"--context {context}: the model's context has {start.config.n_ctx} tokens")
        corpus = _load_corpus(config, config.corpus, "train", start.tokenizer, run)
        held_out = _load_corpus(config, config.valid, "valid", start.tokenizer, run) if config.valid else None
        # before the run is opened, so that an unavailable device leaves no files
        training = LanguageModelSetup(config, start, corpus, held_out, ranks)
        digests = {"train": corpus.sha256, "valid": held_out.sha256 if held_out else f"from token {training.n_train}"}
        run.open("pretrain", config, {"data_sha256": digests})
        run.hold()
        if not run.tokenizer.exists():
            replace_directory(run.tokenizer, start.tokenizer.save)
    engine = training.engine
    _print_overview(config, start, corpus, training, run)

    def save_best(progress: Progress) -> None:
        if run.read_only:
            return
        longest = max(training.valid.context, start.max_length)
        best = replace(
            start, params=engine.parameters(), max_length=longest, provenance=_provenance(config, start, progress)
        )
        save_model(run.model, best, config.dropout)

    sample = _sample(config, training.valid, start.tokenizer, engine) if ranks.rank == 0 else None

    def on_evaluate(progress: Progress) -> None:
        if sample:
            sample.show(progress.step, run.log)

    progress = training.run(save_best, run.checkpoints, run.log, on_evaluate)
    console.say(f"Best model: step {progress.best_step:,} (loss {progress.best:.4f} on validation).")
    ranks.total()  # barrier: rank 0 has written the best model
    engine.load_parameters(run.load_model().params)
    final = training.evaluate()
    results = {
        "valid": final | {"tokens": training.n_valid - 1, "bytes": training.n_valid_bytes},
        "training": {"steps": progress.step, "tokens": progress.tokens, "best_step": progress.best_step},
    }
    run.log.write("score", {"split": "valid", "step": progress.best_step, **results["valid"]})
    if not run.read_only:
        report.draw_curves(event_log.read(run.log.path), run.curves)
        base = hub.repository(config.model, "model") if config.model else None
        add_results(run.model, Results(results, ", ".join(path.name for path in config.corpus), base_model=base))
        write_json(run.metrics_path, results)  # marks the run as finished
        report.write([run.path])
    _show(results)
    _print_paths(run)
    return results


# ---- text corpora


def _load_corpus(
    config: PretrainConfig, paths: Sequence[Path], part: str, tokenizer: Tokenizer, run: RunDirectory
) -> Corpus:
    """Return the corpus of token ids: `paths` if already prepared, else encoded into the run's folder."""
    flag = "--corpus" if part == "train" else "--valid"
    if len(paths) == 1 and is_prepared(paths[0]):
        corpus = Corpus.open(paths[0], tokenizer)
    elif run.read_only:  # prepared by rank 0
        corpus = Corpus.open(run.corpus / part, tokenizer)
    else:
        texts = sources(paths, flag)
        corpus = prepare(
            texts, tokenizer, run.corpus / part, end_of_document=config.end_of_document, encoding=config.encoding
        )
    corpus.check()
    return corpus


def _require_same_text(config: PretrainConfig, run: RunDirectory) -> None:
    """Raise UserError if the text is not that of the finished run; without the run's tokens, print a notice."""
    recorded = run.settings()["facts"]["data_sha256"]
    for part, paths, flag in (("train", config.corpus, "--corpus"), ("valid", config.valid, "--valid")):
        if not paths:
            continue
        if len(paths) == 1 and is_prepared(paths[0]):
            same = Corpus.open(paths[0], open_tokenizer(run.tokenizer)).sha256 == recorded[part]
        elif is_prepared(run.corpus / part):
            same = is_of(run.corpus / part, sources(paths, flag))
        else:
            console.say(f"{run.corpus / part} is missing, so {flag} was not compared with the text of the run.")
            continue
        if not same:
            names = " ".join(map(str, paths))
            raise UserError(
                f"{flag} {names}: has changed since the finished run in --out {run.path}; choose a new directory"
            )


def _train_tokenizer(config: PretrainConfig, vocab_size: int) -> Tokenizer:
    files = sources(config.corpus)

    def texts() -> Iterator[str]:
        for path in files.values():
            for chunk in documents(path, config.end_of_document, config.encoding):
                yield chunk.text

    console.say(f"Training a tokenizer of {vocab_size:,} tokens on the corpus (--tokenizer DIR uses an existing one).")
    tokenizer = train_tokenizer(console.reading(texts()), vocab_size)
    if tokenizer.vocab_size < vocab_size:
        console.say(f"The text supports {tokenizer.vocab_size:,} tokens, not {vocab_size:,}.")
    return tokenizer


# ---- model


def _starting_model(config: PretrainConfig, run: RunDirectory) -> Model:
    if config.model:
        own = {"size": config.size, "tokenizer": config.tokenizer, "vocab-size": config.vocab_size}
        for flag, value in (own | {"init": None if config.init == "normal" else config.init}).items():
            if value is not None:
                raise UserError(f"--{flag} {value}: only for a new model; --model {config.model} has its own")
        loaded = open_model(config.model, flag="--model")
        body = {name: value for name, value in loaded.params.items() if not name.startswith(HEAD)}
        shape = replace(loaded.config, head=None)
        return Model(shape, body, loaded.tokenizer, (), loaded.max_length, loaded.provenance)
    size = SIZES[config.size or "gpt1"]
    if run.started:
        tokenizer = Tokenizer.load(run.tokenizer)
    elif config.tokenizer:
        if config.vocab_size:
            raise UserError(
                f"--vocab-size {config.vocab_size}: --tokenizer has its own vocabulary; use only one of the two flags"
            )
        tokenizer = open_tokenizer(config.tokenizer, flag="--tokenizer")
    elif len(config.corpus) == 1 and is_prepared(config.corpus[0]):
        raise UserError(
            f"--tokenizer is missing: {config.corpus[0]} holds token ids; name the tokenizer that encoded them"
        )
    else:
        tokenizer = _train_tokenizer(config, config.vocab_size or size.vocab_size)
    shape = replace(size, vocab_size=tokenizer.vocab_size)
    params = initialise(shape, config.loop.seed, init=config.init)
    return Model(shape, params, tokenizer, max_length=0)


# ---- samples, settings, messages


def _sample(
    config: PretrainConfig, valid: ValidationWindows, tokenizer: Tokenizer, engine: Engine
) -> Sample | None:  # fmt: skip
    if not config.sample_tokens or engine.config.n_ctx < SHORTEST_CONTEXT:
        return None
    prompt = config.sample_prompt
    if prompt is None:
        middle = (valid.start + valid.stop) // 2
        ids = valid.corpus.tokens(middle, min(middle + PROMPT_TOKENS, valid.stop))
        prompt = tokenizer.decode([int(i) for i in ids])
    return Sample(TextGenerator(tokenizer, engine), prompt, config.sample_tokens, config.loop.seed)


def _require(config: PretrainConfig) -> None:
    if not config.corpus:
        raise UserError("--corpus is missing: text files (.txt, also .gz .xz .zst), or folders of them")
    if config.out == Path():
        example = unused(Path("runs", "pretrained")).as_posix()
        raise UserError(f"--out is missing: the directory of the run, for example --out {example}")


def _provenance(config: PretrainConfig, start: Model, progress: Progress) -> dict[str, Any]:
    """Return the origin of the weights; the provenance of the starting model is kept under `before`."""
    return {
        "pretrained from": config.model or f"random:{config.size or 'gpt1'}",
        **({"before": start.provenance} if start.provenance else {}),
        "corpus": ", ".join(path.name for path in config.corpus),
        "recipe": config.recipe,
        "seed": config.loop.seed,
        "step": progress.best_step,
        "tokens": progress.tokens,
        "validation": progress.best,
    }


def _print_overview(
    config: PretrainConfig, start: Model, corpus: Corpus, training: LanguageModelSetup, run: RunDirectory
) -> None:
    shape, facts, engine, valid = start.config, corpus.manifest, training.engine, training.valid
    n_train, n_valid, steps, ranks = training.n_train, training.n_valid, training.steps, training.ranks
    console.say(
        f"{console.counted(facts['documents'], 'document')}, {facts['bytes'] / 1e6:,.1f} MB; "
        f"{n_train:,} tokens to train on, {n_valid:,} to validate"
    )
    console.say(
        f"{config.model or config.size or 'gpt1'}: {count(shape) / 1e6:.1f} M parameters, "
        f"{shape.n_layer} layers × {shape.n_embd}, vocabulary {shape.vocab_size:,}; "
        f"{f'{ranks.size} × ' if ranks.size > 1 else ''}{engine.device}, {engine.dtype}"
    )
    epochs = steps / training.windows.steps_per_epoch
    console.say(f"{steps:,} steps of {config.loop.batch_size} × {valid.context} tokens: {epochs:.2f} epochs")
    if config.optim.warmup >= steps:  # below 1 it is a share
        console.say(
            f"--warmup {config.optim.warmup:g}: not shorter than the training of {steps:,} steps, so the peak learning "
            "rate is never reached."
        )
    if valid.context < shape.n_ctx:
        console.say(f"--context {valid.context}: positions {valid.context} to {shape.n_ctx - 1} are not trained.")
    if not run.log.path.exists():
        run.log.write("start", {"tokens": {"train": n_train, "valid": n_valid}, "bytes": facts["bytes"],
                                "documents": facts["documents"], "parameters": count(shape), "device": engine.device,
                                "dtype": engine.dtype, "steps": steps})  # fmt: skip


def _print_paths(run: RunDirectory) -> None:
    """Print where model, scores and report are, and the next commands."""
    name = shlex.quote(str(run.path))
    console.say(run.result_paths)
    console.say(f"Next: gpt1 generate {name} PROMPT, or gpt1 finetune --model {name} --data FILE --out DIR")


def _show(results: dict[str, Any]) -> None:
    valid, training = results["valid"], results["training"]
    console.say(
        f"valid, {valid['tokens']:,} tokens: perplexity {valid['perplexity']:.2f}, "
        f"{valid['bits_per_byte']:.3f} bits per byte, after {training['tokens']:,} tokens"
    )
