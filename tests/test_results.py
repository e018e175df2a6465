"""Ablations of docs/results.md: their runs, rows and tables of scores.

Run: pytest tests/test_results.py
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers", reason="the benchmarks write down its version")

import ablations
import results
from ablations import ABLATIONS, LM_COEF, TASK, Run, choose, direction, lm_loss_rows, planned, pretraining_rows, spread
from gpt1.backends.parameters import initialise
from gpt1.checkpoint.model_dir import Model, save_model
from gpt1.config import SIZES
from gpt1.errors import Interrupted, UserError
from gpt1.system.files import read_json
from gpt1.tokenization.trainer import train

LR: ablations.Rates = {"random": 1e-3, "pretrained": 1e-4, "pretrained-without-lm-loss": 1e-5}
WORDS = ("cats", "dogs", "birds", "sleep", "run", "sing", "loudly", "often")


# ---- which runs


def test_runs_go_seed_by_seed_with_the_arms_of_a_task_together() -> None:
    """An interrupted sequence then has complete seeds of all arms."""
    runs = planned(["rte", "cola"], 2, LR)
    assert [run.seed for run in runs] == [0] * 5 + [1] * 5
    assert [(run.task, run.arm, run.lr, run.lm_coef) for run in runs[:5]] == [
        ("rte", "random", 1e-3, LM_COEF),
        ("rte", "pretrained", 1e-4, LM_COEF),
        ("rte", "pretrained-without-lm-loss", 1e-5, 0.0),
        ("cola", "random", 1e-3, LM_COEF),
        ("cola", "pretrained", 1e-4, LM_COEF),
    ]


def test_validation_alone_chooses_the_learning_rate_of_each_arm() -> None:
    best = {"random": 0.2, "pretrained": 0.1, "pretrained-without-lm-loss": 0.2}
    scores = {
        run: {"valid": 0.5 + (run.lr == best[run.arm]), "score": 0.5 - (run.lr == best[run.arm])}
        for run in ablations.tuning(["sst2", "stsb"], [0.1, 0.2])
    }
    assert choose(["sst2", "stsb"], [0.1, 0.2], scores) == best


def test_the_runs_that_chose_the_rates_are_runs_of_the_table() -> None:
    assert set(ablations.tuning(["rte"], [1e-3, 1e-4])) & set(planned(["rte"], 1, LR)) == {
        Run("rte", "random", 1e-3, 0), Run("rte", "pretrained", 1e-4, 0),
    }  # fmt: skip


# ---- the tables


def scored(*values: tuple[Run, float]) -> dict[Run, dict[str, Any]]:
    baseline = {"word overlap + logistic regression": 0.6, "majority class": 0.5}
    return {run: {"score": value, "baseline": baseline if run.seed == 0 else {}} for run, value in values}


def of(arm: ablations.Arm, seed: int) -> Run:
    return Run("rte", arm, LR[arm], seed)


ROWS = {"rte": {"counts": {"train": 2_000, "valid": 249, "test": 277}, "scored": "dev"}}


def test_a_line_compares_the_seeds_that_both_arms_have() -> None:
    scores = scored(
        (of("random", 0), 0.50), (of("pretrained", 0), 0.60), (of("random", 1), 0.52), (of("pretrained", 1), 0.62),
        (of("random", 2), 0.99),
    )  # fmt: skip
    [line] = pretraining_rows(["rte", "cola"], ROWS, 3, LR, scores)
    assert line == [
        "RTE", "2,000 / 277 dev", "accuracy", "60.0 (word overlap)", "50.0", "51.0 [50.0–52.0]", "61.0 [60.0–62.0]",
        "2", "better; as in the paper", "53.8 → 56.0",
    ]  # fmt: skip
    assert len(line) == len(ablations.PRETRAINING)


def test_the_line_of_the_lm_loss_has_the_papers_sign_beside_it() -> None:
    """RTE: 54.4 without and 56.0 with it."""
    scores = scored((of("pretrained-without-lm-loss", 0), 0.6), (of("pretrained", 0), 0.5))
    [line] = lm_loss_rows(["rte", "cola"], 3, LR, scores)
    assert line == ["RTE", "accuracy", "60.0", "50.0", "1", "worse; not as in the paper", "54.4 → 56.0"]
    assert len(line) == len(ablations.LM_LOSS)


@pytest.mark.parametrize(
    ("before", "after", "papers", "words"),
    [
        ([0.1, 0.2], [0.3, 0.4], 5.0, "better; as in the paper"),
        ([0.1, 0.2], [0.3, 0.4], -5.0, "better; not as in the paper"),
        ([0.3, 0.4], [0.1, 0.2], -5.0, "worse; as in the paper"),
        ([0.1, 0.3, 0.4], [0.2, 0.35, 0.5], None, "better, ranges overlap"),
        ([0.2], [0.2], 5.0, "equal; not as in the paper"),
    ],
)
def test_a_direction_in_words(before: list[float], after: list[float], papers: float | None, words: str) -> None:
    assert direction(before, after, papers) == words


def test_a_single_seed_has_no_spread() -> None:
    assert (spread([0.5]), spread([0.1, 0.2, 0.6])) == ("50.0", "20.0 [10.0–60.0]")


def test_every_task_of_the_paper_is_better_with_pretraining() -> None:
    """Table 5 as described in §5 of the paper; misplaced numbers would fail here."""
    assert all(each.without_pretraining < TASK[name].results[0].paper for name, each in ABLATIONS.items())
    assert list(TASK) == ["imdb", "rte", "storycloze", "cola", "sst2", "mrpc", "stsb"]


def test_the_page_is_replaced_between_its_marks_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{results.BEGIN}\nold\n{results.END}\n\nafter\n")
    results.insert(page, "| new |")
    results.insert(page, "| newer |")
    assert page.read_text() == f"before\n\n{results.BEGIN}\n\n| newer |\n\n{results.END}\n\nafter\n"
    page.write_text(f"{results.END} {results.BEGIN}")
    with pytest.raises(UserError, match=r"--markdown .*page\.md: expected a page with a line <!-- written"):
        results.insert(page, "")


# ---- rows


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def sentence(i: int) -> str:
    return f"{WORDS[i % 8]} {WORDS[i // 8 % 8]} {i}"


def pairs(first: int, count: int) -> list[dict[str, Any]]:
    return [{"text_a": sentence(i), "text_b": sentence(i + 1), "label": i % 2} for i in range(first, first + count)]


SCALE = replace(results.SMALL, train=30, scored=10, batch_size=8)


def test_where_dev_is_scored_other_rows_validate(tmp_path: Path) -> None:
    write(tmp_path / "D/rte/train.jsonl", pairs(0, 60))
    write(tmp_path / "D/rte/dev.jsonl", pairs(100, 20))
    found = results.draw(TASK["rte"], tmp_path / "D", SCALE, tmp_path / "rows")
    drawn = {split: read(tmp_path / f"rows/{split}.jsonl") for split in ("train", "valid", "test")}
    assert found["counts"] == {"train": 30, "valid": 6, "test": 10}
    assert found["scored"] == "dev"
    assert all(row in pairs(100, 20) for row in drawn["test"])
    assert all(row in pairs(0, 60) for row in drawn["train"] + drawn["valid"])
    assert not [row for row in drawn["valid"] if row in drawn["train"]]
    assert sum(row["label"] for row in drawn["train"]) == 15, "as many of each label as there are"


@pytest.mark.parametrize("name", ["imdb", "storycloze"])
def test_where_test_has_labels_it_is_scored_and_rows_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    def row(i: int) -> dict[str, Any]:
        if name == "imdb":
            return {"text": sentence(i), "label": i % 2}
        return {"context": sentence(i), "choices": [sentence(i + 1), sentence(i + 2)], "label": i % 2}

    train, test = [row(i) for i in range(40)], [row(i) for i in range(100, 120)]
    write(tmp_path / f"D/{name}/{'val' if name == 'storycloze' else 'train'}.jsonl", train)
    write(tmp_path / f"D/{name}/test.jsonl", test)
    found = results.draw(TASK[name], tmp_path / "D", SCALE, tmp_path / "rows")
    assert found["scored"] == "test"
    drawn = {split: read(tmp_path / f"rows/{split}.jsonl") for split in ("train", "valid", "test")}
    assert all(row in train for row in drawn["train"] + drawn["valid"])
    assert all(row in test for row in drawn["test"])
    assert len(drawn["test"]) == 10


# ---- the command


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with D/rte and a tiny model."""
    root = tmp_path_factory.mktemp("results")
    write(root / "D/rte/train.jsonl", pairs(0, 40))
    write(root / "D/rte/dev.jsonl", pairs(100, 10))
    tokenizer = train([sentence(i) for i in range(100)], 120)
    shape = replace(SIZES["tiny"], vocab_size=tokenizer.vocab_size)
    for seed in (0, 1):
        save_model(root / f"model-{seed}", Model(shape, initialise(shape, seed), tokenizer))
    return root


def command(root: Path, out: str, *flags: str, model: str = "model-0") -> int:
    words = ["--data-root", str(root / "D"), "--pretrained", str(root / model), "--out", str(root / out)]
    return results.main([*words, "--tasks", "rte", "--seeds", "1", "--lrs", "1e-3", "--device", "cpu", *flags])


def test_a_stopped_study_goes_on_and_a_finished_one_is_read(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    stop_at = 1

    def run_or_stop(config: Any) -> Any:
        if len(ran) == stop_at:
            raise Interrupted
        ran.append(f"{config.model.rpartition('/')[2]} {config.loss.lm_coef}")
        return finetune(config)

    finetune = results.finetune
    monkeypatch.setattr(results, "finetune", run_or_stop)
    page = workplace / "page.md"
    page.write_text(f"{results.BEGIN}{results.END}")
    assert command(workplace, "out", "--markdown", str(page)) == 130
    assert "stopped; run the same command again to resume" in capsys.readouterr().err
    stop_at = 3
    for _ in range(2):
        assert command(workplace, "out", "--markdown", str(page)) == 0
    assert ran == ["random:tiny 0.5", "model-0 0.5", "model-0 0.0"]
    kept = {path.name for path in (workplace / "out/rte/random-lr0.001/seed-0").iterdir()}
    assert "metrics.json" in kept
    assert not kept & {"model", "checkpoints"}, "weights of all runs would fill a disk"
    assert "| RTE | 36 / 10 dev | accuracy |" in page.read_text()
    assert str(workplace) not in page.read_text(), "the page is for all machines"


def test_both_starts_have_the_same_shape_and_token_ids(workplace: Path) -> None:
    assert command(workplace, "out") == 0  # read, where the test above has run
    runs = [workplace / f"out/rte/{start}-lr0.001/seed-0" for start in ("random", "pretrained")]
    facts = [read_json(run / "config.json")["facts"] for run in runs]
    assert facts[0] == facts[1], "digests of the encoded rows"
    parameters = [json.loads((run / "log.jsonl").read_text().splitlines()[0])["parameters"] for run in runs]
    assert parameters[0] == parameters[1]


def test_runs_of_another_model_are_refused(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(workplace, "other", "--budget-minutes", "0") == 1
    assert command(workplace, "other", model="model-1") == 2
    assert "other: holds runs of another pretrained" in capsys.readouterr().err


def test_a_spent_budget_starts_no_run(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(workplace, "spent", "--budget-minutes", "0") == 1
    assert "The remaining budget is too short for rte/random-lr0.001/seed-0" in capsys.readouterr().err
    assert not (workplace / "spent/rte").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--tasks", "qnli"], "--tasks qnli: unknown; there are imdb, rte"),
        (["--tasks", "cola"], "no folder cola"),
        (["--markdown", "nowhere.md"], "--markdown nowhere.md: expected a page"),
        (["--pretrained", "nowhere"], "--pretrained nowhere: no such directory"),
    ],
)
def test_bad_flags_are_one_line(
    workplace: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert command(workplace, "bad", *flags) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_random_weights_need_a_named_size() -> None:
    tokenizer = train([sentence(i) for i in range(100)], 120)
    shape = replace(SIZES["tiny"], n_layer=3, vocab_size=tokenizer.vocab_size)
    with pytest.raises(UserError, match="--pretrained mine: 3 layers × 64 with 0 segments is none of gpt1, mini, tiny"):
        results.size_of(Model(shape, initialise(shape, 0), tokenizer), "mine")
