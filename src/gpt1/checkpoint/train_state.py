"""Checkpoints of a training run: weights, optimizer moments and progress.

A checkpoint is a directory `step-N` with `state.safetensors` (weights and moments), `progress.json`, and
`manifest.json` with the SHA-256 of both.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpt1.backends.parameters import Params
from gpt1.checkpoint.run_formats import upgrade_progress
from gpt1.errors import UserError
from gpt1.system.files import CorruptFile, dump_json, read_json, replace_directory, sha256
from gpt1.system.tensors import read_tensors, write_tensors

STATE_FILES = ("state.safetensors", "progress.json")


@dataclass
class Progress:
    """Progress of a run; together with weights and moments, everything that is needed to resume."""

    step: int = 0
    """Completed optimizer steps."""
    last_eval_step: int = 0
    """Step of the last evaluation."""
    best: float | None = None
    """Best value of the selection criterion so far."""
    best_step: int = 0
    """Step of that value."""
    evals_without_improvement: int = 0
    """Number of evaluations since `best_step`."""
    seconds: float = 0.0
    """Wall-clock training time so far."""
    tokens: int = 0
    """Training tokens so far, without padding."""
    unlogged: list[dict[str, float]] = field(default_factory=list)
    """Losses of each step since the last line of the log; the next line contains their means."""


class Checkpoints:
    """The newest `keep` checkpoints of a run, directories `step-N` in `folder`; not written if `read_only`."""

    def __init__(self, folder: Path, keep: int = 2, *, read_only: bool = False):
        self.folder, self.keep, self.read_only = folder, keep, read_only

    def save(self, tensors: Mapping[str, NDArray[np.float32]], progress: Progress) -> Path:
        """Write a checkpoint, delete all but the newest `keep` checkpoints, and return the path of the new one."""
        target = self.folder / f"step-{progress.step}"

        def write(folder: Path) -> None:
            write_tensors(folder / "state.safetensors", tensors)
            dump_json(folder / "progress.json", asdict(progress))
            dump_json(folder / "manifest.json", {file: sha256(folder / file) for file in STATE_FILES})

        replace_directory(target, write)
        leftovers = self.folder.glob(".step-*")  # of a crash during a save
        for old in (*self.paths()[self.keep :], *leftovers):
            shutil.rmtree(old)
        return target

    def paths(self) -> list[Path]:
        """Return the directories of the checkpoints, newest first."""
        paths = [path for path in self.folder.glob("step-*") if path.name[5:].isdigit()]
        return sorted(paths, key=lambda path: -int(path.name[5:]))

    def load_newest(self, say: Callable[[str], None]) -> tuple[Params, Progress] | None:
        """Load the tensors and progress of the newest intact checkpoint; None if there is no checkpoint.

        Damaged checkpoints are reported through `say` and skipped.

        Raises:
            UserError: all checkpoints are damaged.
        """
        paths = self.paths()
        for path in paths:
            try:
                manifest = read_json(path / "manifest.json")
                for file in STATE_FILES:
                    if sha256(path / file) != manifest.get(file):
                        raise CorruptFile(f"{path / file}: its sha256 is not the one in manifest.json")
                progress = Progress(**upgrade_progress(read_json(path / "progress.json")))
                return read_tensors(path / "state.safetensors"), progress
            except (UserError, OSError, TypeError) as error:
                say(f"{error}; skipping checkpoint {path.name}, trying the previous one")
        if paths:
            raise UserError(
                f"{self.folder}: all {len(paths)} checkpoints are damaged; start a new run with another --out"
            )
        return None
