"""Every number a run depends on, each with its default and its meaning, in frozen dataclasses.

The docstring under a field is its help text on the command line. A default stands here and nowhere else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self, get_args

from gpt1.errors import UserError

TaskName = Literal["classification", "entailment", "similarity", "multiple-choice"]
DType = Literal["auto", "float32", "bfloat16", "float16"]
Backend = Literal["auto", "torch", "mindspore"]
Device = Literal["auto", "cpu", "cuda", "ascend"]
Padding = Literal["bucket", "longest", "max"]
Schedule = Literal["linear", "cosine", "constant"]
Layout = Literal["gpt1", "mindspore", "huggingface", "openai"]
Stored = Literal["float32", "bfloat16", "float16"]
LmMean = Literal["token", "sequence"]
Cut = Literal["longest", "half"]
Draw = Literal["stratified", "openai"]
Heuristic = Literal["acceptability", "sentiment", "choice"]
Init = Literal["normal", "xavier"]

MOST_SAMPLES = 64
"""Samples of one prompt: each has a cache of its own, 38 MB in float32 for 512 tokens of the paper's model."""


def _require(condition: bool, flag: str, found: object, expected: str) -> None:
    if not condition:
        raise UserError(f"--{flag.replace('_', '-')} {found}: expected {expected}")


def _require_one_of(choices: Any, flag: str, found: object) -> None:
    _require(found in get_args(choices), flag, found, f"one of {', '.join(get_args(choices))}")


@dataclass(frozen=True)
class Head:
    """What stands on the `<eos>` state (Radford et al. 2018, eq. 3: softmax(h W_y))."""

    task: TaskName
    n_labels: int
    """Columns of W_y: the number of labels; 1 for a regression and for multiple choice (one score a choice)."""
    regression: bool = False
    bias: bool = False
    """Whether it adds a bias, as OpenAI's code does; the paper's head and Hugging Face's have none."""


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a GPT-1 (names as in the original code). The defaults are the paper's model."""

    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    n_ctx: int = 512
    vocab_size: int = 40_482
    """Rows of the token embedding that are tokens: the vocabulary and the special tokens (40,478 + 4)."""
    n_segments: int = 0
    """Segment embeddings: extra rows after the tokens, zero at the start, left out of the softmax."""
    layer_norm_epsilon: float = 1e-5
    head: Head | None = None

    def __post_init__(self) -> None:
        for name in ("n_layer", "n_head", "n_embd", "n_ctx", "vocab_size"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "a positive number")
        _require(self.n_embd % self.n_head == 0, "n_embd", self.n_embd, f"a multiple of n_head {self.n_head}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        values = dict(values)
        head = values.pop("head", None)
        return cls(**_known(cls, values), head=Head(**_known(Head, head)) if head else None)


SIZES: dict[str, ModelConfig] = {
    "gpt1": ModelConfig(),
    "mini": ModelConfig(n_layer=8, n_head=4, n_embd=256, vocab_size=8_192),
    "tiny": ModelConfig(n_layer=2, n_head=2, n_embd=64, vocab_size=2_048),
}
"""Named sizes; `random:SIZE` builds one from random weights."""


@dataclass(frozen=True)
class DropoutConfig:
    """Drop probabilities during training (Radford et al. 2018, §4.1: 0.1 everywhere)."""

    embd_pdrop: float = 0.1
    """On the sum of token, position and segment embeddings."""
    resid_pdrop: float = 0.1
    """On the output of each sub-layer before it is added to the residual stream."""
    attn_pdrop: float = 0.1
    """On the attention weights."""
    clf_pdrop: float = 0.1
    """On the state that the task's head reads."""
    embd_matrix: bool = False
    """Let `embd_pdrop` act on the whole embedding matrix (tokens, positions, segments) instead of on the sum: all
    occurrences of a token in a micro-batch lose the same elements, and so does the softmax of the LM loss (OpenAI)."""
    clf_shared: bool = False
    """One mask of `clf_pdrop` for all choices of a question, instead of one for each (OpenAI)."""

    def __post_init__(self) -> None:
        for item in fields(self):
            if item.name.endswith("_pdrop"):
                value = getattr(self, item.name)
                _require(0.0 <= value < 1.0, item.name, value, "a probability in [0, 1)")

    @classmethod
    def none(cls) -> Self:
        return cls(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class LossConfig:
    """The auxiliary language-modelling loss of fine-tuning (Radford et al. 2018, §3.2)."""

    lm_coef: float = 0.5
    """Weight λ of the auxiliary language-modelling loss (eq. 5)."""
    lm_mean: LmMean = "token"
    """The LM loss of a step is the mean over all its tokens (`token`), or the mean over each sequence's tokens and then
    over the sequences (`sequence`, OpenAI)."""
    lm_over_positions: bool = False
    """Let the softmax of the LM loss also run over the rows of the position embedding, which stand in the same matrix
    as the tokens in OpenAI's code."""

    def __post_init__(self) -> None:
        _require(0 <= self.lm_coef < math.inf, "lm_coef", self.lm_coef, "zero or more")
        _require_one_of(LmMean, "lm_mean", self.lm_mean)


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with decay on matrices only, and the learning rate's schedule."""

    lr: float = 6.25e-5
    """Highest learning rate."""
    schedule: Schedule = "linear"
    """How the rate falls to zero: `linear` is 1 - t/T from step 0, `cosine` half a cosine, `constant` not at all."""
    warmup: float = 0.002
    """Linear warm-up: a share of all steps when below 1, a number of steps otherwise."""
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    """Decoupled decay on every parameter with two dimensions (embeddings too); never on biases and gains."""
    decay_with_correction: bool = False
    """Multiply the decay by the bias-corrected rate lr √(1 - β2^t) / (1 - β1^t) instead of lr (OpenAI)."""
    eps_outside_correction: bool = False
    """Add `eps` to √v itself instead of to the bias-corrected √v (OpenAI)."""
    clip: float = 1.0
    """Largest global norm of the gradient; 0 turns clipping off."""

    def __post_init__(self) -> None:
        _require(0 < self.lr < math.inf, "lr", self.lr, "a positive number")
        for name in ("warmup", "weight_decay", "clip"):
            _require(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "zero or more")
        for name in ("beta1", "beta2"):
            _require(0 <= getattr(self, name) < 1, name, getattr(self, name), "a number in [0, 1)")
        _require(self.eps > 0, "eps", self.eps, "a positive number")


@dataclass(frozen=True)
class LoopConfig:
    """How the loop walks: epochs, batches, and when it evaluates, saves and stops."""

    epochs: float = 3
    """Passes over the training split (a fraction is allowed)."""
    max_steps: int | None = None
    """Stop after so many optimiser steps; the schedule then ends there."""
    batch_size: int = 32
    """Examples an optimiser step."""
    micro_batch_size: int | None = None
    """Examples that are computed at once; the gradients of a step are accumulated. Default: the whole batch, or as many
    as `micro_batch_tokens` allows."""
    micro_batch_tokens: int = 8_192
    """Most tokens (padding included) that are computed at once when `micro_batch_size` is not given."""
    bucketing: bool = True
    """Batch texts of similar length together (sorted inside windows of a seeded shuffle)."""
    drop_last: bool = False
    """Leave out what is left of an epoch's shuffled examples when no whole batch is (OpenAI)."""
    pad_to: Padding = "bucket"
    """Pad a batch to one of the lengths that the backend works best with (`bucket`: multiples of 16 for PyTorch, twelve
    for MindSpore on a CPU, one on Ascend), to its longest text (`longest`) or to the maximal length (`max`)."""
    eval_every: int | None = None
    """Also evaluate every so many steps (always at the end of an epoch)."""
    save_every: int | None = None
    """Also save a checkpoint every so many steps (always at the end of an epoch)."""
    log_every: int = 10
    """Steps between two lines of the log."""
    patience: int | None = None
    """Stop when so many evaluations in a row brought no better validation metric."""
    seed: int = 0
    """Seed of the splits, the initial weights, the order of the data and the dropout."""

    def __post_init__(self) -> None:
        _require(0 < self.epochs < math.inf, "epochs", self.epochs, "a positive number")
        for name in (
            "max_steps",
            "batch_size",
            "micro_batch_size",
            "micro_batch_tokens",
            "eval_every",
            "save_every",
            "log_every",
            "patience",
        ):
            value = getattr(self, name)
            _require(value is None or value >= 1, name, value, "1 or more")
        _require(0 <= self.seed < 2**32, "seed", self.seed, "0 to 4,294,967,295")


@dataclass(frozen=True)
class Columns:
    """Which column of the data holds what; `None` finds it by its usual names. Names match in any case."""

    text: str | None = None
    """Column of the text (classification)."""
    text_a: str | None = None
    """Column of the first text of a pair."""
    text_b: str | None = None
    """Column of the second text of a pair."""
    context: str | None = None
    """Column of a multiple-choice question's context."""
    question: str | None = None
    """Column of a multiple-choice question."""
    choices: str | None = None
    """Column of the list of choices, or several columns of one choice each: `ending0,ending1`."""
    label: str | None = None
    """Column of the label."""
    weight: str | None = None
    """Column of the example's weight in the loss (never found by name; default: every example weighs 1)."""


@dataclass(frozen=True)
class DataConfig:
    """What part of the data is used, and how it is split where it does not come split."""

    train_fraction: float = 1.0
    """Use only a random stratified part of the training split."""
    valid_fraction: float | None = None
    """Share of the training examples drawn (stratified) for validation where the data brings none (default 0.1)."""
    test_fraction: float | None = None
    """Share drawn for the test where the data is a single file (default 0.1)."""
    limit: int | None = None
    """Use at most so many examples of each split (a seeded, stratified draw): for a quick look."""
    max_length: int | None = None
    """Most tokens a sequence, special tokens included (default: the model's context)."""
    cut: Cut = "longest"
    """What a sequence of two parts that is too long loses: tokens of its longest text first (`longest`), or what each
    part has beyond half the length minus 2 (`half`, OpenAI)."""
    draw: Draw = "stratified"
    """How validation examples are drawn where the data brings none: by label with `--seed`, or as OpenAI drew them for
    ROCStories (`openai`: scikit-learn's train_test_split, its own seed, by default 374 of 1,871)."""

    def __post_init__(self) -> None:
        _require_one_of(Cut, "cut", self.cut)
        _require_one_of(Draw, "draw", self.draw)
        _require(0 < self.train_fraction <= 1, "train_fraction", self.train_fraction, "a number in (0, 1]")
        for name in ("valid_fraction", "test_fraction"):
            value = getattr(self, name)
            _require(value is None or 0 < value < 1, name, value, "a number in (0, 1)")
        _require(self.limit is None or self.limit >= 2, "limit", self.limit, "2 or more")
        _require(self.max_length is None or self.max_length >= 8, "max_length", self.max_length, "8 or more")


@dataclass(frozen=True)
class DeviceConfig:
    """Where the model runs."""

    backend: Backend = "auto"
    """Framework (`auto`: the installed one, PyTorch where both are)."""
    device: Device = "auto"
    """`auto` takes CUDA (PyTorch) or Ascend (MindSpore) where it is there, else the CPU."""
    dtype: DType = "auto"
    """`auto`: bfloat16 over float32 weights where the device computes it fast, else float32."""
    compile: bool = False
    """Compile the model (PyTorch's torch.compile)."""
    eager: bool = False
    """Train operator by operator instead of in compiled graphs, to find a fault (MindSpore)."""


@dataclass(frozen=True)
class ZeroShotConfig:
    """Label with the language model alone, without a head and without training (Radford et al. 2018, §5)."""

    zero_shot: bool = False
    """Use the language model alone, by a heuristic of the paper; no head is needed."""
    heuristic: Heuristic | None = None
    """`acceptability`: mean log-probability of a text; `sentiment`: which of --words follows it; `choice`: which choice
    follows. Default: by the columns (choices) or the data's name (cola, sst2, imdb, reviews)."""
    threshold: float | None = None
    """Texts with a mean log-probability above it are acceptable (default: the best on the training split)."""
    words: str = "negative,positive"
    """What stands for each label, in the order of their ids, for `sentiment`."""
    append: str = "very"
    """What is added to each text before the words, for `sentiment`."""

    def __post_init__(self) -> None:
        _require(self.threshold is None or math.isfinite(self.threshold), "threshold", self.threshold, "a number")
        if not self.zero_shot and any(getattr(self, item.name) != item.default for item in fields(self)):
            raise UserError("--heuristic, --threshold, --words and --append go with --zero-shot: add it, or drop them")


@dataclass(frozen=True)
class FinetuneConfig:
    """Fine-tune a model on labelled texts (Radford et al. 2018, §3.2). The defaults are recipe `paper-finetune`."""

    data: str = ""
    """Folder with train/valid/test files, one .csv .tsv .jsonl .parquet file, `reviews` (bundled), or a hub name."""
    out: Path = Path()
    """Run directory; the same command with the same directory resumes."""
    task: TaskName | None = None
    """What the data asks for (default: seen from its columns)."""
    model: str = "mini"
    """`mini` (comes with gpt1), `random:SIZE` (gpt1, mini, tiny), a model directory, a folder of OpenAI's release, or
    `openai-gpt` (hub)."""
    recipe: str | None = None
    """Named complete settings; other flags change single values of it. (In Python: `gpt1.recipe(name, …)`.)"""
    tokenizer: str | None = None
    """Directory of the tokenizer for `random:SIZE`, or `mini` (default: learned from the training split)."""
    vocab_size: int | None = None
    """Size of the vocabulary to learn for `random:SIZE` (default: the size's)."""
    segments: bool = False
    """Add a segment embedding for each part of the input (zero at the start)."""
    revision: str | None = None
    """Revision (commit, tag, branch) of a hub model or data set."""
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

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the settings that a run's `config.json` holds; what it does not name has its default."""
        parts: dict[str, type] = {
            "optim": OptimConfig, "dropout": DropoutConfig, "loss": LossConfig, "loop": LoopConfig, "columns": Columns,
            "split": DataConfig,
        }  # fmt: skip
        values = dict(values)
        if "lm_coef" in values:  # a run from before the loss had settings of its own
            values["loss"] = {"lm_coef": values.pop("lm_coef")}
        nested = {name: part(**_known(part, values[name])) for name, part in parts.items() if name in values}
        return cls(**_known(cls, values | nested))


END_OF_DOCUMENT = "<|endofbook|>"
"""A line of a corpus that ends a document, unless a flag says otherwise."""


@dataclass(frozen=True)
class PretrainConfig:
    """Train a language model on plain text (Radford et al. 2018, §3.1, §4.1). The defaults are `paper-pretrain`'s."""

    corpus: tuple[Path, ...] = ()
    """Text files (.txt, also .gz .xz .zst), folders of them, or what `gpt1 prepare` made."""
    out: Path = Path()
    """Run directory; the same command with the same directory resumes."""
    size: str | None = None
    """Size of a new model: gpt1, mini or tiny (default: gpt1)."""
    model: str | None = None
    """Go on with this model instead of a new one: a run or model directory, `mini` (comes with gpt1), or `openai-gpt`
    (hub)."""
    recipe: str | None = None
    """Named complete settings; other flags change single values of it. (In Python: `recipes.pretraining(name)`.)"""
    tokenizer: Path | None = None
    """Directory of the tokenizer of a new model, or `mini` (default: learned from the corpus)."""
    vocab_size: int | None = None
    """Size of the vocabulary to learn (default: the size's)."""
    context: int | None = None
    """Tokens of a window (default: the model's whole context). With fewer, the positions beyond stay untrained: train
    on with `--model RUN` and the whole context."""
    valid: tuple[Path, ...] = ()
    """Text files of the validation corpus (default: the end of the corpus)."""
    valid_fraction: float = 0.005
    """Share of the corpus's tokens, at its end, that validates where --valid names no files."""
    valid_windows: int | None = 512
    """Evaluate on so many windows, spread evenly, while training; all of them count in the end."""
    sample_prompt: str | None = None
    """At each evaluation show how the model goes on from this text (default: words of the validation text)."""
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

    def __post_init__(self) -> None:
        _require(self.size in (None, *SIZES), "size", self.size, f"one of {', '.join(SIZES)}")
        _require_one_of(Init, "init", self.init)
        _require(self.context is None or self.context >= 2, "context", self.context, "2 or more")
        _require(0 < self.valid_fraction < 1, "valid_fraction", self.valid_fraction, "a number in (0, 1)")
        most = self.valid_windows
        _require(most is None or most >= 1, "valid_windows", most, "1 or more")
        _require(0 <= self.sample_tokens <= 10_000, "sample_tokens", self.sample_tokens, "0 to 10,000")
        for part, names, why in (
            (self.loop, ("bucketing", "drop_last", "pad_to"), "the default: all windows have one length"),
            (self.dropout, ("clf_pdrop", "clf_shared"), "the default: a language model has no head"),
        ):
            for name in names:
                value = getattr(part, name)
                unused = value == getattr(type(part)(), name) or (name == "clf_pdrop" and value == 0.0)
                _require(unused, name, value, why)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the settings that a run's `config.json` holds; what it does not name has its default."""
        parts: dict[str, type] = {"optim": OptimConfig, "dropout": DropoutConfig, "loop": LoopConfig}
        nested = {name: part(**_known(part, values[name])) for name, part in parts.items() if name in values}
        paths = {name: tuple(map(Path, values[name])) for name in ("corpus", "valid") if name in values}
        return cls(**_known(cls, values | nested | paths))


@dataclass(frozen=True)
class ReproduceConfig:
    """Which of the paper's fine-tuning results to repeat, on which data, from which model."""

    data_root: Path
    """Folder with a folder for each data set: mnli snli scitail qnli rte storycloze race cola sst2 mrpc stsb qqp."""
    out: Path = Path("runs/reproduce")
    """Directory of the runs, ROW/seed-N; the same command goes on where it was."""
    tasks: str = ""
    """Only these data sets, such as `cola,rte` (default: all that are there)."""
    seeds: int = 3
    """Runs of each row, with the seeds 0, 1, …"""
    model: str = "openai-gpt"
    """As for `gpt1 finetune`."""
    recipe: str = "paper-finetune"
    """Named complete settings of each run."""
    limit: int | None = None
    """Use at most so many examples of each split, for a quick look."""
    epochs: float | None = None
    """Passes over the training split (default: the recipe's)."""
    max_steps: int | None = None
    """Stop each run after so many optimiser steps."""
    hardware: DeviceConfig = field(default_factory=DeviceConfig)

    def __post_init__(self) -> None:
        _require(self.seeds >= 1, "seeds", self.seeds, "1 or more")


@dataclass(frozen=True)
class GenerateConfig:
    """How a model writes on from a prompt. `<pad> <bos> <sep> <unk>` are never written; `<eos>` ends a text."""

    max_tokens: int = 128
    """Most tokens to write."""
    temperature: float = 0.8
    """What the logits are divided by: below 1 likely tokens become likelier; 0 always takes the likeliest (greedy)."""
    top_k: int | None = None
    """Draw among so many of the likeliest tokens (default: all)."""
    top_p: float = 0.95
    """Draw among the fewest of the likeliest tokens whose probabilities sum to this share, after --top-k; 1: all."""
    repetition_penalty: float = 1.0
    """What a positive logit of a token that stands in the prompt or the text is divided by, and a negative one
    multiplied by (Keskar et al. 2019, §4.1): above 1 there is less repetition."""
    seed: int = 0
    """Seed of the draws: token t of sample i is a function of (seed, i, t) and the logits, whatever else is written."""
    stop: tuple[str, ...] = ()
    """End the text before this string (may be given again for others); in lower case, as all text is here."""
    n: int = 1
    """Samples to write."""

    def __post_init__(self) -> None:
        _require(self.max_tokens >= 1, "max_tokens", self.max_tokens, "1 or more")
        _require(0 <= self.temperature < math.inf, "temperature", self.temperature, "zero or more")
        _require(self.top_k is None or self.top_k >= 1, "top_k", self.top_k, "1 or more")
        _require(0 < self.top_p <= 1, "top_p", self.top_p, "a number in (0, 1]")
        penalty = self.repetition_penalty
        _require(0 < penalty < math.inf, "repetition_penalty", penalty, "a positive number")
        _require(0 <= self.seed < 2**32, "seed", self.seed, "0 to 4,294,967,295")
        _require(all(self.stop), "stop", repr(""), "a text that is not empty")
        _require(1 <= self.n <= MOST_SAMPLES, "n", self.n, f"1 to {MOST_SAMPLES}")


def _known(cls: type, values: dict[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(values) - {item.name for item in fields(cls)})
    if unknown:
        raise UserError(f"{cls.__name__}: unknown setting {unknown[0]!r}")
    return values
