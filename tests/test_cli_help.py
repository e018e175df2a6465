"""What --help and --help-all show, and what is said about misspelt flags and commands.

Run: pytest tests/test_cli_help.py
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest

from gpt1 import api
from gpt1.cli import _commands
from gpt1.cli.help import MAX_COLUMNS
from gpt1.cli.pages import EXAMPLES, PAGES, TOKENIZER_PAGES
from gpt1.cli.signature import flags_of
from gpt1.cli.tools import TOKENIZER_COMMANDS
from gpt1.config import FinetuneConfig, PretrainConfig
from gpt1.config.overrides import setting_holders
from gpt1.config.recipes import PRETRAINING, RECIPES
from support.command_line import assert_refused, done, gpt1

COMMANDS = [name for name in PAGES if name != "tokenizer"]
ALL = [*COMMANDS, *(f"tokenizer {name}" for name in TOKENIZER_COMMANDS)]
LONGEST = {"finetune": 53, "sweep": 52, "pretrain": 50}
"""Lines of --help at 80 columns: of the commands that list recipes; of the others `LINES`."""
LINES = 40


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


class Results(dict[str, list[str]]):
    """What a stubbed function of `api` returns: no rows, no samples, no problems."""

    def __init__(self) -> None:
        super().__init__(rows=[], problems=[])

    def __iter__(self) -> Iterator[str]:
        return iter(())


def text_of(command: str, flag: str = "--help") -> str:
    return done(*command.split(), flag).out


def entry(text: str, flag: str) -> str:
    """Return the help text of one flag in one line."""
    found = re.search(rf"^  {re.escape(flag)}(?!\S).*(\n {{5,}}.*)*", text, re.MULTILINE)
    assert found, f"{flag} is not in the help"
    return " ".join(found[0].split())


# ---- every command


def test_every_command_has_a_page_and_every_page_a_command() -> None:
    assert set(PAGES) == set(_commands([]))
    assert set(TOKENIZER_PAGES) == set(TOKENIZER_COMMANDS)


@pytest.mark.parametrize("command", ALL)
def test_help_fits_a_screen(command: str) -> None:
    lines = text_of(command).splitlines()
    assert len(lines) <= LONGEST.get(command, LINES)
    assert [line for line in lines if len(line) > 80 and not line.startswith("  gpt1 ")] == []


@pytest.mark.parametrize("command", ALL)
@pytest.mark.parametrize("flag", ["--help", "--help-all"])
def test_help_speaks_of_flags_not_of_python_types(command: str, flag: str) -> None:
    text = text_of(command, flag)
    assert re.findall(r"\bNone\b|\bSTR\b|\bFLOAT\b|--no-json|default: False|default: \)", text) == []


@pytest.mark.parametrize("command", ALL)
def test_every_flag_is_in_help_all_with_a_description_of_one_sentence_or_more(command: str) -> None:
    text = text_of(command, "--help-all")
    functions = TOKENIZER_COMMANDS if command.startswith("tokenizer") else _commands([])
    for flag in flags_of(functions[command.split()[-1]]):
        described = entry(text, flag.usage).removeprefix(flag.usage).strip()
        assert described[:1].isupper() or described[:1] in "`0", f"{flag.name}: {described}"
        assert described.endswith("."), f"{flag.name}: {described}"
        assert described.count("(default: ") <= 1, f"{flag.name}: {described}"


@pytest.mark.parametrize("command", ALL)
def test_the_examples_parse(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    for name in api.__all__:
        monkeypatch.setattr(api, name, lambda *args, **flags: ran.append(args) or Results())
    for name in ("print_some", "print_predictions", "print_lines"):
        for module in ("inference", "tools"):
            monkeypatch.setattr(f"gpt1.cli.{module}.{name}", lambda *_: None, raising=False)
    monkeypatch.setattr("gpt1.cli.checking.show", lambda *_: None)
    pages = TOKENIZER_PAGES if command.startswith("tokenizer") else PAGES
    examples = pages[command.split()[-1]].examples
    assert examples
    for example in examples:
        assert f"{example} ".startswith(f"gpt1 {command} ")
        done(*shlex.split(example)[1:])
    assert len(ran) == len(examples)


@pytest.mark.parametrize("command", ALL)
def test_help_is_set_without_slips(command: str) -> None:
    text = text_of(command, "--help-all")
    assert text.count("(") == text.count(")")
    assert [line for line in text.splitlines() if line.count("(") < line.count(")") and ".)" in line] == []
    assert "  " not in text.partition("\n")[0]
    assert "…." not in text


def test_gpt1_help_is_the_help() -> None:
    assert done("help").out == text_of("")
    assert done("help", "predict").out == text_of("predict")
    assert done("help", "tokenizer").out == done("tokenizer", "help").out == text_of("tokenizer")
    assert done("help", "tokenizer", "train").out == text_of("tokenizer train")


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("report", "usage: gpt1 report RUN ... [flags]"),
        ("explain", "usage: gpt1 explain RUN TEXT ... [flags]"),
        ("tokenizer encode", "usage: gpt1 tokenizer encode MODEL TEXT ... [flags]"),
        ("predict", "usage: gpt1 predict RUN [TEXT ...] [flags]"),
        ("doctor", "usage: gpt1 doctor [flags]"),
    ],
)
def test_the_usage_line_has_in_brackets_what_may_be_left_out(command: str, usage: str) -> None:
    assert text_of(command).partition("\n")[0] == usage


def test_a_list_of_settings_is_broken_after_its_commas() -> None:
    [lines] = re.findall(r"\(default: (lr=\S+)\n +(\S+)\)\.", text_of("sweep"))
    assert lines[0].endswith(",")


def test_a_shared_setting_is_described_as_the_command_uses_it() -> None:
    assert entry(text_of("pretrain"), "--batch-size N").startswith("--batch-size N Windows per optimizer step")
    assert entry(text_of("finetune"), "--batch-size N").startswith("--batch-size N Examples per optimizer step")
    assert entry(text_of("score"), "--text COLUMN") == "--text COLUMN Column of the text."
    assert entry(text_of("predict", "--help-all"), "--dtype DTYPE").endswith("(default: auto). `auto`: float32.")
    training = entry(text_of("finetune", "--help-all"), "--dtype DTYPE")
    assert "float32 for inference" in training
    assert "float16 on CUDA cards that lack it" in training


def test_shares_of_the_splits_say_what_they_are_shares_of() -> None:
    text = text_of("finetune", "--help-all")
    valid = entry(text, "--valid-fraction NUMBER")
    assert valid.endswith("For a single file, a share of all its rows; otherwise, of the training split.")
    assert "(default: 0.1 for a single file, otherwise 0)" in entry(text, "--test-fraction NUMBER")
    assert "Names of the folders: mnli, " in entry(text_of("reproduce"), "--data-root DIR")


def test_examples_of_finetuning_leave_the_recipe_to_the_model() -> None:
    for command in ("finetune", "sweep"):
        assert not any("--recipe" in example for example in PAGES[command].examples)


@pytest.mark.parametrize("columns", ["40", "300"])
def test_help_is_laid_out_for_the_terminal(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    widest = max(len(line) for line in text_of("finetune").splitlines() if not line.startswith("  gpt1 "))
    assert widest <= min(int(columns), MAX_COLUMNS)
    assert widest > 0.8 * min(int(columns), MAX_COLUMNS)


def test_the_overview_has_each_command_once_in_a_group_with_a_line_of_its_own() -> None:
    text = text_of("")
    for command in PAGES:
        assert len(re.findall(rf"^  {command} +[A-Z].*\.$", text, re.MULTILINE)) == 1, command
    for page in PAGES.values():
        assert f"\n{page.group}:\n" in text
    for example in EXAMPLES:
        assert f"\n  {example}\n" in text
    assert text_of("", "--help-all") == text


# ---- finetune and its recipes


def test_help_of_finetune_begins_with_the_flags_that_people_use_in_this_order() -> None:
    flags = re.findall(r"^  (--[\w-]+)", text_of("finetune"), re.MULTILINE)
    assert flags == [
        "--data", "--out", "--text", "--label", "--task", "--model", "--recipe", "--adapt", "--unlabelled", "--epochs",
        "--lr", "--batch-size", "--max-length", "--seed", "--device",
    ]  # fmt: skip


def test_required_flags_are_marked_and_their_absence_is_one_line_with_a_command_that_works() -> None:
    for command, required in (("finetune", ["--data", "--out"]), ("pretrain", ["--corpus", "--out"])):
        text = text_of(command)
        for flag in required:
            assert "(required)" in entry(text, flag)
        assert text.count("(required)") == len(required)
        example = PAGES[command].examples[0]
        assert_refused(
            gpt1(command), f"missing {' and '.join(required)}; example: {example}; see gpt1 {command} --help"
        )


@pytest.mark.parametrize(("command", "config"), [("finetune", FinetuneConfig()), ("pretrain", PretrainConfig())])
def test_help_all_has_every_setting_in_its_group(command: str, config: object) -> None:
    text = text_of(command, "--help-all")
    for name in setting_holders(config):
        assert re.search(rf"^  --{name.replace('_', '-')}(?![\w-])", text, re.MULTILINE), name
    assert "\nOptimizer (AdamW) and learning rate:\n  --lr RATE" in text
    assert "--help-all shows" not in text


@pytest.mark.parametrize(("command", "recipes"), [("finetune", RECIPES), ("pretrain", PRETRAINING)])
def test_recipes_are_listed_with_the_values_that_they_set(command: str, recipes: dict[str, object]) -> None:
    text = text_of(command)
    listed = text[text.index("Recipes (") :]
    for name in recipes:
        entry(listed, name)
    if command == "finetune":
        assert (
            entry(listed, "paper-finetune")
            == "paper-finetune epochs 3, lr 6.25e-5, batch-size 32 (60 M parameters or more)"
        )
        assert entry(listed, "quickstart") == "quickstart lr 4e-4, batch-size 16, warmup 0.1 (smaller models)"
        for value in ("head-bias", "no-bucketing", "lm-mean sequence", "micro-batch-size 8"):
            assert value in entry(listed, "openai-finetune")
        assert "max-length 512" in entry(listed, "mindspore-imdb")


def test_a_default_that_depends_on_the_recipe_says_so() -> None:
    assert "(default: 4e-4, or the recipe's)" in entry(text_of("finetune"), "--lr"), "that for the default model"
    assert "(default: 0)" in entry(text_of("finetune"), "--seed")
    assert "(default: the model's context, or the recipe's)" in entry(text_of("finetune"), "--max-length")
    named = done("finetune", "--recipe", "quickstart", "--help").out
    assert "(default: 4e-4, from quickstart)" in entry(named, "--lr")
    assert "(default: the model's context)" in entry(named, "--max-length")


def test_a_switch_shows_the_form_that_changes_it() -> None:
    text = text_of("finetune", "--help-all")
    assert "\n  --json  " in text
    assert "\n  --baseline, --no-baseline\n" in text


# ---- misspelt words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("finetune --epoch 3", "--epoch: unknown flag; did you mean --epochs"),
        ("finetune --data x --out y --batchsize 3", "--batchsize: unknown flag; did you mean --batch-size"),
        ("finetune --data x --out y --lrate=3", "--lrate: unknown flag"),
        ("finetune --data x --out y --output-dir z", "--output-dir: unknown flag; did you mean --out?"),
        ("finetune --data x --out y --learning_rate 1", "--learning_rate: unknown flag; did you mean --lr?"),
        ("finetune --data x --out y --file z", "--file: unknown flag (gpt1 finetune --help-all lists every flag)"),
        ("predict run text --device gpu", "auto, cpu, cuda, mps, ascend; did you mean cuda?"),
        ("predict run text --dtype bf16", "auto, float32, bfloat16, float16; did you mean bfloat16?"),
        ("finetune --data x --out y --recipe quick", "; did you mean quickstart?"),
        ("evaluate run --data x --no-baselin", "--no-baselin: unknown flag; did you mean --no-baseline"),
        ("predict run text --jsno", "--jsno: unknown flag; did you mean --json?"),
        ("fintune --data x", "'fintune': unknown command; did you mean finetune?"),
        ("nosuch --help-all", "'nosuch': unknown command (gpt1 --help lists all commands)"),
        ("nosuch --help", "'nosuch': unknown command (gpt1 --help lists all commands)"),
        ("tokenizer encoed", "'encoed': unknown command; did you mean encode or decode? (gpt1 tokenizer --help"),
        ("predict --input nofile.csv", "missing RUN; example: gpt1 predict runs/demo "),
        ("generate mini x --stop", "--stop: the value is missing; expected a string"),
        ("serve mini --port x", "--port x: expected a whole number; see gpt1 serve --help"),
    ],
)
def test_a_misspelt_word_is_one_line_that_names_the_nearest(words: str, said: str) -> None:
    assert_refused(gpt1(*words.split()), said)
