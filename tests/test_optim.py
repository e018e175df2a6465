"""Update rules: schedules value by value, AdamW against a reference implementation and PyTorch's, clipping."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gpt1.backends.optim import adamw, clip_factor, global_norm, learning_rate
from gpt1.backends.parameters import decays, shapes
from gpt1.config import ModelConfig, OptimConfig, Schedule

ROUNDING = 1e-12
"""Relative; float64 on both sides, the same terms in another order."""
FLOAT32 = 1e-6
"""Relative; sums and quotients of float32 numbers (epsilon 1.2e-7)."""
UPDATES = 100


# ---- schedules


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [0.0, 0.5 * 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        ("constant", [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("cosine", [0.0, 0.5, None, 0.7938926261462366, 0.6545084971874737, 0.5, 0.34549150281252633,
                    0.2061073738537634, 0.09549150281252627, 0.024471741852423234]),
    ],
)  # fmt: skip
def test_schedule_warms_up_for_two_of_ten_steps_and_falls(schedule: Schedule, expected: list[float | None]) -> None:
    """The linear decay is neither delayed nor rescaled by the warm-up."""
    config = OptimConfig(lr=3.0, schedule=schedule, warmup=2)
    for step, value in enumerate(expected):
        if value is not None:
            assert learning_rate(step, 10, config) == pytest.approx(3.0 * value, rel=ROUNDING, abs=ROUNDING), step


def test_cosine_reaches_the_full_rate_at_the_end_of_the_warm_up() -> None:
    assert learning_rate(2, 10, OptimConfig(lr=3.0, schedule="cosine", warmup=2)) == 3.0


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_rate_without_warm_up_starts_full_and_ends_at_zero(schedule: Schedule) -> None:
    config = OptimConfig(lr=2e-5, schedule=schedule, warmup=0)
    assert learning_rate(0, 50, config) == 2e-5
    assert learning_rate(25, 50, config) == pytest.approx(1e-5, rel=ROUNDING)
    assert learning_rate(50, 50, config) == 0.0


def test_warm_up_below_one_is_a_share_of_all_steps() -> None:
    share, number = OptimConfig(warmup=0.002), OptimConfig(warmup=20)
    for step in (0, 1, 10, 19, 20, 21, 9_999):
        assert learning_rate(step, 10_000, share) == pytest.approx(learning_rate(step, 10_000, number), rel=ROUNDING)
    assert learning_rate(10, 10_000, share) == pytest.approx(6.25e-5 * 0.5 * 0.999, rel=ROUNDING)


def test_warm_up_longer_than_the_run_never_reaches_the_full_rate() -> None:
    config = OptimConfig(lr=1.0, schedule="constant", warmup=2_000)
    assert max(learning_rate(step, 100, config) for step in range(100)) == 99 / 2_000


# ---- AdamW


def noisy_gradients(shape: tuple[int, ...], seed: int = 0) -> list[NDArray[np.float64]]:
    """Return gradients over many orders of magnitude, some of them zero."""
    rng = np.random.default_rng(seed)
    size = 10.0 ** rng.uniform(-9, 2, shape)
    return [np.where(rng.random(shape) > 0.2, rng.normal(0.0, size), 0.0) for _ in range(UPDATES)]


def plain_adamw(
    param: list[float], gradients: list[list[float]], rates: list[float], decay: float, config: OptimConfig
) -> list[float]:
    """Kingma & Ba 2015, algorithm 1, and Loshchilov & Hutter 2019, algorithm 2, one number at a time."""
    final = []
    for i, theta in enumerate(param):
        m = v = 0.0
        for t, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
            g = gradient[i]
            m = config.beta1 * m + (1 - config.beta1) * g
            v = config.beta2 * v + (1 - config.beta2) * g**2
            m_hat = m / (1 - config.beta1**t)
            v_hat = v / (1 - config.beta2**t)
            theta = theta - rate * (m_hat / (math.sqrt(v_hat) + config.eps) + decay * theta)
        final.append(theta)
    return final


def updated(param: Any, gradients: list[Any], config: OptimConfig, rates: list[float], *, decay: bool) -> Any:
    first = second = param * 0.0
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True)):
        param, first, second = adamw(param, gradient, first, second, step=step, lr=rate, decay=decay, config=config)
    return param


OPTIM = OptimConfig(lr=0.05, weight_decay=0.1, beta1=0.8, beta2=0.95, warmup=0.1)
RATES = [learning_rate(step, UPDATES, OPTIM) for step in range(UPDATES)]


@pytest.mark.parametrize("decay", [True, False])
def test_adamw_equals_the_algorithm_over_a_hundred_updates(decay: bool) -> None:
    start, gradients = np.linspace(-2.0, 2.0, 30), noisy_gradients((30,))
    found = updated(start, gradients, OPTIM, RATES, decay=decay)
    rate_of_decay = OPTIM.weight_decay if decay else 0.0
    expected = plain_adamw(start.tolist(), [g.tolist() for g in gradients], RATES, rate_of_decay, OPTIM)
    np.testing.assert_allclose(found, expected, rtol=ROUNDING, atol=ROUNDING)


def test_decay_alone_shrinks_by_the_rate_times_the_decay() -> None:
    zero = np.zeros(3)
    param, first, second = adamw(
        np.array([1.0, -2.0, 4.0]), zero, zero, zero, step=0, lr=0.5, decay=True, config=OptimConfig(weight_decay=0.1)
    )
    np.testing.assert_allclose(param, [0.95, -1.9, 3.8], rtol=ROUNDING)
    assert not first.any()
    assert not second.any()


def test_first_update_is_the_rate_in_the_direction_of_the_gradient() -> None:
    """Both moments are bias-corrected, so the size of the gradient has no effect."""
    zero = np.zeros(4)
    gradient = np.array([1e-3, -1.0, 1e3, 0.0])
    param = adamw(zero, gradient, zero, zero, step=0, lr=0.25, decay=False, config=OptimConfig())[0]
    np.testing.assert_allclose(param, [-0.25, 0.25, -0.25, 0.0], rtol=1e-4)  # eps is 1e-5 times the smallest gradient


def test_adamw_changes_nothing_in_place() -> None:
    arrays = [np.full(3, value) for value in (1.0, 2.0, 3.0, 4.0)]
    adamw(*arrays, step=3, lr=0.1, decay=True, config=OPTIM)
    for array, value in zip(arrays, (1.0, 2.0, 3.0, 4.0), strict=True):
        np.testing.assert_array_equal(array, value)


def test_decay_is_on_matrices_and_embeddings_only() -> None:
    config = ModelConfig(n_layer=1, n_head=1, n_embd=4, n_ctx=4, vocab_size=5)
    assert {name.removeprefix("h.0.") for name, shape in shapes(config).items() if decays(name, shape)} == {
        "tokens_embed.weight", "positions_embed.weight", "attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight",
        "mlp.c_proj.weight",
    }  # fmt: skip


@pytest.mark.parametrize("decay", [True, False])
def test_adamw_equals_pytorch_over_a_hundred_updates(decay: bool) -> None:
    torch = pytest.importorskip("torch")
    start = torch.linspace(-2.0, 2.0, 30, dtype=torch.float64)
    gradients = [torch.from_numpy(gradient) for gradient in noisy_gradients((30,))]
    parameter = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.AdamW(
        [parameter], betas=(OPTIM.beta1, OPTIM.beta2), eps=OPTIM.eps, weight_decay=OPTIM.weight_decay if decay else 0.0
    )
    for gradient, rate in zip(gradients, RATES, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        parameter.grad = gradient
        optimizer.step()
    found = updated(start, gradients, OPTIM, RATES, decay=decay)
    np.testing.assert_allclose(found.numpy(), parameter.detach().numpy(), rtol=ROUNDING, atol=ROUNDING)


# ---- clipping, on the arrays of each framework


@pytest.fixture(params=["numpy", "torch"])
def array(request: pytest.FixtureRequest) -> Any:
    """Return the function of each framework that creates a float32 array from a list."""
    if request.param == "numpy":
        return lambda values: np.array(values, np.float32)
    torch = pytest.importorskip("torch")
    return lambda values: torch.tensor(values, dtype=torch.float32)


def test_global_norm_is_the_norm_of_all_gradients_as_one_vector(array: Any) -> None:
    norm = global_norm([array([[1.0, -2.0], [0.0, 4.0]]), array([2.0]), array([0.0, 0.0])])
    assert norm.shape == ()
    assert float(norm) == pytest.approx(5.0, rel=FLOAT32)
    assert float(global_norm(iter([array([3.0]), array([-4.0])]))) == pytest.approx(5.0, rel=FLOAT32)


@pytest.mark.parametrize(
    ("max_grad_norm", "factor"),
    [(1.0, 0.2), (2.5, 0.5), (5.0, 1.0), (10.0, 1.0), (0.0, 1.0)],
    ids=lambda value: f"{value}",
)
def test_clip_factor_brings_the_norm_down_to_the_limit_and_never_up(
    array: Any, max_grad_norm: float, factor: float
) -> None:
    """A limit of 0 disables clipping."""
    gradients = [array([3.0, 0.0]), array([[-4.0]])]
    found = clip_factor(global_norm(gradients), max_grad_norm)
    assert float(found) == pytest.approx(factor, rel=FLOAT32)
    clipped = [gradient * found for gradient in gradients]
    assert clipped[0].dtype == gradients[0].dtype
    assert float(global_norm(clipped)) == pytest.approx(5.0 * factor, rel=FLOAT32)


def test_clip_factor_of_zero_gradients_is_one(array: Any) -> None:
    assert float(clip_factor(global_norm([array([0.0, 0.0])]), 1.0)) == 1.0


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_norm_of_a_broken_gradient_is_not_finite(array: Any, broken: float) -> None:
    """The training loop stops if the norm is not finite."""
    assert not math.isfinite(float(global_norm([array([1.0]), array([broken, 1.0])])))
