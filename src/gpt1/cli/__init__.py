"""The command line: flags to the functions of `api`, results to stdout (`--json`), errors to exit codes.

0 done · 1 a fault of gpt1 · 2 the person's input (one line, no traceback) · 130 interrupted after saving a checkpoint.
The only package that knows the command-line library.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

import tyro
from tyro import _errors as parse_errors

from gpt1 import console
from gpt1.backends.dist import VARIABLES, launcher, process_rank
from gpt1.cli.inference import evaluate, explain, generate, next_tokens, predict, report, score, serve
from gpt1.cli.streams import prepare_streams, wide_enough
from gpt1.cli.tools import TOKENIZER_COMMANDS, convert, doctor, push, tokenizer
from gpt1.cli.training import prepare, reproduce, training_commands
from gpt1.errors import Interrupted, PeerLost, UserError

DESCRIPTION = (
    "GPT-1: fine-tune it on labelled texts, evaluate, predict, explain, score, write. "
    "gpt1 --version prints the version, gpt1 COMMAND --help what a command takes."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    prepare_streams()
    try:
        if argv in (["--version"], ["-V"]):
            print(f"gpt1 {version('gpt1')}")
            return 0
        with parse_errors.on_parse_error(_one_line), wide_enough(), console.command_line():
            _dispatch(argv)
        sys.stdout.flush()  # here a broken pipe is handled, at the exit it is not
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
    if name in commands and name != "pretrain" and (process := process_rank()).size > 1:
        by = process.launcher
        raise UserError(f"{by} started {process.size} processes; {prog} {name} runs in one, without {by}")
    if name in commands:
        tyro.cli(commands[name], prog=f"{prog} {name}", args=rest)
    elif name in ("-h", "--help"):
        tyro.extras.subcommand_cli_from_dict(commands, prog=prog, description=description, args=[name, *rest])
    else:
        raise UserError(f"{name!r} is no command; there are {', '.join(commands)}; see {prog} --help")


def _commands(argv: Sequence[str]) -> dict[str, Callable[..., None]]:
    return {
        **training_commands(argv),
        "prepare": prepare,
        "evaluate": evaluate,
        "predict": predict,
        "explain": explain,
        "score": score,
        "generate": generate,
        "next": next_tokens,
        "serve": serve,
        "report": report,
        "reproduce": reproduce,
        "tokenizer": tokenizer,
        "convert": convert,
        "push": push,
        "doctor": doctor,
    }


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
