"""Small models for the server, one of each kind, and a server in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from gpt1 import backends
from gpt1.checkpoint.model_dir import Model
from gpt1.config import DeviceConfig, Head, ModelConfig, ServeConfig
from gpt1.serve.middleware import RequestGuard
from gpt1.serve.server import guarded_app
from gpt1.serve.service import Service
from gpt1.tokenization.tokenizer import Tokenizer
from support.model_cases import random_params

TEXT = "a b c d e f g h i j k l m n o p q r s t u v w x y z"
SCALE = 0.6
"""Scale of the random weights, so large that answers differ."""

HEADS = {
    "single": Head("classification", 3),
    "pair": Head("entailment", 3),
    "similarity": Head("similarity", 1, regression=True),
    "choices": Head("multiple-choice", 1),
    "none": None,
}

ITEMS: dict[str, Any] = {
    "single": "a good day",
    "pair": {"text_a": "a good day", "text_b": "it rains"},
    "similarity": {"text_a": "a good day", "text_b": "it rains"},
    "choices": {"context": "it rains", "choices": ["a good day", "a wet day"]},
}


@cache
def tokenizer() -> Tokenizer:
    from gpt1.tokenization.trainer import train

    return train([TEXT, "a good day", "it rains", "a wet day", "the sun and the sea"] * 4, 120)


@cache
def model(kind: str) -> Model:
    """Return a model with random weights, a context of 32 tokens, and the labels x, y, z if it has labels."""
    config = ModelConfig(2, 2, 16, 32, tokenizer().vocab_size, head=HEADS[kind])
    params = {name: value.astype(np.float32) for name, value in random_params(config, scale=SCALE).items()}
    names = ("x", "y", "z") if config.head and config.head.n_labels == 3 else ()
    return Model(config, params, tokenizer(), names, 32)


def service(kind: str, **settings: Any) -> Service:
    hardware = DeviceConfig(dtype="float32")
    found = model(kind)
    engine = backends.get(found.config, found.params, hardware=hardware)
    return Service("tiny", found, engine, ServeConfig(**settings), backends.chosen(hardware))


@contextmanager
def client(kind: str, key: str | None = None, **settings: Any) -> Iterator[TestClient]:
    """Return a client of a server with a model of `kind`; `client.app` is its `RequestGuard`."""
    with TestClient(guarded_app(service(kind, **settings), key), raise_server_exceptions=False) as found:
        yield found


def guard(found: TestClient) -> RequestGuard:
    assert isinstance(found.app, RequestGuard)
    return found.app
