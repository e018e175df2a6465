"""The public names of `import gpt1`. Run: pytest tests/test_public.py"""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pytest

import gpt1
from gpt1 import estimator
from gpt1.checkpoint import loading
from gpt1.errors import UserError
from gpt1.evaluation import from_python as evaluation
from gpt1.inference import loaded_model
from gpt1.tasks import dataset
from gpt1.training import defaults, from_python
from gpt1.training.setup import starting_model

PUBLIC = {
    "recipe": defaults.recipe,
    "load_data": dataset.load_data,
    "starting_model": starting_model,
    "tokenizer": loading.open_tokenizer,
    "finetune": from_python.finetune,
    "evaluate": evaluation.evaluate,
    "explain": loaded_model.explain,
    "predict": loaded_model.predict,
    "load": loaded_model.load,
    "GPT1Classifier": estimator.GPT1Classifier,
    "GPT1Regressor": estimator.GPT1Regressor,
    "UserError": UserError,
}


def test_the_public_functions_are_those_of_the_commands() -> None:
    assert {name: getattr(gpt1, name) for name in gpt1.__all__} == PUBLIC
    assert set(gpt1.__all__) <= set(dir(gpt1))


def test_each_says_what_it_takes_gives_and_raises_with_an_example() -> None:
    for name in set(PUBLIC) - {"UserError"}:
        said = inspect.getdoc(getattr(gpt1, name)) or ""
        inner = PUBLIC[name].__name__
        assert "Raises:" in said, name
        assert any(f"`{word}(" in said or f"gpt1.{word}(" in said for word in (name, inner)), f"{name} has no example"


@pytest.mark.parametrize("home", [loaded_model, estimator.classifier, estimator.regressor])
def test_the_examples_of_the_public_names_run(home: ModuleType) -> None:
    found = doctest.testmod(home)
    assert found.attempted and not found.failed


def test_no_public_name_is_that_of_a_module() -> None:
    """`import gpt1.NAME` would replace the function by the module."""
    modules = {path.stem for path in Path(gpt1.__file__).parent.glob("*") if path.suffix in ("", ".py")}
    assert not modules & set(gpt1.__all__)


def test_an_unknown_name_is_an_attribute_error_that_says_the_known_ones() -> None:
    with pytest.raises(AttributeError, match="no attribute 'train'; there are GPT1Classifier, GPT1Regressor"):
        importlib.import_module("gpt1").train  # noqa: B018


def test_one_text_in_the_place_of_a_list_is_refused() -> None:
    with pytest.raises(UserError, match="examples 'good': expected a list"):
        gpt1.predict("runs/none", "good")
