"""MindSpore engine: losses, gradients and updates of one model on one device (see `backends.base.Engine`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, ops
from numpy.typing import NDArray

from gpt1.backends.base import IGNORE, Batch, StepResult
from gpt1.backends.dropout import HostDropoutRng
from gpt1.backends.losses import LOSS_SCALES, denominators
from gpt1.backends.mindspore import device as devices
from gpt1.backends.mindspore import masks
from gpt1.backends.mindspore.compiled import ABSENT, Compiled
from gpt1.backends.mindspore.decode import MindSporeDecoder
from gpt1.backends.mindspore.distributed import MindSporeRanks, MindSporeSingleProcess
from gpt1.backends.mindspore.functional import merged_heads, split_heads
from gpt1.backends.mindspore.losses import target_logprobs
from gpt1.backends.mindspore.model import GPT1, Inference
from gpt1.backends.mindspore.training import Gradients, Losses, Update, inputs, numbers
from gpt1.backends.parameters import Params, shapes
from gpt1.config import DeviceConfig, DropoutConfig, LossConfig, ModelConfig, OptimConfig

COMPILED_FOR = 16
"""Least number of batches of one shape in a call for which inference is compiled; compiling pays off after 15 to 40.

The data alone decide, not earlier calls, so that the same data give the same bits."""


class MindSporeEngine:
    """`backends.base.Engine` in MindSpore.

    Weights, moments and the residual stream are float32; matrix products run in `dtype`.
    """

    def __init__(
        self,
        config: ModelConfig,
        params: Mapping[str, NDArray[np.float32]],
        hardware: DeviceConfig,
        optim: OptimConfig,
        dropout: DropoutConfig,
        loss: LossConfig,
        seed: int,
        ranks: MindSporeRanks | MindSporeSingleProcess,
    ):
        self.config, self.optim, self.dropout, self.loss, self.seed = config, optim, dropout, loss, seed
        self.ranks = ranks
        self._choice = devices.choose(hardware)
        devices.verify(self._choice, training=False)
        self.device, dtype, self.traits, _ = self._choice
        self.dtype = str(dtype).lower()
        self.tokens_at_once = self.traits.tokens_at_once
        self.buckets = devices.buckets(self.traits, config.n_ctx)
        self.model = GPT1(config, dropout, dtype, self.traits.sums_by_products)
        by_name = {p.name: p for p in self.model.get_parameters()}
        self._params: dict[str, Parameter] = {name: by_name[name] for name in shapes(config)}
        self.load_parameters(params)
        every = list(self._params.values())
        self._losses = Losses(self.model, loss, self.traits.logits_at_once)
        self._gradients: Gradients | Compiled = Gradients(self._losses, every)
        self._moments = Update(every, optim, self.model.sums)
        self._update: Update | Compiled = self._moments
        self._inference = Inference(self.model)
        self._inference_of_many: Inference | Compiled = self._inference
        if not hardware.eager:
            self._gradients = Compiled(self._gradients, "the training step")
            self._update = Compiled(self._update)
            self._inference_of_many = Compiled(Inference(self.model))

    # ---- training

    def train_step(self, batches: Sequence[Batch], *, lr: float, step: int) -> StepResult:
        losses, grads = self._accumulate(batches, step)
        values = {**losses, "grad_norm": self._update(grads, numbers(step, lr, self.optim))}
        return StepResult(lambda: {name: _float(value) for name, value in values.items()})

    def gradients(self, batches: Sequence[Batch], *, step: int = 0) -> tuple[dict[str, float], Params]:
        losses, grads = self._accumulate(batches, step)
        named = zip(self._params, grads, strict=True)
        return {name: _float(value) for name, value in losses.items()}, {name: _numpy(grad) for name, grad in named}

    def _accumulate(self, batches: Sequence[Batch], step: int) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        """Return the loss of a step with its parts, and its gradients, all summed over all ranks.

        See `backends.losses` for the formula.
        """
        if self.dtype != "float16":
            return self._accumulate_scaled(batches, step, ABSENT)
        devices.verify(self._choice, training=True)
        for scale in LOSS_SCALES:
            losses, grads = self._accumulate_scaled(batches, step, Tensor([scale], mindspore.float32))
            if np.isfinite(_float(self.model.sums.of_squares(grads))):  # the same on all ranks
                break
        return losses, grads

    def _accumulate_scaled(
        self, batches: Sequence[Batch], step: int, scale: Tensor
    ) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        """Return the same, computed with the loss scale `scale` (1,); `ABSENT`: without one."""
        counts = denominators(batches, self.config, self.loss, self.ranks)
        totals: tuple[Tensor, ...] | None = None
        for index, batch in enumerate(batches):
            arrays = inputs(batch, counts, self.loss.lm_mean)
            if arrays.labels is ABSENT and arrays.targets is ABSENT:
                continue
            rng = HostDropoutRng(self.seed, step, index * self.ranks.size + self.ranks.rank)
            wants_lm = arrays.targets is not ABSENT
            drawn = masks.draw(self.config, self.dropout, batch, rng, every_position=wants_lm)
            losses, grads = self._gradients(tuple(arrays), drawn, scale)
            new = (*losses, *grads)
            totals = new if totals is None else tuple(a + b for a, b in zip(totals, new, strict=True))
        if totals is None:  # no example of the step has a weight; the moments decay nevertheless
            nothing = (Tensor(0.0, mindspore.float32),) * 3
            totals = (*nothing, *(ops.zeros_like(p) for p in self._params.values()))
        loss, task, lm, *gradient = self.ranks.sum(totals)
        parts = ({"task_loss": task} if counts.example_weight else {}) | ({"lm_loss": lm} if counts.lm_count else {})
        return {"loss": loss} | parts, tuple(gradient)

    # ---- inference

    def logits(self, batch: Batch) -> NDArray[np.float32]:
        states = self._states(batch, Tensor(batch.eos_positions.astype(np.int32)))
        return _numpy(self.model.task_logits(states, batch.sequences_per_example, None))

    def token_logprobs(self, batch: Batch) -> NDArray[np.float32]:
        wanted = batch.lm_targets != IGNORE
        states = self._states(batch, ABSENT)
        positions = np.flatnonzero(wanted).astype(np.int32)
        targets = batch.lm_targets[wanted].astype(np.int32)
        embedding = self.model.tokens_embed.weight[: self.config.vocab_size]
        rows = max(1, self.traits.logits_at_once // self.config.vocab_size)
        parts = []
        for start in range(0, len(positions), rows):
            part = slice(start, start + rows)
            at_targets = ops.gather(states.reshape(-1, self.config.n_embd), Tensor(positions[part]), 0)
            parts.append(_numpy(target_logprobs(at_targets, embedding, Tensor(targets[part]), self.model.dtype)))
        logprobs = np.zeros(batch.lm_targets.shape, np.float32)
        if parts:
            logprobs[wanted] = np.concatenate(parts)
        return logprobs

    def attributions(self, batch: Batch, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        rows, embedded = self._rows(batch)
        position, of_each = Tensor(batch.eos_positions.astype(np.int32)), Tensor(weights)

        def weighted(rows: Tensor) -> Tensor:
            states = self.model.decoded(embedded(rows), position, masks.nothing_dropped(self.config))
            return (self.model.task_logits(states, batch.sequences_per_example, None) * of_each).sum()

        return _numpy((rows * mindspore.grad(weighted)(rows)).sum(-1))

    def attention(self, batch: Batch) -> NDArray[np.float32]:
        rows, embedded = self._rows(batch)
        x = embedded(rows)
        future, layers = self.model.future_of(x), []

        def attend(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
            size = self.model.head_size
            heads = (split_heads(each, size) for each in (q, k, v))
            sums, weights, _ = self.model.attend(*heads, future, keep)
            layers.append(_numpy(weights))
            return merged_heads(sums)

        for block, of_block in zip(self.model.h, masks.nothing_dropped(self.config), strict=True):
            x = block(x, attend, of_block)
        return np.stack(layers)

    def _rows(self, batch: Batch) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return the token embeddings (N, T, D), and a function that adds those of positions and segments."""
        embeddings = self.model.tokens_embed.weight, self.model.positions_embed.weight
        segments = None if batch.segments is None else Tensor(batch.segments.astype(np.int32))
        rows = ops.gather(embeddings[0], Tensor(batch.tokens.astype(np.int32)), 0)
        return rows, lambda rows: self.model.embedded(rows, segments, embeddings)

    def decoder(self, n_sequences: int, length: int) -> MindSporeDecoder:
        return MindSporeDecoder(self.model, n_sequences, length)

    def _states(self, batch: Batch, position: Tensor) -> Tensor:
        """Return the states of the last layer: (N, T, D) if `position` is `ABSENT`, or (N, D) at `position` (N,)."""
        segments = ABSENT if batch.segments is None else Tensor(batch.segments.astype(np.int32))
        run = self._inference_of_many if batch.batches_of_this_shape >= COMPILED_FOR else self._inference
        return run(Tensor(batch.tokens.astype(np.int32)), segments, position)

    # ---- state

    def parameters(self) -> Params:
        return {name: _numpy(p) for name, p in self._params.items()}

    def load_parameters(self, params: Mapping[str, NDArray[np.float32]]) -> None:
        for name, p in self._params.items():
            _load(p, params[name])

    def optimizer_state(self) -> Params:
        moments = (("first", self._moments.first), ("second", self._moments.second))
        return {f"{kind}.{name}": _numpy(p) for kind, ps in moments for name, p in zip(self._params, ps, strict=True)}

    def load_optimizer_state(self, state: Mapping[str, NDArray[np.float32]], step: int) -> None:
        for kind, ps in (("first", self._moments.first), ("second", self._moments.second)):
            for name, p in zip(self._params, ps, strict=True):
                _load(p, state[f"{kind}.{name}"])


def _load(parameter: Parameter, value: NDArray[Any]) -> None:
    parameter.set_data(Tensor(np.array(value, np.float32)))


def _numpy(tensor: Tensor) -> NDArray[np.float32]:
    """Copy a tensor to a float32 array on the host."""
    return np.array(tensor.asnumpy(), np.float32)


def _float(value: Tensor) -> float:
    return float(value.asnumpy())
