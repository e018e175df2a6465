"""The command line: parses flags, calls the functions of `api`, prints results, turns errors into exit codes.

Exit codes: 0 success; 1 a bug in gpt1 or a lost process; 2 invalid user input (one line on stderr, no traceback); 130
interrupted, after saving a checkpoint. tyro, the command-line library, is imported in this package alone.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

import tyro

from gpt1 import console
from gpt1.backends.dist import VARIABLES, launcher, process_rank
from gpt1.cli.arguments import in_one_form
from gpt1.cli.flags import HELP_FLAGS
from gpt1.cli.help import command_help, overview
from gpt1.cli.inference import evaluate, explain, generate, next_tokens, predict, report, score, serve
from gpt1.cli.pages import EXAMPLES, PAGES, TOKENIZER_PAGES
from gpt1.cli.parse_errors import one_line_errors
from gpt1.cli.streams import prepare_streams
from gpt1.cli.tools import TOKENIZER_COMMANDS, convert, doctor, push, tokenizer
from gpt1.cli.training import prepare, reproduce, training_commands
from gpt1.config.overrides import did_you_mean
from gpt1.errors import Interrupted, PeerLost, UserError

DESCRIPTION = (
    "GPT-1 (Radford et al. 2018): fine-tune it on labelled texts, evaluate and serve the result, generate text, and "
    "pretrain from scratch. gpt1 --version prints the version."
)

DISTRIBUTED = ("finetune", "pretrain")
"""Commands that run on several processes."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    prepare_streams()
    try:
        if argv in (["--version"], ["-V"]):
            print(f"gpt1 {version('gpt1')}")
            return 0
        with console.command_line():
            _dispatch(argv)
        sys.stdout.flush()  # a broken pipe is handled here, but not at the interpreter's exit
    except UserError as error:
        _complain(str(error))
        return 2
    except PeerLost as error:
        _complain(f"{error}; run the same command again to resume from the last checkpoint")
        return 1
    except BrokenPipeError:  # the reader closed the pipe, as in `gpt1 … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        named = error.filename2 or error.filename
        if error.errno == errno.ENOSPC:
            where = f"{named}: " if named else ""
            _complain(
                f"{where}{error.strerror}; completed files were kept: free some space, run the same command again"
            )
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
        _complain("stopped; run the same command again to resume")
        return 130
    return 0


def _complain(message: str) -> None:
    """Print an error; in a run of several processes, with the rank of this one."""
    rank = os.environ.get(VARIABLES[launcher()][0], "0")
    print(f"gpt1{f' (rank {rank})' if rank != '0' else ''}: {message}", file=sys.stderr, flush=True)


def _dispatch(argv: Sequence[str]) -> None:
    if argv[:1] == ["help"]:  # gpt1 help, gpt1 help COMMAND
        argv = [*argv[1:], "--help"]
    commands, pages, prog = _commands(argv), PAGES, "gpt1"
    description, examples = DESCRIPTION, EXAMPLES
    if argv[:1] == ["tokenizer"]:
        commands, pages, prog, argv = TOKENIZER_COMMANDS, TOKENIZER_PAGES, "gpt1 tokenizer", argv[1:]
        description, examples = tokenizer.__doc__ or "", ()
    name, *rest = argv or ["--help"]
    if name in {*HELP_FLAGS, "help"}:
        print(overview(prog, description, commands, pages, examples))
        return
    if name not in commands:
        raise UserError(f"{name!r}: unknown command{did_you_mean(name, commands)} ({prog} --help lists all commands)")
    prog, command, page = f"{prog} {name}", commands[name], pages[name]
    if asked := HELP_FLAGS & set(rest):
        print(command_help(prog, command, page, everything="--help-all" in asked))
        return
    if name not in DISTRIBUTED and (process := process_rank()).size > 1:
        launcher = process.launcher
        raise UserError(f"{launcher} started {process.size} processes; run {prog} as one process, without {launcher}")
    with one_line_errors(prog, command, page.examples[0]):
        tyro.cli(command, prog=prog, args=in_one_form(rest, command), add_help=False)


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
