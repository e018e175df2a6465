"""Commands that use a model: evaluate, predict, explain, score, generate, next, serve, report."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes as Flat
from tyro.conf import Positional, UseAppendAction, arg

from gpt1.cli.flags import AsJson, AsJsonLines, LanguageModel, Prompt, Run, Source, Texts
from gpt1.cli.output import bars, explanation, prediction, print_lines, print_one, print_some, scored, shown, write
from gpt1.config import Columns, DeviceConfig, GenerateConfig, ServeConfig, TextColumns, ZeroShotConfig
from gpt1.errors import UserError


def evaluate(
    run: Run,
    /,
    data: Annotated[
        str, arg(help="folder, file, or data set of the hub: imdb, OWNER/NAME[:CONFIG], each also with @REVISION")
    ],
    split: Annotated[
        Literal["train", "valid", "test"], arg(help="split of the folder, or of the run's own file")
    ] = "test",
    max_examples: Annotated[int | None, arg(help="most examples that are scored (a stratified sample)")] = None,
    metric: Annotated[str | None, arg(help="your own metric as package.module:function")] = None,
    baseline: Annotated[
        bool, arg(help="also fit the plain baselines on the run's training rows (--zero-shot: majority)")
    ] = True,
    compare: Annotated[tuple[str, ...], arg(help="other runs, scored on the same rows in the same table")] = (),
    columns: Flat[Columns] = Columns(),  # noqa: B008 - frozen
    zero_shot: Flat[ZeroShotConfig] = ZeroShotConfig(),  # noqa: B008
    hardware: Flat[DeviceConfig] = DeviceConfig(),  # noqa: B008
    as_json: AsJson = False,
) -> None:
    """Score a run's best model on a split of a data set, or on all of a file; with --zero-shot any language model.

    Computed in float32 unless --dtype says otherwise.
    """
    from gpt1 import api

    if zero_shot.zero_shot and compare:
        raise UserError(f"--compare {compare[0]}: goes with fine-tuned models, not with --zero-shot")
    score_split = (
        partial(api.evaluate_zero_shot, how=zero_shot)
        if zero_shot.zero_shot
        else partial(api.evaluate, compare=compare)
    )
    results = score_split(
        run,
        data,
        split=split,
        columns=columns,
        hardware=hardware,
        max_examples=max_examples,
        metric=metric,
        baseline=baseline,
    )
    print_one(results, as_json)


def predict(
    run: Run,
    texts: Texts = (),
    /,
    input: Source = None,
    output: Annotated[
        Path | None,
        arg(
            help="write the predictions of --input to this new .jsonl .csv .tsv or .parquet file; the same command "
            "goes on where it was stopped"
        ),
    ] = None,
    with_input: Annotated[
        bool, arg(help="put the columns of --input before the predictions in --output, or in the lines of --json")
    ] = False,
    columns: Flat[TextColumns] = TextColumns(),  # noqa: B008
    hardware: Flat[DeviceConfig] = DeviceConfig(),  # noqa: B008
    as_json: AsJsonLines = False,
) -> None:
    """Label texts: one by one, two by two for a model of pairs, a context and its choices for multiple choice.

    Computed in float32 unless --dtype says otherwise.
    """
    from gpt1 import api

    if input is not None:
        if texts:
            raise UserError("--input: give either a file or texts, not both")
        if with_input and output is None and not as_json:
            raise UserError("--with-input: goes with --output FILE, or with --json")
        predictions = api.predict_file(run, input, output, columns=columns, hardware=hardware, with_input=with_input)
        print_lines(predictions, as_json, prediction)
    elif output is not None or with_input:
        raise UserError(f"{'--output' if output else '--with-input'}: goes with --input FILE")
    else:
        _require_no_columns(columns)
        print_some(api.predict_texts(run, texts, hardware=hardware), as_json, prediction)


def explain(
    run: Run,
    texts: Texts = (),
    /,
    label: Annotated[str | None, arg(help="explain this label (None: the predicted one)")] = None,
    occlusion: Annotated[
        bool, arg(help="also take each word out and see what the probability does: a forward pass a word")
    ] = False,
    attention: Annotated[
        str | None, arg(metavar="LAYER[.HEAD]", help="also show where attention looks, in all heads or in one (from 0)")
    ] = None,
    html: Annotated[Path | None, arg(help="write a page with the words highlighted and every head's attention")] = None,
    hardware: Flat[DeviceConfig] = DeviceConfig(),  # noqa: B008
    as_json: AsJson = False,
) -> None:
    """Show which words moved a label, by gradient x input: positive weights speak for it.

    Texts are taken as by gpt1 predict. Computed in float32 unless --dtype says otherwise; colours on a terminal unless
    NO_COLOR is set.
    """
    from gpt1 import api

    explanations = api.explain_texts(
        run, texts, label=label, occlusion=occlusion, attention=attention, html=html, hardware=hardware
    )
    print_some(explanations, as_json, explanation)


def score(
    model: LanguageModel,
    texts: Texts = (),
    /,
    input: Source = None,
    columns: Flat[TextColumns] = TextColumns(),  # noqa: B008
    hardware: Flat[DeviceConfig] = DeviceConfig(),  # noqa: B008
    as_json: AsJsonLines = False,
) -> None:
    """Show each token's log-probability, the perplexity and the bits per byte of texts (float32 unless --dtype)."""
    from gpt1 import api

    if input is not None:
        if texts:
            raise UserError("--input: give either a file or texts, not both")
        print_lines(api.score_file(model, input, columns=columns, hardware=hardware), as_json, scored)
    else:
        _require_no_columns(columns)
        print_some(api.score_texts(model, texts, hardware=hardware), as_json, scored)


def _require_no_columns(columns: TextColumns) -> None:
    if flags := [name for name, column in vars(columns).items() if column is not None]:
        raise UserError(f"--{flags[0].replace('_', '-')} {getattr(columns, flags[0])}: goes with --input FILE")


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
        print_some(api.generate(model, prompt, config, hardware=hardware), as_json, str)
    elif config.n > 1:
        for sample in api.generate(model, prompt, config, hardware=hardware):
            print(f"{shown(prompt)}{sample['text']}\n")
    else:
        before = iter([shown(prompt)])  # once, when nothing can be refused any more
        api.generate(
            model, prompt, config, hardware=hardware,
            on_text=lambda delta: write(next(before, "") + delta.text + "\n" * bool(delta.finish_reason)),
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

    likely = api.next_tokens(model, prompt, top, hardware=hardware)
    print_some([likely], as_json, bars)


def serve(
    model: LanguageModel,
    /,
    config: Flat[ServeConfig] = ServeConfig(),  # noqa: B008 - frozen
    hardware: Flat[DeviceConfig] = DeviceConfig(),  # noqa: B008
) -> None:
    """Answer HTTP requests: a playground at /, the API under /v1 (OpenAI's completions too), its description at /docs.

    Computed in float32 unless --dtype says otherwise: bfloat16 is faster, and a probability may then differ in the
    third digit with what stands beside it in a batch.
    """
    from gpt1 import api

    api.serve(model, config, hardware=hardware)


def report(
    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN", help="run directories")] = (),
    /,
    out: Annotated[
        Path | None, arg(help="the HTML file (None: RUN/report.html; of several runs comparison.html here)")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write what a run is as one HTML file: scores, curves, mistakes, data, settings. Several runs are compared.

    Reads files of the run alone, of an unfinished one too. The file opens from disk, without network or script.
    """
    from gpt1 import api

    print_one(api.report(runs, out), as_json)
