"""Sampling rules on hand-made logits: kept tokens, probabilities, samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt1.config import MOST_SAMPLES, GenerateConfig
from gpt1.errors import UserError
from gpt1.inference.sampling import Sampler, most_likely, nucleus

SIGMAS = 5
"""Tolerance in standard deviations of a binomial count; the seed is fixed, so the test is deterministic."""

HALVES = np.log(np.array([1, 8, 2, 4, 1], np.float32) / 16)
"""Probabilities 1/16, 1/2, 1/8, 1/4, 1/16."""
PLAIN: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0}


def choices(logits: Any = HALVES, seen: Any = (), forbidden: Any = (), **settings: Any) -> dict[int, float]:
    sampler = Sampler(GenerateConfig(**PLAIN | settings), forbidden)
    ids, probabilities = sampler.choices(np.asarray(logits, np.float32), seen)
    return dict(zip(ids.tolist(), probabilities.tolist(), strict=True))


# ---- kept tokens


def test_without_rules_every_token_has_the_models_probability() -> None:
    assert choices() == pytest.approx({0: 1 / 16, 1: 1 / 2, 2: 1 / 8, 3: 1 / 4, 4: 1 / 16})


@pytest.mark.parametrize(
    ("k", "kept"), [(1, {1}), (2, {1, 3}), (3, {1, 2, 3}), (4, {0, 1, 2, 3}), (5, {0, 1, 2, 3, 4}), (99, {*range(5)})]
)
def test_top_k_keeps_the_k_likeliest_and_the_lower_id_of_two_alike(k: int, kept: set[int]) -> None:
    found = choices(top_k=k)
    assert found.keys() == kept
    assert sum(found.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("share", "kept"),
    [
        (1e-9, {1}),
        (0.5, {1}),
        (0.51, {1, 3}),
        (0.75, {1, 3}),
        (0.8, {1, 2, 3}),
        (0.9, {0, 1, 2, 3}),
        (0.94, {0, 1, 2, 3, 4}),
        (1.0, {0, 1, 2, 3, 4}),
    ],
)
def test_top_p_keeps_the_fewest_of_the_likeliest_that_reach_the_share(share: float, kept: set[int]) -> None:
    found = choices(top_p=share)
    assert found.keys() == kept
    assert sum(found.values()) == pytest.approx(1)


def test_top_p_counts_in_what_top_k_left() -> None:
    """Of 1/2 and 1/4, the first has 2/3 of the sum."""
    assert choices(top_k=2, top_p=0.6) == {1: 1.0}
    assert choices(top_k=2, top_p=0.7) == pytest.approx({1: 2 / 3, 3: 1 / 3})


def test_temperature_comes_before_top_p() -> None:
    """At 1/2 the probabilities are squared: 64, 16, 4, 1 and 1 of 86."""
    assert choices(temperature=0.5) == pytest.approx({0: 1 / 86, 1: 64 / 86, 2: 4 / 86, 3: 16 / 86, 4: 1 / 86})
    assert choices(temperature=0.5, top_p=0.7) == {1: 1.0}


def test_temperature_zero_takes_the_likeliest_and_of_two_alike_the_lower_id() -> None:
    assert choices(temperature=0.0) == {1: 1.0}
    assert choices([1, 3, 3, 2], temperature=0.0) == {1: 1.0}


@pytest.mark.parametrize("temperature", [1e-300, 1e-30, 1e-5])
def test_a_tiny_temperature_is_nearly_greedy_and_overflows_nothing(temperature: float) -> None:
    assert choices(temperature=temperature)[1] == 1.0


def test_a_huge_temperature_makes_all_tokens_alike() -> None:
    assert choices(temperature=1e30) == pytest.approx(dict.fromkeys(range(5), 1 / 5))


def test_forbidden_tokens_are_out_and_the_others_share_what_they_had() -> None:
    assert choices(forbidden=[1, 4]) == pytest.approx({0: 1 / 7, 2: 2 / 7, 3: 4 / 7})
    assert choices(forbidden=[1], temperature=0.0) == {3: 1.0}


def test_the_penalty_divides_positive_logits_of_seen_tokens_and_multiplies_negative_ones_once() -> None:
    found = choices([2.0, -2.0, 2.0, -2.0], seen=[0, 1, 0, 0], repetition_penalty=2.0)
    total = math.exp(1) + math.exp(-4) + math.exp(2) + math.exp(-2)
    expected = {0: math.exp(1) / total, 1: math.exp(-4) / total, 2: math.exp(2) / total, 3: math.exp(-2) / total}
    assert found == pytest.approx(expected)
    assert choices([3.0, 2.0], seen=[0], repetition_penalty=2.0, temperature=0.0) == {1: 1.0}
    assert choices([3.0, 2.0], seen=[], repetition_penalty=2.0, temperature=0.0) == {0: 1.0}


def test_the_logits_stay_as_they_were() -> None:
    logits = HALVES.copy()
    choices(logits, seen=[1], forbidden=[2], repetition_penalty=2.0, temperature=0.5, top_k=2, top_p=0.5)
    np.testing.assert_array_equal(logits, HALVES)


def test_a_token_of_probability_zero_is_never_drawn() -> None:
    assert choices([0.0, -np.inf, 0.0], top_k=3) == pytest.approx({0: 0.5, 2: 0.5})


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_logits_that_are_no_numbers_are_refused(broken: float) -> None:
    with pytest.raises(UserError, match="logits are not finite"):
        choices([broken, broken])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=40), st.integers(1, 45), st.floats(0.01, 0.99))
def test_top_k_and_top_p_equal_a_sort_of_everything(levels: list[int], k: int, share: float) -> None:
    """Few distinct values, so that many tokens tie."""
    logits = np.array(levels, np.float64)
    order = np.argsort(-logits, kind="stable")
    np.testing.assert_array_equal(most_likely(logits, np.arange(len(logits)), k), np.sort(order[:k]))
    probabilities = np.exp(logits)
    probabilities /= probabilities.sum()
    count = int((np.cumsum(probabilities[order]) < share).sum()) + 1
    np.testing.assert_array_equal(nucleus(probabilities, share), np.sort(order[:count]))


# ---- samples


def picks(sample: int = 0, count: int = 200, **settings: Any) -> list[int]:
    sampler = Sampler(GenerateConfig(**PLAIN | settings))
    return [sampler.sample_token(HALVES, [], sample, place) for place in range(count)]


def test_draws_follow_the_probabilities() -> None:
    count = 4_000
    found = np.bincount(picks(count=count), minlength=5)
    for seen, p in zip(found, np.exp(HALVES), strict=True):
        assert abs(seen - count * p) < SIGMAS * math.sqrt(count * p * (1 - p))


def test_a_draw_is_a_function_of_seed_sample_and_place() -> None:
    assert picks() == picks()
    assert picks() != picks(seed=1)
    assert picks() != picks(sample=1)
    assert picks(sample=1) != picks(seed=1)
    assert picks(sample=1)[:-1] != picks()[1:]  # no sample is a shifted copy of another
    sampler = Sampler(GenerateConfig(**PLAIN))
    backwards = [sampler.sample_token(HALVES, [], 0, place) for place in reversed(range(200))]
    assert backwards[::-1] == picks()


# ---- settings


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *(("max_tokens", value) for value in (0, -1)),
        *(("temperature", value) for value in (-0.1, math.inf, math.nan)),
        *(("top_k", value) for value in (0, -3)),
        *(("top_p", value) for value in (0.0, -0.5, 1.01, math.nan)),
        *(("repetition_penalty", value) for value in (0.0, -1.0, math.inf, math.nan)),
        *(("seed", value) for value in (-1, 2**32)),
        ("stop", ("fine", "")),
        *(("n", value) for value in (0, MOST_SAMPLES + 1)),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_flag(flag: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"^--{flag.replace('_', '-')} .*: expected "):
        GenerateConfig(**{flag: value})
