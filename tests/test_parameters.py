"""Parameters: roles and initial values. Run: pytest tests/test_parameters.py"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gpt1.backends import parameters
from gpt1.backends.parameters import INIT_STD, Parameter, Role, decays, declare, initialise
from gpt1.config import Head, Init, ModelConfig

CONFIG = ModelConfig(n_layer=2, n_head=2, n_embd=16, n_ctx=8, vocab_size=30, head=Head("classification", 3, bias=True))


@pytest.mark.parametrize("init", ["normal", "xavier"])
def test_initial_value_follows_the_role(init: Init) -> None:
    for name, parameter in declare(CONFIG).items():
        value = initialise(CONFIG, 0, init=init)[name]
        assert (value.shape, value.dtype) == (parameter.shape, np.float32)
        match parameter.role:
            case Role.GAIN:
                assert (value == 1.0).all(), name
            case Role.BIAS:
                assert (value == 0.0).all(), name
            case Role.EMBEDDING | Role.MATRIX:
                expected = INIT_STD if init == "normal" else (2 / sum(parameter.shape)) ** 0.5
                assert abs(value.std() / expected - 1) < 0.4, name


def test_new_norm_of_any_name_starts_with_gain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The role decides, not the name: a final norm would be called `ln_f`."""

    def with_final_norm(config: ModelConfig) -> dict[str, Parameter]:
        norm = {"ln_f.weight": Parameter((16,), Role.GAIN), "ln_f.bias": Parameter((16,), Role.BIAS)}
        return declare(config) | norm

    monkeypatch.setattr(parameters, "declare", with_final_norm)
    params = initialise(CONFIG, 0)
    assert (params["ln_f.weight"] == 1.0).all()
    assert (params["ln_f.bias"] == 0.0).all()


def test_embeddings_and_matrices_decay_and_no_other_role() -> None:
    for name, parameter in declare(CONFIG).items():
        assert decays(name, parameter.shape) == (parameter.role in (Role.EMBEDDING, Role.MATRIX)), name


def test_head_changes_no_initial_value_of_the_body() -> None:
    body, whole = initialise(replace(CONFIG, head=None), 5), initialise(CONFIG, 5)
    assert whole.keys() - body.keys() == {"score.weight", "score.bias"}
    for name, value in body.items():
        np.testing.assert_array_equal(whole[name], value)
