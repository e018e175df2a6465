"""PyTorch engine: losses, gradients and updates of one model on one device (see `backends.base.Engine`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt1.backends.base import BUCKETS, IGNORE, Batch, StepResult
from gpt1.backends.losses import LOSS_SCALES, denominators, lm_coefficient, target_weights
from gpt1.backends.optim import clip_factor, corrections
from gpt1.backends.parameters import Params, decays, shapes
from gpt1.backends.torch import device as devices
from gpt1.backends.torch.attention import causal_attention, causal_weights
from gpt1.backends.torch.decode import DecoderWeights, TorchDecoder
from gpt1.backends.torch.distributed import TorchRanks, TorchSingleProcess
from gpt1.backends.torch.functional import DropoutRng, can_pack, gradient_of
from gpt1.backends.torch.losses import lm_loss_and_gradient, target_logprobs, task_losses
from gpt1.backends.torch.model import GPT1, Embeddings, Linear
from gpt1.config import DeviceConfig, DropoutConfig, LossConfig, ModelConfig, OptimConfig


class TorchEngine:
    """`backends.base.Engine` in PyTorch.

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
        ranks: TorchRanks | TorchSingleProcess,
    ):
        self.config, self.optim, self.loss, self.seed, self.ranks = config, optim, loss, seed, ranks
        self.lm_coef = lm_coefficient(config, loss)
        self.hardware = hardware
        self._device, self._dtype, self.traits = devices.choose(hardware, training=False)
        self.device, self.dtype = self.traits.name(self._device), str(self._dtype).removeprefix("torch.")
        self.tokens_at_once = self.traits.tokens_at_once
        self.buckets: Sequence[int] = BUCKETS
        with torch.device("meta"):
            self.model = GPT1(config, dropout, self.traits)
        tensors = {name: torch.tensor(params[name], device=self._device) for name in shapes(config)}
        self.model.load_state_dict(tensors, assign=True)
        self.model.requires_grad_(True)
        self._params = dict(self.model.named_parameters())
        # the gradients of the embeddings are complete only after the backward pass, in which they are last anyway
        self._embeddings = list(self.model.embeddings())
        late = {*self._embeddings}
        self._gradient_sum = ranks.gradient_sum([p for p in self._params.values() if p not in late])
        if hardware.compile:
            for block in self.model.h:
                block.compile()
        self._optimizer: torch.optim.AdamW | None = None
        self._linear_layers = [layer for layer in self.model.modules() if isinstance(layer, Linear)]
        self._packs_weights = self.traits.packs_weights and self._dtype == torch.bfloat16 and can_pack()
        self._casts_are_current = False
        self._decoding: DecoderWeights | None = None

    # ---- training

    def train_step(self, batches: Sequence[Batch], *, lr: float, step: int) -> StepResult:
        optimizer = self._ready_to_train()
        losses = self._accumulate(batches, step)
        grads = [gradient_of(p) for p in self._params.values()]
        norm = torch.nn.utils.get_total_norm(grads)
        torch._foreach_mul_(grads, clip_factor(norm, self.optim.max_grad_norm))
        matrices, vectors = optimizer.param_groups
        eps, matrices["weight_decay"] = corrections(step, self.optim)
        for group in (matrices, vectors):
            group["lr"], group["eps"] = lr, eps
        optimizer.step()
        self._casts_are_current = False
        self._clear_gradients()
        values = {**losses, "grad_norm": norm}
        return StepResult(lambda: {name: float(value) for name, value in values.items()})

    def gradients(self, batches: Sequence[Batch], *, step: int = 0) -> tuple[dict[str, float], Params]:
        self._ready_to_train()
        losses = self._accumulate(batches, step)
        grads = {name: _numpy(gradient_of(p)) for name, p in self._params.items()}
        self._clear_gradients()
        return {name: float(value) for name, value in losses.items()}, grads

    def _clear_gradients(self) -> None:
        """Free every gradient but the token embedding's, which is too large to be allocated again at each step."""
        kept = self.model.tokens_embed.weight
        for p in self._params.values():
            if p is not kept:
                p.grad = None
        if kept.grad is not None:
            kept.grad.zero_()

    def _ready_to_train(self) -> torch.optim.AdamW:
        """Return the optimizer, created at the first call."""
        self._decoding = None
        if self.traits.adds_gradients:
            self._cast_weights()
        else:
            self._drop_casts()
        if self._optimizer is None:
            devices.choose(self.hardware, training=True)
            if self.traits.keeps_freed_memory:
                devices.keep_freed_memory()
            matrices = [p for name, p in self._params.items() if decays(name, tuple(p.shape))]
            vectors = [p for name, p in self._params.items() if not decays(name, tuple(p.shape))]
            groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
            betas = self.optim.beta1, self.optim.beta2
            # The rule of optim.adamw; test_backend_updates.py and test_update_rule.py compare them.
            self._optimizer = torch.optim.AdamW(groups, betas=betas, fused=self.traits.fused_optimizer)
        return self._optimizer

    def _accumulate(self, batches: Sequence[Batch], step: int) -> dict[str, Tensor]:
        """Compute the gradient of the step's loss; return the loss and its parts. All are sums over all ranks.

        See `backends.losses` for the formula. In float16 it waits for the device, to know whether a gradient overflows.
        """
        if self._dtype != torch.float16:
            return self._accumulate_scaled(batches, step, 1.0)
        for scale in LOSS_SCALES:
            self._clear_gradients()
            losses = self._accumulate_scaled(batches, step, scale)
            grads = [gradient_of(p) for p in self._params.values()]
            torch._foreach_mul_(grads, 1.0 / scale)
            if torch.nn.utils.get_total_norm(grads).isfinite():  # the same on all ranks
                break
        return losses

    def _accumulate_scaled(self, batches: Sequence[Batch], step: int, scale: float) -> dict[str, Tensor]:
        """Return the same losses; the gradients are those of `scale` times the loss."""
        weight, lm_count = denominators(batches, self.config, self.loss, self.ranks)
        totals = torch.zeros(2, device=self._device)
        task_total, lm_total = totals
        on_host = self.traits.dropout_on_host
        for index, batch in enumerate(batches):
            rng = DropoutRng(self._device, self.seed, step, index * self.ranks.size + self.ranks.rank, on_host=on_host)
            wants_lm = lm_count > 0 and batch.target_count > 0
            dropped = self.model.dropped_embeddings(rng)
            embeddings = Embeddings(*(each.value for each in dropped)) if dropped else self.model.embeddings()
            states, at_eos = self._states(batch, every_position=wants_lm, rng=rng, embeddings=embeddings)
            roots: list[Tensor] = []
            root_grads: list[Tensor] = []
            if weight and batch.labels is not None:
                task_loss = self._task_loss(batch, at_eos, rng) / weight
                task_total += task_loss.detach()
                roots.append(task_loss)
                root_grads.append(torch.full_like(task_loss, scale))
            if wants_lm and states is not None:
                lm_sum, wanted_states, grad = self._lm_loss(batch, states, scale * self.lm_coef / lm_count, embeddings)
                lm_total += lm_sum / lm_count
                roots.append(wanted_states)
                root_grads.append(grad)
            if roots:
                with self._gradient_sum.overlapped(last=index == len(batches) - 1):
                    torch.autograd.backward(roots, root_grads)
            for each in dropped:
                each.add_gradient()
        # Parameters without a gradient get zeros: their moments decay even if no example of the step has a weight.
        self._gradient_sum.finish()
        self.ranks.sum_([totals, *map(gradient_of, self._embeddings)])
        losses = {"loss": task_total + self.lm_coef * lm_total}
        return losses | ({"task_loss": task_total} if weight else {}) | ({"lm_loss": lm_total} if lm_count else {})

    def _task_loss(self, batch: Batch, at_eos: Tensor, rng: DropoutRng) -> Tensor:
        """Return the weighted sum of the examples' losses; `at_eos` are the states (N, D) of `<eos>`."""
        head = self.config.head
        assert head is not None
        assert batch.labels is not None
        logits = self.model.task_logits(at_eos, batch.sequences_per_example, rng)
        losses = task_losses(logits, self._tensor(batch.labels), head)
        return (losses if batch.weights is None else losses * self._tensor(batch.weights)).sum()

    def _lm_loss(
        self, batch: Batch, states: Tensor, scale: float, embeddings: Embeddings
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the weighted sum of the LM losses, the states (M, D) at the targets, and its gradient by them.

        The gradient is multiplied by `scale`.
        """
        at_targets, targets = self._at_targets(batch, states)
        weights = None
        if self.loss.lm_mean == "sequence":
            every = target_weights(batch, self.loss.lm_mean)  # (N, T)
            weights = self._tensor(every[batch.lm_targets != IGNORE].astype(np.float32))
        with torch.no_grad():
            rows = [embeddings.tokens[: self.config.vocab_size]]  # without segments
            grads = [gradient_of(embeddings.tokens)[: self.config.vocab_size]]
            if self.loss.lm_over_positions:
                rows.append(embeddings.positions)
                grads.append(gradient_of(embeddings.positions))
            total, grad = lm_loss_and_gradient(
                at_targets, rows, targets, scale, grads, self._dtype, self.traits, weights
            )
        return total, at_targets, grad

    def _at_targets(self, batch: Batch, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states (M, D) of the positions that have a target, and the targets (M,).

        The positions are computed on the host: indexing with a mask would wait for the device.
        """
        assert batch.lm_targets is not None
        targets = batch.lm_targets.ravel()
        positions = np.flatnonzero(targets != IGNORE)
        rows, chosen = states.flatten(0, 1), self._tensor(targets[positions].astype(np.int64))
        return (rows if len(positions) == len(targets) else rows.index_select(0, self._tensor(positions))), chosen

    # ---- inference

    @torch.inference_mode()
    def logits(self, batch: Batch) -> NDArray[np.float32]:
        self._pack_weights()
        _, at_eos = self._states(batch, every_position=False, rng=None)
        return _numpy(self.model.task_logits(at_eos, batch.sequences_per_example))

    @torch.inference_mode()
    def token_logprobs(self, batch: Batch) -> NDArray[np.float32]:
        self._pack_weights()
        states, _ = self._states(batch, every_position=True, rng=None)
        assert states is not None
        assert batch.lm_targets is not None
        at_targets, targets = self._at_targets(batch, states)
        embedding = self.model.tokens_embed.weight[: self.config.vocab_size]
        logprobs = np.zeros(batch.lm_targets.shape, np.float32)
        logprobs[batch.lm_targets != IGNORE] = _numpy(
            target_logprobs(at_targets, embedding, targets, self._dtype, self.traits)
        )
        return logprobs

    def attributions(self, batch: Batch, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        self._drop_casts()
        tokens, segments, eos_positions = self._inputs(batch)
        rows = self.model.tokens_embed.weight.detach()[tokens].requires_grad_()  # (N, T, D)
        states = self.model.decoded(
            self.model.embedded(rows, segments, self.model.embeddings()), position=eos_positions
        )
        logits = self.model.task_logits(states[:, 0], batch.sequences_per_example)
        (gradient,) = torch.autograd.grad((logits * self._tensor(weights)).sum(), rows)
        return _numpy((rows.detach() * gradient).sum(-1))

    @torch.inference_mode()
    def attention(self, batch: Batch) -> NDArray[np.float32]:
        self._drop_casts()
        tokens, segments, _ = self._inputs(batch)
        x = self.model.embedded(self.model.tokens_embed.weight[tokens], segments, self.model.embeddings())
        layers = []

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            layers.append(_numpy(causal_weights(q, k)))
            return causal_attention(q, k, v, 0.0, None)

        for block in self.model.h:
            x = block(x, attend)
        return np.stack(layers)

    def decoder(self, n_sequences: int, length: int) -> TorchDecoder:
        if self._decoding is None:
            self._decoding = DecoderWeights.of(self.model, self._dtype)
        return TorchDecoder(self._decoding, n_sequences, length)

    def _cast_weights(self) -> None:
        """Cast the weights of the linear layers, once for many batches, if products are not float32."""
        if self._dtype != torch.float32 and not self._casts_are_current:
            for layer in self._linear_layers:
                layer.cast(self._dtype)
            self._casts_are_current = True

    def _pack_weights(self) -> None:
        """Cast the weights, if products are not float32, and pack them where that makes inference faster."""
        self._cast_weights()
        if self._packs_weights:
            for layer in self._linear_layers:
                if layer.packed is None:
                    layer.pack()

    def _drop_casts(self) -> None:
        """Compute with the parameters themselves."""
        self._casts_are_current = False
        for layer in self._linear_layers:
            layer.drop_copies()

    # ---- both

    def _states(
        self, batch: Batch, *, every_position: bool, rng: DropoutRng | None, embeddings: Embeddings | None = None
    ) -> tuple[Tensor | None, Tensor]:
        """Return the float32 states (N, T, D), or `None` without `every_position`, and those at `<eos>` (N, D)."""
        tokens, segments, eos_positions = self._inputs(batch)
        with self._autocast():
            states = self.model(tokens, segments, rng, None if every_position else eos_positions, embeddings)
        if not every_position:
            return None, states[:, 0]
        return states, states[torch.arange(len(states), device=self._device), eos_positions]

    def _inputs(self, batch: Batch) -> tuple[Tensor, Tensor | None, Tensor]:
        """Copy a batch to the device: tokens (N, T), segments (N, T) and positions of `<eos>` (N,)."""
        segments = None if batch.segments is None else self._tensor(batch.segments)
        return self._tensor(batch.tokens), segments, self._tensor(batch.eos_positions).long()

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32)

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return devices.to_device(array, self._device, self.traits)

    # ---- state

    def parameters(self) -> Params:
        return {name: _numpy(p.detach()) for name, p in self._params.items()}

    def load_parameters(self, params: Mapping[str, NDArray[np.float32]]) -> None:
        self._decoding = None
        self._casts_are_current = False
        with torch.no_grad():
            for name, p in self._params.items():
                p.copy_(torch.from_numpy(np.ascontiguousarray(params[name])))

    def optimizer_state(self) -> Params:
        return {
            f"{moment}.{name}": _numpy(value)
            for name, state in self._moments()
            for moment, value in (("first", state["exp_avg"]), ("second", state["exp_avg_sq"]))
        }

    def load_optimizer_state(self, state: Mapping[str, NDArray[np.float32]], step: int) -> None:
        optimizer = self._ready_to_train()
        counters = self._device if self.traits.fused_optimizer else torch.device("cpu")
        for name, p in self._params.items():
            optimizer.state[p] = {
                "step": torch.tensor(float(step), device=counters),
                "exp_avg": torch.tensor(state[f"first.{name}"], device=self._device),
                "exp_avg_sq": torch.tensor(state[f"second.{name}"], device=self._device),
            }

    def _moments(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Yield each parameter's name and its state in the optimizer, zeros before the first update."""
        optimizer = self._ready_to_train()
        for name, p in self._params.items():
            empty = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
            yield name, optimizer.state.get(p) or empty


def _numpy(tensor: Tensor) -> NDArray[np.float32]:
    """Copy a tensor to a float32 array on the host."""
    return np.array(tensor.float().cpu().numpy())
