"""The settings of whole runs: `gpt1 finetune`, `pretrain` and `reproduce`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self

from gpt1.config.checks import known, require, require_one_of
from gpt1.config.data import Columns, DataConfig
from gpt1.config.device import DeviceConfig
from gpt1.config.model import SIZES, TaskName
from gpt1.config.tracking import TrackConfig
from gpt1.config.training import DropoutConfig, LoopConfig, LossConfig, OptimConfig

Init = Literal["normal", "xavier"]


@dataclass(frozen=True)
class FinetuneConfig:
    """Fine-tune a model on labelled texts (Radford et al. 2018, §3.2). The defaults are recipe `paper-finetune`."""

    data: str = ""
    """Needed: a folder with train/valid/test files, one .csv .tsv .jsonl .parquet file, `reviews`, or a data set of
    the hub: `imdb` and others by name, OWNER/NAME or OWNER/NAME:CONFIG, each also with @REVISION (commit, tag or
    branch)."""
    out: Path = Path()
    """Needed: the run's directory; the same command with the same directory resumes."""
    task: TaskName | None = None
    """What the data asks for (None: seen from its columns).
    classification, entailment, similarity, multiple-choice, or a task that an installed package adds."""
    model: str = "mini"
    """Model to start from: `mini` (comes with gpt1), `random:SIZE` (gpt1, mini, tiny), a run or model directory, a
    folder of OpenAI's release or MindNLP's, or a model of the hub: `openai-gpt` or OWNER/NAME, each also with
    @REVISION."""
    recipe: str | None = None
    """Named complete settings: paper-finetune, openai-finetune, mindspore-imdb, quickstart.
    Other flags change single values of it. (In Python: `gpt1.recipe(name, …)`.)"""
    tokenizer: str | None = None
    """Tokenizer directory or model, named as for --model, for `random:SIZE` (None: learned from the training split)."""
    vocab_size: int | None = None
    """Size of the vocabulary to learn for `random:SIZE` (None: the size's)."""
    segments: bool = False
    """Add a segment embedding for each part of the input (zero at the start)."""
    head_bias: bool = False
    """Give the task's head a bias (OpenAI). Hugging Face's head has none: `transformers` would ignore it."""
    select_by: Literal["metric", "loss"] = "metric"
    """The best model is the one with the best validation `metric` (the task's first) or `loss`."""
    metric: str | None = None
    """Your own metric as `package.module:function` of (labels, predictions), reported and selected by."""
    baseline: bool = True
    """Also fit the plain baselines (TF-IDF and the like) on the same data."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    columns: Columns = field(default_factory=Columns)
    split: DataConfig = field(default_factory=DataConfig)
    hardware: DeviceConfig = field(default_factory=DeviceConfig)
    tracking: TrackConfig = field(default_factory=TrackConfig)

    @property
    def drawn_by(self) -> int:
        """The seed that the splits are drawn with."""
        return self.loop.seed if self.split.split_seed is None else self.split.split_seed

    def with_fixed_splits(self) -> Self:
        """Return the settings that draw the same splits whatever the seed becomes."""
        return replace(self, split=replace(self.split, split_seed=self.drawn_by))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the settings that a run's `config.json` holds; what it does not name has its default."""
        parts: dict[str, type] = {
            "optim": OptimConfig, "dropout": DropoutConfig, "loss": LossConfig, "loop": LoopConfig, "columns": Columns,
            "split": DataConfig, "tracking": TrackConfig,
        }  # fmt: skip
        nested = {name: part(**known(part, values[name])) for name, part in parts.items() if name in values}
        return cls(**known(cls, values | nested))


END_OF_DOCUMENT = "<|endofbook|>"
"""A line of a corpus that ends a document, unless a flag says otherwise."""


@dataclass(frozen=True)
class PretrainConfig:
    """Train a language model on plain text (Radford et al. 2018, §3.1, §4.1). The defaults are `paper-pretrain`'s."""

    corpus: tuple[Path, ...] = ()
    """Text files (.txt, also .gz .xz .zst), folders of them, or what `gpt1 prepare` made."""
    out: Path = Path()
    """Needed: the run's directory; the same command with the same directory resumes."""
    size: str | None = None
    """Size of a new model: gpt1, mini or tiny (None: gpt1)."""
    model: str | None = None
    """Model to continue instead of a new one, named as for `gpt1 finetune` (without `random:SIZE`)."""
    recipe: str | None = None
    """Named complete settings: paper-pretrain, mindspore-pretrain, mini-books, mini-books-512.
    Other flags change single values of it. (In Python: `recipes.pretraining(name)`.)"""
    tokenizer: str | None = None
    """Tokenizer directory or model, named as for --model, of a new model (None: learned from the corpus)."""
    vocab_size: int | None = None
    """Size of the vocabulary to learn (None: the size's)."""
    context: int | None = None
    """Tokens of a window (None: the model's whole context).
    With fewer, the positions beyond stay untrained: train on with `--model RUN` and the whole context."""
    valid: tuple[Path, ...] = ()
    """Text files of the validation corpus (empty: the end of the corpus)."""
    valid_fraction: float = 0.005
    """Share of the corpus's tokens, at its end, that validates where --valid names no files."""
    valid_windows: int | None = 512
    """Evaluate on so many windows, spread evenly, while training; all of them count in the end."""
    sample_prompt: str | None = None
    """At each evaluation show how the model goes on from this text (None: words of the validation text)."""
    sample_tokens: int = 40
    """Tokens that it then writes; 0 shows nothing."""
    end_of_document: str = END_OF_DOCUMENT
    """A line that ends a document; the end of a file always does."""
    init: Init = "normal"
    """Matrices of a new model: `normal` is N(0, 0.02) (the paper), `xavier` uniform after Glorot & Bengio 2010."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=2.5e-4, schedule="cosine", warmup=2_000))
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=100, batch_size=64, micro_batch_tokens=16_384))
    hardware: DeviceConfig = field(default_factory=DeviceConfig)
    tracking: TrackConfig = field(default_factory=TrackConfig)

    def __post_init__(self) -> None:
        if self.tokenizer is not None:  # the same run, whether it is words, words/ or ./words
            object.__setattr__(self, "tokenizer", str(PurePosixPath(self.tokenizer)))
        require(self.size in (None, *SIZES), "size", self.size, f"one of {', '.join(SIZES)}")
        require_one_of(Init, "init", self.init)
        require(self.context is None or self.context >= 2, "context", self.context, "2 or more")
        require(0 < self.valid_fraction < 1, "valid_fraction", self.valid_fraction, "a number in (0, 1)")
        most = self.valid_windows
        require(most is None or most >= 1, "valid_windows", most, "1 or more")
        require(0 <= self.sample_tokens <= 10_000, "sample_tokens", self.sample_tokens, "0 to 10,000")
        for part, names, why in (
            (self.loop, ("bucketing", "drop_last", "pad_to"), "the default: all windows have one length"),
            (self.dropout, ("clf_pdrop", "clf_shared"), "the default: a language model has no head"),
        ):
            for name in names:
                value = getattr(part, name)
                unused = value == getattr(type(part)(), name) or (name == "clf_pdrop" and value == 0.0)
                require(unused, name, value, why)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the settings that a run's `config.json` holds; what it does not name has its default."""
        parts: dict[str, type] = {
            "optim": OptimConfig,
            "dropout": DropoutConfig,
            "loop": LoopConfig,
            "tracking": TrackConfig,
        }
        nested = {name: part(**known(part, values[name])) for name, part in parts.items() if name in values}
        paths = {name: tuple(map(Path, values[name])) for name in ("corpus", "valid") if name in values}
        return cls(**known(cls, values | nested | paths))


@dataclass(frozen=True)
class ReproduceConfig:
    """Which of the paper's fine-tuning results to repeat, on which data, from which model."""

    data_root: Path
    """Folder with a folder for each data set: mnli snli scitail qnli rte storycloze race cola sst2 mrpc stsb qqp."""
    out: Path = Path("runs/reproduce")
    """Directory of the runs, ROW/seed-N; the same command goes on where it was."""
    tasks: str = ""
    """Only these data sets, such as `cola,rte` (empty: all that are there)."""
    seeds: int = 3
    """Runs of each row, with the seeds 0, 1, …"""
    model: str = "openai-gpt"
    """As for `gpt1 finetune`."""
    recipe: str = "paper-finetune"
    """Named complete settings of each run."""
    max_examples: int | None = None
    """Most examples of each split that are used, for a quick try."""
    epochs: float | None = None
    """Passes over the training split (None: the recipe's)."""
    max_steps: int | None = None
    """Stop each run after so many optimiser steps."""
    hardware: DeviceConfig = field(default_factory=DeviceConfig)

    def __post_init__(self) -> None:
        require(self.seeds >= 1, "seeds", self.seeds, "1 or more")
