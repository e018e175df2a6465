"""Recipes: named sets of values for all settings. Each docstring gives the source and the expected result.

`gpt1 finetune --recipe NAME` and `gpt1 pretrain --recipe NAME` use these values as defaults of the other flags.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpt1.config import DataConfig, DropoutConfig, FinetuneConfig, LoopConfig, LossConfig, OptimConfig, PretrainConfig
from gpt1.config.overrides import did_you_mean, with_overrides
from gpt1.errors import UserError


def paper_finetune() -> FinetuneConfig:
    """Fine-tuning of Radford et al. 2018, §4.1.

    Learning rate 6.25e-5 with linear decay after a warm-up over 0.2 % of training, batch size 32, 3 epochs, λ = 0.5,
    dropout 0.1 (also before the head), gradient norm clipped at 1; the best epoch by the validation metric.
    Expected from the released weights: the paper's table (SST-2 91.3, CoLA 45.4, MRPC 82.3, STS-B 82.0, RTE 56.0 …).
    """
    return FinetuneConfig(
        loss=LossConfig(lm_coef=0.5),
        select_by="metric",
        optim=OptimConfig(lr=6.25e-5, schedule="linear", warmup=0.002, weight_decay=0.01, max_grad_norm=1.0),
        dropout=DropoutConfig(embd_pdrop=0.1, resid_pdrop=0.1, attn_pdrop=0.1, clf_pdrop=0.1),
        loop=LoopConfig(epochs=3, batch_size=32),
    )


def openai_finetune() -> FinetuneConfig:
    """Fine-tuning of OpenAI's code (openai/finetune-transformer-lm: `train.py`, `opt.py`, `datasets.py`).

    `paper-finetune` with the code's behaviour wherever it differs from the paper: weight decay multiplied by the
    bias-corrected rate, ε outside the correction, dropout of the embedding matrix, one head mask for all choices, a
    bias in the head, LM loss averaged over sequences with position rows in its softmax, each text truncated by itself,
    OpenAI's split of the validation examples, no incomplete batches; batch size 32 as 4 micro-batches of 8 (one per
    GPU of theirs), no bucketing. docs/fidelity.md lists each difference with its test.
    Remaining differences: the random streams (order, dropout, new rows); `<pad>` has its own row in the softmax, the
    code pads with row 0; the softmax includes all position rows, the code's as many as the longest input has; the code
    also evaluates after 1,000, 2,000, 4,000 … steps of the first epoch; it computes in float32 (`--dtype float32`).
    Expected from the released weights on ROCStories: 85.8, the median of ten runs (86.5 in the paper's table).
    """
    return FinetuneConfig(
        head_bias=True,
        select_by="metric",
        loss=LossConfig(lm_coef=0.5, lm_mean="sequence", lm_over_positions=True),
        optim=OptimConfig(
            lr=6.25e-5, schedule="linear", warmup=0.002, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01,
            max_grad_norm=1.0, decay_with_correction=True, eps_outside_correction=True,
        ),
        dropout=DropoutConfig(
            embd_pdrop=0.1, resid_pdrop=0.1, attn_pdrop=0.1, clf_pdrop=0.1, embd_matrix=True, clf_shared=True
        ),
        loop=LoopConfig(epochs=3, batch_size=32, micro_batch_size=8, bucketing=False, drop_last=True),
        split=DataConfig(truncation="half", split_strategy="openai"),
    )  # fmt: skip


def mindspore_imdb() -> FinetuneConfig:
    """IMDB sentiment of the lesson "GPT-1 in practice with MindSpore", on a tenth of the training set.

    A random stratified 10 % of the training split, 30 % of it for validation; batch size 4, 1 epoch, learning rate 2e-5
    with linear decay to 0 and no warm-up, Adam 0.9/0.999/1e-8, no weight decay, gradient norm clipped at 1, dropout 0.1
    (none before the head, as in the lesson's model), no auxiliary loss, 512 tokens; the best epoch by validation loss.
    Expected from the released weights: 0.889 to 0.901 on the validation split (one MindNLP run on Ascend; its test
    split was not scored). Measured from random:mini: docs/results.md.
    """
    return FinetuneConfig(
        task="classification",
        loss=LossConfig(lm_coef=0.0),
        select_by="loss",
        optim=OptimConfig(
            lr=2e-5,
            schedule="linear",
            warmup=0.0,
            beta1=0.9,
            beta2=0.999,
            eps=1e-8,
            weight_decay=0.0,
            max_grad_norm=1.0,
        ),
        dropout=DropoutConfig(embd_pdrop=0.1, resid_pdrop=0.1, attn_pdrop=0.1, clf_pdrop=0.0),
        loop=LoopConfig(epochs=1, batch_size=4),
        split=DataConfig(train_fraction=0.1, valid_fraction=0.3, max_length=512),
    )


def quickstart() -> FinetuneConfig:
    """Small model: a higher rate than the paper's, and the more epochs the fewer rows there are.

    Chosen with `mini` by the validation accuracy on IMDB, SST-2 and AG News with 240, 2,000 and 10,000 rows
    (`benchmarks/small_models.py`; docs/small-models.md has the table).
    """
    return FinetuneConfig(
        loss=LossConfig(lm_coef=0.5),
        optim=OptimConfig(lr=4e-4, warmup=0.1, weight_decay=0.01),
        loop=LoopConfig(epochs=None, batch_size=16),
    )


RECIPES: dict[str, Callable[[], FinetuneConfig]] = {
    "paper-finetune": paper_finetune,
    "openai-finetune": openai_finetune,
    "mindspore-imdb": mindspore_imdb,
    "quickstart": quickstart,
}


# ---- pretraining


def paper_pretrain() -> PretrainConfig:
    """Pretraining of Radford et al. 2018, §4.1: 100 epochs of BooksCorpus in batches of 64 × 512 tokens.

    Adam with a peak learning rate of 2.5e-4, reached linearly over 2,000 steps and then decayed to 0 by a cosine;
    initialization N(0, 0.02); dropout 0.1 on embeddings, residuals and attention; decoupled weight decay 0.01 on all
    parameters but biases and gains. The paper specifies neither β (here 0.9/0.999, as in OpenAI's fine-tuning code) nor
    clipping (here 1.0, as there). Expected: a perplexity of 18.4 per token on BooksCorpus.
    """
    return PretrainConfig(
        context=512,
        init="normal",
        optim=OptimConfig(
            lr=2.5e-4, schedule="cosine", warmup=2_000, beta1=0.9, beta2=0.999, weight_decay=0.01, max_grad_norm=1.0
        ),
        dropout=DropoutConfig(embd_pdrop=0.1, resid_pdrop=0.1, attn_pdrop=0.1),
        loop=LoopConfig(epochs=100, batch_size=64, micro_batch_tokens=16_384),
    )


def mindspore_pretrain() -> PretrainConfig:
    """Pretraining of the MindSpore course on GPT-1: 100,000 steps of 64 × 512 tokens, 3.28 billion in total.

    Adam with β 0.9/0.99, a peak learning rate of 2.5e-4 after 2,000 steps of warm-up, linear decay, Xavier-uniform
    initialization of all matrices, embeddings included, zero biases, dropout 0.1, weight decay 0.01, gradient norm
    clipped at 1.
    """
    return PretrainConfig(
        context=512,
        init="xavier",
        optim=OptimConfig(
            lr=2.5e-4, schedule="linear", warmup=2_000, beta1=0.9, beta2=0.99, weight_decay=0.01, max_grad_norm=1.0
        ),
        dropout=DropoutConfig(embd_pdrop=0.1, resid_pdrop=0.1, attn_pdrop=0.1),
        loop=LoopConfig(
            epochs=100_000,  # more than any corpus needs: max_steps ends the run
            max_steps=100_000,
            batch_size=64,
            micro_batch_tokens=16_384,
        ),
    )


def mini_books() -> PretrainConfig:
    """First pretraining stage of the bundled `mini` on a CPU: windows of 128 tokens at a constant learning rate.

    With a learning rate of 1e-3 after 100 steps of warm-up this post-norm model did not get beyond the frequencies of
    single tokens (6.6 nats); with 3e-4 to 7e-4 after 100 to 300 steps it does within 0.1 million tokens. The rate is
    constant so that the run may be stopped at any step and continued with `mini-books-512` from its best model. No
    dropout: on a CPU the model sees each token once or twice and does not overfit.
    Measured on 127 MB of novels, seed 0, 2 shared cores, in bits per byte on held-out novels (million tokens): 1.82
    (2.0), 1.59 (8.2), 1.53 (14.3), 1.506 (18.4, after two hours at 700 to 4,600 tokens/s), still decreasing.
    """
    return PretrainConfig(
        size="mini",
        context=128,
        optim=OptimConfig(
            lr=5e-4, schedule="constant", warmup=300, beta1=0.9, beta2=0.99, weight_decay=0.01, max_grad_norm=1.0
        ),
        dropout=DropoutConfig(embd_pdrop=0.0, resid_pdrop=0.0, attn_pdrop=0.0),
        loop=LoopConfig(epochs=3, batch_size=16, eval_every=1_000, save_every=500, log_every=25),
    )


def mini_books_512() -> PretrainConfig:
    """Second pretraining stage of the bundled `mini` on a CPU: windows of 512 tokens, linear decay to 0.

    `--model` is the run of the first stage. Measured after its 18.4 M tokens with `--max-steps 800` (3.3 M tokens in 17
    minutes): 1.449 bits per byte. The result is the bundled model.
    """
    return PretrainConfig(
        context=512,
        optim=OptimConfig(
            lr=5e-4, schedule="linear", warmup=100, beta1=0.9, beta2=0.99, weight_decay=0.01, max_grad_norm=1.0
        ),
        dropout=DropoutConfig(embd_pdrop=0.0, resid_pdrop=0.0, attn_pdrop=0.0),
        loop=LoopConfig(epochs=1, max_steps=2_500, batch_size=8, eval_every=500, save_every=250, log_every=25),
    )


PRETRAINING: dict[str, Callable[[], PretrainConfig]] = {
    "paper-pretrain": paper_pretrain,
    "mindspore-pretrain": mindspore_pretrain,
    "mini-books": mini_books,
    "mini-books-512": mini_books_512,
}


PAPER_PARAMETERS = 60_000_000
"""Number of parameters from which on a model is fine-tuned with the paper's settings by default (GPT-1: 117 M)."""
DEFAULT_FOR = {
    "paper-finetune": "60 M parameters or more",
    "quickstart": "smaller models",
    "paper-pretrain": "all models",
}
"""Recipe that is used when none is named -> the models that it is used for."""


def recipe_for(parameters: int) -> str:
    """Return the default recipe for fine-tuning a model with so many parameters."""
    return "paper-finetune" if parameters >= PAPER_PARAMETERS else "quickstart"


def adaptation_rate(parameters: int) -> float:
    """Return the default peak learning rate of --adapt.

    From `PAPER_PARAMETERS` on that of Gururangan et al. 2020 (RoBERTa base, 125 M); for `mini` the best of 3e-4, 6e-4,
    1e-3 and 2e-3 by bits per byte of held-out text (docs/small-models.md).
    """
    return 1e-4 if parameters >= PAPER_PARAMETERS else 1e-3


def recipe(name: str, /, **settings: Any) -> FinetuneConfig:
    """Return the settings of a fine-tuning recipe, with single settings replaced by keyword arguments.

    Raises:
        UserError: the recipe or a setting is unknown, or a value is invalid.
    """
    if name not in RECIPES:
        raise UserError(f"--recipe {name}: unknown; expected one of {', '.join(RECIPES)}{did_you_mean(name, RECIPES)}")
    return with_overrides(RECIPES[name](), {"recipe": name} | settings)


def pretraining(name: str) -> PretrainConfig:
    """Return the settings of a pretraining recipe.

    Raises:
        UserError: the recipe is unknown.
    """
    if name not in PRETRAINING:
        raise UserError(
            f"--recipe {name}: unknown; expected one of {', '.join(PRETRAINING)}{did_you_mean(name, PRETRAINING)}"
        )
    return PRETRAINING[name]()
