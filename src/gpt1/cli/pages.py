"""The help of each command: its group, the flags that --help shows, examples."""

from __future__ import annotations

from gpt1.cli.help import Page
from gpt1.config.recipes import PRETRAINING, RECIPES

EXAMPLES: tuple[str, ...] = (
    "gpt1 finetune --data reviews --out runs/demo",
    'gpt1 predict runs/demo "Warm, funny and over far too soon."',
)
"""First commands for somebody who has just installed gpt1; no downloads needed."""

TRAIN, USE, WRITE, FILES = "Train", "Use a fine-tuned model", "Use a language model", "Models and files"

PAGES = {
    "check": Page(
        TRAIN,
        ("gpt1 check my.csv", "gpt1 check my.csv --text review --label sentiment"),
        "DATA --text --label --task --model --recipe --max-length --delimiter --encoding --seed --estimate --json",
    ),
    "finetune": Page(
        TRAIN,
        (
            "gpt1 finetune --data reviews --out runs/demo",
            "gpt1 finetune --data my.csv --text review --label sentiment --out runs/my",
        ),
        "--data --out --text --label --task --model --recipe --adapt --unlabelled --epochs --lr --batch-size "
        "--max-length --seed --device",
        RECIPES,
    ),
    "sweep": Page(
        TRAIN,
        (
            "gpt1 sweep --data reviews --out runs/sweep --trials 10",
            "gpt1 sweep --data reviews --out runs/rates --search 'lr=1e-5..1e-3:log,epochs=2|3'",
        ),
        "--data --out --search --trials --timeout --text --label --model --recipe --epochs --lr --batch-size --seed "
        "--device",
        RECIPES,
    ),
    "pretrain": Page(
        TRAIN,
        ("gpt1 pretrain --corpus books/ --size mini --recipe mini-books --out runs/books",),
        "--corpus --out --size --model --tokenizer --recipe --context --epochs --max-steps --lr --batch-size --seed "
        "--device",
        PRETRAINING,
    ),
    "prepare": Page(TRAIN, ("gpt1 prepare --corpus books/ --tokenizer mini --out prepared/books",)),
    "reproduce": Page(
        TRAIN,
        ("gpt1 reproduce --data-root data/glue --tasks cola,rte --out runs/reproduce",),
        "--data-root --out --tasks --seeds --model --recipe --max-examples --epochs --device",
    ),
    "predict": Page(
        USE,
        (
            'gpt1 predict runs/demo "Warm, funny and over far too soon."',
            "gpt1 predict runs/demo --input new.csv --text review --output predictions.csv",
        ),
        "RUN TEXT --input --output --with-input --text --json --device",
    ),
    "evaluate": Page(
        USE,
        (
            "gpt1 evaluate runs/demo --data reviews",
            "gpt1 evaluate mini --data reviews --zero-shot --split test",
        ),
        "RUN --data --split --text --label --compare --zero-shot --max-examples --baseline --json --device",
    ),
    "explain": Page(
        USE,
        ('gpt1 explain runs/demo "Warm, funny and over far too soon." --html words.html',),
        "RUN TEXT --label --occlusion --attention --html --json --device",
    ),
    "report": Page(USE, ("gpt1 report runs/demo", "gpt1 report runs/first runs/second --out comparison.html")),
    "serve": Page(
        USE,
        ("gpt1 serve runs/demo --port 8000",),
        "MODEL --host --port --name --api-key-file --timeout --backend --device",
    ),
    "generate": Page(
        WRITE,
        (
            'gpt1 generate mini "The old man" --max-tokens 60 --seed 1',
            'gpt1 generate mini "The old man" --n 3 --temperature 0.7 --stop "."',
        ),
        "MODEL PROMPT --max-tokens --temperature --top-k --top-p --stop --n --seed --json --device",
    ),
    "next": Page(WRITE, ('gpt1 next mini "The old man"',), "MODEL PROMPT --top --json --device"),
    "score": Page(
        WRITE,
        ('gpt1 score mini "The old man went home."', "gpt1 score mini --input new.csv --text review --json"),
        "MODEL TEXT --input --text --json --device",
    ),
    "tokenizer": Page(FILES, ()),
    "convert": Page(FILES, ("gpt1 convert runs/demo exported --to onnx",)),
    "push": Page(FILES, ("gpt1 push runs/demo OWNER/NAME --private",)),
    "doctor": Page(FILES, ("gpt1 doctor",)),
}

TOKENIZER_PAGES = {
    "train": Page(
        "Commands",
        ("gpt1 tokenizer train --input books/ --vocab-size 8192 --out tokenizers/books",),
        "--input --out --vocab-size --end-of-document --byte-fallback --text --encoding --json",
    ),
    "encode": Page("Commands", ('gpt1 tokenizer encode mini "Warm, funny."',)),
    "decode": Page("Commands", ("gpt1 tokenizer decode mini 17 42",)),
}
