"""The run directory: what lies where, and whether a directory holds the run that is asked for.

config.json (settings, versions, machine, data), log.jsonl, checkpoints/step-N/, tokenizer/ (as the run started),
corpus/ (the text as tokens, of pretraining), model/ (the best), metrics.json, curves.svg, report.html.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gpt1 import console
from gpt1.checkpoint import model_dir, run_formats
from gpt1.checkpoint.event_log import RunLog
from gpt1.checkpoint.model_dir import Model
from gpt1.checkpoint.train_state import Checkpoints
from gpt1.errors import UserError
from gpt1.system import files
from gpt1.system.files import CorruptFile

MAY_DIFFER = ("out", "hardware", "tracking", "sample_prompt", "sample_tokens")
"""Settings that a resumed run may have otherwise: where it lies, what it runs on, and what it shows to whom."""

LOCK = ".lock"
"""File in the run directory that the process at work there holds."""

RECORDED_PACKAGES = ("gpt1", "torch", "mindspore", "numpy", "tokenizers", "safetensors", "scikit-learn")


class RunDirectory:
    """One run on disk; one that is opened to be read only does not change it."""

    def __init__(self, path: Path, *, read_only: bool = False):
        self.path, self.read_only = path, read_only
        self.config_path = path / "config.json"
        self.metrics_path = path / "metrics.json"
        self.tokenizer = path / "tokenizer"
        self.corpus = path / "corpus"
        self.model = path / "model"
        self.curves = path / "curves.svg"
        self.report = path / "report.html"
        self.log = RunLog(path / "log.jsonl", read_only=read_only)
        self.checkpoints = Checkpoints(path / "checkpoints", read_only=read_only)
        self._held = ExitStack()

    def hold(self) -> None:
        """Keep other processes from resuming the run, until `close`; a run of an older format gets the present one.

        Raises:
            UserError: another process holds it.
        """
        if self.read_only:
            return
        self._held.enter_context(files.exclusive_lock(self.path / LOCK, f"--out {self.path}"))
        if self.started and files.read_json(self.config_path).get("format") != run_formats.FORMAT:
            files.write_json(self.config_path, self.settings())  # before a checkpoint has the present format's names

    def close(self) -> None:
        """Let other processes resume the run."""
        self._held.close()

    @property
    def result_paths(self) -> str:
        """Paths of the results, as a line for people."""
        return f"Model: {self.model}   scores: {self.metrics_path}   report: {self.report}"

    @property
    def started(self) -> bool:
        return self.config_path.exists()

    @property
    def finished(self) -> bool:
        return self.metrics_path.exists()

    def open(self, command: str, config: Any, facts: Mapping[str, Any]) -> None:
        """Start the run here, or make sure that the one that lies here is the same.

        `config` is the command's dataclass, `facts` what else must not change (the data's digest).

        Raises:
            UserError: the directory holds another run, or files that are no run.
        """
        wanted = {"command": command, "config": _plain(config), "facts": dict(facts)}
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"--out {self.path}: is a file; choose a new directory")
        if not self.started:
            visible = sorted(path.name for path in self.path.glob("[!.]*"))
            if others := [name for name in visible if name not in (self.tokenizer.name, self.corpus.name)]:
                raise UserError(f"--out {self.path}: holds {others[0]} and is no run; choose a new directory")
            self.path.mkdir(parents=True, exist_ok=True)
            record = {"format": run_formats.FORMAT} | wanted | {"versions": versions(), "machine": machine()}
            files.write_json(self.config_path, record)
            return
        self._require(wanted, type(config))

    def require_seen(self) -> None:
        """Make sure that what rank 0 wrote before the other ranks came is here.

        Raises:
            UserError: it is not.
        """
        if self.read_only and not self.started:
            raise UserError(
                f"--out {self.path}: rank 0's run is not seen here; the ranks of a run need one file system"
            )

    def require_same(self, command: str, config: Any) -> None:
        """Make sure, without its data, that the run which lies here has these settings.

        Raises:
            UserError: it has others, or is no run.
        """
        self._require({"command": command, "config": _plain(config)}, type(config))

    def _require(self, wanted: Mapping[str, Any], kind: type) -> None:
        settings = self.settings()
        if not wanted.keys() <= settings.keys():
            raise UserError(f"--out {self.path}: its config.json is not that of a run; choose a new directory")
        recorded = {key: settings[key] for key in wanted}
        if recorded["command"] == wanted["command"]:
            recorded["config"] = self._completed(recorded["config"], kind)
        if difference := _difference(recorded, wanted):
            raise UserError(
                f"--out {self.path}: holds a different run ({_described(*difference)}); choose a new directory"
            )

    def _completed(self, recorded: dict[str, Any], kind: Any) -> dict[str, Any]:
        """Return recorded settings of class `kind`, with the defaults of those that have come since."""
        if not hasattr(kind, "from_dict"):
            return recorded
        try:
            return _plain(kind.from_dict(recorded))
        except UserError as error:
            raise UserError(f"--out {self.path}: its config.json is of another version ({error})") from None

    def settings(self) -> dict[str, Any]:
        """Return what `config.json` holds, under the names of the present format.

        Raises:
            UserError: the file is damaged, or a newer version wrote it.
        """
        return run_formats.upgrade(files.read_json(self.config_path), self.config_path)

    def load_model(self) -> Model:
        """Return the best model; where its weights are damaged, the newest intact checkpoint's, and say so."""
        files.recover_directory(self.model)
        try:
            return model_dir.load_model(self.model)
        except CorruptFile as error:
            checkpoint = self.checkpoints.load_newest(console.say)
            if checkpoint is None:
                raise
            tensors, progress = checkpoint
            model = model_dir.load_model_with(self.model, tensors)
            console.say(f"{error}. Using the weights of the checkpoint at step {progress.step} instead.")
            return model


def notices(path: Path) -> Path:
    """Return the file that has what a run of a series, in the directory `path`, says to people."""
    return path.parent / "console" / f"{path.name}.txt"


def runs_in(path: Path) -> list[Path]:
    """Return the runs below a directory that is none itself, the best one of a sweep first.

    A sweep, `gpt1 finetune --seeds` and `gpt1 reproduce` make such directories.
    """
    runs = [log.parent for pattern in ("*/log.jsonl", "*/*/log.jsonl") for log in path.glob(pattern)]
    return sorted((run for run in runs if RunDirectory(run).started), key=lambda run: (run.name != "best", run))


def require_single(path: Path, wanted: str = "one of them") -> None:
    """Make sure that a directory is not one of several runs, of which `wanted` could be named.

    Raises:
        UserError: it is; the message names them.
    """
    if runs := runs_in(path):
        names = ", ".join(str(run) for run in runs[:3]) + ", …" * (len(runs) > 3)
        raise UserError(f"{path}: holds {len(runs)} runs; name {wanted}: {names}")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages a run depends on, as far as they are installed."""
    installed = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def machine() -> dict[str, Any]:
    """Return what a run's figures depend on besides: operating system, processor, cores; nothing that names a host."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor() or platform.processor(),
        "cores": f"{os.cpu_count()} cores",
    }


def _processor() -> str:
    """Return the processor's name where Linux tells it, else ""."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return ""


def _plain(config: Any) -> dict[str, Any]:
    values = {key: value for key, value in dataclasses.asdict(config).items() if key not in MAY_DIFFER}
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain


def _difference(recorded: Any, wanted: Any, path: tuple[str, ...] = ()) -> tuple[tuple[str, ...], Any, Any] | None:
    """Return the first difference between two JSON values, as its path and both; None where there is none."""
    if isinstance(recorded, dict) and isinstance(wanted, dict):
        for key in sorted({*recorded, *wanted}):
            if difference := _difference(recorded.get(key), wanted.get(key), (*path, key)):
                return difference
        return None
    return None if recorded == wanted else (path, recorded, wanted)


def _described(path: tuple[str, ...], recorded: Any, wanted: Any) -> str:
    match path:
        case ("config", *_, setting):
            return f"--{setting.replace('_', '-')} {recorded} there, {wanted} asked for"
        case ("facts", "data_sha256", *split):
            return f"its {' '.join([*split, 'data'])} was other"
    return f"{'.'.join(path)} {recorded} there, {wanted} asked for"
