"""Commands around a model: its vocabulary, its files, this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes as Flat
from tyro.conf import Positional, arg

from gpt1.cli.flags import NAMES, AsJson, RunDirectory, Texts, Vocabulary
from gpt1.cli.output import print_one, print_some
from gpt1.config import END_OF_DOCUMENT, Layout, Stored, TextColumns


def tokenizer() -> None:
    """Learn a vocabulary, and turn text into tokens and back: gpt1 tokenizer train | encode | decode."""


def tokenizer_train(
    input: Annotated[
        tuple[Path, ...],
        arg(help="text files (.txt .gz .xz .zst), folders of them, or tables (.csv .tsv .jsonl .parquet)"),
    ],
    out: Annotated[Path, arg(help="directory of the new tokenizer")],
    vocab_size: Annotated[int, arg(help="tokens to learn, special tokens included")] = 40_482,
    end_of_document: Annotated[str, arg(help="a line of text files that ends a document")] = END_OF_DOCUMENT,
    byte_fallback: Annotated[
        bool,
        arg(
            help="add a token for each byte and encode unknown characters as UTF-8 bytes instead of <unk>; "
            "a word that ends with one takes 4 tokens more"
        ),
    ] = False,
    columns: Flat[TextColumns] = TextColumns(),  # noqa: B008
    as_json: AsJson = False,
) -> None:
    """Learn a GPT-1 vocabulary (BPE) from texts."""
    from gpt1 import api

    result = api.train_tokenizer(
        input, vocab_size, out, columns=columns, end_of_document=end_of_document, byte_fallback=byte_fallback
    )
    print_one(result, as_json)


def tokenizer_encode(model: Vocabulary, texts: Texts = (), /, as_json: AsJson = False) -> None:
    """Show the tokens of texts."""
    from gpt1 import api

    print_some(api.encode(model, texts), as_json, lambda encoded: " ".join(map(str, encoded["tokens"])))


def tokenizer_decode(model: Vocabulary, ids: Positional[tuple[int, ...]], /, as_json: AsJson = False) -> None:
    """Turn token ids back into text. Capitals, some blanks and what became <unk> are not in the ids."""
    from gpt1 import api

    print_some([api.decode(model, ids)], as_json, lambda decoded: str(decoded["text"]))


TOKENIZER_COMMANDS: dict[str, Callable[..., None]] = {
    "train": tokenizer_train,
    "encode": tokenizer_encode,
    "decode": tokenizer_decode,
}


def convert(
    source: Annotated[Positional[str], arg(metavar="SOURCE", help=NAMES)],
    out: Annotated[Positional[Path], arg(metavar="OUT", help="new directory")],
    /,
    to: Annotated[
        Layout,
        arg(help="layout: a model directory of gpt1, the same for MindSpore, Hugging Face's, OpenAI's release, ONNX"),
    ] = "gpt1",
    dtype: Annotated[
        Stored,
        arg(help="dtype of the written weights, rounded to nearest; --to openai and --to onnx have float32 alone"),
    ] = "float32",
    as_json: AsJson = False,
) -> None:
    """Write a model's weights and vocabulary in another layout; what has no place there is named.

    gpt1 is Hugging Face's layout with gpt1.json and the special tokens, and holds a head; mindspore is the same with
    the weights in mindspore.ckpt, under MindNLP's names; huggingface and openai hold the language model as OpenAI
    published it. onnx is the first with the model as a graph, model.onnx, which ONNX Runtime and others run; its
    README.md has a program.
    """
    from gpt1 import api

    print_one(api.convert(source, out, to, dtype=dtype), as_json)


def push(
    run: RunDirectory,
    repo: Annotated[Positional[str], arg(metavar="REPO", help="repository on the hub, OWNER/NAME; made if need be")],
    /,
    private: Annotated[bool, arg(help="make a new repository private")] = False,
    revision: Annotated[str | None, arg(help="branch to upload to; made if need be (None: main)")] = None,
    license: Annotated[str | None, arg(help="licence of the model, for the card: apache-2.0, mit, cc-by-4.0 …")] = None,
    language: Annotated[str | None, arg(help="language of its texts, for the card: en, zh …")] = None,
    as_json: AsJson = False,
) -> None:
    """Publish a run's best model on the Hugging Face hub, with its card and the run's report.html.

    The model directory's own files are uploaded, never a checkpoint. The token is that of `hf auth login` or HF_TOKEN.
    """
    from gpt1 import api

    print_one(api.push(run, repo, private=private, revision=revision, license=license, language=language), as_json)


def doctor(as_json: AsJson = False) -> None:
    """Show what is installed, which devices and dtypes work, and how fast they multiply."""
    from gpt1 import api

    print_one(api.doctor(), as_json)
