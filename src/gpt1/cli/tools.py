"""Commands for tokenizers, model files and the installation: tokenizer, convert, push, doctor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes as Flat
from tyro.conf import Positional, arg

from gpt1.cli.flags import NAMES, AsJson, AsJsonList, Help, OneText, RunDirectory, Texts, Vocabulary
from gpt1.cli.output import print_json, print_one, print_some
from gpt1.config import DETECTED, END_OF_DOCUMENT, Layout, Stored, TableFormat, TextColumns


def tokenizer() -> None:
    """Train a tokenizer, encode and decode text."""


def tokenizer_train(
    input: Annotated[
        tuple[Path, ...],
        arg(
            help="Text files (.txt, also .gz, .xz, .zst), folders of text files, or tables (.csv .tsv .jsonl .parquet)."
        ),
    ],
    out: Annotated[Path, arg(help="Directory of the new tokenizer.")],
    vocab_size: Annotated[int, arg(help="Size of the vocabulary, special tokens included.")] = 40_482,
    end_of_document: Annotated[str, arg(help="Line that separates documents within a text file.")] = END_OF_DOCUMENT,
    byte_fallback: Annotated[
        bool,
        arg(
            help="Add a token for each byte and encode unknown characters as UTF-8 bytes instead of <unk>. "
            "A word that ends with one then takes 4 more tokens."
        ),
    ] = False,
    columns: OneText = TextColumns(),  # noqa: B008
    table: Flat[TableFormat] = DETECTED,
    as_json: AsJson = False,
) -> None:
    """Train a GPT-1 tokenizer (BPE) on texts."""
    from gpt1 import api

    result = api.train_tokenizer(
        input,
        vocab_size,
        out,
        columns=columns,
        table=table,
        end_of_document=end_of_document,
        byte_fallback=byte_fallback,
    )
    print_one(result, as_json)


def tokenizer_encode(
    model: Vocabulary, texts: Annotated[Texts, Help(required=True)] = (), /, as_json: AsJsonList = False
) -> None:
    """Print the tokens of texts."""
    from gpt1 import api

    print_some(api.encode(model, texts), as_json, lambda encoded: " ".join(map(str, encoded["tokens"])))


def tokenizer_decode(
    model: Vocabulary,
    ids: Annotated[Positional[tuple[int, ...]], arg(metavar="ID", help="Token ids.")],
    /,
    as_json: AsJson = False,
) -> None:
    """Convert token ids to text.

    Capital letters, some blanks and unknown characters are not recovered: the ids do not contain them.
    """
    from gpt1 import api

    print_some([api.decode(model, ids)], as_json, lambda decoded: str(decoded["text"]))


TOKENIZER_COMMANDS: dict[str, Callable[..., None]] = {
    "train": tokenizer_train,
    "encode": tokenizer_encode,
    "decode": tokenizer_decode,
}


def convert(
    source: Annotated[Positional[str], arg(metavar="MODEL", help=f"Model: {NAMES}.")],
    out: Annotated[Positional[Path], arg(metavar="DIR", help="Output directory; must be new.")],
    /,
    to: Annotated[
        Layout,
        arg(help="Layout of the output. See above."),
    ] = "gpt1",
    dtype: Annotated[
        Stored,
        arg(help="Dtype of the written weights. --to openai and --to onnx support float32 only."),
    ] = "float32",
    as_json: AsJson = False,
) -> None:
    """Convert a model to another layout.

    Layouts: `gpt1` is Hugging Face's layout with gpt1.json, the special tokens and the head. `mindspore` is the same
    with the weights in mindspore.ckpt under MindNLP's names. `huggingface` and `openai` hold the language model alone,
    as OpenAI published it. `onnx` is `gpt1` with the model as a graph, model.onnx, for ONNX Runtime; its README.md
    contains an example program. Parts that the layout cannot hold are listed.
    """
    from gpt1 import api

    print_one(api.convert(source, out, to, dtype=dtype), as_json)


def push(
    run: RunDirectory,
    repo: Annotated[
        Positional[str], arg(metavar="REPO", help="Repository on the hub, OWNER/NAME; created if it does not exist.")
    ],
    /,
    private: Annotated[bool, arg(help="Create the repository as private.")] = False,
    revision: Annotated[
        str | None, arg(metavar="BRANCH", help="Branch to upload to (default: main). Created if it does not exist.")
    ] = None,
    license: Annotated[
        str | None, arg(metavar="NAME", help="License in the model card, such as apache-2.0 or mit.")
    ] = None,
    language: Annotated[str | None, arg(metavar="CODE", help="Language in the model card, such as en or zh.")] = None,
    as_json: AsJson = False,
) -> None:
    """Publish a model on the Hugging Face hub.

    Uploads the model directory, with its model card, and the run's report.html; checkpoints are not uploaded. The
    access token is that of `hf auth login` or the environment variable HF_TOKEN.
    """
    from gpt1 import api

    print_one(api.push(run, repo, private=private, revision=revision, license=license, language=language), as_json)


def doctor(as_json: AsJson = False) -> None:
    """Print installed versions, devices, dtypes and their speed."""
    from gpt1 import api, console

    if as_json:
        print_json(api.doctor())
        return
    with console.notices_on_stdout():
        api.doctor()
