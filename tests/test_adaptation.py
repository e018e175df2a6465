"""Language-model training on the task's texts before fine-tuning (`--adapt`). Run: pytest tests/test_adaptation.py"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpt1 as gpt1_package
from gpt1 import backends
from gpt1.checkpoint.loading import open_model
from gpt1.checkpoint.model_dir import save_model
from gpt1.checkpoint.run_dir import RunDirectory, runs_in
from gpt1.config import FinetuneConfig
from gpt1.data.example import folded_text
from gpt1.errors import UserError
from gpt1.estimator import GPT1Classifier
from gpt1.system.files import read_json
from gpt1.tasks.dataset import load_data
from gpt1.training import adaptation
from gpt1.training.adaptation import Adaptation
from gpt1.training.setup import starting_model
from support.command_line import assert_refused, done, gpt1
from support.run_outcome import RunCommand, outcome
from support.sample_runs import csv_text, json_lines, labelled

TINY = ["--model", "random:tiny", "--vocab-size", "96", "--max-length", "16", "--epochs", "1", "--no-baseline"]


torch_only = pytest.mark.skipif(
    "torch" not in backends.installed(), reason="one backend is enough here: MindSpore compiles for each short run"
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A file of labelled texts, which is split at random."""
    path = tmp_path / "reviews.csv"
    path.write_text(csv_text(*labelled(60)))
    return path


def settings(data: Path, out: Path, **more: Any) -> FinetuneConfig:
    flags = {"model": "random:tiny", "vocab_size": 96, "max_length": 16, "epochs": 1, "baseline": False}
    return gpt1_package.recipe(data=str(data), out=out, **(flags | {"adapt": 2} | more))


def prepared(config: FinetuneConfig, root: Path) -> Adaptation:
    data = load_data(config)
    return Adaptation(config, data, starting_model(config, data), root)


def text_of(adaptation: Adaptation, folder: Path) -> str:
    """Return everything that an adaptation reads."""
    written = []
    for held_out in (False, True):
        path = folder / f"texts-{held_out}.txt"
        adaptation.texts.write(path, held_out=held_out)
        written.append(path.read_text(encoding="utf-8"))
    return "".join(written)


# ---- what it does


def test_the_model_is_adapted_first_and_its_bits_per_byte_are_reported(
    backend: str, data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shown = done("finetune", "--data", data, "--out", run, *TINY, "--adapt", "3", "--adapt-lr", "3e-3", "--backend",
                 backend).err  # fmt: skip
    measured = read_json(run / "metrics.json")["adaptation"]
    assert measured["bits_per_byte"]["after"] < measured["bits_per_byte"]["before"] - 0.1
    assert "Bits per byte on held-out texts: " in shown
    assert "random:tiny has random weights, so this is pretraining on the task's texts" in shown
    assert (measured["texts"] + measured["held_out"], measured["left_out"]) == (48, 0)
    [adapted] = (run / "adapted").iterdir()
    assert open_model(adapted).config.head is None
    assert read_json(run / "model" / "gpt1.json")["provenance"]["before"]["adapted from"] == "random:tiny"
    assert not (adapted / "corpus").exists()
    assert not list((adapted / "checkpoints").glob("*"))
    assert "3 epochs on 47 texts (" in (run / "report.html").read_text(encoding="utf-8")


@torch_only
def test_fine_tuning_starts_from_the_adapted_weights(data: Path, tmp_path: Path) -> None:
    config = settings(data, tmp_path / "run", segments=True)
    adapted = prepared(config, tmp_path / "adapted")
    start, _ = adapted.run()
    trained = open_model(adapted.run_directory.path).params
    for name, value in adapted.start.params.items():
        if name in ("score.weight",):
            np.testing.assert_array_equal(start.params[name], value)
        elif name == "tokens_embed.weight":
            n = len(trained[name])
            assert n == len(value) - 1 == adapted.base.config.vocab_size
            np.testing.assert_array_equal(start.params[name][:n], trained[name])
            np.testing.assert_array_equal(start.params[name][n:], value[n:])
        else:
            np.testing.assert_array_equal(start.params[name], trained[name])
            assert not np.array_equal(start.params[name], value)


# ---- which texts


def test_texts_of_the_validation_and_test_split_are_never_used(data: Path, tmp_path: Path) -> None:
    config = settings(data, tmp_path / "run")
    splits = load_data(config).splits
    evaluated = [text for name in ("valid", "test") for example in splits[name] for text in example.texts]
    more = tmp_path / "more.jsonl"
    rows = [{"text": f"  {text.upper()} "} for text in evaluated] + [{"text": "An unlabelled text of its own."}]
    more.write_text(json_lines(*rows))
    lines = tmp_path / "lines.txt"
    lines.write_text("A line before.\n" + "\n".join(evaluated) + "\nA line after.\n")
    for file in (more, lines):
        known = prepared(settings(data, tmp_path / "run", unlabelled=file), tmp_path / "adapted")
        used = set(map(folded_text, text_of(known, tmp_path).splitlines()))
        assert [text for text in evaluated if folded_text(text) in used] == []
        assert all(folded_text(text) in used for example in splits["train"] for text in example.texts)
    assert {"a line before.", "a line after."} <= used
    for file, n_more in ((more, 1), (lines, 2)):
        known = prepared(settings(data, tmp_path / "run", unlabelled=file), tmp_path / "adapted")
        assert known.texts.n_left_out == len(evaluated) == 12
        assert known.texts.n_train + known.texts.n_held_out == len(splits["train"]) + n_more


def test_unlabelled_texts_that_are_also_labelled_are_used_once(data: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.csv"
    more.write_text(data.read_text() + "A further text.,good\n")
    known = prepared(settings(data, tmp_path / "run", unlabelled=more), tmp_path / "adapted")
    alone = prepared(settings(data, tmp_path / "run"), tmp_path / "adapted")
    assert set(text_of(known, tmp_path).split("\n")) == {*text_of(alone, tmp_path).split("\n"), "A further text."}
    assert (known.texts.n_left_out, alone.texts.n_left_out) == (60, 0)


def test_a_text_file_has_a_text_a_line_or_documents_between_marks(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "more.txt"
    for content, count in (("one\n\ntwo\n", 2), ("one\n\ntwo\n<|endofbook|>\nthree\n", 2), ("one", 1)):
        file.write_text(content)
        known = prepared(settings(data, tmp_path / "run", unlabelled=file), tmp_path / "adapted")
        assert known.texts.n_train + known.texts.n_held_out == 48 + count, content


def test_training_rows_that_the_recipe_leaves_aside_are_used(data: Path, tmp_path: Path) -> None:
    """`--recipe mindspore-imdb --adapt 1`: 22,500 of the 25,000 reviews."""
    config = settings(data, tmp_path / "run", train_fraction=0.25)
    splits = load_data(config).splits
    assert len(splits["train"]) + len(splits["valid"]) < 20
    known = prepared(config, tmp_path / "adapted")
    assert known.texts.n_train + known.texts.n_held_out == 54 - len(splits["valid"])
    quick = prepared(settings(data, tmp_path / "run", train_fraction=0.25, max_examples=4), tmp_path / "adapted")
    assert quick.texts.n_train + quick.texts.n_held_out == 4 + 4


def test_a_folder_of_tables_and_texts_is_read_whole(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "more" / "inner"
    folder.mkdir(parents=True)
    (folder.parent / "a.csv").write_text("text\nA text of a table.\n")
    (folder / "b.txt").write_text("A text of a file.\n")
    (folder / "c.png").write_bytes(b"\x89PNG")
    used = text_of(prepared(settings(data, tmp_path / "run", unlabelled=tmp_path / "more"), tmp_path), tmp_path)
    assert "A text of a table." in used
    assert "A text of a file." in used


def test_texts_of_pairs_are_documents_of_their_own(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"text_a": f"first {i}", "text_b": f"second {i}", "label": i % 2} for i in range(40)]
    pairs.write_text(json_lines(*rows))
    config = settings(pairs, tmp_path / "run")
    known = prepared(config, tmp_path / "adapted")
    assert known.texts.n_train + known.texts.n_held_out == 2 * len(load_data(config).splits["train"])


# ---- once for a set of texts


def count_trainings(patch: pytest.MonkeyPatch) -> list[str]:
    trained: list[str] = []
    train = Adaptation._train

    def counted(self: Adaptation, run: RunDirectory) -> None:
        trained.append(self.key)
        train(self, run)

    patch.setattr(Adaptation, "_train", counted)
    return trained


@torch_only
def test_runs_of_several_seeds_share_the_adapted_model(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = count_trainings(monkeypatch)
    flags = ["--data", data, "--out", tmp_path / "runs", *TINY, "--adapt", "1"]
    done("finetune", *flags, "--seeds", "2")
    assert len(trained) == 1
    assert [run.name for run in runs_in(tmp_path / "runs")] == ["seed-0", "seed-1"]
    done("finetune", *flags, "--seeds", "3")
    assert len(trained) == 1


@torch_only
def test_trials_of_a_sweep_share_the_adapted_model(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")
    trained = count_trainings(monkeypatch)
    done("sweep", "--data", data, "--out", tmp_path / "sweep", *TINY, "--adapt", "1", "--search", "lr=1e-4|1e-3",
         "--trials", "2")  # fmt: skip
    assert len(trained) == 1


@torch_only
def test_fits_on_other_texts_adapt_anew_and_on_the_same_texts_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = count_trainings(monkeypatch)
    texts, labels = zip(*labelled(24), strict=True)
    tiny: dict[str, Any] = {"model": "random:tiny", "max_length": 16, "epochs": 1, "adapt": 1}
    GPT1Classifier(**tiny).fit(texts[:12], labels[:12])
    GPT1Classifier(**tiny, lr=1e-4).fit(texts[:12], labels[:12])
    assert len(trained) == 1
    GPT1Classifier(**tiny).fit(texts[12:], labels[12:])
    assert len(set(trained)) == len(trained) == 2
    more = GPT1Classifier(**tiny, unlabelled=["A further text.", "And another."]).fit(texts[12:], labels[12:])
    assert len(set(trained)) == len(trained) == 3
    assert more.get_params()["adapt"] == 1


@torch_only
def test_held_out_fold_is_not_among_the_texts_of_a_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.model_selection import cross_val_score

    seen: list[set[str]] = []
    make = adaptation.Adaptation.__init__

    def recorded(self: Adaptation, *arguments: Any) -> None:
        make(self, *arguments)
        seen.append({folded_text(text) for text in text_of(self, tmp_path).split("<|endofbook|>")})

    monkeypatch.setattr(Adaptation, "__init__", recorded)
    texts, labels = zip(*labelled(24), strict=True)
    tiny = GPT1Classifier("random:tiny", max_length=16, epochs=1, adapt=1)
    cross_val_score(tiny, list(texts), list(labels), cv=2)
    first, second = ({text for text in each if text} for each in seen)
    assert first | second == set(map(folded_text, texts))
    assert not first & second


# ---- interrupted


@dataclass
class Command(RunCommand):
    """`gpt1 finetune --adapt` with its own directory; `run` is the run that is waited for."""

    data: Path
    out: Path

    def __post_init__(self) -> None:
        self.argv = [
            "finetune", "--data", str(self.data), "--out", str(self.out), *TINY, "--adapt", "3", "--save-every", "2",
            "--log-every", "1", "--dtype", "float32", "--json",
        ]  # fmt: skip
        self.run = RunDirectory(self.out)

    @property
    def adapted(self) -> RunDirectory:
        [folder] = [path for path in (self.out / "adapted").glob("*") if path.is_dir()]
        return RunDirectory(folder)


def results_of(command: Command) -> dict[str, Any]:
    kept = outcome(command.run)
    metrics = read_json(command.run.metrics_path)
    metrics["adaptation"].pop("seconds")
    return kept | {
        "metrics": metrics,
        "adapted": {path.name: path.read_bytes() for path in command.adapted.model.iterdir()},
    }


@torch_only
@pytest.mark.parametrize("stage", ["adaptation", "fine-tuning"])
def test_killed_run_gives_the_same_bytes(
    stage: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = Command(data, tmp_path / "whole"), Command(data, tmp_path / "killed")
    whole.here()
    process = killed.process()
    if stage == "adaptation":
        while not list((killed.out / "adapted").glob("*/log.jsonl")):
            assert process.poll() is None
            time.sleep(0.005)
        killed.run = killed.adapted
    killed.wait_for_step(process, random.randint(1, 3))
    process.kill()
    process.communicate()
    killed.run = RunDirectory(killed.out)
    assert not killed.run.finished
    assert killed.adapted.finished == (stage == "fine-tuning")
    killed.here()
    assert results_of(killed) == results_of(whole)


# ---- invalid input


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--adapt", "0"], "--adapt 0.0: expected a positive number of epochs; leave the flag out"),
        (["--adapt", "-1"], "--adapt -1.0: expected a positive number of epochs"),
        (["--unlabelled", "more.txt"], "--unlabelled more.txt: only used with --adapt EPOCHS; add --adapt 1"),
        (["--adapt-lr", "1e-3"], "--adapt-lr 0.001: only used with --adapt EPOCHS"),
        (["--adapt", "1", "--unlabelled", "nothing.csv"], "--unlabelled nothing.csv: no such file or folder"),
        (["--adapt", "1", "--unlabelled", "empty.csv"], "--unlabelled: empty.csv is empty (0 bytes)"),
        (["--adapt", "1", "--unlabelled", "empty.txt"], "--unlabelled empty.txt: no text is left; the files are empty"),
        (
            ["--adapt", "1", "--unlabelled", "binary.txt"],
            "--unlabelled: binary.txt line 1: bytes 00 d8 ff in",
        ),
        (["--adapt", "1", "--unlabelled", "photo.png"], "--unlabelled photo.png: unknown format; expected .csv"),
        (["--adapt", "1", "--unlabelled", "folder"], "--unlabelled folder: no file with texts in this folder"),
        (
            ["--adapt", "1", "--unlabelled", "test.csv"],
            "--unlabelled test.csv: no text is left; all of them also occur in --data",
        ),
    ],
)
def test_invalid_input_is_one_line_before_training(
    flags: list[str], said: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("empty.csv", "empty.txt"):
        Path(name).write_bytes(b"")
    for name in ("binary.txt", "photo.png"):
        Path(name).write_bytes(b"\xff\xfe\x00\xd8\xff")
    Path("folder").mkdir()
    test = load_data(settings(data, tmp_path / "run")).splits["test"]
    Path("test.csv").write_text(csv_text(*((example.parts[0],) for example in test), header="text"))
    assert_refused(gpt1("finetune", "--data", data, "--out", "run", *TINY, *flags), said, notices=True)
    assert not Path("run").exists()


@torch_only
def test_an_adapted_model_of_another_vocabulary_is_refused_before_fine_tuning(data: Path, tmp_path: Path) -> None:
    flags = ["finetune", "--data", data, *TINY, "--adapt", "1", "--out"]
    done(*flags, tmp_path / "run")
    [folder] = (tmp_path / "run" / "adapted").iterdir()
    save_model(folder / "model", open_model("mini"))
    for path in (tmp_path / "run").iterdir():
        if path.is_file() and path.name != "config.json":
            path.unlink()
    refused = gpt1(*flags, tmp_path / "run")
    assert refused.code == 2
    assert f"gpt1: {folder}: holds an adapted model of another vocabulary (8,192 tokens, " in refused.err
    assert not (tmp_path / "run" / "log.jsonl").exists()


@torch_only
def test_another_model_cannot_resume_the_run(data: Path, tmp_path: Path) -> None:
    flags = ["finetune", "--data", data, "--out", tmp_path / "run", "--adapt", "1", "--epochs", "1", "--no-baseline"]
    done(*flags, "--model", "random:tiny", "--max-steps", "1")
    assert_refused(
        gpt1(*flags, "--model", "mini", "--max-steps", "1"), "--model is random:tiny, not mini", notices=True
    )


def test_one_text_cannot_be_trained_on_and_held_out(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json_lines(*({"text": "the same text", "label": i % 2} for i in range(12))))
    config = settings(rows, tmp_path / "run", test_fraction=0.25, split_version=1)
    with pytest.raises(UserError, match="at least 2 are required: add rows, or --unlabelled FILE"):
        prepared(config, tmp_path / "adapted")
