"""Prediction of files of any size: in row order, in constant memory, resumable.

Rows are predicted in chunks. Until the output is complete, it is written to `.NAME.partial` in the same folder. The
journal `.NAME.journal` records how much of it is valid and what it belongs to: the model, the settings that determine
its bytes, and a digest of the predicted rows. A chunk is recorded after it is synced to disk; anything behind the last
recorded chunk is truncated when the command is resumed. Chunk boundaries do not depend on interruptions, so a resumed
output is byte-identical to an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from gpt1 import backends, console
from gpt1.config import DETECTED, Columns, DeviceConfig, TableFormat, TextColumns
from gpt1.data.bad_rows import RowError
from gpt1.data.column_detection import BY_USUAL_NAMES
from gpt1.data.example import Example
from gpt1.data.examples import Reader, stream_rows
from gpt1.data.header import flag
from gpt1.data.readers.rows import Row
from gpt1.errors import Interrupted, UserError
from gpt1.inference.batched import task_logits
from gpt1.inference.classifier import Classifier
from gpt1.inference.prediction_writer import FIELDS, SUFFIXES, PredictionFile, with_own_columns
from gpt1.system.files import CorruptFile, exclusive_lock, read_json, write_json
from gpt1.system.serialization import to_json
from gpt1.tasks.unknown_text import UnknownCount, unknown_shares

MIN_CHUNK_ROWS = 1_024
"""Minimum number of rows of a chunk, and the number on every CPU, so that a file can be completed on another one."""

TOKENS_PER_ROW = 2
"""A larger chunk has (tokens that the device computes at once) / TOKENS_PER_ROW rows: 8,192 on a GPU."""

BFLOAT16_ON_CPU = "is 1.4 to 3 times as fast"
"""Speedup over float32 for models of 8 × 256 to 12 × 768: `python benchmarks/predict.py` (docs/performance.md)."""

Chunk = Sequence[tuple[Row, Example | RowError]]


class Predictor:
    """Predicts the rows of one input file with a classifier.

    A row that cannot be used gets a prediction without values and with an "error", unless `table.on_bad_row` is set.
    `remembered` are the columns that the run was trained on. With `with_input`, the row's own columns are put before
    its prediction.
    """

    def __init__(
        self, model: Classifier, source: Path, columns: Columns, table: TableFormat = DETECTED, *,
        remembered: Columns = BY_USUAL_NAMES, with_input: bool = False,
    ):  # fmt: skip
        self.model, self.source, self.columns, self.table, self.with_input = model, source, columns, table, with_input
        self._notes: set[str] = set()
        self.reader = Reader(columns, model.task.input_kind, table, self._say_once, remembered)
        self.rows_at_once = max(MIN_CHUNK_ROWS, model.engine.tokens_at_once // TOKENS_PER_ROW)
        self.truncated = 0
        self.unknown = UnknownCount()

    def rows(self) -> Iterator[tuple[Row, Example | RowError]]:
        """Iterate over the rows of the file and their examples (`stream_rows`)."""
        rows = stream_rows(self.reader, self.source)
        if self.reader.layout:
            for note in self.reader.layout.notes(self.columns):
                self._say_once(f"{self.source.name}: {note}")
        return rows

    def _say_once(self, note: str) -> None:
        """Print a note about the file, which is read twice for --output."""
        if note not in self._notes:
            self._notes.add(note)
            console.say(note)

    def label(self, chunk: Chunk, bar: console.Bar) -> list[dict[str, Any]]:
        """Return the prediction of each row of a chunk, as `Classifier.predict` does, with its "error"."""
        usable = [example for _, example in chunk if isinstance(example, Example)]
        predicted = iter(self._predict(usable, bar))
        bar.advance(len(chunk) - len(usable))
        return [
            self._without_prediction(row, example) if isinstance(example, RowError) else next(predicted)
            for row, example in chunk
        ]

    def _predict(self, examples: Sequence[Example], bar: console.Bar) -> list[dict[str, Any]]:
        if not examples:
            return []
        encoded = self.model.encode(examples)
        self.truncated += encoded.truncated
        shares = unknown_shares(encoded)
        self.unknown.add(shares)
        logits = task_logits(self.model.engine, encoded, self.model.collator, bar=bar)
        return [self.model.prediction(*each) | {"error": None} for each in zip(logits, shares, strict=True)]

    def _without_prediction(self, row: Row, error: RowError) -> dict[str, Any]:
        answers = self.model.problem_type.answers(self.model.labels.names, self.reader.n_choices or 0)
        empty = {"label": None, "score": None, "scores": dict.fromkeys(answers), "unknown_share": None}
        return empty | {"error": error.reason(row.where)}

    def stream(self) -> Iterator[dict[str, Any]]:
        """Yield the prediction of each row, chunk by chunk."""
        rows, done = self.rows(), 0
        bar = console.Bar(0, self.source.name, "row")
        while chunk := list(islice(rows, self.rows_at_once)):
            self.reader.require_usable(answered=True)
            for (row, _), prediction in zip(chunk, self.label(chunk, bar), strict=True):
                yield with_own_columns(row, prediction) if self.with_input else prediction
            done += len(chunk)
        bar.close()
        self.reader.require_usable(answered=True)
        self.show_counts(done)

    def show_counts(self, rows: int) -> None:
        """Print how many of `rows` rows have no prediction, were truncated or contain much unknown text, if any."""
        for note in self.reader.answered_notes("have no prediction"):
            console.say(note)
        if self.truncated:
            console.say(f"{self.truncated:,} of {rows:,} rows were truncated to {self.model.limit}.")
        if notice := self.unknown.notice(rows, "rows"):
            console.say(notice)

    @property
    def without_prediction(self) -> int:
        """Number of rows of the output that have a reason in place of a prediction."""
        return self.reader.bad.bad if self.table.on_bad_row is None else 0

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the bytes of the predictions, except the rows."""
        columns = {flag(each.name): getattr(self.columns, each.name) for each in fields(TextColumns)}
        return {
            "model": model_digest(self.model),
            "--backend": type(self.model.engine).__name__.removesuffix("Engine").lower(),
            "--dtype": self.model.engine.dtype,
            "--with-input": self.with_input,
            **columns,
            "rows at once": self.rows_at_once,
            "fields": FIELDS,
        }


def faster_dtype(hardware: DeviceConfig, device: str) -> str:
    """Return a note on a dtype that is faster on the engine's `device` than float32, the default.

    It is empty if there is none, or if `hardware` sets the dtype.
    """
    if hardware.dtype != "auto" or (dtype := backends.training_dtype(hardware)) == "float32":
        return ""
    gain = BFLOAT16_ON_CPU if device.startswith("cpu") else "is faster"
    return f"; --dtype {dtype} {gain}, with differences in the third decimal"


def model_digest(model: Classifier) -> str:
    """Return the sha256 of everything in a model that determines its predictions."""
    its = model.model
    about = [asdict(its.config), its.label_names, its.max_length, its.truncation, its.tokenizer.pretokenizer]
    digest = hashlib.sha256(to_json(about).encode() + its.tokenizer.backend.to_str().encode())
    for name in sorted(its.params):
        digest.update(np.ascontiguousarray(its.params[name]).data)  # without a copy
    return digest.hexdigest()


@dataclass
class Journal:
    """Progress of a partial output file, stored next to it."""

    output: Path
    identity: Mapping[str, Any]
    """Settings that must be equal to resume the partial file (`Predictor.identity`)."""
    device: str
    """Device, which affects the last digits; a change is only reported."""
    rows: int = 0
    """Number of rows predicted in the first `size` bytes of the partial file."""
    size: int = 0
    truncated: int = 0
    unknown: int = 0
    """Number of rows with much unknown text (`UnknownCount`)."""
    sha256: str = hashlib.sha256().hexdigest()
    """Digest of those input rows."""

    @property
    def path(self) -> Path:
        """The journal: `.NAME.journal` next to the output."""
        return self.output.with_name(f".{self.output.name}.journal")

    @property
    def partial(self) -> Path:
        """The incomplete output: `.NAME.partial`."""
        return self.output.with_name(f".{self.output.name}.partial")

    @property
    def lock(self) -> Path:
        """The lock that excludes other processes: `.NAME.lock`."""
        return self.output.with_name(f".{self.output.name}.lock")

    @property
    def restart_hint(self) -> str:
        """What to do if the partial file cannot be resumed, for error messages."""
        return f"to start over: rm {shlex.quote(str(self.partial))}; to keep it: choose another --output"

    def resume(self) -> None:
        """Load the progress from disk, if there is any.

        Raises:
            UserError: the partial file belongs to another command, or is shorter than recorded.
        """
        if not (self.path.exists() and self.partial.exists()):
            return
        try:
            state = read_json(self.path)
        except CorruptFile as error:
            raise UserError(f"{error}; {self.restart_hint}") from None
        for name, value in self.identity.items():
            if (before := state["identity"].get(name)) != value:
                differs = f"{name} {_setting_text(before)}, now {_setting_text(value)}"
                if name == "model":
                    differs = "another model"
                raise UserError(
                    f"--output {self.output}: the partial output was started with {differs}; {self.restart_hint}"
                )
        if self.partial.stat().st_size < state["size"]:
            raise UserError(
                f"{self.partial}: shorter than the {state['size']:,} bytes that were written; {self.restart_hint}"
            )
        if state["device"] != self.device:
            console.say(f"Started on {state['device']}, resuming on {self.device}: the last digits may differ.")
        self.rows, self.size, self.sha256 = state["rows"], state["size"], state["sha256"]
        self.truncated, self.unknown = state["truncated"], state["unknown"]

    def write(self) -> None:
        """Write the journal atomically."""
        kept = ("identity", "device", "rows", "size", "truncated", "unknown", "sha256")
        write_json(self.path, {name: getattr(self, name) for name in kept})


def _setting_text(value: object) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def require_new(output: Path, source: Path) -> None:
    """Check that predictions of `source` can be written to `output`, before anything is computed.

    Raises:
        UserError: the format is unknown, the output is the input or exists, or its folder is not writable.
    """
    if output.suffix.lower() not in SUFFIXES:
        raise UserError(f"--output {output}: expected one of {', '.join(SUFFIXES)}")
    if output.resolve() == source.resolve():
        raise UserError(f"--output {output}: is the input itself; choose another file")
    if output.exists():
        raise UserError(f"--output {output}: exists; remove it first, or choose another file")
    output.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(output.parent, os.W_OK | os.X_OK):
        raise UserError(f"--output {output}: its folder is not writable")


def write_predictions(predictor: Predictor, output: Path) -> int:
    """Write the predictions of all rows to `output`; return the number of rows.

    All rows are read and validated first. `output` is created only when complete; after an interruption of any kind the
    same call resumes.

    Raises:
        UserError: see `require_new` and `Journal.resume`; or a row is invalid, or another process writes to `output`.
        Interrupted: stopped by the user.
    """
    require_new(output, predictor.source)
    journal = Journal(output, predictor.identity(), predictor.model.engine.device)
    with exclusive_lock(journal.lock, f"--output {output}"):
        require_new(output, predictor.source)  # another process may have just completed it
        return _complete(predictor, journal)


def _complete(predictor: Predictor, journal: Journal) -> int:
    output = journal.output
    journal.resume()
    digest, total = _check_rows(predictor, journal)
    if journal.rows:
        console.say(f"{output.name}: resuming after row {journal.rows:,} of {total:,}.")
    predictor.truncated, predictor.unknown.noted = journal.truncated, journal.unknown
    file = PredictionFile(output.suffix.lower(), with_input=predictor.with_input)
    bar = console.Bar(total, predictor.source.name, "row", done=journal.rows)
    try:
        done = _write(predictor, journal, file, digest, bar)
        file.finish(journal.partial, output)
    except KeyboardInterrupt:
        raise Interrupted from None
    finally:
        bar.close()
    journal.path.unlink()
    predictor.show_counts(done)
    return done


def _check_rows(predictor: Predictor, journal: Journal) -> tuple[Any, int]:
    """Read and validate all rows; return the running digest after the rows in the journal, and the number of all rows.

    This finds an invalid row before any time is spent; it takes less than 1 % of the time of predicting.
    """
    digest, total = hashlib.sha256(), 0
    known = digest.copy()
    bar = console.Bar(0, f"checking {predictor.source.name}", "row")
    for total, (row, _) in enumerate(predictor.rows(), 1):
        if total <= journal.rows:
            _update_digest(digest, row)
            if total == journal.rows:
                known = digest.copy()
        bar.advance()
    bar.close()
    predictor.reader.require_usable(answered=True)
    if known.hexdigest() != journal.sha256:
        raise UserError(
            f"--output {journal.output}: the partial output was started with other rows: the first {journal.rows:,} of "
            f"{predictor.source} have changed; {journal.restart_hint}"
        )
    return known, total


def _update_digest(digest: Any, row: Row) -> None:
    digest.update(repr(row.problem or row.cells).encode("utf-8", "backslashreplace") + b"\n")


def _write(predictor: Predictor, journal: Journal, file: PredictionFile, digest: Any, bar: console.Bar) -> int:
    """Append the predictions to the partial file, chunk by chunk; return the total number of rows.

    A last chunk that is not full is not recorded in the journal: the input may have more rows when the command resumes.
    """
    rows, done = islice(predictor.rows(), journal.rows, None), journal.rows
    if done:
        file.read_columns(journal.partial)
    journal.write()  # before the partial file, which is invalid without a journal
    with journal.partial.open("r+b" if done else "wb") as partial:
        partial.truncate(journal.size)
        partial.seek(journal.size)
        while chunk := list(islice(rows, predictor.rows_at_once)):
            partial.write(file.encode([row for row, _ in chunk], predictor.label(chunk, bar)))
            partial.flush()
            os.fsync(partial.fileno())
            done += len(chunk)
            if len(chunk) == predictor.rows_at_once:
                for row, _ in chunk:
                    _update_digest(digest, row)
                journal.rows, journal.size, journal.sha256 = done, partial.tell(), digest.hexdigest()
                journal.truncated, journal.unknown = predictor.truncated, predictor.unknown.noted
                journal.write()
    return done
