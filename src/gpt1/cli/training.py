"""Commands that train, and that prepare text for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes as Flat
from tyro.conf import arg

from gpt1.backends.dist import process_rank
from gpt1.cli.flags import NAMES, AsJson
from gpt1.cli.output import print_one
from gpt1.config import END_OF_DOCUMENT, FinetuneConfig, PretrainConfig, ReproduceConfig, SweepConfig
from gpt1.config.recipes import pretraining, recipe
from gpt1.errors import UserError

Seeds = Annotated[
    int | None,
    arg(help="run so many seeds from --seed on, in OUT/seed-N, on the same splits, and show the median and the spread"),
]


def training_commands(argv: Sequence[str]) -> dict[str, Callable[..., None]]:
    """Return `finetune`, `pretrain` and `sweep`, whose defaults are those of the recipe that the command line names."""
    defaults, pretrain_defaults = _finetune_defaults(argv), _pretrain_defaults(argv)

    def finetune(config: Flat[FinetuneConfig] = defaults, seeds: Seeds = None, as_json: AsJson = False) -> None:
        """Fine-tune a model on labelled texts, or go on with the run in --out."""
        from gpt1 import api

        print_one(api.finetune(config) if seeds is None else api.finetune_seeds(config, seeds), as_json)

    def sweep(
        config: Flat[FinetuneConfig] = defaults,
        how: Flat[SweepConfig] = SweepConfig(),  # noqa: B008
        as_json: AsJson = False,
    ) -> None:
        """Search settings of gpt1 finetune by their validation metric; several processes may share one --out."""
        from gpt1 import api

        print_one(api.sweep(config, how), as_json)

    def pretrain(config: Flat[PretrainConfig] = pretrain_defaults, as_json: AsJson = False) -> None:
        """Train a language model on plain text, or go on with the run in --out."""
        from gpt1 import api

        results = api.pretrain(config)
        print_one(results, as_json and process_rank().rank == 0)

    return {"finetune": finetune, "pretrain": pretrain, "sweep": sweep}


def _finetune_defaults(argv: Sequence[str]) -> FinetuneConfig:
    """Return the settings that the other flags of `gpt1 finetune` change: those of `--recipe NAME`, where it stands."""
    name = _recipe_name(argv, "finetune") or _recipe_name(argv, "sweep")
    return recipe(name) if name else FinetuneConfig()


def _pretrain_defaults(argv: Sequence[str]) -> PretrainConfig:
    name = _recipe_name(argv, "pretrain")
    return pretraining(name) if name else PretrainConfig()


def _recipe_name(argv: Sequence[str], command: str) -> str:
    named = ""
    words = iter(argv if argv[:1] == [command] else ())
    for word in words:
        flag, _, name = word.partition("=")
        if flag == "--recipe":
            named = name or next(words, "") or named
    return named


def prepare(
    corpus: Annotated[tuple[Path, ...], arg(help="text files (.txt, also .gz .xz .zst), or folders of them")],
    tokenizer: Annotated[str, arg(help=f"tokenizer directory, {NAMES}")],
    out: Annotated[Path, arg(help="directory of the prepared corpus")],
    end_of_document: Annotated[
        str, arg(help="a line that ends a document; the end of a file always does")
    ] = END_OF_DOCUMENT,
    processes: Annotated[int | None, arg(help="files that are encoded at once (None: as many as cores)")] = None,
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

    summary = api.prepare_corpus(corpus, tokenizer, out, end_of_document=end_of_document, processes=processes, ray=ray)
    print_one(summary, as_json)


def reproduce(config: Flat[ReproduceConfig], as_json: AsJson = False) -> None:
    """Repeat the paper's fine-tuning results, several seeds each, on the data that is there; print its table beside."""
    from gpt1 import api

    table = api.reproduce(config)
    print_one(table, as_json)
    if failed := [row["task"] for row in table["rows"] if row["error"]]:
        raise UserError(
            f"{len(failed)} of {len(table['rows'])} rows failed: {', '.join(failed)}; the reasons stand above"
        )
