"""Flags and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

AsJson = Annotated[bool, arg(name="json", help="print JSON on stdout and nothing else there")]
AsJsonLines = Annotated[
    bool, arg(name="json", help="print JSON on stdout, a line each for the rows of --input, and nothing else there")
]
Run = Annotated[Positional[Path], arg(metavar="RUN", help="run directory, or a model directory")]
LanguageModel = Annotated[
    Positional[Path], arg(metavar="MODEL", help="run directory, model directory, or mini, which comes with gpt1")
]
Texts = Annotated[Positional[tuple[str, ...]], arg(metavar="TEXT", help="texts")]
Source = Annotated[Path | None, arg(help="read the texts from this .csv .tsv .jsonl .parquet file")]
Prompt = Annotated[Positional[str], arg(metavar="PROMPT", help="text to go on from (none: from <bos>)")]
