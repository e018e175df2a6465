"""Imports point down, frameworks come when chosen, nothing unpickles. Run: pytest tests/test_architecture.py"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gpt1

PACKAGE = Path(gpt1.__file__).parent

FOUNDATION = {"errors", "config"}

MAY_IMPORT: dict[str, set[str]] = {
    # ---- stdlib and NumPy
    "errors": set(),
    "console": set(),
    "processes": set(),
    "runlog": set(),
    "ranks": {"errors"},
    "config": {"errors"},
    "settings": {"errors"},
    "recipes": FOUNDATION | {"settings"},
    "params": FOUNDATION,
    "optim": FOUNDATION,
    "metrics": FOUNDATION,
    "sampling": FOUNDATION,
    "catalogue": FOUNDATION,
    "hub_cache": {"errors", "catalogue"},
    "hub": FOUNDATION | {"catalogue", "hub_cache"},
    "highlight": set(),
    "storage": FOUNDATION | {"runlog"},
    "diagnostics": {"metrics"},
    # ---- frameworks
    "backends.base": {"config", "params"},
    "backends.noise": set(),
    "backends.torch": FOUNDATION | {"params", "optim", "ranks", "backends.base", "backends.noise"},
    "backends.mindspore": FOUNDATION
    | {"console", "params", "optim", "ranks", "storage", "backends.base", "backends.noise"},
    "backends": FOUNDATION | {"ranks", "backends.base", "backends.torch", "backends.mindspore"},
    "trackers": FOUNDATION | {"console", "runlog", "storage"},
    # ---- text, data, tasks
    "text": FOUNDATION | {"processes"},
    "data": FOUNDATION,
    "data.batches": FOUNDATION | {"backends.base"},
    "tasks": FOUNDATION | {"text", "data", "data.batches"},
    "baseline": {"errors", "data"},
    # ---- files of a run
    "openai_release": FOUNDATION | {"params", "text"},
    "huggingface": FOUNDATION | {"backends", "backends.mindspore", "params", "storage"},
    "card": {"config", "params"},
    "checkpoint": FOUNDATION | {"card", "huggingface", "openai_release", "params", "storage", "text"},
    "run": {"errors", "console", "runlog", "storage", "checkpoint"},
    "report": FOUNDATION | {"console", "diagnostics", "highlight", "metrics", "recipes", "run", "runlog", "storage"},
    "data.documents": {"data"},
    "data.shards": FOUNDATION | {"data.documents", "storage", "text"},
    "data.workers": FOUNDATION | {"data.shards", "processes", "text"},
    "data.ray": FOUNDATION | {"data.shards", "data.workers", "processes", "text"},
    "data.corpus": FOUNDATION | {"console", "data.shards", "data.workers", "storage", "text"},
    "data.windows": FOUNDATION | {"backends.base"},
    # ---- what runs
    "inference": {"config", "console", "metrics", "backends.base", "data.batches"},
    "loop": FOUNDATION
    | {"console", "metrics", "optim", "ranks", "runlog", "checkpoint", "backends.base", "data.batches"},
    "evaluation": FOUNDATION
    | {"baseline", "console", "data", "data.batches", "diagnostics", "metrics", "inference", "tasks"},
    "classifier": FOUNDATION
    | {
        "backends",
        "backends.base",
        "catalogue",
        "checkpoint",
        "console",
        "data",
        "data.batches",
        "metrics",
        "inference",
        "run",
        "tasks",
    },
    "explain": FOUNDATION | {"backends.base", "classifier", "data", "data.batches", "metrics", "tasks", "text"},
    "score": FOUNDATION
    | {"backends", "backends.base", "checkpoint", "classifier", "data.batches", "inference", "text"},
    "generate": FOUNDATION | {"backends", "backends.base", "checkpoint", "classifier", "console", "sampling", "text"},
    "loaded": FOUNDATION
    | {"backends", "backends.base", "checkpoint", "classifier", "data", "explain", "generate", "params", "score"}
    | {"settings"},
    "sample": FOUNDATION | {"console", "generate", "runlog", "text"},
    "onnx_runtime": {"backends.base"},
    "convert": FOUNDATION
    | {"backends", "backends.torch", "checkpoint", "classifier", "console", "hub", "huggingface", "onnx_runtime"}
    | {"openai_release", "params", "storage", "text"},
    "training": FOUNDATION | {"backends", "checkpoint", "data.batches", "inference", "loop", "metrics", "runlog"},
    "labelled": FOUNDATION | {"data", "hub", "tasks"},
    "finetuning": FOUNDATION
    | {"backends", "backends.base", "card", "catalogue", "checkpoint", "console", "data", "data.batches", "evaluation"}
    | {"explain", "hub", "labelled", "trackers", "training"}
    | {"classifier", "metrics", "params", "inference", "report", "run", "runlog", "storage", "tasks", "text"},
    "pretrain": FOUNDATION
    | {
        "card",
        "backends",
        "backends.base",
        "catalogue",
        "checkpoint",
        "classifier",
        "console",
        "data.corpus",
        "data.documents",
    }
    | {"data.windows", "generate", "hub", "loop", "params", "ranks", "report", "run", "runlog", "sample", "storage"}
    | {"text", "trackers"},
    "zero_shot": FOUNDATION
    | {"backends", "checkpoint", "console", "data", "data.batches", "evaluation", "metrics", "inference", "tasks"},
    "prediction_files": {"errors", "data", "runlog", "storage", "text"},
    "batch_prediction": FOUNDATION
    | {"backends.base", "classifier", "console", "data", "inference", "prediction_files", "runlog", "storage"},
    "estimator": FOUNDATION
    | {"checkpoint", "classifier", "console", "data", "finetuning", "labelled", "loaded", "metrics", "recipes", "run"}
    | {"settings", "storage", "tasks", "training"},
    "seeds": FOUNDATION | {"console", "finetuning", "hub", "metrics", "run", "storage"},
    "sweep": FOUNDATION
    | {"backends", "console", "finetuning", "labelled", "metrics", "recipes", "report", "run", "runlog", "settings"}
    | {"storage", "training"},
    "paper": FOUNDATION | {"data", "hub"},
    "reproduce": FOUNDATION
    | {"classifier", "console", "data", "evaluation", "labelled", "paper", "recipes", "run", "runlog", "seeds"}
    | {"storage"},
    "push": FOUNDATION | {"catalogue", "checkpoint", "console", "hub_cache", "run"},
    "rows": FOUNDATION | {"console", "data", "hub", "labelled"},
    "evaluating": FOUNDATION
    | {"classifier", "console", "data", "data.batches", "evaluation", "explain", "labelled", "metrics", "rows"}
    | {"run", "zero_shot"},
    "serve": FOUNDATION
    | {"backends", "backends.base", "checkpoint", "classifier", "console", "data", "data.batches", "explain"}
    | {"generate", "loaded", "params", "tasks"},
    # ---- what people call
    "api": FOUNDATION
    | {"backends", "batch_prediction", "catalogue", "checkpoint", "classifier", "console", "convert", "data"}
    | {"data.corpus", "data.documents", "data.ray", "data.workers", "evaluating", "explain", "finetuning", "generate"}
    | {"highlight", "pretrain", "push", "report", "reproduce", "run", "score", "seeds", "serve", "storage", "sweep"}
    | {"text"},
    "cli": FOUNDATION | {"api", "highlight", "ranks", "recipes", "runlog", "text"},
    "__main__": {"cli"},
    "": {
        "api",
        "errors",
        "estimator",
        "finetuning",
        "labelled",
        "loaded",
        "recipes",
    },  # gpt1 itself: the functions that it names
}
"""Module or package of gpt1 -> those that it may import, all of them above it. A new module adds its row."""

OWNERS = {
    "torch": "backends.torch",
    "mindspore": "backends.mindspore",
    "ray": "data.ray",
    "onnxruntime": "onnx_runtime",
    "optuna": "sweep",
    "tensorboard": "trackers",
    "wandb": "trackers",
    "mlflow": "trackers",
    "trackio": "trackers",
    "tyro": "cli",
    "fastapi": "serve",
    "pydantic": "serve",
    "uvicorn": "serve",
}
"""The one place of gpt1 that may import the library."""

HEAVY = (
    "torch",
    "mindspore",
    "ray",
    "sklearn",
    "scipy",
    "matplotlib",
    "polars",
    "transformers",
    "huggingface_hub",
    "zstandard",
    "onnx",
    "onnxruntime",
    "fastapi",
    "uvicorn",
    "optuna",
    "tensorboard",
)
"""Imported inside the function that needs them, by whichever module."""

PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def modules() -> dict[str, ast.Module]:
    """{"data.batches": its syntax tree, …}; a package is its `__init__`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


MODULES = modules()


def imports(tree: ast.Module) -> Iterator[str]:
    """The dotted name of every module that is imported, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            module = node.module or ""
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield inner if inner.removeprefix("gpt1.") in MODULES else module


def unit(module: str) -> str:
    """The row of `MAY_IMPORT` that a module belongs to: its own, else that of its package."""
    while module and module not in MAY_IMPORT:
        module = module.rpartition(".")[0]
    return module


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_what_its_row_allows_and_nothing_else(module: str) -> None:
    here = unit(module)
    assert here or module == "", f"{module} has no row in MAY_IMPORT"
    ours = {name for name in imports(MODULES[module]) if name.partition(".")[0] == "gpt1"}
    needed = {unit(name.removeprefix("gpt1").lstrip(".")) for name in ours} - {here, ""}
    assert needed <= MAY_IMPORT[here], f"gpt1.{module} imports {', '.join(sorted(needed - MAY_IMPORT[here]))}"


def test_the_rows_of_the_table_point_down() -> None:
    rows = list(MAY_IMPORT)
    for row, allowed in MAY_IMPORT.items():
        assert allowed <= set(rows[: rows.index(row)]), f"{row} stands above something that it imports"
    assert set(rows) <= {*MODULES, ""}, "a row of a module that is gone"


@pytest.mark.parametrize("library", OWNERS)
def test_one_place_alone_knows_the_library(library: str) -> None:
    users = {module for module, tree in MODULES.items() for name in imports(tree) if name.partition(".")[0] == library}
    assert {unit(module) for module in users} <= {OWNERS[library]}


def test_transformers_is_for_tests_and_benchmarks_alone() -> None:
    assert not [module for module, tree in MODULES.items() for name in imports(tree) if "transformers" in name]


@pytest.mark.parametrize(
    "program",
    [
        "import gpt1",
        "import gpt1.cli",
        "import gpt1.api, gpt1.cli, gpt1.tasks, gpt1.text.train, gpt1.params, gpt1.optim",
    ],
)
def test_an_import_brings_no_framework_and_nothing_heavy(program: str) -> None:
    assert loaded(program) == set()


@pytest.mark.parametrize("words", ["--help", "finetune --help", "tokenizer --help", "--version"])
def test_help_brings_no_framework_and_not_even_numpy(words: str) -> None:
    """That is what keeps it under 0.4 s."""
    program = f"import gpt1.cli; assert gpt1.cli.main({words.split()}) == 0"
    assert loaded(program, "numpy", "tokenizers") == set()


def test_the_package_runs_as_a_module() -> None:
    found = subprocess.run([sys.executable, "-m", "gpt1", "--help"], capture_output=True, text=True, check=True)
    commands = ("finetune", "evaluate", "predict", "explain", "score", "tokenizer", "convert", "doctor")
    assert all(command in found.stdout for command in commands)
    refused = subprocess.run([sys.executable, "-m", "gpt1", "finetun"], capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("gpt1: 'finetun' is no command; there are finetune, pretrain, sweep, prepare")


def loaded(program: str, *also: str) -> set[str]:
    """The heavy modules that a fresh Python has after `program`."""
    ask = f"{program}\nimport sys\nprint('\\n' + ' '.join(sys.modules))"
    found = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout
    return {name.partition(".")[0] for name in found.splitlines()[-1].split()} & {*HEAVY, *also}


def test_nothing_of_ours_reads_a_pickle() -> None:
    for module, tree in MODULES.items():
        assert not {name.partition(".")[0] for name in imports(tree)} & PICKLES, module
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            text = ast.unparse(call.func)
            assert text not in ("torch.load", "torch.jit.load", "mindspore.load"), f"{module}: {text}"
            for keyword in call.keywords:
                if keyword.arg in ("allow_pickle", "trust_remote_code"):
                    assert ast.unparse(keyword.value) == "False", f"{module}: {ast.unparse(call)}"
