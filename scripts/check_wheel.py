"""Install the built wheel into fresh environments outside the checkout and use it there as a person would.

Run: python scripts/check_wheel.py [CELL ...] [--all] [--list]; `make wheel` builds the wheel and tests one cell.

A cell is a Python version, a NumPy version and the extras that are installed. In each cell the commands of a first
session run: version, next tokens, fine-tuning on the bundled reviews, predictions, report, server, and mypy on a file
that imports gpt1. A cell whose Python is not found on this machine is skipped. Exit code 1 if a cell fails.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TEXT = "Warm, funny and over far too soon."
TIMEOUT = 900
"""Seconds for one command."""
SERVER_TIMEOUT = 180
"""Seconds for an answer of the server, and for its end."""

TYPED = """\
import gpt1

reveal_type(gpt1.recipe)
reveal_type(gpt1.predict("runs/demo", ["good"]))
"""
MYPY = """\
[mypy]

[mypy-matplotlib.*,mindspore.*,polars.*,scipy.*,sklearn.*,torch.*]
follow_imports = skip
ignore_missing_imports = True
"""
"""The types of large libraries are not needed and take mypy minutes."""


@dataclass(frozen=True)
class Cell:
    """Environment in which the wheel is tested."""

    name: str
    python: str
    """Version, such as 3.12."""
    extras: str
    numpy: str
    """Version specifier of NumPy."""
    locked: bool = False
    """Whether requirements.lock holds for it: CI's environment."""

    @property
    def serves(self) -> bool:
        """Whether the extra `serve` is installed."""
        return "serve" in self.extras.split(",")


CELLS = [
    Cell("py311-numpy1", "3.11", "torch,serve", "<2", locked=True),
    Cell("py311-numpy2", "3.11", "torch,serve", ">=2,<3"),
    Cell("py312-numpy2", "3.12", "torch,serve", ">=2,<3"),
    Cell("py313-numpy2", "3.13", "torch,serve", ">=2,<3"),
    Cell("torch-alone", "3.11", "torch", ">=2,<3"),
    Cell("mindspore", "3.11", "mindspore,serve", "<2", locked=True),
]


class Failed(Exception):
    """A command of a cell ended with an unexpected exit code or output; the message names both."""


@dataclass
class Result:
    """What was found in one cell."""

    cell: Cell
    state: str = "passed"
    python: str = ""
    numpy: str = ""
    installed: float = 0.0
    """MB of site-packages."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Of the installation and of each step."""


@dataclass(frozen=True)
class Environment:
    """Virtual environment in a folder outside the checkout."""

    folder: Path

    @property
    def python(self) -> Path:
        """Path of its interpreter."""
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def variables(self) -> dict[str, str]:
        """Variables of its processes: none of Python's, which may lead to the checkout or forbid compiled files."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        return kept | {"PYTHONIOENCODING": "utf-8"}

    def run(self, words: Sequence[object], code: int = 0) -> str:
        """Run its Python with the words in its folder; return stdout and stderr.

        Raises:
            Failed: it ends with another exit code.
        """
        return run([self.python, *words], self.folder, self.variables, code)

    def gpt1(self, *words: object, code: int = 0) -> str:
        """Run a gpt1 command by its console script."""
        return run([self.python.with_name("gpt1"), *words], self.folder, self.variables, code)


def run(words: Sequence[object], cwd: Path, variables: Mapping[str, str], code: int = 0) -> str:
    """Run a command; return stdout and stderr together."""
    command = [str(word) for word in words]
    done = subprocess.run(
        command, cwd=cwd, env=dict(variables), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        encoding="utf-8", errors="replace", timeout=TIMEOUT, check=False,
    )  # fmt: skip
    if done.returncode != code:
        raise Failed(f"{' '.join(command)}: exit code {done.returncode}, expected {code}\n{done.stdout[-3000:]}")
    return done.stdout


def expect(condition: bool, what: str) -> None:
    """Raise Failed with `what` was expected, unless the condition holds."""
    if not condition:
        raise Failed(f"expected {what}")


# ---- steps of a cell, in this order; each takes the environment and its cell


def import_from_environment(environment: Environment, cell: Cell) -> None:
    """The wheel is imported, not the checkout."""
    where = Path(environment.run(["-c", "import gpt1; print(gpt1.__file__)"]).strip())
    expect(where.is_relative_to(environment.folder), f"gpt1 in {environment.folder}, found {where}")


def print_version(environment: Environment, cell: Cell) -> None:
    """`gpt1 --version` is that of the package's metadata."""
    wanted = environment.run(["-c", "from importlib.metadata import version; print(version('gpt1'))"]).strip()
    expect(environment.gpt1("--version").strip() == f"gpt1 {wanted}", f"gpt1 {wanted}")


def show_next_tokens(environment: Environment, cell: Cell) -> None:
    """The bundled model is found."""
    lines = environment.gpt1("next", "mini", "The sun rises in the").splitlines()
    expect(sum("%" in line for line in lines) >= 5, f"tokens with their probabilities, found {lines}")


def finetune(environment: Environment, cell: Cell) -> None:
    """A few steps on the bundled reviews, with scores and report."""
    # Six reviews a label: MindSpore compiles for each length of batch.
    environment.gpt1(
        "finetune", "--data", "reviews", "--out", "run", "--max-steps", "4",
        "--max-examples", "12",
    )  # fmt: skip
    scores = json.loads((environment.folder / "run" / "metrics.json").read_text(encoding="utf-8"))
    expect("accuracy" in scores["test"], "the accuracy of the test split in metrics.json")


def predict(environment: Environment, cell: Cell) -> None:
    """A label with its probability."""
    last = environment.gpt1("predict", "run", TEXT, "--json").splitlines()[-1]
    expect(json.loads(last)["label"] in ("negative", "positive"), f"a label, found {last}")


def write_report(environment: Environment, cell: Cell) -> None:
    """The page of the run, written again."""
    page = environment.folder / "run" / "report.html"
    page.unlink()
    environment.gpt1("report", "run")
    expect("<html" in page.read_text(encoding="utf-8"), "an HTML page")


def serve(environment: Environment, cell: Cell) -> None:
    """One request, then SIGTERM; without the extra, the message says what to install."""
    if not cell.serves:
        said = environment.gpt1("serve", "run", code=2)
        expect("pip install" in said and "uvicorn" in said, f"the packages to install, found {said}")
        return
    with serving(environment) as address:
        body = json.dumps({"input": [TEXT]}).encode()
        request = urllib.request.Request(f"{address}/v1/classify", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=SERVER_TIMEOUT) as answer:
            found: dict[str, Any] = json.load(answer)
    expect(found["data"][0]["label"] in ("negative", "positive"), f"a label, found {found}")


@contextlib.contextmanager
def serving(environment: Environment) -> Iterator[str]:
    """Start `gpt1 serve run`, yield its address, end it by SIGTERM and check that it ends well."""
    process = subprocess.Popen(
        [environment.python.with_name("gpt1"), "serve", "run", "--port", "0"],
        cwd=environment.folder, env=environment.variables, stderr=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip
    assert process.stderr
    try:
        said = ""
        while (address := re.search(r"http://127\.0\.0\.1:\d+", said)) is None:
            line = process.stderr.readline()
            expect(line != "", f"an address of the server, found {said}")
            said += line
        yield address[0]
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=SERVER_TIMEOUT)
        expect(process.returncode == 0, f"exit code 0 after SIGTERM, found {process.returncode}: {rest}")
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def check_types(environment: Environment, cell: Cell) -> None:
    """Mypy of this script's environment sees the types of the installed package (py.typed)."""
    path = environment.folder / "typed.py"
    path.write_text(TYPED, encoding="utf-8")
    path.with_name("mypy.ini").write_text(MYPY, encoding="utf-8")
    words = [sys.executable, "-m", "mypy", "--python-executable", environment.python, "--cache-dir", ".mypy", path.name]
    said = run(words, environment.folder, environment.variables)
    revealed = re.findall(r'Revealed type is "(.*)"', said)
    expect(len(revealed) == 2 and "Any" not in revealed and "def" in revealed[0], f"types, found {said}")


STEPS: list[Callable[[Environment, Cell], None]] = [
    import_from_environment, print_version, show_next_tokens, finetune, predict, write_report, serve, check_types,
]  # fmt: skip


# ---- the environments


def find_python(version: str) -> Path | None:
    """Return an interpreter of this version: on the PATH or of pyenv; None if there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions")
    named = shutil.which(f"python{version}")
    candidates = [Path(each) for each in (sys.executable, named) if each]
    candidates += sorted(pyenv.glob(f"{version}.*/bin/python"))
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    for candidate in candidates:
        found = subprocess.run([candidate, "-c", ask], capture_output=True, text=True, check=False)
        if found.returncode == 0 and found.stdout.strip() == version:
            return candidate
    return None


def constraints(cell: Cell, folder: Path) -> Path:
    """Write the constraints of a cell: CI's locked versions, or the frameworks' versions alone."""
    source = ROOT / ("requirements.lock" if cell.locked and sys.platform == "linux" else "constraints.txt")
    lines = source.read_text(encoding="utf-8").splitlines()
    if source.name == "constraints.txt":
        lines = [line for line in lines if line.startswith(("torch", "mindspore"))]
    path = folder / "constraints.txt"
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def install(cell: Cell, python: Path, wheel: Path, folder: Path) -> Environment:
    """Make an environment and install the wheel with the cell's extras into it."""
    environment = Environment(folder)
    run([python, "-m", "venv", folder], folder, environment.variables)
    pip = ["-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
    wanted = [f"{wheel}[{cell.extras}]", f"numpy{cell.numpy}"]
    environment.run([*pip, "--constraint", constraints(cell, folder), *wanted])
    return environment


def megabytes(folder: Path) -> float:
    """Return the size of all files in a folder, in MB (10^6 bytes)."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / 1e6


def check(cell: Cell, wheel: Path, folder: Path) -> Result:
    """Run all steps of a cell; the first failure ends it."""
    result = Result(cell)
    python = find_python(cell.python)
    if python is None:
        result.state = f"skipped: Python {cell.python} not found"
        return result
    try:
        started = time.monotonic()
        environment = install(cell, python, wheel, folder)
        result.seconds["install"] = time.monotonic() - started
        ask = "import json, platform, numpy, site; print(json.dumps([platform.python_version(), numpy.__version__]))"
        result.python, result.numpy = json.loads(environment.run(["-c", ask]))
        result.installed = megabytes(folder)
        for step in STEPS:
            print(f"{cell.name}: {step.__name__}", end="", flush=True)
            started = time.monotonic()
            step(environment, cell)
            result.seconds[step.__name__] = time.monotonic() - started
            print(f"  {result.seconds[step.__name__]:.0f} s", flush=True)
    except (Failed, subprocess.TimeoutExpired, OSError, ValueError, KeyError) as error:
        result.state = "FAILED"
        print(f"\n{cell.name}: {type(error).__name__}: {error}", flush=True)
    return result


# ---- the report


def inspect_wheel(wheel: Path) -> list[str]:
    """Return what is wrong with the files in the wheel: missing ones, and ones that do not belong there."""
    import zipfile

    names = zipfile.ZipFile(wheel).namelist()
    wanted = [
        "gpt1/py.typed", "gpt1/assets/mini/model.safetensors", "gpt1/assets/reviews/train.jsonl",
        "gpt1/serve/static/index.html",
    ]  # fmt: skip
    wrong = [f"missing: {name}" for name in wanted if name not in names]
    if not any(name.endswith("/licenses/LICENSE") for name in names):
        wrong.append("missing: LICENSE")
    others = [name for name in names if not name.startswith(("gpt1/", "gpt1-")) or "__pycache__" in name]
    return [*wrong, *(f"does not belong here: {name}" for name in others)]


def show(results: Sequence[Result], wheel: Path) -> None:
    """Print one line per cell: versions, MB of the environment, seconds, state."""
    print(f"\n{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB\n")
    print(f"{'cell':14} {'Python':8} {'NumPy':8} {'extras':16} {'MB':>7} {'install':>8} {'steps':>7}  result")
    for each in results:
        install_time = each.seconds.get("install", 0.0)
        steps = sum(each.seconds.values()) - install_time
        print(
            f"{each.cell.name:14} {each.python or each.cell.python:8} {each.numpy:8} {each.cell.extras:16} "
            f"{each.installed:7.0f} {install_time:6.0f} s {steps:5.0f} s  {each.state}"
        )


def parse_arguments() -> argparse.Namespace:
    """Return the command's arguments, validated."""
    names = [cell.name for cell in CELLS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cells", nargs="*", metavar="CELL", help=f"cells to test: {', '.join(names)}")
    parser.add_argument("--all", action="store_true", help="test all cells, one after the other")
    parser.add_argument("--list", action="store_true", help="print the cells and whether their Python is found")
    parser.add_argument("--wheel", type=Path, help="wheel to test (default: the newest in dist/)")
    parser.add_argument("--work", type=Path, help="folder outside the checkout (default: a temporary one)")
    parser.add_argument("--keep", action="store_true", help="keep the environments")
    flags = parser.parse_args()
    unknown = set(flags.cells) - set(names)
    if unknown:
        parser.error(f"unknown cell: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if not (flags.cells or flags.all or flags.list):
        parser.error("name cells, or give --all or --list")
    if flags.work and flags.work.resolve().is_relative_to(ROOT):
        parser.error(f"--work {flags.work}: is inside the checkout")
    return flags


def main() -> int:
    """Run the cells; return the exit code."""
    flags = parse_arguments()
    cells = [cell for cell in CELLS if flags.all or flags.list or cell.name in flags.cells]
    if flags.list:
        for cell in cells:
            found = find_python(cell.python) or "not found"
            print(f"{cell.name:14} Python {cell.python} ({found}), NumPy {cell.numpy}, extras {cell.extras}")
        return 0
    built = sorted((ROOT / "dist").glob("gpt1-*.whl"), key=lambda path: path.stat().st_mtime)
    wheel = flags.wheel or (built[-1] if built else None)
    if wheel is None:
        print("no wheel in dist/; run: python -m build", file=sys.stderr)
        return 2
    wrong = inspect_wheel(wheel)
    print("\n".join(wrong) or f"{wheel.name}: package, assets, py.typed and license; nothing else")
    results = []
    for cell in cells:
        folder = Path(tempfile.mkdtemp(prefix=f"gpt1-{cell.name}-", dir=flags.work)).resolve()
        try:
            results.append(check(cell, wheel.resolve(), folder))
        finally:
            if not flags.keep:
                shutil.rmtree(folder, ignore_errors=True)
    show(results, wheel)
    return 1 if wrong or any(each.state == "FAILED" for each in results) else 0


if __name__ == "__main__":
    sys.exit(main())
