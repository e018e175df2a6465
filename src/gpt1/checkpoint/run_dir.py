"""Run directories: their files, and validation that a resumed run has the same settings.

config.json (settings, versions, machine, data), rows.safetensors (keys of the rows, fine-tuning only), log.jsonl,
checkpoints/step-N/, tokenizer/ (from the start of the run), corpus/ (token ids, pretraining only), adapted/ (models,
with --adapt), model/ (the best model), metrics.json, curves.svg, report.html.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from gpt1 import console
from gpt1.checkpoint import model_dir, run_formats
from gpt1.checkpoint.event_log import RunLog
from gpt1.checkpoint.model_dir import Model
from gpt1.checkpoint.train_state import Checkpoints
from gpt1.config import Columns
from gpt1.config.checks import known
from gpt1.errors import UserError
from gpt1.system import files
from gpt1.system.files import CorruptFile

MAY_DIFFER = ("out", "hardware", "tracking", "sample_prompt", "sample_tokens")
"""Settings that may differ when a run is resumed: location, hardware, trackers and sample texts."""

ADAPTED = "adapted"
"""Folder of a run, or of a series of runs, with its adapted models (`training.adaptation`)."""

SAVED_DATA = ("data.jsonl", "data.parquet", "data")
"""Files of a run, or a folder of them, with the data that was given in memory (`training.from_python`)."""

LOCK = ".lock"
"""Lock file in the run directory, held by the process that trains."""

RECORDED_PACKAGES = ("gpt1", "torch", "mindspore", "numpy", "tokenizers", "safetensors", "scikit-learn")


class RunDirectory:
    """A run on disk; with `read_only`, nothing is written."""

    def __init__(self, path: Path, *, read_only: bool = False):
        self.path, self.read_only = path, read_only
        self.config_path = path / "config.json"
        self.rows_path = path / "rows.safetensors"
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
        """Lock the run until `close`, so that no other process resumes it; upgrade `config.json` to the current format.

        Raises:
            UserError: another process has locked the run.
        """
        if self.read_only:
            return
        self._held.enter_context(files.exclusive_lock(self.path / LOCK, f"--out {self.path}"))
        if self.started and files.read_json(self.config_path).get("format") != run_formats.FORMAT:
            files.write_json(self.config_path, self.settings())  # before a checkpoint uses names of the current format

    def close(self) -> None:
        """Unlock the run."""
        self._held.close()

    @property
    def result_paths(self) -> str:
        """Line with the paths of the results, for messages."""
        return f"Model: {self.model}   scores: {self.metrics_path}   report: {self.report}"

    @property
    def started(self) -> bool:
        """Whether the directory contains a run."""
        return self.config_path.exists()

    @property
    def finished(self) -> bool:
        """Whether the run has ended and its scores are stored."""
        return self.metrics_path.exists()

    def open(
        self, command: str, config: Any, facts: Mapping[str, Any], columns: Columns | None = None
    ) -> None:  # fmt: skip
        """Create the run, or validate that the existing run is the same.

        Args:
            command: Name of the command, such as "finetune".
            config: Settings of the command, a dataclass.
            facts: Other values that must not change, such as the checksum of the data.

        Raises:
            UserError: the directory contains a different run, or files that do not belong to a run.
        """
        wanted = {"command": command, "config": _plain(config), "facts": dict(facts)}
        if not self.started:
            self._require_free()
            self.path.mkdir(parents=True, exist_ok=True)
            record = {"format": run_formats.FORMAT} | wanted | {"versions": versions(), "machine": machine()}
            read = {} if columns is None else {"columns": {k: v for k, v in asdict(columns).items() if v}}
            files.write_json(self.config_path, record | read)
            return
        self._require(wanted, type(config))

    def _require_free(self) -> None:
        """Validate that a new run can be created in the directory."""
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"--out {self.path}: is a file; choose a new directory")
        visible = sorted(path.name for path in self.path.glob("[!.]*"))
        early = (self.tokenizer.name, self.corpus.name, *SAVED_DATA)
        if others := [name for name in visible if name not in early]:
            raise UserError(f"--out {self.path}: contains {others[0]} and is not a run; choose a new directory")

    def require_openable(self, command: str, config: Any) -> None:
        """Validate that `open` would create the run, or find one with the given settings, whose data is not compared.

        Raises:
            UserError: the directory contains a different run, or files that do not belong to a run.
        """
        if self.started:
            self.require_same(command, config)
        else:
            self._require_free()

    def require_seen(self) -> None:
        """Validate that the files written by rank 0 are visible to this rank.

        Raises:
            UserError: they are not visible.
        """
        if self.read_only and not self.started:
            raise UserError(
                f"--out {self.path}: the run of rank 0 is not visible here; all ranks need a shared file system"
            )

    def require_same(self, command: str, config: Any) -> None:
        """Validate that the existing run has the given settings, without its data.

        Raises:
            UserError: the settings differ, or the directory is not a run.
        """
        self._require({"command": command, "config": _plain(config)}, type(config))

    def _require(self, wanted: Mapping[str, Any], kind: type) -> None:
        settings = self.settings()
        if not wanted.keys() <= settings.keys():
            raise UserError(f"--out {self.path}: its config.json does not belong to a run; choose a new directory")
        recorded = {key: settings[key] for key in wanted}
        if recorded["command"] == wanted["command"]:
            recorded["config"] = self._completed(recorded["config"], kind)
            if wanted["config"].get("split", {}).get("split_version", 0) is None:  # unset: that of the run
                recorded["config"]["split"]["split_version"] = None
        if difference := _difference(recorded, wanted):
            raise UserError(
                f"--out {self.path}: contains a different run ({_described(*difference)}); choose a new directory"
            )

    def _completed(self, recorded: dict[str, Any], kind: Any) -> dict[str, Any]:
        """Return recorded settings of class `kind`, completed by defaults of newer settings."""
        if not hasattr(kind, "from_dict"):
            return recorded
        try:
            return _plain(kind.from_dict(recorded))
        except UserError as error:
            raise UserError(f"--out {self.path}: its config.json is of another version ({error})") from None

    def settings(self) -> dict[str, Any]:
        """Return the content of `config.json`, converted to the current format.

        Raises:
            UserError: the file is damaged, or was written by a newer version.
        """
        return run_formats.upgrade(files.read_json(self.config_path), self.config_path)

    def columns(self) -> Columns:
        """Return the columns that the run was trained on; without a record of them, those that flags set.

        Columns of a directory that is not a run of `gpt1 finetune` are those found by usual names.
        """
        settings = self.settings() if self.started else {}
        if settings.get("command") != "finetune":
            return Columns()
        given = Columns(**known(Columns, settings["config"].get("columns", {})))
        return replace(given, **known(Columns, settings.get("columns", {})))

    def save_rows(self, keys: Mapping[str, Sequence[bytes]]) -> None:
        """Write the keys of the rows of each split (`data.duplicates.keys`), from which the rows cannot be restored."""
        from safetensors.numpy import save_file

        if self.read_only or self.rows_path.exists():
            return
        tensors = {
            split: np.frombuffer(b"".join(each), np.uint8).reshape(len(each), -1) for split, each in keys.items()
        }
        files.replace_file(self.rows_path, lambda partial: save_file(tensors, partial))

    def load_rows(self) -> dict[str, list[bytes]] | None:
        """Return the keys of the rows of each split; None for a run without a record of them, or no run.

        Raises:
            CorruptFile: the file is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        if not self.rows_path.exists():
            return None
        try:
            return {split: [row.tobytes() for row in rows] for split, rows in load_file(self.rows_path).items()}
        except SafetensorError as error:
            raise CorruptFile(f"{self.rows_path}: damaged ({error}); without this file, gpt1 evaluate works") from None

    def load_model(self) -> Model:
        """Load the best model; if its weights are damaged, use the newest intact checkpoint and print a notice."""
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
    """Return the file with the console messages of a run that is part of a series; `path` is the run's directory."""
    return path.parent / "console" / f"{path.name}.txt"


def runs_in(path: Path) -> list[Path]:
    """Return the runs inside a directory of several runs, the best run of a sweep first.

    Such directories are written by a sweep, `gpt1 finetune --seeds` and `gpt1 reproduce`.
    """
    runs = [log.parent for pattern in ("*/log.jsonl", "*/*/log.jsonl") for log in path.glob(pattern)]
    runs = [run for run in runs if run.parent.name != ADAPTED and RunDirectory(run).started]
    return sorted(runs, key=lambda run: (run.name != "best", run))


def require_single(path: Path, wanted: str = "one of them") -> None:
    """Validate that a directory is not a directory of several runs.

    Raises:
        UserError: it contains several runs; the message lists them and suggests to pass `wanted`.
    """
    if runs := runs_in(path):
        names = ", ".join(str(run) for run in runs[:3]) + ", …" * (len(runs) > 3)
        raise UserError(f"{path}: contains {len(runs)} runs; pass {wanted}: {names}")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that affect a run."""
    installed = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def machine() -> dict[str, Any]:
    """Return operating system, processor and number of cores; no host name."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor() or platform.processor(),
        "cores": f"{os.cpu_count()} cores",
    }


def _processor() -> str:
    """Return the name of the processor on Linux, else ""."""
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
    """Return the first difference between two JSON values as (path, recorded, wanted); None if they are equal."""
    if isinstance(recorded, dict) and isinstance(wanted, dict):
        for key in sorted({*recorded, *wanted}, key=lambda key: (key != "recipe", key)):  # it explains the others
            if difference := _difference(recorded.get(key), wanted.get(key), (*path, key)):
                return difference
        return None
    return None if recorded == wanted else (path, recorded, wanted)


def _shown(value: Any) -> str:
    return "unset" if value is None else str(value)


def _described(path: tuple[str, ...], recorded: Any, wanted: Any) -> str:
    match path:
        case ("config", *_, setting):
            return f"--{setting.replace('_', '-')} is {_shown(recorded)}, not {_shown(wanted)}"
        case ("facts", "data_sha256", *split):
            return f"its {' '.join([*split, 'data'])} differs"
    return f"{'.'.join(path)} is {recorded}, not {wanted}"
