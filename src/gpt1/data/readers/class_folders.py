"""Folders with a folder of text files for each label, such as aclImdb/train with pos/ and neg/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gpt1.data.readers.files import SPLIT_OF
from gpt1.data.readers.rows import BadRow, Note, Row
from gpt1.data.readers.text import decoded_lines

UNLABELLED = ("unsup", "unsupervised", "unlabelled", "unlabeled")
"""Names of folders of texts without labels."""


def class_folders(folder: Path) -> list[Path]:
    """Return the folders of text files for each label, sorted by name; empty unless there are at least two."""
    found = [each for each in folders_of_texts(folder) if each.name.lower() not in UNLABELLED]
    return found if len(found) > 1 and not any(each.name.lower() in SPLIT_OF for each in found) else []


def folders_of_texts(folder: Path) -> list[Path]:
    """Return the subfolders that hold text files, sorted by name."""
    inside = (each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    return sorted((each for each in inside if any(map(_is_text, each.iterdir()))), key=_name)


def text_files(folder: Path) -> list[Path]:
    """Return the text files of a folder, sorted by name: .txt, or without suffix and named by a number (20news)."""
    return sorted(filter(_is_text, folder.iterdir()), key=_name)


def class_folder_rows(folder: Path, encoding: str | None, note: Note) -> Iterator[Row]:
    """Yield the row {"text", "label"} of each file, sorted by path; the label is the name of its folder.

    Raises:
        UserError: a file cannot be read.
    """
    noted = set()

    def note_once(line: str) -> None:
        """Note what was detected about a file, unless another file has been noted with the same encoding."""
        fact = line.partition(": ")[2].partition(";")[0]
        if fact not in noted:
            noted.add(fact)
            note(f"{folder.name}: {line}")

    for each in class_folders(folder):
        for file in text_files(each):
            where = f"{folder.name}/{each.name}/{file.name}"
            try:
                text = "".join(decoded_lines(file, encoding, note_once))
            except BadRow as error:
                yield Row(where, {}, BadRow(f"line {error.line}: {error}", kind="undecodable"))
            else:
                yield Row(where, {"text": text.rstrip("\r\n"), "label": each.name})


def _is_text(file: Path) -> bool:
    return (file.name.endswith((".txt", ".TXT")) and not file.name.startswith(".")) or file.name.isdecimal()


def _name(path: Path) -> str:
    return path.name  # Windows compares paths without regard to case
