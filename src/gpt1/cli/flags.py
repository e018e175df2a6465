"""Flags and arguments that several commands share, and the metavars of settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes as Flat
from tyro.conf import Positional, arg

from gpt1.config import DeviceConfig, PretrainConfig, TextColumns

HELP_FLAGS = {"-h", "--help", "--help-all"}
"""Flags that print help instead of running the command."""


@dataclass(frozen=True)
class Help:
    """Annotation of a parameter: what help shows that its type and its settings do not say."""

    required: bool = False
    """Whether the command refuses an empty list, which the parser accepts."""
    texts: tuple[tuple[str, str], ...] = ()
    """(setting, help text) for settings that mean something narrower in a command."""


AsJson = Annotated[bool, arg(name="json", help="Print the result as one line of JSON on stdout.")]
AsJsonList = Annotated[
    bool,
    arg(
        name="json",
        help="Print one line of JSON on stdout: an object for one result, a list of objects for several.",
    ),
]
AsJsonLines = Annotated[
    bool,
    arg(
        name="json",
        help="Print JSON on stdout: an object for one result, a list of objects for several, and with --input one "
        "object a line for each row.",
    ),
]
NAMES = (
    "a run or model directory, `mini` (bundled), a model of the hub (`openai-gpt`, OWNER/NAME, each also with "
    "@REVISION), or a directory in the format of OpenAI's release or MindNLP"
)
"""Names of a model, as `checkpoint.loading.resolve_model` knows them."""

Run = Annotated[
    Positional[str],
    arg(
        metavar="RUN",
        help="Fine-tuned model: a run directory, a model directory, or OWNER/NAME[@REVISION] on the hub.",
    ),
]
RunDirectory = Annotated[Positional[Path], arg(metavar="RUN", help="Run directory or model directory.")]
LanguageModel = Annotated[Positional[str], arg(metavar="MODEL", help=f"Model: {NAMES}.")]
Inference = Annotated[Flat[DeviceConfig], Help(texts=(("dtype", "Dtype of the computation. `auto`: float32."),))]
OneText = Annotated[Flat[TextColumns], Help(texts=(("text", "Column of the text."),))]
Pretraining = Annotated[
    Flat[PretrainConfig],
    Help(
        texts=(
            ("batch_size", "Windows per optimizer step."),
            (
                "micro_batch_size",
                "Windows per micro-batch; gradients are accumulated over a step (default: the batch, or as many "
                "windows as --micro-batch-tokens allows).",
            ),
        )
    ),
]
Vocabulary = Annotated[Positional[str], arg(metavar="MODEL", help=f"Tokenizer directory or model. A model is {NAMES}.")]
Texts = Annotated[
    Positional[tuple[str, ...]], arg(metavar="TEXT", help="Texts; `-` reads one a line from standard input.")
]
Examples = Annotated[
    Positional[tuple[str, ...]],
    arg(
        metavar="TEXT",
        help="Texts to classify. For text pairs, the two texts of each pair; for multiple choice, the context and its "
        "choices. `-` reads one a line from standard input.",
    ),
]
Source = Annotated[
    Path | None,
    arg(
        metavar="FILE",
        help="Read the texts from a table (.csv .tsv .txt .json .jsonl .parquet .feather .arrow .xlsx), or from "
        "standard input (`-`).",
    ),
]
Prompt = Annotated[
    Positional[str],
    arg(
        metavar="PROMPT",
        help="Start of the text; `-` reads it from standard input (default: empty, the model begins at <bos>).",
    ),
]

METAVARS = {
    "adapt": "EPOCHS",
    "adapt_lr": "RATE",
    "api_key_file": "FILE",
    "choices": "COLUMNS",
    "context": "COLUMN",
    "corpus": "PATH",
    "data": "DATA",
    "data_root": "DIR",
    "delimiter": "CHAR",
    "device": "DEVICE",
    "encoding": "NAME",
    "end_of_document": "LINE",
    "group": "COLUMN",
    "host": "ADDRESS",
    "label": "COLUMN",
    "label_map": "OLD=NEW",
    "label_words": "WORDS",
    "lr": "RATE",
    "metric": "MODULE:FUNC",
    "model": "MODEL",
    "name": "NAME",
    "on_bad_row": "ACTION",
    "out": "DIR",
    "question": "COLUMN",
    "recipe": "RECIPE",
    "search": "SPACE",
    "shutdown_timeout": "SECONDS",
    "body_timeout": "SECONDS",
    "size": "SIZE",
    "task": "TASK",
    "tasks": "NAMES",
    "unlabelled": "PATH",
    "text": "COLUMN",
    "text_a": "COLUMN",
    "text_b": "COLUMN",
    "timeout": "SECONDS",
    "tokenizer": "MODEL",
    "track": "NAMES",
    "track_project": "NAME",
    "weight": "COLUMN",
}
"""Metavars of settings that are not integers (N); others have that of their type (NUMBER, PATH, TEXT)."""
