"""Flags and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

AsJson = Annotated[bool, arg(name="json", help="print JSON on stdout and nothing else there")]
AsJsonLines = Annotated[
    bool, arg(name="json", help="print JSON on stdout, a line each for the rows of --input, and nothing else there")
]
NAMES = (
    "run or model directory, folder of OpenAI's release or MindNLP's, mini (comes with gpt1), or a model of the hub: "
    "openai-gpt or OWNER/NAME, each also with @REVISION"
)
"""Names of a model, as `checkpoint.loading.resolve_model` knows them."""

Run = Annotated[
    Positional[str],
    arg(metavar="RUN", help="run directory, or another fine-tuned model: a directory, or OWNER/NAME[@REVISION] (hub)"),
]
RunDirectory = Annotated[Positional[Path], arg(metavar="RUN", help="run directory, or a model directory")]
LanguageModel = Annotated[Positional[str], arg(metavar="MODEL", help=NAMES)]
Vocabulary = Annotated[Positional[str], arg(metavar="MODEL", help=f"tokenizer directory, {NAMES}")]
Texts = Annotated[Positional[tuple[str, ...]], arg(metavar="TEXT", help="texts")]
Source = Annotated[Path | None, arg(help="read the texts from this .csv .tsv .jsonl .parquet file")]
Prompt = Annotated[Positional[str], arg(metavar="PROMPT", help="text to go on from (none: from <bos>)")]
