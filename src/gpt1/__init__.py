"""GPT-1 (Radford et al. 2018): fine-tuning, evaluation, prediction, generation and pretraining.

The public names are imported at first use, the framework (PyTorch or MindSpore) when a backend is chosen:

    results = gpt1.finetune(frame, text="review", label="sentiment", out="runs/reviews", backend="mindspore")
    results["test"]["accuracy"]
    gpt1.predict("runs/reviews", ["Warm, funny and over far too soon."])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gpt1.errors import UserError

if TYPE_CHECKING:
    from gpt1.checkpoint.loading import open_tokenizer as tokenizer
    from gpt1.estimator import GPT1Classifier, GPT1Regressor
    from gpt1.evaluation.from_python import evaluate
    from gpt1.inference.loaded_model import explain, load, predict
    from gpt1.tasks.dataset import load_data
    from gpt1.training.defaults import recipe
    from gpt1.training.from_python import finetune
    from gpt1.training.setup import starting_model

__all__ = [
    "GPT1Classifier", "GPT1Regressor", "UserError", "evaluate", "explain", "finetune", "load", "load_data", "predict",
    "recipe", "starting_model", "tokenizer",
]  # fmt: skip

_LAZY_IMPORTS = {
    "recipe": ("training.defaults", "recipe"),
    "load_data": ("tasks.dataset", "load_data"),
    "starting_model": ("training.setup", "starting_model"),
    "tokenizer": ("checkpoint.loading", "open_tokenizer"),
    "finetune": ("training.from_python", "finetune"),
    "evaluate": ("evaluation.from_python", "evaluate"),
    "explain": ("inference.loaded_model", "explain"),
    "predict": ("inference.loaded_model", "predict"),
    "load": ("inference.loaded_model", "load"),
    "GPT1Classifier": ("estimator", "GPT1Classifier"),
    "GPT1Regressor": ("estimator", "GPT1Regressor"),
}
"""{public name: (module, name in that module)}."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY_IMPORTS:
        raise AttributeError(f"module 'gpt1' has no attribute {name!r}; there are {', '.join(__all__)}")
    module, inner = _LAZY_IMPORTS[name]
    return getattr(importlib.import_module(f"gpt1.{module}"), inner)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
