"""Settings of `gpt1 finetune`, `pretrain` and `reproduce`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self

from gpt1.config.adaptation import AdaptConfig
from gpt1.config.checks import known, require, require_one_of
from gpt1.config.data import Columns, DataConfig, TableFormat
from gpt1.config.device import DeviceConfig
from gpt1.config.model import SIZES, TaskName
from gpt1.config.tracking import TrackConfig
from gpt1.config.training import DropoutConfig, LoopConfig, LossConfig, OptimConfig

Init = Literal["normal", "xavier"]


@dataclass(frozen=True)
class FinetuneConfig:
    """Settings of fine-tuning (Radford et al. 2018, §3.2).

    The defaults are those of the recipe `paper-finetune`.
    """

    data: str = ""
    """Data set. A table (.csv .tsv .json .jsonl .parquet .xlsx …), a folder with a table per split or a
    folder per label, `reviews` (bundled), or a data set of the hub (`imdb`, OWNER/NAME[:CONFIG][@REVISION])."""
    out: Path = Path()
    """Run directory. An existing run is resumed."""
    task: TaskName | None = None
    """Task type (default: inferred from the columns). classification, regression, entailment, similarity,
    multiple-choice, or one of a package."""
    model: str = "mini"
    """Model to start from. `mini` (bundled), `random:SIZE` (gpt1, mini, tiny), a run or model directory, or a
    model of the hub (`openai-gpt`, OWNER/NAME[@REVISION])."""
    recipe: str | None = None
    """Set of values listed below (default: by the size of the model)."""
    tokenizer: str | None = None
    """Tokenizer directory or model whose tokenizer `random:SIZE` uses (default: trained on the training split)."""
    vocab_size: int | None = None
    """Size of the vocabulary that is trained for `random:SIZE` (default: given by SIZE)."""
    segments: bool = False
    """Add a segment embedding, initially zero, for each part of the input."""
    head_bias: bool = False
    """Add a bias to the task's head, as in OpenAI's code. `transformers` ignores it: Hugging Face's head has none."""
    select_by: Literal["metric", "loss"] = "metric"
    """Criterion of the best model on the validation split. `metric`: the task's first metric."""
    metric: str | None = None
    """Additional metric, a function of (labels, predictions) given as `package.module:function`. It is reported and
    selects the best model; larger is better."""
    baseline: bool = True
    """Fit baselines, such as logistic regression on TF-IDF, on the same data for comparison."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    columns: Columns = field(default_factory=Columns)
    table: TableFormat = field(default_factory=TableFormat)
    split: DataConfig = field(default_factory=DataConfig)
    adaptation: AdaptConfig = field(default_factory=AdaptConfig)
    hardware: DeviceConfig = field(default_factory=DeviceConfig)
    tracking: TrackConfig = field(default_factory=TrackConfig)

    @property
    def drawn_by(self) -> int:
        """Seed of the random splits: --split-seed, or --seed without it."""
        return self.loop.seed if self.split.split_seed is None else self.split.split_seed

    def with_fixed_splits(self) -> Self:
        """Return these settings with the seed of the splits fixed, so that another --seed keeps the splits."""
        return replace(self, split=replace(self.split, split_seed=self.drawn_by))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the settings stored in a run's `config.json`; missing ones have their defaults."""
        parts: dict[str, type] = {
            "optim": OptimConfig, "dropout": DropoutConfig, "loss": LossConfig, "loop": LoopConfig, "columns": Columns,
            "table": TableFormat, "split": DataConfig, "adaptation": AdaptConfig, "tracking": TrackConfig,
        }  # fmt: skip
        if texts := values.get("adaptation", {}).get("unlabelled"):
            values = values | {"adaptation": values["adaptation"] | {"unlabelled": Path(texts)}}
        nested = {name: part(**known(part, values[name])) for name, part in parts.items() if name in values}
        return cls(**known(cls, values | nested))


END_OF_DOCUMENT = "<|endofbook|>"
"""Default line that separates the documents of a text file."""


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of pretraining (Radford et al. 2018, §3.1, §4.1).

    The defaults are those of the recipe `paper-pretrain`.
    """

    corpus: tuple[Path, ...] = ()
    """Training text. Text files (.txt, also .gz, .xz, .zst), folders of text files, or the output of `gpt1 prepare`."""
    out: Path = Path()
    """Run directory. An existing run is resumed."""
    size: str | None = None
    """Size of a new model, gpt1, mini or tiny (default: gpt1)."""
    model: str | None = None
    """Model to continue training, named as for `gpt1 finetune` (default: a new model of --size)."""
    recipe: str | None = None
    """Set of values listed below (default: paper-pretrain)."""
    tokenizer: str | None = None
    """Tokenizer directory or model whose tokenizer a new model uses (default: trained on the corpus)."""
    vocab_size: int | None = None
    """Size of the vocabulary that is trained for a new model (default: given by --size)."""
    context: int | None = None
    """Tokens per window (default: the model's context). Positions beyond a shorter window stay untrained; continue
    with `--model RUN` and the full context to train them."""
    valid: tuple[Path, ...] = ()
    """Text files of the validation corpus. Without them the end of --corpus is used."""
    valid_fraction: float = 0.005
    """Share of the tokens of --corpus, at its end, used for validation without --valid."""
    valid_windows: int | None = 512
    """Number of evenly spaced validation windows used during training. The final evaluation uses all windows."""
    sample_prompt: str | None = None
    """Prompt of the sample text printed at each evaluation (default: a few words of the validation text)."""
    sample_tokens: int = 40
    """Length of the sample text in tokens; 0 disables it."""
    end_of_document: str = END_OF_DOCUMENT
    """Line that separates documents within a file."""
    encoding: str | None = None
    """Encoding of the text files, such as utf-8 or gb18030 (default: detected)."""
    init: Init = "normal"
    """Initialization of a new model's matrices. `normal`: N(0, 0.02), as in the paper; `xavier`: uniform (Glorot &
    Bengio 2010)."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=2.5e-4, schedule="cosine", warmup=2_000))
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=100, batch_size=64, micro_batch_tokens=16_384))
    hardware: DeviceConfig = field(default_factory=DeviceConfig)
    tracking: TrackConfig = field(default_factory=TrackConfig)

    def __post_init__(self) -> None:
        if self.tokenizer is not None:  # words, words/ and ./words are the same setting when runs are compared
            object.__setattr__(self, "tokenizer", str(PurePosixPath(self.tokenizer)))
        require(self.size in (None, *SIZES), "size", self.size, f"one of {', '.join(SIZES)}")
        require_one_of(Init, "init", self.init)
        TableFormat(encoding=self.encoding)  # validates the name
        require(self.context is None or self.context >= 2, "context", self.context, "2 or more")
        require(self.loop.epochs is not None, "epochs", self.loop.epochs, "a positive number")
        require(0 < self.valid_fraction < 1, "valid_fraction", self.valid_fraction, "a number in (0, 1)")
        most = self.valid_windows
        require(most is None or most >= 1, "valid_windows", most, "1 or more")
        require(0 <= self.sample_tokens <= 10_000, "sample_tokens", self.sample_tokens, "0 to 10,000")
        for part, names, why in (
            (self.loop, ("bucketing", "drop_last", "pad_to"), "the default, since all windows have the same length"),
            (self.dropout, ("clf_pdrop", "clf_shared"), "the default, since a language model has no head"),
        ):
            for name in names:
                value = getattr(part, name)
                unused = value == getattr(type(part)(), name) or (name == "clf_pdrop" and value == 0.0)
                require(unused, name, value, why)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the settings stored in a run's `config.json`; missing ones have their defaults."""
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
    """Settings of `gpt1 reproduce`: which of the paper's fine-tuning results, on which data, from which model."""

    data_root: Path
    """Directory with a folder for each data set. Names of the folders: mnli, snli, scitail, qnli, rte, storycloze,
    race, cola, sst2, mrpc, stsb or qqp."""
    out: Path = Path("runs/reproduce")
    """Directory of the runs, ROW/seed-N. Existing runs are resumed."""
    tasks: str = ""
    """Data sets to use, separated by commas, such as `cola,rte`. Without it, all that exist in --data-root."""
    seeds: int = 3
    """Number of runs of each row, with the seeds 0, 1, …"""
    model: str = "openai-gpt"
    """Model to start from, named as for `gpt1 finetune`."""
    recipe: str = "paper-finetune"
    """Recipe of each run, as for `gpt1 finetune`."""
    max_examples: int | None = None
    """Maximum number of examples per split, drawn at random and stratified, for a quick trial (default: all)."""
    epochs: float | None = None
    """Epochs of each run (default: the recipe's)."""
    max_steps: int | None = None
    """Maximum number of optimizer steps per run (default: no limit)."""
    hardware: DeviceConfig = field(default_factory=DeviceConfig)

    def __post_init__(self) -> None:
        require(self.seeds >= 1, "seeds", self.seeds, "1 or more")
