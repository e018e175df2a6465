"""Comparisons of losses, gradients and parameters, within a tolerance or bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gpt1.backends.parameters import Params

FLOAT32 = 1e-5
"""Relative to the largest value or 1: float32 against float64 through two layers; observed: up to 2e-6."""


def assert_close(found: Any, expected: Any, tolerance: float, what: str = "", *, floor: float = 1.0) -> None:
    """Assert that no element differs by more than `tolerance` times the maximum of `floor` and the largest element."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape, what
    limit = tolerance * float(np.abs(expected).max(initial=floor))
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit, err_msg=what)


def assert_same_step(
    found: tuple[dict[str, float], Params], expected: tuple[dict[str, float], Any], tolerance: float
) -> None:
    """Assert that two results of `gradients` agree: names and values of the losses, and every gradient."""
    assert found[0].keys() == expected[0].keys()
    for name, loss in expected[0].items():
        assert_close(found[0][name], loss, tolerance, name)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        assert_close(found[1][name], gradient, tolerance, name)


def assert_identical(found: Params, expected: Params) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def assert_same_arrays(found: Params, expected: Params) -> None:
    """Assert that names, shapes and bytes are equal."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        assert found[name].tobytes() == value.tobytes(), name


def determined(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters without the bias of the keys: the loss does not depend on it, so its updates are rounding."""

    def part(name: str, value: Any) -> Any:
        return np.delete(value, slice(len(value) // 3, 2 * len(value) // 3)) if name.endswith("c_attn.bias") else value

    return {name: part(name, value) for name, value in params.items()}
