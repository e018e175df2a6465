"""Names of tables: formats, compression and splits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

SPLIT_OF = {"train": "train", "valid": "valid", "validation": "valid", "dev": "valid", "val": "valid", "test": "test"}
"""Names of splits in files -> those of gpt1. Folders of these names are not labels."""
PACKINGS = ("gz", "bz2", "xz", "zst", "zip")
"""Suffixes of compressed files."""
TEXT_FILES = ".txt (also .gz .bz2 .xz .zst .zip)"
"""Names of text files, for messages."""
FORMATS = (
    ".csv .tsv .txt (fastText, or a table) .json .jsonl (also .gz .bz2 .xz .zst .zip) .parquet .feather .arrow .xlsx, "
    "or a folder with a folder of .txt files for each label, or one written by datasets.save_to_disk"
)
"""Names of tables, for messages."""

_FILE_NAME = re.compile(
    rf"(?P<stem>.+?)\.(?:(?P<text>csv|tsv|txt|jsonl|ndjson|json)(?:\.(?P<packing>{'|'.join(PACKINGS)}))?"
    r"|(?P<other>parquet|feather|arrow|xlsx|zip))",
    re.IGNORECASE,
)
_ALIASES = {"ndjson": "jsonl", "feather": "arrow"}


class FileType(NamedTuple):
    """Name parts of a table."""

    stem: str
    """"train" of "train.jsonl.xz"."""
    format: str
    """csv | tsv | txt | json | jsonl | parquet | arrow | xlsx | zip (a .zip whose member has the format)."""
    packing: str | None


def file_type(path: Path) -> FileType | None:
    """Return stem, format and compression by the file name; None if it is not the name of a table."""
    if (match := _FILE_NAME.fullmatch(path.name)) is None:
        return None
    suffix = (match["text"] or match["other"]).lower()
    packing = "zip" if suffix == "zip" else (match["packing"] or "").lower()
    return FileType(match["stem"], _ALIASES.get(suffix, suffix), packing or None)
