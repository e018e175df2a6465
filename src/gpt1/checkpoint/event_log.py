"""A run's log: one JSON object a line, the only record that reports, plots and trackers read.

Every event has "event" and "time" (seconds since 1970). `train`: step, epoch, loss, lr, grad_norm, tokens_per_second …;
`evaluate`: split, step, loss, the metrics, and `metric`, the name of the main one; `score`: the final figures of a
split; `mistakes`: the most confident ones of a split, with the words that spoke for them. A resumed run may repeat a
step: the later line holds.
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
    """Appends events to a file, each as soon as it happens; a log that only reads leaves the file alone."""

    def __init__(self, path: Path, *, read_only: bool = False):
        self.path, self.read_only = path, read_only
        self.followers: list[Callable[[Event], None]] = []
        """Called with each event that was written; what one raises goes up to whoever wrote."""

    def write(self, event: str, values: Mapping[str, Any]) -> None:
        """Append one event. A number that JSON has no word for (nan, infinity) is written as null."""
        if self.read_only:
            return
        line = {"event": event, "time": round(time.time(), 3), **values}
        with self.path.open("a+b") as file:
            if not _ends_in_a_line(file):  # a crash cut the last one off
                file.write(b"\n")
            file.write(json.dumps(plain(line)).encode() + b"\n")
        for on_event in self.followers:
            on_event(plain(line))


def read(path: Path) -> list[Event]:
    """Return the events of a log; a line that is none, as one that was cut off by a crash, is left out."""
    return read_with_gaps(path)[0]


def read_with_gaps(path: Path) -> tuple[list[Event], list[int]]:
    """Return what `read` does, and the numbers, from 1, of the lines that it leaves out."""
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
