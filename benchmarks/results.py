"""Ablations of pretraining and of the auxiliary loss: the paper's table 5 at small scale.

    python benchmarks/results.py --data-root D --pretrained MODEL --markdown docs/results.md
    python benchmarks/results.py … --full       all rows and the paper's fine-tuning: for a GPU

Each task is fine-tuned from the pretrained model and from random weights of the same shape, with the same tokenizer,
rows and settings, once per seed. A seed determines the new weights, the order of the rows and the dropout masks. The
rows are sampled once. The learning rate and, with several epochs, the epoch are selected on validation rows, which are
never scored. Each arm gets the learning rate of `--lrs` with the best mean over `TUNED_ON`.

The scores of each finished run are stored in OUT/TASK/…/seed-N.json, next to its run directory, whose weights are
deleted. The same command resumes. Runs are ordered by seed, so that a short budget yields complete seeds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from textwrap import fill
from typing import Any

from ablations import (
    ARMS,
    LM_LOSS,
    PRETRAINING,
    TASK,
    TUNED_ON,
    Rates,
    Run,
    Score,
    choose,
    lm_loss_rows,
    markdown_table,
    planned,
    pretraining_rows,
    tuning,
)
from finetune import BUSY, machine
from gpt1.checkpoint.loading import open_model, resolve_model
from gpt1.checkpoint.model_dir import Model
from gpt1.checkpoint.run_dir import RunDirectory
from gpt1.config import SIZES, DeviceConfig, FinetuneConfig
from gpt1.config.recipes import recipe
from gpt1.console import notices_to, say, table
from gpt1.data.dataset import load_dataset
from gpt1.data.example import Example
from gpt1.data.splits import stratified_split
from gpt1.errors import Interrupted, UserError
from gpt1.system.files import read_json, replace_directory, write_json
from gpt1.tasks import TASKS
from gpt1.tasks.dataset import limited
from gpt1.training.finetune import finetune
from gpt1.training.paper_results import Experiment, MissingDataError, locate


@dataclass(frozen=True)
class Scale:
    """Number of rows per task, and changes to the recipe `paper-finetune`."""

    train: int | None
    """Maximum number of training rows; None: all."""
    valid: int
    scored: int | None
    epochs: float
    batch_size: int
    warmup: float
    """Fraction of the steps."""
    lrs: tuple[float, ...]
    """Candidate learning rates."""
    max_length: int | None = None
    """Maximum tokens per sequence; None: the model's context."""


SMALL = Scale(train=2_000, valid=300, scored=1_000, epochs=1, batch_size=16, warmup=0.1, lrs=(2.5e-4, 5e-4, 1e-3))
"""With the paper's batch size of 32 an epoch would have 62 steps and no warm-up step. Tried with an early `mini` on
1,000 validation rows of SST-2, one seed: batch size 8 was worse than 16 (61.2, 65.7); a learning rate of 3e-3, and
without the LM loss 1e-3 too, predicted one class for all rows (5e-4: 61.9)."""
FULL = Scale(train=None, valid=1_000, scored=None, epochs=3, batch_size=32, warmup=0.002, lrs=(6.25e-5, 2.5e-4, 1e-3))

PASSES = {"train": 3, "valid": 2, "test": 1}
"""Cost of a row in forward passes: a step counts as three; validation rows are scored again at the end."""
CHARACTERS = 2_300
"""Approximate characters of a text that fit into a context of 512 tokens."""


# ---- rows


def draw(experiment: Experiment, root: Path, scale: Scale, folder: Path) -> dict[str, Any]:
    """Write the rows of a task to train, valid and test files in `folder`, once; return their counts and work.

    The scored split is the test split if it has labels, else the validation split; then the validation rows are sampled
    from the training rows.
    """
    facts = folder / "rows.json"
    if facts.exists():
        return read_json(facts)
    kind = TASKS[experiment.task].input_kind
    located = locate(experiment, root)
    strategy = located.split_settings.get("split_strategy", "stratified")
    splits = load_dataset(located.files.splits, kind=kind, seed=0, split_strategy=strategy).splits
    scored = "test" if "test" in splits else "valid"
    train = splits["train"]
    if scored == "test":
        valid = splits["valid"]
    else:
        train, valid = stratified_split(train, min(scale.valid / len(train), 0.1), 0)
    caps = {"train": (train, scale.train), "valid": (valid, scale.valid), "test": (splits[scored], scale.scored)}
    rows = {split: limited(examples, cap or len(examples), seed=0) for split, (examples, cap) in caps.items()}
    sequences = 2 if experiment.task == "similarity" else 1
    found = {
        "counts": {split: len(examples) for split, examples in rows.items()},
        "scored": "test" if scored == "test" else "dev",
        "work": sequences * sum(PASSES[split] * sum(map(characters, examples)) for split, examples in rows.items()),
    }

    def write(target: Path) -> None:
        for split, examples in rows.items():
            lines = (json.dumps(as_row(example), ensure_ascii=False) + "\n" for example in examples)
            (target / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
        write_json(target / facts.name, found)

    replace_directory(folder, write)
    return found


def as_row(example: Example) -> dict[str, Any]:
    """Return the example as a row of a .jsonl file, with the usual names of columns."""
    if example.choices:
        names: tuple[str, ...] = ("context", "question")
    else:
        names = ("text",) if len(example.parts) == 1 else ("text_a", "text_b")
    texts: dict[str, Any] = dict(zip(names, example.parts, strict=False))
    return texts | ({"choices": list(example.choices)} if example.choices else {}) | {"label": example.label}


def characters(example: Example) -> int:
    """Return about how many characters of an example the model reads; the context precedes each choice."""
    whole = sum(map(len, example.parts))
    return sum(min(whole + len(choice), CHARACTERS) for choice in example.choices or ("",))


# ---- runs


class Study:
    """Runs in one directory, with one pretrained model and one sample of rows."""

    def __init__(
        self, pretrained: str, root: Path, out: Path, tasks: Sequence[str], scale: Scale, device: DeviceConfig,
        budget: float,
    ):  # fmt: skip
        """Sample the rows of `tasks`; `budget` is in seconds.

        Raises:
            UserError: the model or the data is invalid, or `out` holds runs of another model or scale.
        """
        self.model = resolve_model(pretrained, flag="--pretrained")
        model = open_model(self.model)
        self.out, self.scale, self.device = out, scale, device
        self.random = f"random:{size_of(model, pretrained)}"
        self.deadline = time.monotonic() + budget
        rows = {name: value for name, value in asdict(scale).items() if name != "lrs"}  # further ones may be tried
        self._require_same({"pretrained": digest(model), "scale": rows})
        try:
            self.rows = {task: draw(TASK[task], root, scale, out / "rows" / task) for task in tasks}
        except MissingDataError as error:
            raise UserError(f"--data-root {root}: {error}") from None
        self.tokenizer = out / "tokenizer"
        if not self.tokenizer.exists():
            replace_directory(self.tokenizer, model.tokenizer.save)
        self.scores: dict[Run, Score] = {}

    def _require_same(self, about: Mapping[str, Any]) -> None:
        path = self.out / "study.json"
        found = read_json(path) if path.exists() else about
        for key, value in about.items():
            if found[key] != value:
                raise UserError(
                    f"--out {self.out}: holds runs of another {key} ({found[key]} there, {value} asked for); choose a "
                    "new directory"
                )
        self.out.mkdir(parents=True, exist_ok=True)
        write_json(path, about)

    def config(self, run: Run) -> FinetuneConfig:
        """Return the run's settings: `paper-finetune` with the changes of scale and run."""
        settings, scale = recipe("paper-finetune"), self.scale
        random = run.arm == "random"
        return replace(
            settings,
            data=str(self.out / "rows" / run.task),
            out=self.out / run.name,
            task=TASK[run.task].task,
            model=self.random if random else str(self.model),
            tokenizer=str(self.tokenizer) if random else None,
            recipe="paper-finetune",
            baseline=run.seed == 0,  # the same for every seed
            loss=replace(settings.loss, lm_coef=run.lm_coef),
            optim=replace(settings.optim, lr=run.lr, warmup=scale.warmup),
            loop=replace(settings.loop, epochs=scale.epochs, batch_size=scale.batch_size, seed=run.seed),
            split=replace(settings.split, max_length=scale.max_length),
            hardware=self.device,
        )

    def work_through(self, runs: Sequence[Run], later: int = 0) -> bool:
        """Read, resume or start each run; return whether the budget sufficed.

        `later` is the number of planned runs that are not yet determined.
        """
        for run in runs:
            if (path := self._score_path(run)).exists():
                RunDirectory(self.out / run.name).require_same("finetune", self.config(run))
                self.scores[run] = read_json(path)
        for run in [run for run in runs if run not in self.scores]:
            expected = self.seconds(run)
            if time.monotonic() + (expected or 0) > self.deadline:
                say(f"The remaining budget is too short for {run.name}, which takes about {expected or 0:,.0f} s.")
                return False
            self.scores[run] = score = self._finish(run)
            left = [other for other in runs if other not in self.scores]
            minutes = sum(self.seconds(other) or 0 for other in left) / 60
            say(
                f"{TASK[run.task].results[0].title}, {run.arm}, lr {run.lr:g}, seed {run.seed}: "
                f"{TASK[run.task].metric} {100 * score['score']:.1f} (validation {100 * score['valid']:.1f}), "
                f"{score['seconds']:.0f} s; {len(left)} to go, about {minutes:.0f} min"
                f"{f', and then {later} more' if later else ''}"
            )
        return True

    def seconds(self, run: Run) -> float | None:
        """Return the estimated seconds of a run, from runs of the same task or its work; None before the first run."""
        if alike := [score["seconds"] for done, score in self.scores.items() if done.task == run.task]:
            return float(median(alike))
        work = sum(self.rows[done.task]["work"] for done in self.scores)
        spent = sum(score["seconds"] for score in self.scores.values())
        return float(spent / work * self.rows[run.task]["work"]) if work else None

    def _finish(self, run: Run) -> Score:
        config, metric = self.config(run), TASK[run.task].metric
        started = time.monotonic()
        with notices_to(config.out.with_suffix(".txt")):
            results = finetune(config)
        score = {
            "score": results["test"][metric],
            "valid": results["valid"][metric],
            "baseline": {name: found[metric] for name, found in results["baseline"].items()},
            "cut": results["test"]["truncated"],
            "seconds": round(time.monotonic() - started, 1),
        }
        write_json(self._score_path(run), score)
        directory = RunDirectory(config.out)
        for folder in (directory.checkpoints.folder, directory.model):
            shutil.rmtree(folder, ignore_errors=True)  # 8 GB for 56 runs with 8 layers
        return score

    def _score_path(self, run: Run) -> Path:
        return self.out / f"{run.name}.json"


def size_of(model: Model, name: str) -> str:
    """Return the name of the size with the model's shape."""
    for size, shape in SIZES.items():
        if replace(shape, vocab_size=model.config.vocab_size) == replace(model.config, head=None):
            return size
    shape = model.config
    raise UserError(
        f"--pretrained {name}: {shape.n_layer} layers × {shape.n_embd} with {shape.n_segments} segments is none of "
        f"{', '.join(SIZES)}, so random weights of the same shape cannot be made"
    )


def digest(model: Model) -> str:
    """Return a digest of the model's weights."""
    found = hashlib.sha256()
    for name in sorted(model.params):
        found.update(name.encode() + model.params[name].tobytes())
    return found.hexdigest()[:16]


# ---- page


LINE = 125
"""Maximum line length of the page."""
BEGIN, END = "<!-- written by benchmarks/results.py -->", "<!-- end of what it writes -->"


def require_marks(page: Path) -> None:
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    if not 0 <= text.find(BEGIN) < text.find(END):
        raise UserError(f"--markdown {page}: expected a page with a line {BEGIN} and, after it, a line {END}")


def insert(page: Path, text: str) -> None:
    """Replace the text between the two marks of a page."""
    require_marks(page)
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def as_markdown(study: Study, tasks: Sequence[str], args: argparse.Namespace, lr: Rates) -> str:
    """Return the text of the page: how the results were measured, and the two tables."""
    scale, scores, about = study.scale, study.scores, machine()
    changed = [f"--pretrained {Path(args.pretrained).name}"]
    changed += [
        f"--{name} {getattr(args, name)}" for name in ("seeds", "tasks") if getattr(args, name) != DEFAULTS[name]
    ]
    changed += [f"--max-length {args.max_length}"] if args.max_length else []
    changed += [f"--lrs {','.join(f'{each:g}' for each in args.lrs)}"] if args.lrs else []
    changed += ["--full"] if args.full else []
    much = f"At most {scale.train:,} training and {scale.scored:,} scored rows per task" if scale.train else "All rows"
    passes = "1 epoch, and the last weights are scored" if scale.epochs == 1 else (
        f"{scale.epochs:g} epochs, the best one selected on the validation rows"
    )  # fmt: skip
    cut = f"sequences of at most {scale.max_length} tokens, " if scale.max_length else ""
    rates = f"lr {lr['pretrained']:g} (random weights {lr['random']:g}, λ = 0 {lr['pretrained-without-lm-loss']:g})"
    if len(scale.lrs) > 1:
        tuned = " and ".join(TASK[task].results[0].title for task in TUNED_ON)
        rates += f", each the best of {', '.join(f'{each:g}' for each in scale.lrs)} on the validation rows of {tuned}"
    minutes = sum(score["seconds"] for score in scores.values()) / 60
    paragraphs = [
        f"`python benchmarks/results.py --data-root D {' '.join(changed)}`: {len(scores)} runs, {minutes:.0f} minutes; "
        f"{about['cpu']}, {about['cores']} cores, torch {about['torch']}, {about['date'][:10]}.",
        f"{much}, sampled once and shared by all runs of a task; {passes}. Recipe `paper-finetune` with batches of "
        f"{scale.batch_size}, a warm-up over {100 * scale.warmup:g} % of the steps, {cut}and {rates}. The seed "
        "determines the newly initialized weights (all, or those that the pretrained model lacks), the order of the "
        "rows and the dropout masks.",
        markdown_table(PRETRAINING, pretraining_rows(tasks, study.rows, args.seeds, lr, scores)),
        "Values in percent: median [smallest–largest] over the seeds. The baseline and the majority class or mean are "
        "fitted on the same training rows. `dev` is scored if the test rows have no public labels; the validation rows "
        "are then sampled from the training rows. The paper's figures (table 5; Story Cloze: table 3) are for 12 × 768 "
        "weights, all rows and 3 epochs, on the test rows.",
        "With (λ = 0.5) and without (λ = 0) the auxiliary language-modelling loss, from the pretrained model:",
        markdown_table(LM_LOSS, lm_loss_rows(tasks, args.seeds, lr, scores)),
    ]  # fmt: skip
    return "\n\n".join(each if each[0] == "|" else fill(each, LINE, break_on_hyphens=False) for each in paragraphs)


# ---- command


DEFAULTS = {"seeds": 3, "tasks": ",".join(TASK)}


def main(words: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code: 1 budget exceeded, 2 invalid input, 130 interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder with a folder per task (rte, cola, …)")
    parser.add_argument("--pretrained", required=True, help="pretrained model: directory or hub name")
    parser.add_argument("--out", type=Path, default=Path("runs/results"), help="existing runs in it are resumed")
    parser.add_argument("--seeds", type=int, default=DEFAULTS["seeds"])
    parser.add_argument("--tasks", default=DEFAULTS["tasks"], help="default: %(default)s")
    parser.add_argument("--lrs", type=rates, help="candidate learning rates, such as 3e-4,1e-3 (default: by scale)")
    parser.add_argument("--max-length", type=int, help="maximum tokens per sequence (default: the model's context)")
    parser.add_argument("--budget-minutes", type=float, default=75, help="time limit (default: %(default)s)")
    parser.add_argument("--full", action="store_true", help="all rows, 3 epochs, batch size 32: for a GPU")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--markdown", type=Path, help="page to write the tables into, between its two marks")
    args = parser.parse_args(words)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if (machine()["load"] or 0) > BUSY:
        say("Other programs are using this machine: the runs will take longer.")
    try:
        return run_all(args)
    except UserError as error:
        say(str(error))
        return 2
    except Interrupted:
        say("stopped; run the same command again to resume")
        return 130


def rates(text: str) -> tuple[float, ...]:
    return tuple(float(each) for each in text.split(","))


def run_all(args: argparse.Namespace) -> int:
    """Sample the rows, choose the learning rates, run, and print the tables."""
    tasks = args.tasks.split(",")
    if unknown := [task for task in tasks if task not in TASK]:
        raise UserError(f"--tasks {unknown[0]}: unknown; there are {', '.join(TASK)}")
    if args.markdown:
        require_marks(args.markdown)
    scale = FULL if args.full else SMALL
    scale = replace(scale, max_length=args.max_length, lrs=args.lrs or scale.lrs)
    tuned_on = TUNED_ON if len(scale.lrs) > 1 else ()
    study = Study(
        args.pretrained,
        args.data_root,
        args.out,
        [task for task in TASK if task in (*tasks, *tuned_on)],
        scale,
        DeviceConfig(device=args.device),
        60 * args.budget_minutes,
    )
    lr: Rates = dict.fromkeys(ARMS, scale.lrs[0])
    if tuned_on:
        if not study.work_through(
            tuning(tuned_on, scale.lrs), later=len({*planned(tasks, args.seeds, lr)} - {*tuning(tuned_on, scale.lrs)})
        ):
            return 1
        lr = choose(tuned_on, scale.lrs, study.scores)
        say("Learning rates: " + ", ".join(f"{start} {value:g}" for start, value in lr.items()))
    whole = study.work_through(planned(tasks, args.seeds, lr))
    say()
    table(PRETRAINING, pretraining_rows(tasks, study.rows, args.seeds, lr, study.scores), text=(0, 1, 2, 8, 9))
    say()
    table(LM_LOSS, lm_loss_rows(tasks, args.seeds, lr, study.scores), text=(0, 1, 5, 6))
    if args.markdown:
        insert(args.markdown, as_markdown(study, tasks, args, lr))
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
