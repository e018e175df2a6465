"""The recipe of a fine-tuning for which none is named. Run: pytest tests/test_default_recipe.py"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gpt1 as package
from gpt1.backends.parameters import count
from gpt1.checkpoint.model_dir import Model, save_model
from gpt1.config import SIZES, FinetuneConfig
from gpt1.config.recipes import recipe
from gpt1.errors import UserError
from gpt1.estimator import GPT1Classifier
from gpt1.system.files import read_json
from gpt1.training.defaults import default_recipe
from gpt1.training.loop import total_steps
from support.command_line import done, gpt1
from support.sample_runs import csv_text, labelled

pytest.importorskip("torch", reason="one backend is enough here: MindSpore compiles for each of many short runs")

TINY = ["--model", "random:tiny", "--max-steps", "1", "--no-baseline"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    path.write_text(csv_text(*labelled()))
    return path


def recorded(run: Path) -> dict[str, Any]:
    config: dict[str, Any] = read_json(run / "config.json")["config"]
    return config


def test_models_of_60_million_parameters_or_more_have_the_papers_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"random:gpt1": "paper-finetune", "openai-gpt": "paper-finetune", "openai-gpt@main": "paper-finetune"}
    names |= {"random:mini": "quickstart", "mini": "quickstart", "random:tiny": "quickstart"}
    assert {name: default_recipe(name) for name in names} == names
    for parameters, expected in ((60_000_000, "paper-finetune"), (59_999_999, "quickstart")):
        monkeypatch.setattr("gpt1.training.defaults.count", lambda _, n=parameters: n)
        assert default_recipe("mini") == expected


def test_the_size_of_a_model_directory_is_read(tmp_path: Path) -> None:
    mini = package.load("mini").model
    assert default_recipe(str(mini_in(tmp_path / "small", mini))) == "quickstart"
    assert count(mini.config) < count(SIZES["gpt1"])


def mini_in(folder: Path, model: Model) -> Path:
    save_model(folder, model, dtype="bfloat16")
    return folder


def test_command_line_python_and_estimator_have_the_same_default(data: Path, tmp_path: Path) -> None:
    done("finetune", "--data", data, "--out", tmp_path / "cli", *TINY)
    config = package.recipe(data=str(data), out=tmp_path / "python", model="random:tiny", max_steps=1, baseline=False)
    package.finetune(config)
    texts, labels = zip(*labelled(), strict=True)
    GPT1Classifier("random:tiny", epochs=0.1, out=tmp_path / "fit").fit(texts, labels)
    runs = [recorded(tmp_path / name) for name in ("cli", "python", "fit")]
    assert [run["recipe"] for run in runs] == ["quickstart"] * 3
    assert len({(run["optim"]["lr"], run["optim"]["warmup"], run["loop"]["batch_size"]) for run in runs}) == 1
    assert package.recipe(model="random:gpt1") == package.recipe("paper-finetune", model="random:gpt1")


def test_the_recipe_and_its_main_numbers_are_printed_with_the_flags_that_replace_them(
    data: Path, tmp_path: Path
) -> None:
    shown = done("finetune", "--data", data, "--out", tmp_path / "run", *TINY, "--lr", "0.01").err
    main = recipe("quickstart")
    assert (
        f"Recipe quickstart (the default for smaller models): --lr 0.01 --epochs 20 --batch-size "
        f"{main.loop.batch_size} --warmup {main.optim.warmup:g} --lm-coef {main.loss.lm_coef:g}\n"
    ) in shown
    shown = done("finetune", "--data", data, "--out", tmp_path / "other", *TINY, "--recipe", "paper-finetune").err
    assert "Recipe paper-finetune: --lr 6.25e-05 --epochs 3 --batch-size 32 --warmup 0.002 --lm-coef 0.5\n" in shown


@pytest.mark.parametrize("series", [(), ("--seeds", "2")], ids=["one run", "seeds"])
def test_a_resumed_run_keeps_the_recipe_that_it_recorded(series: tuple[str, ...], data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done("finetune", "--data", data, "--out", run, *TINY, *series, "--recipe", "paper-finetune")
    done("finetune", "--data", data, "--out", run, *TINY, *series)
    assert package.recipe(model="random:tiny", out=run).recipe == "paper-finetune"
    refused = gpt1("finetune", "--data", data, "--out", run, *TINY, *series, "--recipe", "quickstart")
    assert refused.code == 2


def test_a_run_that_was_started_without_a_recipe_keeps_its_settings(data: Path, tmp_path: Path) -> None:
    config = FinetuneConfig(data=str(data), out=tmp_path / "run", model="random:tiny", baseline=False)
    package.finetune(package.config.overrides.with_overrides(config, {"max_steps": 1}))
    assert recorded(tmp_path / "run")["recipe"] is None
    assert "already finished" in done("finetune", "--data", data, "--out", tmp_path / "run", *TINY).err


def test_a_model_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    for name, problem in (("nothing", "no such directory"), ("random:big", "unknown size; there are random:gpt1")):
        said = f"--model {name}: {problem}"
        assert f"gpt1: {said}" in gpt1("finetune", "--data", "reviews", "--out", tmp_path / "run", "--model", name).err
        with pytest.raises(UserError, match=f"^{said}"):
            default_recipe(name)


@pytest.mark.parametrize(
    ("rows", "epochs"), [(2, 20), (130, 19), (240, 16), (1_000, 10), (2_000, 8), (10_000, 5), (100_000, 3)]
)
def test_quickstart_has_the_more_epochs_the_fewer_rows_there_are(rows: int, epochs: int) -> None:
    loop = recipe("quickstart").loop
    steps_per_epoch = -(-rows // loop.batch_size)
    assert loop.epochs_of(steps_per_epoch) == epochs
    assert total_steps(loop, steps_per_epoch) == epochs * steps_per_epoch
    assert replace(loop, epochs=1.5).epochs_of(steps_per_epoch) == 1.5
