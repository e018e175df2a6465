"""What a run directory says of itself: config.json, log.jsonl, metrics.json, model/gpt1.json, and nothing else."""

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
from gpt1.evaluation.diagnostics import unpack
from gpt1.evaluation.report.curves import by_step
from gpt1.system.files import CorruptFile, read_json
from gpt1.tasks.metrics import METRICS, PairMetric

IMBALANCE = 4
"""So many times as many training examples of the most frequent label as of the rarest are warned of."""


@dataclass(frozen=True)
class Record:
    """One run, finished or not."""

    path: Path
    settings: dict[str, Any]
    """config.json: "format", "command", "config", "facts", "versions", "machine"."""
    events: list[Event]
    broken_lines: list[int]
    """The numbers of the log's lines that hold no event."""
    results: dict[str, Any]
    """metrics.json; empty as long as the run is not finished."""
    model: dict[str, Any]
    """model/gpt1.json; empty before the first evaluation."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what is there of a run; a damaged line of its log is left out.

        Raises:
            UserError: the directory holds no run, or one of its files is damaged.
        """
        config, log, metrics, model = (path / name for name in FILES)
        settings = upgrade(read_json(config), config) if config.is_file() else {}
        if settings.get("command") not in ("finetune", "pretrain") or not isinstance(settings.get("config"), dict):
            require_single(path, "one or several of them")
            raise UserError(
                f"{path}: no run directory (config.json of gpt1 finetune or gpt1 pretrain expected); "
                "name the --out of one, as in gpt1 report runs/demo"
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
        return self.path.resolve().name

    @property
    def command(self) -> str:
        """finetune | pretrain."""
        return str(self.settings["command"])

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.settings["config"]
        return config

    @property
    def finished(self) -> bool:
        return bool(self.results)

    @property
    def damage(self) -> str:
        """What is wrong with the log, in words for people; "" of a whole one."""
        if not self.broken_lines:
            return ""
        numbers = ", ".join(map(str, self.broken_lines[:5])) + ", …" * (len(self.broken_lines) > 5)
        several = "s" * (len(self.broken_lines) > 1)
        return (
            f"log.jsonl: left out, since no whole event stands there (a crash cuts one off): line{several} {numbers}."
        )

    @cached_property
    def train(self) -> list[Event]:
        """The `train` events by step."""
        return by_step(event for event in self.events if event.get("event") == "train")

    @cached_property
    def valid(self) -> list[Event]:
        """The `evaluate` events of the validation split by step."""
        return by_step(e for e in self.events if e.get("event") == "evaluate" and e.get("split") == "valid")

    @cached_property
    def samples(self) -> list[Event]:
        """What the model wrote, by step."""
        return by_step(event for event in self.events if event.get("event") == "sample")

    @cached_property
    def start(self) -> Event:
        """The `start` event: examples, device, notes on the data; empty where the log has none."""
        return next((event for event in self.events if event.get("event") == "start"), {})

    @property
    def split(self) -> str:
        """The split that the final scores, and the baselines beside them, are of."""
        return str(self.results.get("baseline_split", "valid"))

    @property
    def scored(self) -> dict[str, Any]:
        """The final scores of that split."""
        scores: dict[str, Any] = self.results.get(self.split, {})
        return scores

    def unpacked(self, packed: Mapping[str, Any]) -> NDArray[Any]:
        """Return packed answers of metrics.json (`diagnostics.unpack`).

        Raises:
            CorruptFile: they are damaged.
        """
        try:
            return unpack(packed)
        except (ValueError, KeyError) as error:
            path = self.path / "metrics.json"
            raise CorruptFile(f"{path}: its stored answers are damaged ({error}); gpt1 evaluate scores anew") from None

    @property
    def metrics(self) -> list[str]:
        """The metrics that have an interval, the main one first."""
        return list(self.scored.get("interval", ()))

    @property
    def comparable(self) -> dict[str, PairMetric]:
        """Those of them that can be computed again from labels and predictions: not a person's own."""
        known = {name: METRICS.get(name) for name in self.metrics}
        return {name: metric for name, metric in known.items() if isinstance(metric, PairMetric)}

    @property
    def warnings(self) -> list[str]:
        """What a reader should know of the data before believing the figures."""
        notes = [str(note) for note in self.start.get("notes", ())]
        examples: Mapping[str, int] = self.start.get("examples", {})
        for split, cut in self.start.get("truncated", {}).items():
            if cut:
                notes.append(
                    f"{split}: {cut:,} of {examples[split]:,} examples ({cut / examples[split]:.1%}) are longer than "
                    "the model reads and were cut."
                )
        counts: Mapping[str, int] = self.start.get("labels", {}).get("train", {})
        if counts and max(counts.values()) >= IMBALANCE * max(1, min(counts.values())):
            most, rarest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
            notes.append(
                f"train: the labels are far from balanced: {counts[most]:,} examples of {most}, {counts[rarest]:,} of "
                f"{rarest}. Accuracy flatters a model that prefers the frequent ones; look at F1 and at each label."
            )
        return notes


FILES = ("config.json", "log.jsonl", "metrics.json", "model/gpt1.json")
