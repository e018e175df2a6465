"""The log of a run: one JSON object per line, read by reports, plots and trackers.

Every event has "event" and "time" (seconds since 1970). `train`: step, epoch, loss, lr, grad_norm, tokens_per_second …;
`evaluate`: split, step, loss, the metrics, and `metric`, the name of the main one; `score`: final scores of a split;
`mistakes`: most confident errors of a split, with the words that contributed to them. After a resume, a step may occur
twice; the later line is valid.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from gpt1.system.serialization import plain

Event = dict[str, Any]


class RunLog:
    """Writer of events, each appended immediately; with `read_only`, nothing is written."""

    def __init__(self, path: Path, *, read_only: bool = False):
        self.path, self.read_only = path, read_only
        self.followers: list[Callable[[Event], None]] = []
        """Functions that are called with each written event; their exceptions propagate to the caller of `write`."""

    def write(self, event: str, values: Mapping[str, Any]) -> None:
        """Append one event; NaN and infinity are written as null."""
        if self.read_only:
            return
        line = {"event": event, "time": round(time.time(), 3), **values}
        with self.path.open("a+b") as file:
            if not _ends_in_a_line(file):  # the last line was truncated by a crash
                file.write(b"\n")
            file.write(json.dumps(plain(line)).encode() + b"\n")
        for on_event in self.followers:
            on_event(plain(line))


def read(path: Path) -> list[Event]:
    """Return the events of a log; invalid lines, such as one truncated by a crash, are skipped."""
    return read_with_gaps(path)[0]


def read_with_gaps(path: Path) -> tuple[list[Event], list[int]]:
    """Return the events of a log and the numbers (1-based) of the lines that were skipped."""
    events: list[Event] = []
    left_out = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if isinstance(event, dict) and "event" in event:
            events.append(event)
        else:
            left_out.append(number)
    return events, left_out


def _ends_in_a_line(file: BinaryIO) -> bool:
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
