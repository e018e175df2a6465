"""The table in a .zip archive."""

from __future__ import annotations

import re
import shlex
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from gpt1.data.readers.files import FORMATS, SPLIT_OF, FileType, file_type
from gpt1.errors import UserError

_ENCRYPTED = 0x1  # bit of the general-purpose flags (APPNOTE.TXT, 4.4.4)
_LISTED_MEMBERS = 4  # in a message
_READABLE = ("csv", "tsv", "txt", "json", "jsonl")  # read as a stream


def member_type(path: Path) -> FileType:
    """Return the type of the table in a .zip.

    Raises:
        UserError: the archive is damaged or encrypted, or does not hold exactly one table.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _only_table(archive, path)[1]
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is damaged or incomplete: {error}") from error


@contextmanager
def open_table(path: Path) -> Iterator[IO[bytes]]:
    """Open the only table in a .zip for reading its bytes.

    Raises:
        UserError: the archive is encrypted, uses an unknown compression, or does not hold exactly one table.
        zipfile.BadZipFile: it is damaged; also raised while reading.
    """
    with zipfile.ZipFile(path) as archive:
        member, _ = _only_table(archive, path)
        try:
            stream = archive.open(member)
        except NotImplementedError as error:
            raise UserError(f"{path}: {error}; unpack it with the program that made it") from None
        with stream:
            yield stream


def _only_table(archive: zipfile.ZipFile, path: Path) -> tuple[zipfile.ZipInfo, FileType]:
    members = [each for each in archive.infolist() if not each.is_dir() and not _is_hidden(each.filename)]
    tables = [(each, kind) for each in members if (kind := file_type(Path(each.filename)))]
    tables = [each for each in tables if each[1].format != "txt"] or tables  # a README.txt beside a table
    folder = path.with_name(path.name.partition(".")[0])
    unpack = f"python -m zipfile -e {shlex.quote(path.as_posix())} {shlex.quote(folder.as_posix())}"
    if not tables:
        raise UserError(f"{path} holds no table ({_listed(members)}), expected one: {FORMATS}")
    if len(tables) > 1:
        found = [each for each, _ in tables]
        give = f"the folder {folder.as_posix()}" if _form_a_data_set(found) else "one of the files"
        raise UserError(
            f"{path} holds {len(tables)} tables ({_listed(found)}), expected one; unpack it and give {give}: {unpack}"
        )
    [(member, kind)] = tables
    if member.flag_bits & _ENCRYPTED:
        raise UserError(f"{path} is encrypted; unpack it with its password and give the unpacked file")
    if kind.packing or kind.format not in _READABLE:
        raise UserError(
            f"{path} holds {member.filename}; of a .zip, only .{', .'.join(_READABLE)} are read: unpack it and give "
            f"the file: {unpack}"
        )
    return member, kind


def _form_a_data_set(members: list[zipfile.ZipInfo]) -> bool:
    """Return whether files or their folders are named like splits, train among them, or are texts in folders."""
    paths = [PurePosixPath(each.filename) for each in members]
    words = [{re.split(r"[-_. ]", part.lower())[0] for part in path.parts} & SPLIT_OF.keys() for path in paths]
    texts = len({path.parent for path in paths}) > 1 and all(path.suffix == ".txt" for path in paths)
    return texts or (all(words) and any("train" in each for each in words))


def _is_hidden(name: str) -> bool:
    """Return whether a member is metadata of a system, such as macOS's `__MACOSX/._reviews.csv`."""
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)


def _listed(members: list[zipfile.ZipInfo]) -> str:
    names = [each.filename for each in members[:_LISTED_MEMBERS]]
    more = f" and {len(members) - len(names)} more" if len(members) > len(names) else ""
    return (", ".join(names) or "no files") + more
