"""The files of a run that a report is generated from: config.json, log.jsonl, metrics.json, model/gpt1.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from numpy.typing import NDArray

from gpt1.checkpoint import event_log
from gpt1.checkpoint.event_log import Event
from gpt1.checkpoint.run_dir import require_single
from gpt1.checkpoint.run_formats import upgrade
from gpt1.errors import UserError
from gpt1.evaluation.diagnostics import comparable, unpack
from gpt1.evaluation.report.curves import by_step
from gpt1.system.files import CorruptFile, read_json
from gpt1.tasks.label_notes import imbalance_note
from gpt1.tasks.metrics import PairMetric


@dataclass(frozen=True)
class Record:
    """One run, finished or not."""

    path: Path
    settings: dict[str, Any]
    """config.json: "format", "command", "config", "facts", "versions", "machine"."""
    events: list[Event]
    broken_lines: list[int]
    """Numbers of the log's lines that are not complete events."""
    results: dict[str, Any]
    """metrics.json; empty until the run is finished."""
    model: dict[str, Any]
    """model/gpt1.json; empty before the first evaluation."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the existing files of a run; damaged lines of its log are skipped.

        Raises:
            UserError: the directory is not a run, or one of its files is damaged.
        """
        config, log, metrics, model = (path / name for name in FILES)
        settings = upgrade(read_json(config), config) if config.is_file() else {}
        if settings.get("command") not in ("finetune", "pretrain") or not isinstance(settings.get("config"), dict):
            require_single(path, "one or several of them")
            raise UserError(
                f"{path}: not a run directory (config.json of gpt1 finetune or gpt1 pretrain expected); "
                "give the --out directory of a run, as in gpt1 report runs/demo"
            )
        events, broken = event_log.read_with_gaps(log) if log.exists() else ([], [])
        return cls(
            path,
            settings,
            events,
            broken,
            read_json(metrics) if metrics.exists() else {},
            read_json(model) if model.exists() else {},
        )

    @property
    def name(self) -> str:
        """Name of the run directory."""
        return self.path.resolve().name

    @property
    def command(self) -> str:
        """Command of the run: finetune | pretrain."""
        return str(self.settings["command"])

    @property
    def config(self) -> dict[str, Any]:
        """Settings of the run."""
        config: dict[str, Any] = self.settings["config"]
        return config

    @property
    def finished(self) -> bool:
        """Whether the run has final scores."""
        return bool(self.results)

    @property
    def damage(self) -> str:
        """Message about incomplete lines of the log, as a crash leaves them; "" if there are none."""
        if not self.broken_lines:
            return ""
        numbers = ", ".join(map(str, self.broken_lines[:5])) + ", …" * (len(self.broken_lines) > 5)
        return f"log.jsonl: skipped incomplete line{'s' * (len(self.broken_lines) > 1)} {numbers}."

    @cached_property
    def train(self) -> list[Event]:
        """The `train` events, sorted by step."""
        return by_step(event for event in self.events if event.get("event") == "train")

    @cached_property
    def valid(self) -> list[Event]:
        """The `evaluate` events of the validation split, sorted by step."""
        return by_step(e for e in self.events if e.get("event") == "evaluate" and e.get("split") == "valid")

    @cached_property
    def samples(self) -> list[Event]:
        """The `sample` events (generated texts), sorted by step."""
        return by_step(event for event in self.events if event.get("event") == "sample")

    @cached_property
    def start(self) -> Event:
        """The `start` event: examples, device, notes on the data; empty if the log has none."""
        return next((event for event in self.events if event.get("event") == "start"), {})

    @property
    def data(self) -> dict[str, Any]:
        """Facts about the data (`tasks.data_facts`); of runs of earlier versions, its splits with fewer facts."""
        start = self.start
        truncated, labels = start.get("truncated", {}), start.get("labels", {})
        earlier = {
            name: {"rows": rows, "labels": labels.get(name, {}), "tokens": {"truncated": truncated.get(name, 0)}}
            for name, rows in start.get("examples", {}).items()
        }
        facts: dict[str, Any] = start.get("data", {"splits": earlier})
        return facts

    @property
    def split(self) -> str:
        """The split of the final scores and of the baselines."""
        return str(self.results.get("baseline_split", "valid"))

    @property
    def scored(self) -> dict[str, Any]:
        """The final scores of that split."""
        scores: dict[str, Any] = self.results.get(self.split, {})
        return scores

    def unpacked(self, packed: Mapping[str, Any]) -> NDArray[Any]:
        """Return predictions or labels stored in metrics.json (`diagnostics.unpack`).

        Raises:
            CorruptFile: `packed` is damaged.
        """
        try:
            return unpack(packed)
        except (ValueError, KeyError) as error:
            path = self.path / "metrics.json"
            raise CorruptFile(
                f"{path}: the stored predictions are damaged ({error}); run gpt1 evaluate to score the model again"
            ) from None

    @property
    def metrics(self) -> list[str]:
        """The metrics that have an interval, the main one first."""
        return list(self.scored.get("interval", ()))

    @property
    def comparable(self) -> dict[str, PairMetric]:
        """The metrics that can be recomputed from labels and predictions: all but custom ones."""
        return comparable(self.metrics)

    @property
    def warnings(self) -> list[str]:
        """Warnings about the data: repeated texts, truncated examples, imbalanced labels."""
        notes = [str(note) for note in self.start.get("notes", ())]
        examples: Mapping[str, int] = self.start.get("examples", {})
        for split, truncated in self.start.get("truncated", {}).items():
            if truncated:
                notes.append(
                    f"{split}: {truncated:,} of {examples[split]:,} examples ({truncated / examples[split]:.1%}) are "
                    "longer than the maximum length and were truncated."
                )
        counts: Mapping[str, int] = self.start.get("labels", {}).get("train", {})
        if (imbalance := imbalance_note(counts)) and imbalance not in notes:  # earlier runs have no note
            notes.append(imbalance)
        return notes


FILES = ("config.json", "log.jsonl", "metrics.json", "model/gpt1.json")
