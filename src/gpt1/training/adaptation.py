"""Adaptation: language-model training on a task's own texts before fine-tuning (`gpt1 finetune --adapt`).

Howard & Ruder 2018 (ULMFiT) and Gururangan et al. 2020 ("task-adaptive pretraining") describe the method. The adapted
model is stored in ROOT/KEY, an ordinary run whose KEY is a digest of everything that determines it. Runs with the same
training texts (several seeds, the trials of a sweep, repeated fits) therefore share one, and runs with other texts,
such as the folds of a cross-validation, never do.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gpt1 import console
from gpt1.backends.dist import Ranks, SingleProcess, rank_zero_first
from gpt1.backends.parameters import HEAD, Params, count, initialise
from gpt1.checkpoint import event_log
from gpt1.checkpoint.loading import random_shape
from gpt1.checkpoint.model_dir import Model, save_model
from gpt1.checkpoint.run_dir import LOCK, RunDirectory
from gpt1.checkpoint.train_state import Progress
from gpt1.config import END_OF_DOCUMENT, FinetuneConfig, LoopConfig, ModelConfig, OptimConfig, PretrainConfig
from gpt1.config.recipes import adaptation_rate
from gpt1.data.corpus.prepare import Corpus, prepare
from gpt1.data.corpus.shards import tokenizer_digest
from gpt1.data.corpus.texts import files_with_text, read_texts
from gpt1.data.example import folded_text
from gpt1.errors import UserError
from gpt1.system.files import exclusive_lock, read_json, replace_file, write_json
from gpt1.tasks.dataset import TaskData
from gpt1.training.language_model import LanguageModelSetup

HELD_OUT_SHARE, MOST_HELD_OUT = 0.02, 500
"""Share of the texts, and largest number of them, on which bits per byte are measured; they are not trained on."""

MOST_TOKENS, LEAST_STEPS, SHORTEST_WINDOW = 4_096, 200, 128
"""Tokens of a step; fewer if the texts would otherwise give less than so many steps, but at least one window."""

SAVE_EVERY = 200
"""Steps between checkpoints."""


EMBEDDING = "tokens_embed.weight"
"""Parameter whose last rows are the segment embeddings."""


class Adaptation:
    """Adaptation of a model that is ready to run; constructing it reads the texts and writes no files.

    Args:
        config: Settings of the fine-tuning; `config.adaptation.adapt` is set.
        data: Data of the fine-tuning.
        start: Model that the fine-tuning would start from.
        root: Folder of the adapted models; several runs may use it at once.
        ranks: Processes that share the work.

    Raises:
        UserError: a file of --unlabelled cannot be read, or too few texts are left.
    """

    def __init__(self, config: FinetuneConfig, data: TaskData, start: Model, root: Path, ranks: Ranks | None = None):
        assert config.adaptation.adapt is not None
        self.config, self.data, self.start, self.ranks = config, data, start, ranks or SingleProcess()
        shape = replace(start.config, head=None, n_segments=0)
        self.epochs = config.adaptation.adapt
        self.base = Model(shape, self._body(shape), start.tokenizer, (), start.max_length, start.provenance)
        self.texts = _Texts.of(config, data)
        self.key = self._digest()
        self.run_directory = RunDirectory(root / self.key[:12], read_only=self.ranks.rank > 0)

    def _body(self, shape: ModelConfig) -> Params:
        """Return the parameters of the base model, without head and segments, the same for every --seed."""
        if random_shape(self.config.model, flag="--model"):
            return initialise(shape, self.config.drawn_by)
        body = {name: value for name, value in self.start.params.items() if not name.startswith(HEAD)}
        return body | {EMBEDDING: body[EMBEDDING][: shape.vocab_size]}

    def _digest(self) -> str:
        digest = hashlib.sha256(self.texts.sha256.encode())
        rate = self.config.adaptation.adapt_lr or adaptation_rate(count(self.base.config))
        settings = (self.base.max_length, self.epochs, self.config.drawn_by, rate)
        digest.update(repr((tokenizer_digest(self.base.tokenizer), *settings)).encode())
        for name, value in sorted(self.base.params.items()):
            digest.update(name.encode())
            digest.update(value.tobytes())
        return digest.hexdigest()

    def run(self) -> tuple[Model, dict[str, Any]]:
        """Adapt the model, or resume, or load the adapted one; return the start of the fine-tuning, and the results.

        The results are {"epochs", "texts", "held_out", "left_out", "bytes", "tokens", "steps", "seconds",
        "bits_per_byte": {"before", "after"}}.

        Raises:
            UserError: the folder holds a model of another vocabulary, or the training fails.
            Interrupted: stopped by the user after saving a checkpoint.
        """
        run = self.run_directory
        with self._lock(run):
            (finished,) = self.ranks.total(not run.read_only and run.finished)  # as rank 0 finds it
            if finished:
                console.say(f"Adapted model: {run.path}, already trained on these texts")
            else:
                self._train(run)
            self.ranks.total()  # barrier: rank 0 has written the results
            for folder in () if run.read_only else (run.corpus, run.checkpoints.folder):
                shutil.rmtree(folder, ignore_errors=True)
        results = read_json(run.metrics_path)
        adapted = run.load_model()
        if tokenizer_digest(adapted.tokenizer) != tokenizer_digest(self.base.tokenizer):
            raise UserError(
                f"{run.path}: holds an adapted model of another vocabulary ({adapted.config.vocab_size:,} tokens, "
                f"{self.base.config.vocab_size:,} expected); delete this folder and run the same command again"
            )
        show_bits(results)
        segments = self.start.params[EMBEDDING][self.base.config.vocab_size :]
        params = self.start.params | adapted.params
        params[EMBEDDING] = np.concatenate([adapted.params[EMBEDDING], segments])
        return replace(self.start, params=params, provenance=adapted.provenance), results

    def _lock(self, run: RunDirectory) -> AbstractContextManager[None]:
        """Lock the folder on rank 0, for all."""
        if run.read_only:
            return nullcontext()
        run.path.mkdir(parents=True, exist_ok=True)
        return exclusive_lock(run.path / LOCK, f"{run.path}", wait=True)

    def _train(self, run: RunDirectory) -> None:
        with rank_zero_first(self.ranks):
            run.require_seen()
            train, held_out = self._corpus(run, "train"), self._corpus(run, "held-out")
            settings = self._settings(len(train))
            training = LanguageModelSetup(settings, self.base, train, held_out, self.ranks)
            run.open("adapt", settings, {"digest": self.key})
        self._print_overview(training)
        before = self._before(run, training)

        def save_best(progress: Progress) -> None:
            if run.read_only:
                return
            origin = {
                "adapted from": self.config.model,
                **({"before": self.start.provenance} if self.start.provenance else {}),
                "epochs": self.epochs, "texts": self.texts.n_train, "tokens": progress.tokens,
                "validation": progress.best,
            }  # fmt: skip
            save_model(run.model, replace(self.base, params=training.engine.parameters(), provenance=origin))

        progress = training.run(save_best, run.checkpoints, run.log)
        self.ranks.total()  # barrier: rank 0 has written the best model
        training.engine.load_parameters(run.load_model().params)
        after = training.evaluate()["bits_per_byte"]
        if run.read_only:
            return
        write_json(run.metrics_path, {
            "epochs": self.epochs, "texts": self.texts.n_train, "held_out": self.texts.n_held_out,
            "left_out": self.texts.n_left_out, "bytes": train.manifest["bytes"], "tokens": progress.tokens,
            "steps": progress.step, "seconds": progress.seconds, "bits_per_byte": {"before": before, "after": after},
        })  # fmt: skip

    def _settings(self, n_tokens: int) -> PretrainConfig:
        """Return the settings of the training on so many tokens: small steps of short windows on little text.

        The default learning rate falls with the square root of the tokens of a step (Malladi et al. 2022 for Adam).
        """
        at_once = min(max(SHORTEST_WINDOW, n_tokens * self.epochs / LEAST_STEPS), MOST_TOKENS)
        context = min(self.base.max_length, 2 ** int(math.log2(at_once)))
        batch_size = max(1, int(at_once / context))
        rate = adaptation_rate(count(self.base.config)) * math.sqrt(batch_size * context / MOST_TOKENS)
        return PretrainConfig(
            context=context,
            optim=OptimConfig(lr=self.config.adaptation.adapt_lr or rate, schedule="linear", warmup=0.1),
            loop=LoopConfig(
                epochs=self.epochs, batch_size=batch_size, seed=self.config.drawn_by, save_every=SAVE_EVERY
            ),
            hardware=self.config.hardware,
        )

    def _corpus(self, run: RunDirectory, part: str) -> Corpus:
        """Return the texts for training, or the held-out ones, as token ids, from files in the run's folder."""
        if run.read_only:  # prepared by rank 0
            return Corpus.open(run.corpus / part, self.base.tokenizer)
        file = run.corpus / f"{part}.txt"
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            replace_file(file, partial(self.texts.write, held_out=part != "train"))
        return prepare({part: file}, self.base.tokenizer, run.corpus / part, end_of_document=END_OF_DOCUMENT)

    def _before(self, run: RunDirectory, training: LanguageModelSetup) -> float:
        """Return the bits per byte of the base model, which the run's log keeps."""
        events = event_log.read(run.log.path) if run.log.path.exists() else []
        scored = next((event for event in events if event["event"] == "score"), None)
        (known,) = self.ranks.total(scored["bits_per_byte"] if scored and not run.read_only else 0.0)
        if known:
            return known
        found = training.evaluate()
        run.log.write("score", {"split": "valid", "step": 0, **found})
        return found["bits_per_byte"]

    def _print_overview(self, training: LanguageModelSetup) -> None:
        known, loop = self.texts, training.config.loop
        epochs = f"{self.epochs:g} epoch{'s' * (self.epochs != 1)}"
        if random_shape(self.config.model, flag="--model"):
            console.say(f"--adapt: {self.config.model} has random weights, so this is pretraining on the task's texts.")
        if known.n_left_out:
            console.say(
                f"--adapt: {console.counted(known.n_left_out, 'text')} left out: in the validation or test split, or "
                "in --unlabelled and the training split."
            )
        console.say(
            f"Adapting {self.config.model} to {console.counted(known.n_train, 'text')}, {training.n_train:,} tokens "
            f"({known.n_held_out:,} more held out): {epochs}, {console.counted(training.steps, 'step')} of "
            f"{loop.batch_size} × {training.valid.context} tokens, learning rate {training.config.optim.lr:.2g}"
        )


def show_bits(results: Mapping[str, Any]) -> None:
    """Print the bits per byte before and after an adaptation with these results (`Adaptation.run`)."""
    bits = results["bits_per_byte"]
    console.say(f"Bits per byte on held-out texts: {bits['before']:.3f} before, {bits['after']:.3f} after")


@dataclass(frozen=True)
class _Texts:
    """The texts of an adaptation: of the training split, of its unused rows and of --unlabelled."""

    config: FinetuneConfig
    data: TaskData
    n_train: int = 0
    n_held_out: int = 0
    n_left_out: int = 0
    sha256: str = ""
    threshold: int = 0
    """Texts with a hash up to this one are held out."""

    @classmethod
    def of(cls, config: FinetuneConfig, data: TaskData) -> _Texts:
        """Read all texts once, to count them and to draw the held-out ones.

        Raises:
            UserError: a file of --unlabelled cannot be read or adds no text, or fewer than two texts are left.
        """
        own = cls(config, data)
        digest, hashes, left_out = hashlib.sha256(), [], 0
        for text in own._all():
            if text is None:
                left_out += 1
                continue
            digest.update(text.encode())
            digest.update(b"\0")
            hashes.append(_hash(text))
        distinct = sorted(set(hashes))
        if len(distinct) < 2:
            raise UserError(
                f"--adapt: {console.counted(len(distinct), 'different text')} in the training split; at least 2 are "
                "required: add rows, or --unlabelled FILE"
            )
        drawn = min(max(1, round(HELD_OUT_SHARE * len(distinct))), MOST_HELD_OUT)
        threshold = distinct[drawn - 1]
        held_out = sum(each <= threshold for each in hashes)
        return replace(
            own, n_train=len(hashes) - held_out, n_held_out=held_out, n_left_out=left_out, sha256=digest.hexdigest(),
            threshold=threshold,
        )  # fmt: skip

    def write(self, path: Path, *, held_out: bool) -> None:
        """Write the texts for training, or the held-out ones, as documents of a text file."""
        with path.open("w", encoding="utf-8", newline="\n") as file:
            for text in self._all():
                if text is not None and (_hash(text) <= self.threshold) == held_out:
                    file.write(f"{text}\n{END_OF_DOCUMENT}\n")

    def _all(self) -> Iterator[str | None]:
        """Yield each text; None for one that is left out.

        These are texts of the validation and test split, and those of --unlabelled that are also in the training split.
        """
        splits = self.data.splits
        evaluated = {folded_text(text) for name in splits if name != "train" for e in splits[name] for text in e.texts}
        labelled = set(evaluated)
        for example in (*splits["train"], *self.data.unused):
            for text in example.texts:
                labelled.add(folded_text(text))
                yield _without(text, evaluated)
        if path := self.config.adaptation.unlabelled:
            found = kept = 0
            for text in self._unlabelled(path):
                found += 1
                rest = _without(text, labelled)
                kept += rest is not None
                yield rest
            if not kept:
                reason = "all of them also occur in --data" if found else "the files are empty"
                raise UserError(f"--unlabelled {path}: no text is left; {reason}")

    def _unlabelled(self, path: Path) -> Iterator[str]:
        columns = replace(self.config.columns, label=None, weight=None)
        files = files_with_text(path, "--unlabelled")
        try:
            yield from read_texts(files, columns, END_OF_DOCUMENT, table=self.config.table, text_a_line=True)
        except UserError as error:
            raise UserError(f"--unlabelled: {error} (the column of the texts has the same name as in --data)") from None


def _without(text: str, known: set[str]) -> str | None:
    """Return the lines of a text that are not in `known`; None if there are none, or the whole text is in it."""
    if folded_text(text) in known:
        return None
    lines = [line for line in text.splitlines(keepends=True) if folded_text(line) not in known or not line.strip()]
    return "".join(lines) if any(map(str.strip, lines)) else None


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
