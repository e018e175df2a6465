"""Complete runs by name. A recipe is a function that returns every setting; its docstring gives source and result.

`gpt1 finetune --recipe NAME` and `gpt1 pretrain --recipe NAME` start from these settings; any other flag changes a
single one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpt1.config import DataConfig, DropoutConfig, FinetuneConfig, LoopConfig, LossConfig, OptimConfig, PretrainConfig
from gpt1.config.overrides import with_overrides
from gpt1.errors import UserError


def paper_finetune() -> FinetuneConfig:
    """Fine-tuning as Radford et al. 2018, §4.1, has it.

    lr 6.25e-5, batch 32, 3 epochs, linear decay after a warm-up over 0.2 % of training, λ = 0.5, dropout 0.1 (the
    classifier's too), gradient clipped at norm 1, the best epoch by the validation metric.
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
    """Fine-tuning as OpenAI's code did it (openai/finetune-transformer-lm, `train.py`, `opt.py`, `datasets.py`).

    `paper-finetune`, and wherever the code differs from the paper, as the code: weight decay times the bias-corrected
    rate, ε outside the correction, embedding dropout on the matrix, one classifier mask for all choices, a head with a
    bias, LM loss as the mean over sequences with position rows in its softmax, parts cut by themselves, their draw of
    the validation examples, whole batches only; batch 32 as 4 micro-batches of 8 (their GPUs), no bucketing.
    docs/fidelity.md has each with its test. What remains different: the random streams (order, dropout, new rows);
    `<pad>` is a row of its own in the softmax, where they pad with row 0; the softmax runs over all position rows,
    theirs over as many as the data's longest input has; they also evaluate after 1,000, 2,000, 4,000 … steps of the
    first epoch; they compute in float32 (`--dtype float32`).
    Expected from the released weights on ROCStories: 85.8, the median of ten runs (the paper's table has 86.5).
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
    """The lesson "GPT-1 in practice with MindSpore": IMDB sentiment from a tenth of the training set.

    A random stratified 10 % of the training split, of which 30 % validates; batch 4, 1 epoch, lr 2e-5 falling linearly
    to 0 without warm-up, Adam 0.9/0.999/1e-8, no weight decay, clip 1.0, dropout 0.1 (none before the head: the
    lesson's model has none), no auxiliary loss, 512 tokens; the lowest validation loss is the best model.
    Expected from the released weights: 0.889 to 0.901 on the validation part (one MindNLP run on Ascend; its test set
    was never scored). Measured from random:mini: docs/results.md.
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
    """A few hundred short texts and a small model on a laptop: more and larger steps than the paper takes.

    Made for `make demo`: the bundled model on the sample reviews in 40 s on one core. The rate is the middle of 1e-4 to
    3e-4, which validation did not tell apart: with an early mini (4 M tokens of pretraining), mean of seeds 0 to 2,
    0.69, 0.73, 0.72, 0.72 and 0.69 were right at 5e-5, 1e-4, 2e-4, 3e-4 and 5e-4. The bundled one, seed 0: 0.72.
    """
    return FinetuneConfig(
        loss=LossConfig(lm_coef=0.5),
        optim=OptimConfig(lr=2e-4, warmup=0.1, weight_decay=0.01),
        loop=LoopConfig(epochs=5, batch_size=16),
    )


RECIPES: dict[str, Callable[[], FinetuneConfig]] = {
    "paper-finetune": paper_finetune,
    "openai-finetune": openai_finetune,
    "mindspore-imdb": mindspore_imdb,
    "quickstart": quickstart,
}


# ---- pretraining


def paper_pretrain() -> PretrainConfig:
    """Pretraining as Radford et al. 2018, §4.1, has it: 100 epochs of BooksCorpus in batches of 64 × 512 tokens.

    Adam with a highest rate of 2.5e-4, reached linearly over 2,000 updates and then annealed to 0 by a cosine;
    N(0, 0.02); dropout 0.1 on embeddings, residuals and attention; decoupled decay 0.01 on all but biases and gains.
    The paper gives no β (0.9/0.999 as OpenAI's fine-tuning code) and no clipping (1.0, as there).
    Expected: a perplexity of 18.4 a token on BooksCorpus.
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
    """Pretraining as the MindSpore course on GPT-1 has it: 100,000 steps of 64 × 512 tokens, 3.28 billion in all.

    Adam β 0.9/0.99, a highest rate of 2.5e-4 after 2,000 steps of warm-up, linear decay, Xavier-uniform matrices
    (embeddings too), zero biases, dropout 0.1, decay 0.01, clip 1.0.
    """
    return PretrainConfig(
        context=512,
        init="xavier",
        optim=OptimConfig(
            lr=2.5e-4, schedule="linear", warmup=2_000, beta1=0.9, beta2=0.99, weight_decay=0.01, max_grad_norm=1.0
        ),
        dropout=DropoutConfig(embd_pdrop=0.1, resid_pdrop=0.1, attn_pdrop=0.1),
        loop=LoopConfig(
            epochs=100_000,  # more than any corpus needs: the steps decide
            max_steps=100_000,
            batch_size=64,
            micro_batch_tokens=16_384,
        ),
    )


def mini_books() -> PretrainConfig:
    """The bundled `mini` on a CPU, first stage: windows of 128 tokens at a constant rate, for as long as there is time.

    A rate of 1e-3 after a warm-up of 100 steps left this post-norm model at the frequencies of single tokens (6.6 nats)
    for good; with 3e-4 to 7e-4 after 100 to 300 steps it is past them after 0.1 million tokens. The rate stays up after
    its warm-up, so that the run may be stopped anywhere and `mini-books-512` takes over from its best model. No
    dropout: on a CPU the model sees each token once or twice and does not overfit.
    Measured, 127 MB of novels, seed 0, 2 shared cores, bits per byte on whole novels after so many million tokens: 1.82
    (2.0), 1.59 (8.2), 1.53 (14.3), 1.506 (18.4, after two hours at 700 to 4,600 tokens/s). Nothing was saturated.
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
    """The bundled `mini` on a CPU, second stage: all 512 positions, the rate falling to 0.

    `--model` is the first stage's run. Measured after its 18.4 M tokens, with `--max-steps 800` (3.3 M tokens in 17
    minutes): 1.449 bits per byte. That is the bundled model.
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


def recipe(name: str, /, **settings: Any) -> FinetuneConfig:
    """Return the settings of a recipe for `finetune`, changed by those that are given under the names of their flags.

    `recipe("mindspore-imdb", data="imdb", out="runs/imdb", lr=1e-5)` is what `gpt1 finetune --recipe mindspore-imdb
    --data imdb --out runs/imdb --lr 1e-5` runs: the one goes on with a run of the other.

    Raises:
        UserError: there is no recipe or no setting of this name, or a value cannot be used.
    """
    if name not in RECIPES:
        raise UserError(f"--recipe {name}: unknown; there are {', '.join(RECIPES)}")
    return with_overrides(RECIPES[name](), {"recipe": name} | settings)


def pretraining(name: str) -> PretrainConfig:
    """Return the settings of a pretraining recipe.

    Raises:
        UserError: there is no recipe of this name.
    """
    if name not in PRETRAINING:
        raise UserError(f"--recipe {name}: unknown; for pretraining there are {', '.join(PRETRAINING)}")
    return PRETRAINING[name]()
