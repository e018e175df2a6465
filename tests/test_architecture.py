"""Few doors, frameworks come when chosen, nothing unpickles. Run: pytest tests/test_architecture.py"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gpt1

PACKAGE = Path(gpt1.__file__).parent
MOST_ENTRIES = 20
MOST_MODULES = 5
"""At the top of the package, `__init__` and `__main__` not counted."""

OWNERS = {
    "torch": "backends.torch",
    "mindspore": "backends.mindspore",
    "ray": "data.corpus.ray_workers",
    "onnxruntime": "checkpoint.onnx_check",
    "optuna": "training.sweep",
    "tensorboard": "training.trackers",
    "wandb": "training.trackers",
    "mlflow": "training.trackers",
    "trackio": "training.trackers",
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


def test_the_top_of_the_package_is_short() -> None:
    """A newcomer finds the room by its name: `ls src/gpt1` is a table of contents."""
    entries = {path.name for path in PACKAGE.iterdir()} - {"__pycache__"}
    modules_at_the_top = {name for name in entries if name.endswith(".py")} - {"__init__.py", "__main__.py"}
    assert len(entries) <= MOST_ENTRIES
    assert len(modules_at_the_top) <= MOST_MODULES


def test_each_package_says_what_it_holds() -> None:
    packages = [path.parent for path in PACKAGE.rglob("__init__.py")]
    docstrings = {path: ast.get_docstring(ast.parse((path / "__init__.py").read_text("utf-8"))) for path in packages}
    assert all(docstrings.values()), docstrings


@pytest.mark.parametrize("library", OWNERS)
def test_one_place_alone_knows_the_library(library: str) -> None:
    users = {module for module, tree in MODULES.items() for name in imports(tree) if name.partition(".")[0] == library}
    owner = OWNERS[library]
    assert users and all(f"{module}.".startswith(f"{owner}.") for module in users), users


def test_transformers_is_for_tests_and_benchmarks_alone() -> None:
    assert not [module for module, tree in MODULES.items() for name in imports(tree) if "transformers" in name]


@pytest.mark.parametrize(
    "program",
    [
        "import gpt1",
        "import gpt1.cli",
        "import gpt1.api, gpt1.cli, gpt1.tasks, gpt1.tokenization.trainer, gpt1.backends.parameters",
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
    assert refused.stderr.startswith("gpt1: 'finetun': unknown command; did you mean finetune?")


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
