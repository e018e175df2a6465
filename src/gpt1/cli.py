"""The command line: flags to the functions of `api`, results to stdout (`--json`), errors to exit codes.

0 done · 1 a fault of gpt1 · 2 the person's input (one line, no traceback) · 130 interrupted after saving a checkpoint.
The only file that knows the command-line library.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro import _errors as parse_errors
from tyro.conf import OmitArgPrefixes as Flat
from tyro.conf import Positional, UseAppendAction, arg

from gpt1.config import (
    END_OF_DOCUMENT,
    Columns,
    DeviceConfig,
    FinetuneConfig,
    GenerateConfig,
    Layout,
    PretrainConfig,
    ReproduceConfig,
    Stored,
    ZeroShotConfig,
)
from gpt1.errors import Interrupted, PeerLost, UserError
from gpt1.ranks import VARIABLES, launcher, place
from gpt1.recipes import pretraining, recipe
from gpt1.runlog import to_json

DESCRIPTION = "GPT-1: fine-tune it on labelled texts, evaluate, predict, score, write."

BAR_WIDTH = 40
"""Characters of the longest bar of `gpt1 next`."""

AsJson = Annotated[bool, arg(name="json", help="print JSON on stdout (JSONL for --input) and nothing else there")]
Run = Annotated[Positional[Path], arg(metavar="RUN", help="run directory, or a model directory")]
LanguageModel = Annotated[
    Positional[Path], arg(metavar="MODEL", help="run directory, model directory, or mini, which comes with gpt1")
]
Texts = Annotated[Positional[tuple[str, ...]], arg(metavar="TEXT", help="texts")]
Source = Annotated[Path | None, arg(help="read the texts from this .csv .tsv .jsonl .parquet file")]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        if argv in (["--version"], ["-V"]):
            print(f"gpt1 {version('gpt1')}")
            return 0
        with parse_errors.on_parse_error(_one_line):
            _dispatch(argv)
    except UserError as error:
        _complain(str(error))
        return 2
    except PeerLost as error:
        _complain(f"{error}; the same command goes on from the last checkpoint")
        return 1
    except BrokenPipeError:  # the reader of our output went away, as in `gpt1 … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        named = error.filename2 or error.filename
        if error.errno == errno.ENOSPC:
            where = f"{named}: " if named else ""
            _complain(f"{where}{error.strerror}; what was whole stays: make room, and run the same command again")
        elif named is None:
            raise
        else:
            _complain(f"{named}: {error.strerror}")
        return 2
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except Interrupted:
        _complain("stopped; the same command goes on from here")
        return 130
    return 0


def _complain(message: str) -> None:
    """Print why the command ends here, and which of several processes says so."""
    rank = os.environ.get(VARIABLES[launcher()][0], "0")
    print(f"gpt1{f' (rank {rank})' if rank != '0' else ''}: {message}", file=sys.stderr, flush=True)


def _dispatch(argv: Sequence[str]) -> None:
    commands, prog, description = _commands(argv), "gpt1", DESCRIPTION
    if argv[:1] == ["tokenizer"]:
        commands, prog, description, argv = TOKENIZER_COMMANDS, "gpt1 tokenizer", tokenizer.__doc__ or "", argv[1:]
    name, *rest = argv or ["--help"]
    if name in commands and name != "pretrain" and (where := place()).size > 1:
        by = where.launcher
        raise UserError(f"{by} started {where.size} processes; {prog} {name} runs in one, without {by}")
    if name in commands:
        tyro.cli(commands[name], prog=f"{prog} {name}", args=rest)
    elif name in ("-h", "--help"):
        tyro.extras.subcommand_cli_from_dict(commands, prog=prog, description=description, args=[name, *rest])
    else:
        raise UserError(f"{name!r} is no command; there are {', '.join(commands)}; see {prog} --help")


def _commands(argv: Sequence[str]) -> dict[str, Callable[..., None]]:
    defaults, pretrain_defaults = _finetune_defaults(argv), _pretrain_defaults(argv)

    def finetune(config: Flat[FinetuneConfig] = defaults, as_json: AsJson = False) -> None:
        """Fine-tune a model on labelled texts, or go on with the run in --out."""
        from gpt1 import api

        _print(api.finetune(config), as_json)

    def pretrain(config: Flat[PretrainConfig] = pretrain_defaults, as_json: AsJson = False) -> None:
        """Train a language model on plain text, or go on with the run in --out."""
        from gpt1 import api

        results = api.pretrain(config)
        _print(results, as_json and place().rank == 0)

    return {
        "finetune": finetune,
        "pretrain": pretrain,
        "prepare": prepare,
        "evaluate": evaluate,
        "predict": predict,
        "score": score,
        "generate": generate,
        "next": next_tokens,
        "reproduce": reproduce,
        "tokenizer": tokenizer,
        "convert": convert,
        "doctor": doctor,
    }


def _finetune_defaults(argv: Sequence[str]) -> FinetuneConfig:
    """Return the settings that the other flags of `gpt1 finetune` change: those of `--recipe NAME`, where it stands."""
    name = _recipe_name(argv, "finetune")
    return recipe(name) if name else FinetuneConfig()


def _pretrain_defaults(argv: Sequence[str]) -> PretrainConfig:
    name = _recipe_name(argv, "pretrain")
    return pretraining(name) if name else PretrainConfig()


def _recipe_name(argv: Sequence[str], command: str) -> str:
    found = ""
    words = iter(argv if argv[:1] == [command] else ())
    for word in words:
        flag, _, name = word.partition("=")
        if flag == "--recipe":
            found = name or next(words, "") or found
    return found


def prepare(
    corpus: Annotated[tuple[Path, ...], arg(help="text files (.txt, also .gz .xz .zst), or folders of them")],
    tokenizer: Annotated[Path, arg(help="tokenizer, model or run directory, or mini")],
    out: Annotated[Path, arg(help="directory of the prepared corpus")],
    end_of_document: Annotated[
        str, arg(help="a line that ends a document; the end of a file always does")
    ] = END_OF_DOCUMENT,
    processes: Annotated[int | None, arg(help="files that are encoded at once (default: as many as cores)")] = None,
    ray: Annotated[
        str | None,
        arg(
            metavar="ADDRESS",
            help="encode on a Ray cluster whose nodes all see the same files: local (one for this command), auto, or "
            "HOST:PORT",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Encode text files for gpt1 pretrain; the same command goes on where it was stopped."""
    from gpt1 import api

    found = api.prepare_corpus(corpus, tokenizer, out, end_of_document=end_of_document, processes=processes, ray=ray)
    _print(found, as_json)


def evaluate(
    run: Run,
    /,
    data: Annotated[str, arg(help="folder, file, or catalogue name such as imdb")],
    split: Annotated[
        Literal["train", "valid", "test"], arg(help="split of the folder, or of the run's own file")
    ] = "test",
    limit: Annotated[int | None, arg(help="score at most so many examples (a stratified draw)")] = None,
    metric: Annotated[str | None, arg(help="your own metric as package.module:function")] = None,
    revision: Annotated[str | None, arg(help="revision of a hub data set")] = None,
    baseline: Annotated[
        bool, arg(help="also fit the plain baselines on the run's training rows (--zero-shot: majority)")
    ] = True,
    beside: Annotated[tuple[Path, ...], arg(help="other runs, scored on the same rows in the same table")] = (),
    columns: Flat[Columns] = Columns(),  # noqa: B008 - frozen
    zero_shot: Flat[ZeroShotConfig] = ZeroShotConfig(),  # noqa: B008
    hardware: Flat[DeviceConfig] = DeviceConfig(),  # noqa: B008
    as_json: AsJson = False,
) -> None:
    """Score a run's best model on a split of a data set, or on all of a file; with --zero-shot any language model.

    --zero-shot computes in float32 unless --dtype says otherwise.
    """
    from gpt1 import api

    if zero_shot.zero_shot and beside:
        raise UserError(f"--beside {beside[0]}: goes with fine-tuned models, not with --zero-shot")
    score_split = (
        partial(api.evaluate_zero_shot, how=zero_shot) if zero_shot.zero_shot else partial(api.evaluate, beside=beside)
    )
    results = score_split(
        run,
        data,
        split=split,
        columns=columns,
        hardware=hardware,
        limit=limit,
        metric=metric,
        revision=revision,
        baseline=baseline,
    )
    _print(results, as_json)


def predict(
    run: Run,
    texts: Texts = (),
    /,
    input: Source = None,
    output: Annotated[Path | None, arg(help="write the predictions of --input to this .jsonl or .csv file")] = None,
    columns: Flat[Columns] = Columns(),  # noqa: B008
    hardware: Flat[DeviceConfig] = DeviceConfig(),  # noqa: B008
    as_json: AsJson = False,
) -> None:
    """Label texts: one by one, two by two for a model of pairs, a context and its choices for multiple choice.

    Texts on the command line are computed in float32 unless --dtype says otherwise.
    """
    from gpt1 import api

    if input is not None:
        if texts:
            raise UserError("--input: give either a file or texts, not both")
        _print_lines(api.predict_file(run, input, output, columns=columns, hardware=hardware), as_json, _prediction)
    elif output is not None:
        raise UserError("--output: goes with --input FILE")
    else:
        found = api.predict_texts(run, texts, hardware=hardware)
        _print_some(found, as_json, _prediction)


def score(
    model: LanguageModel,
    texts: Texts = (),
    /,
    input: Source = None,
    columns: Flat[Columns] = Columns(),  # noqa: B008
    hardware: Flat[DeviceConfig] = DeviceConfig(),  # noqa: B008
    as_json: AsJson = False,
) -> None:
    """Show each token's log-probability, the perplexity and the bits per byte of texts (float32 unless --dtype)."""
    from gpt1 import api

    if input is not None:
        if texts:
            raise UserError("--input: give either a file or texts, not both")
        _print_lines(api.score_file(model, input, columns=columns, hardware=hardware), as_json, _scored)
    else:
        _print_some(api.score_texts(model, texts, hardware=hardware), as_json, _scored)


Prompt = Annotated[Positional[str], arg(metavar="PROMPT", help="text to go on from (none: from <bos>)")]


def generate(
    model: LanguageModel,
    prompt: Prompt = "",
    /,
    config: Flat[UseAppendAction[GenerateConfig]] = GenerateConfig(),  # noqa: B008 - frozen
    hardware: Flat[DeviceConfig] = DeviceConfig(),  # noqa: B008
    as_json: AsJson = False,
) -> None:
    """Let a model write on from a prompt; any model is a language model, a fine-tuned one too.

    <eos> ends a text; <pad>, <bos>, <sep> and <unk> are never written. Computed in float32 unless --dtype says
    otherwise: bfloat16 is faster, and a sample may then depend on --n.
    """
    from gpt1 import api

    if as_json:
        _print_some(api.generate(model, prompt, config, hardware=hardware), as_json, str)
    elif config.n > 1:
        for found in api.generate(model, prompt, config, hardware=hardware):
            print(f"{_shown(prompt)}{found['text']}\n")
    else:
        before = iter([_shown(prompt)])  # once, when nothing can be refused any more
        api.generate(
            model, prompt, config, hardware=hardware,
            show=lambda piece: _write(next(before, "") + piece.text + "\n" * bool(piece.finish_reason)),
        )  # fmt: skip


def next_tokens(
    model: LanguageModel,
    prompt: Prompt = "",
    /,
    top: Annotated[int, arg(help="show so many of the likeliest tokens")] = 10,
    hardware: Flat[DeviceConfig] = DeviceConfig(),  # noqa: B008
    as_json: AsJson = False,
) -> None:
    """Show how likely each token is to come next after a prompt (float32 unless --dtype says otherwise)."""
    from gpt1 import api

    found = api.next_tokens(model, prompt, top, hardware=hardware)
    _print_some([found], as_json, _bars)


def reproduce(config: Flat[ReproduceConfig], as_json: AsJson = False) -> None:
    """Repeat the paper's fine-tuning results, several seeds each, on the data that is there; print its table beside."""
    from gpt1 import api

    table = api.reproduce(config)
    _print(table, as_json)
    if failed := [row["task"] for row in table["rows"] if row["error"]]:
        raise UserError(
            f"{len(failed)} of {len(table['rows'])} rows failed: {', '.join(failed)}; the reasons stand above"
        )


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
    columns: Flat[Columns] = Columns(),  # noqa: B008
    as_json: AsJson = False,
) -> None:
    """Learn a GPT-1 vocabulary (BPE) from texts."""
    from gpt1 import api

    _print(api.train_tokenizer(input, vocab_size, out, columns=columns, end_of_document=end_of_document), as_json)


Vocabulary = Annotated[Positional[Path], arg(metavar="DIR", help="tokenizer, model or run directory, or mini")]


def tokenizer_encode(directory: Vocabulary, texts: Texts = (), /, as_json: AsJson = False) -> None:
    """Show the tokens of texts."""
    from gpt1 import api

    _print_some(api.encode(directory, texts), as_json, lambda found: " ".join(map(str, found["tokens"])))


def tokenizer_decode(directory: Vocabulary, ids: Positional[tuple[int, ...]], /, as_json: AsJson = False) -> None:
    """Turn token ids back into text. Capitals, some blanks and what became <unk> are not in the ids."""
    from gpt1 import api

    _print_some([api.decode(directory, ids)], as_json, lambda found: str(found["text"]))


TOKENIZER_COMMANDS: dict[str, Callable[..., None]] = {
    "train": tokenizer_train,
    "encode": tokenizer_encode,
    "decode": tokenizer_decode,
}


def convert(
    source: Annotated[
        Positional[str],
        arg(
            metavar="SOURCE", help="folder of OpenAI's release, Hugging Face's or MindNLP's, hub name, run, model, mini"
        ),
    ],
    out: Annotated[Positional[Path], arg(metavar="OUT", help="new directory")],
    /,
    to: Annotated[
        Layout, arg(help="layout: a model directory of gpt1, the same for MindSpore, Hugging Face's, OpenAI's release")
    ] = "gpt1",
    dtype: Annotated[
        Stored, arg(help="dtype of the written weights, rounded to nearest; --to openai has float32 alone")
    ] = "float32",
    revision: Annotated[str | None, arg(help="revision (commit, tag, branch) of a hub model")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a model's weights and vocabulary in another layout; what has no place there is named.

    gpt1 is Hugging Face's layout with gpt1.json and the special tokens, and holds a head; mindspore is the same with
    the weights in mindspore.ckpt, under MindNLP's names; huggingface and openai hold the language model as OpenAI
    published it.
    """
    from gpt1 import api

    _print(api.convert(source, out, to, dtype=dtype, revision=revision), as_json)


def doctor(as_json: AsJson = False) -> None:
    """Show what is installed, which devices and dtypes work, and how fast they multiply."""
    from gpt1 import api

    _print(api.doctor(), as_json)


# ---- output


def _print(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(to_json(result))


def _print_some(results: list[dict[str, Any]], as_json: bool, line: Callable[[dict[str, Any]], str]) -> None:
    """Print one document for one result, a list for several."""
    if as_json:
        print(to_json(results[0] if len(results) == 1 else results))
    else:
        for result in results:
            print(line(result))


def _print_lines(results: Iterable[dict[str, Any]], as_json: bool, line: Callable[[dict[str, Any]], str]) -> None:
    for result in results:
        print(to_json(result) if as_json else line(result))


def _prediction(found: dict[str, Any]) -> str:
    if found["label"] is None:
        return f"{found['score']:.4f}"
    return f"{found['label']}  {found['score']:.4f}"


def _scored(found: dict[str, Any]) -> str:
    lines = [
        f"{'' if value is None else f'{value:9.3f}':>9}  {token.replace('</w>', '')}"
        for token, value in zip(found["tokens"], found["logprobs"], strict=True)
    ]
    if found["perplexity"] is not None:
        lines.append(
            f"perplexity {found['perplexity']:.2f}, {found['bits_per_byte'] or float('nan'):.3f} bits per byte, "
            f"{found['unknown_share']:.1%} of the bytes unknown"
        )
    return "\n".join(lines)


def _write(text: str) -> None:
    print(text, end="", flush=True)


def _shown(prompt: str) -> str:
    """Return the prompt as the text goes on from it: with the blank of its own, where one comes next."""
    return prompt.rstrip(" ")


def _bars(found: dict[str, Any]) -> str:
    """Return a line for each token: name, probability and bar."""
    from gpt1.text.bpe import token_name

    tokens = found["tokens"]
    names = [token_name(row["token"]) for row in tokens]
    width, most = max(map(len, names)), tokens[0]["probability"]
    return "\n".join(
        f"{name:<{width}}  {row['probability']:7.2%}  {'█' * round(BAR_WIDTH * row['probability'] / most)}".rstrip()
        for name, row in zip(names, tokens, strict=True)
    )


# ---- errors


def _one_line(event: parse_errors.ParseErrorEvent) -> None:
    """Say in one line what is wrong with the flags, instead of the library's box."""
    where = f"; see {event.prog} --help"
    match event:
        case parse_errors.MissingArgs():
            names = ", ".join(item.arg.display_name() for item in event.missing_arguments)
            also = f"; unknown: {' '.join(event.unrecognized_tokens)}" if event.unrecognized_tokens else ""
            raise UserError(f"missing: {names}{also}{where}")
        case parse_errors.InvalidChoice():
            choices = ", ".join(sorted(choice for choice in event.choices if choice != "None"))
            raise UserError(f"{event.argument.display_name()} {event.value}: expected one of {choices}")
        case parse_errors.UnrecognizedArgs():
            raise UserError(f"unknown: {' '.join(event.tokens)}{where}")
        case parse_errors.BadValue():
            raise UserError(f"{event.argument.display_name()}: a value is missing or not allowed{where}")
        case parse_errors.InstantiationFailure():
            flag = f"{event.argument.display_name()}: " if event.argument else ""  # ours name their flag themselves
            raise UserError(flag + event.message.partition("\n")[0].rstrip(".") + where)
