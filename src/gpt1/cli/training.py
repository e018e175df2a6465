"""Training commands: finetune, sweep, pretrain, prepare, reproduce."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from tyro import MISSING
from tyro.conf import OmitArgPrefixes as Flat
from tyro.conf import PositionalRequiredArgs, arg

from gpt1.backends.dist import process_rank
from gpt1.cli.flags import HELP_FLAGS, NAMES, AsJson, Help, Pretraining
from gpt1.cli.output import print_json, print_one
from gpt1.config import END_OF_DOCUMENT, FinetuneConfig, PretrainConfig, ReproduceConfig, SweepConfig
from gpt1.config.recipes import pretraining, recipe, recipe_for
from gpt1.errors import UserError

Seeds = Annotated[
    int | None,
    arg(help="Run N seeds, from --seed on, in OUT/seed-N on the same splits, and report their median and spread."),
]


Checking = Annotated[
    Flat[FinetuneConfig], PositionalRequiredArgs, Help(texts=(("recipe", "Recipe of the fine-tuning."),))
]
Estimate = Annotated[bool, arg(help="Measure training steps for the estimate of the time, which takes 5 s or more.")]


def training_commands(argv: Sequence[str]) -> dict[str, Callable[..., None]]:
    """Return the commands whose defaults depend on --recipe, with the values of the recipe in `argv`."""
    defaults, pretrain_defaults = _finetune_defaults(argv), _pretrain_defaults(argv)

    def finetune(config: Flat[FinetuneConfig] = defaults, seeds: Seeds = None, as_json: AsJson = False) -> None:
        """Fine-tune a model on labelled texts."""
        from gpt1 import api

        results = api.finetune(config) if seeds is None else api.finetune_seeds(config, seeds)
        print_one(results, as_json and process_rank().rank == 0)

    def sweep(
        config: Flat[FinetuneConfig] = defaults,
        how: Flat[SweepConfig] = SweepConfig(),  # noqa: B008
        as_json: AsJson = False,
    ) -> None:
        """Search the best settings of gpt1 finetune.

        Trials are compared by the validation metric. Several processes with the same --out share the work. All flags
        of gpt1 finetune are accepted.
        """
        from gpt1 import api

        print_one(api.sweep(config, how), as_json)

    def pretrain(config: Pretraining = pretrain_defaults, as_json: AsJson = False) -> None:
        """Train a language model on plain text."""
        from gpt1 import api

        results = api.pretrain(config)
        print_one(results, as_json and process_rank().rank == 0)

    def check(config: Checking = defaults, estimate: Estimate = True, as_json: AsJson = False) -> None:
        """Show what gpt1 finetune would read, without training.

        Accepts the flags of gpt1 finetune. Exit code 0: it would start; 2: it would refuse the data or the settings.
        """
        from gpt1 import api, console
        from gpt1.cli.checking import one_message, show

        facts = api.check(config, estimate=estimate)
        if as_json:
            print_json(facts)
        else:
            with console.notices_on_stdout():
                show(facts, config)
        if problems := facts["problems"]:
            raise UserError(one_message(problems, wrapped=not as_json))

    return {"check": check, "finetune": finetune, "pretrain": pretrain, "sweep": sweep}


def _finetune_defaults(argv: Sequence[str]) -> FinetuneConfig:
    """Return the defaults of the flags of `gpt1 finetune` and `sweep`: the values of the recipe.

    Help opens no model: without --recipe it shows the values for small models, as the default model is one.
    """
    if argv[:1] not in (["check"], ["finetune"], ["sweep"]):
        return FinetuneConfig(data=MISSING)
    if name := _value(argv, "--recipe"):
        base = recipe(name)
    elif HELP_FLAGS & set(argv):
        base = replace(recipe(recipe_for(0)), recipe=None)
    else:
        from gpt1.training.defaults import recipe_or_default

        try:
            base = recipe_or_default(None, _value(argv, "--model"), _value(argv, "--out"))
        except UserError:
            if argv[0] != "check":  # which reports it with the other problems
                raise
            base = recipe(recipe_for(0))
    return replace(base, data=MISSING, out=Path() if argv[0] == "check" else MISSING)


def _pretrain_defaults(argv: Sequence[str]) -> PretrainConfig:
    name = _value(argv, "--recipe") if argv[:1] == ["pretrain"] else ""
    return replace(pretraining(name) if name else PretrainConfig(), corpus=MISSING, out=MISSING)


def _value(argv: Sequence[str], flag: str) -> str:
    """Return the last value of a flag on the command line; "" if there is none."""
    last = ""
    words = iter(argv)
    for word in words:
        name, _, value = word.partition("=")
        if name == flag:
            last = value or next(words, "") or last
    return last


def prepare(
    corpus: Annotated[tuple[Path, ...], arg(help="Text files (.txt, also .gz, .xz, .zst), or folders of text files.")],
    tokenizer: Annotated[str, arg(metavar="MODEL", help=f"Tokenizer directory or model. A model is {NAMES}.")],
    out: Annotated[Path, arg(metavar="DIR", help="Output directory. An unfinished preparation in it is resumed.")],
    end_of_document: Annotated[str, arg(help="Line that separates documents within a file.")] = END_OF_DOCUMENT,
    encoding: Annotated[
        str | None,
        arg(metavar="NAME", help="Encoding of the text files, such as utf-8 or gb18030 (default: detected)."),
    ] = None,
    processes: Annotated[int | None, arg(help="Number of worker processes (default: the number of cores).")] = None,
    ray: Annotated[
        str | None,
        arg(
            metavar="ADDRESS",
            help="Encode on a Ray cluster with a shared file system. `local` (starts one), `auto` or HOST:PORT.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Encode text files for gpt1 pretrain."""
    from gpt1 import api

    summary = api.prepare_corpus(
        corpus, tokenizer, out, end_of_document=end_of_document, encoding=encoding, processes=processes, ray=ray
    )
    print_one(summary, as_json)


def reproduce(config: Flat[ReproduceConfig], as_json: AsJson = False) -> None:
    """Reproduce the paper's fine-tuning results.

    Fine-tunes with several seeds on each data set in --data-root and prints the results next to the paper's.
    """
    from gpt1 import api

    table = api.reproduce(config)
    print_one(table, as_json)
    if failed := [row["task"] for row in table["rows"] if row["error"]]:
        raise UserError(
            f"{len(failed)} of {len(table['rows'])} rows failed: {', '.join(failed)}; the reasons are printed above"
        )
