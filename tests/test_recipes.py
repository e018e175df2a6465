"""The recipes' exact numbers, and that a flag changes its own number alone. Run: pytest tests/test_recipes.py"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gpt1 import api
from gpt1.backends.optim import learning_rate
from gpt1.cli import main
from gpt1.config import FinetuneConfig
from gpt1.config.overrides import setting_holders
from gpt1.config.recipes import RECIPES, pretraining, recipe
from gpt1.data.dataset import load_dataset
from gpt1.errors import UserError

REQUIRED = ["--data", "some.csv", "--out", "run"]
GIVEN: dict[str, Any] = {"data": "some.csv", "out": Path("run")}
"""What these flags set."""

PAPER: dict[str, Any] = {
    "loss.lm_coef": 0.5,
    "select_by": "metric",
    "segments": False,
    "optim.lr": 6.25e-5,
    "optim.schedule": "linear",
    "optim.warmup": 0.002,
    "optim.beta1": 0.9,
    "optim.beta2": 0.999,
    "optim.eps": 1e-8,
    "optim.weight_decay": 0.01,
    "optim.max_grad_norm": 1.0,
    "dropout.embd_pdrop": 0.1,
    "dropout.resid_pdrop": 0.1,
    "dropout.attn_pdrop": 0.1,
    "dropout.clf_pdrop": 0.1,
    "loop.epochs": 3,
    "loop.max_steps": None,
    "loop.batch_size": 32,
    "loop.patience": None,
    "split.train_fraction": 1.0,
    "split.max_length": None,
}
"""Radford et al. 2018, §4.1, and OpenAI's train.py."""

OPENAI: dict[str, Any] = PAPER | {
    "head_bias": True,
    "loss.lm_mean": "sequence",
    "loss.lm_over_positions": True,
    "optim.decay_with_correction": True,
    "optim.eps_outside_correction": True,
    "dropout.embd_matrix": True,
    "dropout.clf_shared": True,
    "loop.micro_batch_size": 8,
    "loop.bucketing": False,
    "loop.drop_last": True,
    "split.valid_fraction": None,
    "split.truncation": "half",
    "split.split_strategy": "openai",
}
"""What OpenAI's train.py, opt.py and datasets.py do otherwise."""

LESSON: dict[str, Any] = PAPER | {
    "task": "classification",
    "loss.lm_coef": 0.0,
    "select_by": "loss",
    "optim.lr": 2e-5,
    "optim.warmup": 0.0,
    "optim.weight_decay": 0.0,
    "dropout.clf_pdrop": 0.0,
    "loop.epochs": 1,
    "loop.batch_size": 4,
    "loop.eval_every": None,  # at the end of the epoch
    "split.train_fraction": 0.1,
    "split.valid_fraction": 0.3,
    "split.test_fraction": None,
    "split.max_length": 512,
    "split.max_examples": None,
}
"""The lesson "GPT-1 in practice with MindSpore"."""


def flat(config: Any) -> dict[str, Any]:
    """The settings as {"optim.lr": value, …}."""
    values: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        nested = flat(value) if dataclasses.is_dataclass(value) else None
        values |= {item.name: value} if nested is None else {f"{item.name}.{key}": v for key, v in nested.items()}
    return values


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[FinetuneConfig]:
    """The settings that the command line hands to `api.finetune`, which does nothing here."""
    found: list[FinetuneConfig] = []

    def finetune(config: FinetuneConfig) -> dict[str, Any]:
        found.append(config)
        return {}

    monkeypatch.setattr(api, "finetune", finetune)
    return found


def changed(config: FinetuneConfig, than: FinetuneConfig) -> dict[str, Any]:
    before = flat(than)
    return {key: value for key, value in flat(config).items() if value != before[key]}


@pytest.mark.parametrize(
    ("name", "numbers"),
    [("paper-finetune", PAPER), ("openai-finetune", OPENAI), ("mindspore-imdb", LESSON)],
)
def test_a_recipe_has_exactly_the_numbers_of_its_source(name: str, numbers: dict[str, Any]) -> None:
    assert {key: flat(recipe(name))[key] for key in numbers} == numbers


def test_the_defaults_are_the_papers() -> None:
    assert changed(recipe("paper-finetune"), FinetuneConfig()) == {"recipe": "paper-finetune"}


def test_openais_code_and_the_paper_differ_in_these_settings_and_no_others() -> None:
    paper = flat(recipe("paper-finetune"))
    differences = {key: value for key, value in OPENAI.items() if paper[key] != value}
    assert changed(recipe("openai-finetune"), recipe("paper-finetune")) == {"recipe": "openai-finetune"} | differences


def test_the_lesson_trains_on_70_and_validates_on_30_percent_of_a_stratified_tenth(tmp_path: Path) -> None:
    """Of a file sorted by label, the first tenth would have one label only."""
    rows = [f"text {i},{i // 500}\n" for i in range(1000)]
    (tmp_path / "train.csv").write_text("text,label\n" + "".join(rows), encoding="utf-8")
    (tmp_path / "test.csv").write_text("text,label\nunused,0\n", encoding="utf-8")
    split = recipe("mindspore-imdb").split
    splits = load_dataset(
        tmp_path, train_fraction=split.train_fraction, valid_fraction=split.valid_fraction,
        test_fraction=split.test_fraction,
    ).splits  # fmt: skip
    assert {name: len(examples) for name, examples in splits.items()} == {"train": 70, "valid": 30, "test": 1}
    assert Counter(example.label for example in splits["train"]) == {0: 35, 1: 35}
    assert Counter(example.label for example in splits["valid"]) == {0: 15, 1: 15}


def test_the_lessons_rate_falls_linearly_to_zero_from_the_first_step() -> None:
    optim = recipe("mindspore-imdb").optim
    assert learning_rate(0, 438, optim) == 2e-5
    assert learning_rate(219, 438, optim) == pytest.approx(1e-5)
    assert learning_rate(437, 438, optim) == pytest.approx(2e-5 / 438)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("spelling", [["--recipe", "{}"], ["--recipe={}"]], ids=["two words", "one word"])
def test_a_flag_changes_its_own_number_of_a_recipe_alone(
    parsed: list[FinetuneConfig], name: str, spelling: list[str]
) -> None:
    chosen = [word.format(name) for word in spelling]
    assert main(["finetune", *chosen, "--data", "some.csv", "--out", "run", "--lr", "0.125"]) == 0
    [config] = parsed
    assert changed(config, recipe(name)) == {"data": "some.csv", "out": Path("run"), "optim.lr": 0.125}


def test_a_flag_may_stand_before_the_recipe(parsed: list[FinetuneConfig]) -> None:
    assert main(["finetune", *REQUIRED, "--epochs", "2", "--no-baseline", "--recipe", "mindspore-imdb"]) == 0
    assert changed(parsed[0], recipe("mindspore-imdb")) == GIVEN | {"loop.epochs": 2.0, "baseline": False}


def test_the_last_of_two_recipes_holds(parsed: list[FinetuneConfig]) -> None:
    assert main(["finetune", *REQUIRED, "--recipe", "quickstart", "--recipe=mindspore-imdb"]) == 0
    assert changed(parsed[0], recipe("mindspore-imdb")) == GIVEN


def test_without_a_recipe_the_size_of_the_model_decides_and_flags_win(parsed: list[FinetuneConfig]) -> None:
    for model, name in (("mini", "quickstart"), ("random:gpt1", "paper-finetune"), ("openai-gpt", "paper-finetune")):
        assert main(["finetune", *REQUIRED, "--model", model, "--seed", "7", "--warmup", "0.3"]) == 0
        flags = GIVEN | {"loop.seed": 7, "optim.warmup": 0.3}
        assert changed(parsed.pop(), recipe(name)) == flags | ({"model": model} if model != "mini" else {})


def test_an_unknown_recipe_is_refused_with_the_known_ones(
    parsed: list[FinetuneConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        UserError, match="--recipe bert: unknown; expected one of paper-finetune, openai-finetune, mindspore-imdb"
    ):
        recipe("bert")
    with pytest.raises(UserError, match=r"mindspore-imdb, quickstart; did you mean quickstart\?$"):
        recipe("quick")
    with pytest.raises(UserError, match="mini-books-512; did you mean mini-books or "):
        pretraining("mini-book")
    assert main(["finetune", "--recipe", "bert"]) == 2
    assert capsys.readouterr().err == f"gpt1: --recipe bert: unknown; expected one of {', '.join(RECIPES)}\n"
    assert parsed == []


def test_an_unknown_flag_beside_a_recipe_is_refused(
    parsed: list[FinetuneConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["finetune", "--recipe", "quickstart", "--learning-rate", "1"]) == 2
    assert "--learning-rate: unknown flag; did you mean --lr?" in capsys.readouterr().err
    assert parsed == []


# ---- the same settings from Python


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_from_python_is_that_of_the_same_flags(parsed: list[FinetuneConfig], name: str) -> None:
    """So that a script goes on with a run of the command, and the command with one of a script."""
    flags = "--data some.csv --out run --lr 1 --max-length 64 --max-examples 200 --backend mindspore --text body"
    assert main(["finetune", "--recipe", name, *flags.split(), "--no-baseline"]) == 0
    assert parsed == [
        recipe(
            name, data=Path("some.csv"), out="run", lr=1, max_length=64, max_examples=200, backend="mindspore",
            baseline=False, text="body",
        )
    ]  # fmt: skip


def test_every_flag_is_a_setting_and_every_setting_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finetune", "--help-all"]) == 0
    flags = set(re.findall(r"--([a-z][a-z0-9-]+)", capsys.readouterr().out))
    for name in setting_holders(FinetuneConfig()):
        assert name.replace("_", "-") in flags, name
    assert len(setting_holders(FinetuneConfig())) == len(flat(FinetuneConfig())), (
        "two parts share the name of a setting"
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"learning_rate": 1.0},
            "learning_rate: unknown setting; did you mean lr? (gpt1 finetune --help-all",
        ),
        ({"batch": 8}, "batch: unknown setting; did you mean batch_size? (gpt1 finetune --help-all"),
        ({"lr": "2e-5"}, "lr='2e-5': expected a number"),
        ({"lr": -1.0}, "lr=-1.0: expected a positive number"),
        ({"epochs": True}, "epochs=True: expected a number"),
        ({"max_examples": 2.5}, "max_examples=2.5: expected a whole number or None"),
        ({"backend": "jax"}, "backend='jax': expected one of auto, torch, mindspore"),
        ({"device": "gpu"}, "device=gpu: expected one of auto, cpu, cuda, mps, ascend; did you mean cuda?"),
        ({"out": None}, "out=None: expected a path"),
        ({"baseline": 1}, "baseline=1: expected True or False"),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_line(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(said)}"):
        recipe("quickstart", **settings)


def test_every_recipe_says_where_it_comes_from() -> None:
    for name, make in RECIPES.items():
        assert len((make.__doc__ or "").split()) > 20, f"{name} has no docstring to speak of"
