"""Inference commands: evaluate, predict, explain, report, serve, score, generate, next."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes as Flat
from tyro.conf import Positional, UseAppendAction, arg

from gpt1.cli.flags import (
    AsJson,
    AsJsonLines,
    AsJsonList,
    Examples,
    Help,
    Inference,
    LanguageModel,
    OneText,
    Prompt,
    Run,
    Source,
    Texts,
)
from gpt1.cli.output import (
    bars,
    explanation,
    prediction,
    print_lines,
    print_one,
    print_predictions,
    print_some,
    scored,
    shown,
    write,
)
from gpt1.cli.standard_input import STDIN, as_table, prompt_of, with_lines
from gpt1.config import (
    DETECTED,
    Columns,
    DeviceConfig,
    GenerateConfig,
    ServeConfig,
    TableFormat,
    TextColumns,
    ZeroShotConfig,
)
from gpt1.errors import UserError


def evaluate(
    run: Run,
    /,
    data: Annotated[
        str,
        arg(help="Data set: a file, a folder, `reviews` (bundled), or a data set of the hub, as for gpt1 finetune."),
    ],
    split: Annotated[
        Literal["train", "valid", "test"],
        arg(help="Split to score. Of a file, all rows are scored unless the run was trained on it."),
    ] = "test",
    max_examples: Annotated[
        int | None, arg(help="Maximum number of examples, drawn at random and stratified (default: all).")
    ] = None,
    metric: Annotated[
        str | None, arg(metavar="MODULE:FUNC", help="Additional metric, given as `package.module:function`.")
    ] = None,
    baseline: Annotated[
        bool, arg(help="Fit baselines on the run's training rows for comparison; with --zero-shot, the majority class.")
    ] = True,
    compare: Annotated[
        tuple[str, ...], arg(metavar="RUN", help="Other runs to score on the same rows for comparison.")
    ] = (),
    columns: Flat[Columns] = Columns(),  # noqa: B008 - frozen
    table: Flat[TableFormat] = DETECTED,
    zero_shot: Flat[ZeroShotConfig] = ZeroShotConfig(),  # noqa: B008
    hardware: Inference = DeviceConfig(),  # noqa: B008
    as_json: AsJson = False,
) -> None:
    """Score a fine-tuned model on a data set.

    Prints metrics with confidence intervals, the confusion matrix, the worst errors and baselines. With --zero-shot,
    RUN may be any language model.
    """
    from gpt1 import api

    if zero_shot.zero_shot and compare:
        raise UserError(f"--compare {compare[0]}: cannot be combined with --zero-shot; it compares fine-tuned models")
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
        table=table,
        hardware=hardware,
        max_examples=max_examples,
        metric=metric,
        baseline=baseline,
    )
    print_one(results, as_json)


def predict(
    run: Run,
    texts: Examples = (),
    /,
    input: Source = None,
    output: Annotated[
        Path | None,
        arg(
            metavar="FILE",
            help="Write the predictions of --input to a new .jsonl, .csv, .tsv or .parquet file. An interrupted "
            "command is resumed by running it again.",
        ),
    ] = None,
    with_input: Annotated[
        bool, arg(help="Include the columns of --input in --output, or in the lines of --json.")
    ] = False,
    columns: Flat[TextColumns] = TextColumns(),  # noqa: B008
    table: Flat[TableFormat] = DETECTED,
    hardware: Inference = DeviceConfig(),  # noqa: B008
    as_json: AsJsonLines = False,
) -> None:
    """Predict the labels of texts."""
    from gpt1 import api

    if str(output) == STDIN:
        raise UserError("--output -: predictions are printed on standard output without --output; add --json for JSON")
    if input is not None:
        if texts:
            raise UserError("--input: give either a file or texts, not both")
        if with_input and output is None and not as_json:
            raise UserError("--with-input: requires --output FILE or --json")
        with as_table(input, "gpt1 predict RUN -") as source:
            predictions = api.predict_file(
                run, source, output, columns=columns, table=table, hardware=hardware, with_input=with_input
            )
            print_lines(predictions, as_json, prediction)
    elif output is not None or with_input:
        raise UserError(f"{'--output' if output else '--with-input'}: requires --input FILE")
    else:
        _require_no_file_flags(columns, table)
        print_predictions(api.predict_texts(run, with_lines(texts), hardware=hardware), as_json)


def explain(
    run: Run,
    texts: Annotated[Examples, Help(required=True)] = (),
    /,
    label: Annotated[str | None, arg(metavar="LABEL", help="Label to explain (default: the predicted one).")] = None,
    occlusion: Annotated[
        bool,
        arg(help="Also remove each word in turn and print the change of the probability; one forward pass per word."),
    ] = False,
    attention: Annotated[
        str | None,
        arg(
            metavar="LAYER[.HEAD]",
            help="Also print the attention weights of a layer, averaged over heads or of one head.",
        ),
    ] = None,
    html: Annotated[
        Path | None, arg(metavar="FILE", help="Write a page with highlighted words and the attention of every head.")
    ] = None,
    hardware: Inference = DeviceConfig(),  # noqa: B008
    as_json: AsJsonList = False,
) -> None:
    """Show the words that a prediction depends on.

    Each word gets a weight, gradient x input; positive weights support the label. The output is coloured on a terminal
    unless NO_COLOR is set.
    """
    from gpt1 import api

    explanations = api.explain_texts(
        run, with_lines(texts), label=label, occlusion=occlusion, attention=attention, html=html, hardware=hardware
    )
    print_some(explanations, as_json, explanation)


def score(
    model: LanguageModel,
    texts: Texts = (),
    /,
    input: Source = None,
    columns: OneText = TextColumns(),  # noqa: B008
    table: Flat[TableFormat] = DETECTED,
    hardware: Inference = DeviceConfig(),  # noqa: B008
    as_json: AsJsonLines = False,
) -> None:
    """Print log-probabilities and perplexity of texts.

    Prints the log-probability of each token, and the perplexity and bits per byte of each text.
    """
    from gpt1 import api

    if input is not None:
        if texts:
            raise UserError("--input: give either a file or texts, not both")
        with as_table(input, "gpt1 score MODEL -") as source:
            print_lines(api.score_file(model, source, columns=columns, table=table, hardware=hardware), as_json, scored)
    else:
        _require_no_file_flags(columns, table)
        print_some(api.score_texts(model, with_lines(texts), hardware=hardware), as_json, scored)


def _require_no_file_flags(columns: TextColumns, table: TableFormat) -> None:
    if not table.header:
        raise UserError("--no-header: requires --input FILE")
    values = vars(columns) | vars(table) | {"header": None}
    if flags := [name for name, value in values.items() if value is not None]:
        raise UserError(f"--{flags[0].replace('_', '-')} {values[flags[0]]}: requires --input FILE")


def generate(
    model: LanguageModel,
    prompt: Prompt = "",
    /,
    config: Flat[UseAppendAction[GenerateConfig]] = GenerateConfig(),  # noqa: B008 - frozen
    hardware: Inference = DeviceConfig(),  # noqa: B008
    as_json: AsJsonList = False,
) -> None:
    """Generate text from a prompt.

    MODEL may also be fine-tuned. <eos> ends a text; <pad>, <bos>, <sep> and <unk> are never generated. The dtype is
    float32 unless --dtype is set; with bfloat16, which is faster, a sample may depend on --n.
    """
    from gpt1 import api

    prompt = prompt_of(prompt)
    if as_json:
        print_some(api.generate(model, prompt, config, hardware=hardware), as_json, str)
    elif config.n > 1:
        for sample in api.generate(model, prompt, config, hardware=hardware):
            print(f"{shown(prompt)}{sample['text']}\n")
    else:
        before = iter([shown(prompt)])  # printed once, when all input has been validated
        api.generate(
            model, prompt, config, hardware=hardware,
            on_text=lambda delta: write(next(before, "") + delta.text + "\n" * bool(delta.finish_reason)),
        )  # fmt: skip


def next_tokens(
    model: LanguageModel,
    prompt: Prompt = "",
    /,
    top: Annotated[int, arg(help="Number of tokens to print.")] = 10,
    hardware: Inference = DeviceConfig(),  # noqa: B008
    as_json: AsJson = False,
) -> None:
    """Print the most likely next tokens of a prompt."""
    from gpt1 import api

    likely = api.next_tokens(model, prompt_of(prompt), top, hardware=hardware)
    print_some([likely], as_json, bars)


def serve(
    model: LanguageModel,
    /,
    config: Flat[ServeConfig] = ServeConfig(),  # noqa: B008 - frozen
    hardware: Inference = DeviceConfig(),  # noqa: B008
) -> None:
    """Serve a model over HTTP.

    The playground is at /, the API under /v1 (OpenAI's completions included), its documentation at /docs. With --dtype
    bfloat16, which is faster, the third decimal of a probability may depend on the other texts of a batch.
    """
    from gpt1 import api

    api.serve(model, config, hardware=hardware)


def report(
    runs: Annotated[
        Positional[tuple[Path, ...]], arg(metavar="RUN", help="Run directories."), Help(required=True)
    ] = (),
    /,
    out: Annotated[
        Path | None,
        arg(metavar="FILE", help="HTML file to write (default: RUN/report.html, for several runs comparison.html)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the HTML report of a run, or compare runs.

    The report contains scores, curves, errors, data and settings. It is computed from the files of the run, which may
    be unfinished. The HTML file needs no network and no JavaScript.
    """
    from gpt1 import api

    print_one(api.report(runs, out), as_json)
