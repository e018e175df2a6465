"""A model's weights and vocabulary from one layout to another, with a word about everything that has no place there.

`gpt1` is our model directory and holds all of a model; `mindspore` is the same with the weights as MindNLP has them.
`huggingface` and `openai` are the language model as OpenAI published it: no special tokens, no segments, no head.
`onnx` is our directory with a graph in the place of the weights, for programs without gpt1.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from gpt1 import backends, console
from gpt1.backends.parameters import Params, count, shapes
from gpt1.checkpoint import huggingface, onnx_check, openai_release
from gpt1.checkpoint.loading import open_model, resolve_model
from gpt1.checkpoint.model_dir import Model, save_model
from gpt1.config import DeviceConfig, DropoutConfig, Layout, ModelConfig, Stored
from gpt1.errors import UserError
from gpt1.system.files import dump_json, replace_directory
from gpt1.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer

WHOLE: dict[Layout, str] = {"gpt1": huggingface.WEIGHTS, "mindspore": huggingface.CKPT, "onnx": huggingface.ONNX}
"""The layouts that hold all of a model, and where each has its weights."""

ONNX_TOLERANCE = 1e-4
"""Largest difference of a graph's score from ours: float32 sums in another order give 1e-7 to 1e-6."""


def convert(
    source: str | Path, out: Path, to: Layout = "gpt1", *, dtype: Stored = "float32"
) -> dict[str, Any]:  # fmt: skip
    """Write the model that `source` names into the new directory `out`, completely or not at all.

    `source` is any name that `loading.resolve_model` knows. The weights are written in `dtype`, rounded to nearest.

    Returns:
        {source, out, to, dtype, parameters, n_layer, n_head, n_embd, n_ctx, vocab_size} of what was written; "drawn",
        the special tokens whose rows are random, since the weights come from where there are none; and "left_out",
        the names of everything in the model that `to` has no place for.

    Raises:
        UserError: there is no such model, something in it is damaged, `out` is not empty, MindSpore or ONNX is needed
            and not installed, or the layout cannot hold the model: a head in Hugging Face's plain layout, a shape or a
            dtype of which OpenAI's says nothing.
    """
    if to not in get_args(Layout):
        raise UserError(f"--to {to}: expected one of {', '.join(get_args(Layout))}")
    if dtype not in get_args(Stored):
        raise UserError(f"--dtype {dtype}: expected one of {', '.join(get_args(Stored))}")
    if to == "openai" and dtype != "float32":
        raise UserError(f"--dtype {dtype}: OpenAI's release is float32; --to gpt1 and --to huggingface hold {dtype}")
    if to == "mindspore":
        backends.require("mindspore", "--to mindspore")
    if to == "onnx":
        _require_onnx(dtype)
    out = out.resolve()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out}: exists and is not empty; choose a new directory")
    directory = resolve_model(source)
    model = open_model(directory)
    dropout = huggingface.read_dropout(directory / "model" if (directory / "model").is_dir() else directory)
    if to in WHOLE:
        written, left_out = model.config, list[str]()
        save_model(out, model, dropout, dtype, WHOLE[to], partial(_write_onnx, model) if to == "onnx" else None)
    else:
        written, left_out = _write_bare(out, to, model, dropout, dtype)
    drawn = model.provenance.get("drawn", {}) if to in WHOLE else {}
    result = {
        "source": str(source), "out": str(out), "to": to, "dtype": dtype, "parameters": count(written),
        "n_layer": written.n_layer, "n_head": written.n_head, "n_embd": written.n_embd, "n_ctx": written.n_ctx,
        "vocab_size": written.vocab_size, "drawn": drawn.get("tokens", []), "left_out": left_out,
    }  # fmt: skip
    _show(result)
    return result


def _require_onnx(dtype: Stored) -> None:
    if dtype != "float32":
        raise UserError(f"--dtype {dtype}: --to onnx has float32 alone")
    backends.require("torch", "--to onnx")
    if missing := [name for name in ("onnx", "onnxscript") if not importlib.util.find_spec(name)]:
        raise UserError(f"--to onnx: {' and '.join(missing)} not installed; run: pip install 'gpt1[onnx]'")


def _write_onnx(model: Model, path: Path) -> None:
    """Write the graph, and hold it against our engine in float32 where ONNX Runtime is installed.

    Raises:
        RuntimeError: its answers differ.
    """
    from gpt1.backends.torch import onnx

    onnx.export(model.config, model.params, path)
    if not onnx_check.installed():
        console.say("Not compared with gpt1: ONNX Runtime is not installed (pip install onnxruntime).")
        return
    engine = backends.get(
        model.config, model.params, hardware=DeviceConfig(backend="torch", device="cpu", dtype="float32")
    )
    difference = onnx_check.largest_difference(engine, path)
    if not difference <= ONNX_TOLERANCE:  # nor NaN
        raise RuntimeError(
            f"the graph's answers in ONNX Runtime differ from gpt1's by {difference:.1e}, {ONNX_TOLERANCE:g} allowed"
        )
    console.say(f"ONNX Runtime's answers and gpt1's in float32 differ by {difference:.1e} at most.")


def _write_bare(
    out: Path, to: Layout, model: Model, dropout: DropoutConfig, dtype: Stored
) -> tuple[ModelConfig, list[str]]:
    """Write the language model alone; return its shape and the names of what was left out."""
    if to == "huggingface" and model.config.head:
        raise UserError(
            "--to huggingface: the model has a head, which reads the special tokens that this layout leaves out; "
            "--to gpt1 is Hugging Face's layout with both, and transformers loads it"
        )
    config, params, left_out = _bare(model)
    if model.label_names:
        left_out.append(f"labels {', '.join(model.label_names)}")
    if model.max_length != config.n_ctx:
        left_out.append(f"max_length {model.max_length}")
    if to == "openai":
        openai_release.refuse_what_has_no_place(config)

    def write(folder: Path) -> None:
        if to == "openai":
            openai_release.write(folder, config, params, model.tokenizer)
        else:
            _write_huggingface(folder, config, params, model.tokenizer, dropout, dtype)
        if (
            Tokenizer.load(folder).pretokenizer != model.tokenizer.pretokenizer
        ):  # neither layout names the pre-tokenizer
            left_out.append(f"pre-tokenizer {model.tokenizer.pretokenizer}")

    replace_directory(out, write)
    return config, left_out


def _bare(model: Model) -> tuple[ModelConfig, Params, list[str]]:
    """Return the language model without special tokens, segments and head, and the names of those."""
    whole, tokenizer = model.config, model.tokenizer
    rows = whole.vocab_size - len(SPECIAL_TOKENS)
    special = sorted([tokenizer.pad, tokenizer.bos, tokenizer.sep, tokenizer.eos])
    if special != list(range(rows, whole.vocab_size)):
        raise UserError(
            f"the special tokens have the ids {', '.join(map(str, special))}; they can be left out only where they are "
            f"the last of the {whole.vocab_size:,} tokens; use --to gpt1"
        )
    config = replace(whole, vocab_size=rows, n_segments=0, head=None)
    params = {name: model.params[name] for name in shapes(config)}
    params["tokens_embed.weight"] = params["tokens_embed.weight"][:rows]
    left_out = [
        *tokenizer.tokens(special),
        *(f"segment {number}" for number in range(whole.n_segments)),
        *sorted(model.params.keys() - params.keys()),
    ]
    return config, params, left_out


def _write_huggingface(
    folder: Path, config: ModelConfig, params: Params, tokenizer: Tokenizer, dropout: DropoutConfig, dtype: Stored
) -> None:
    """Write the files that `openai-gpt` has on the hub; `transformers` splits words by a rule of its own for it."""
    huggingface.write_weights(folder / huggingface.WEIGHTS, params, dtype)
    dump_json(folder / huggingface.CONFIG, huggingface.config_json(config, dropout, special={}, dtype=dtype))
    for name, text in zip(("vocab.json", "merges.txt"), openai_release.vocabulary(tokenizer), strict=True):
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    details = {"tokenizer_class": "OpenAIGPTTokenizer", "unk_token": "<unk>", "model_max_length": config.n_ctx}
    (folder / "tokenizer_config.json").write_text(json.dumps(details, indent=2) + "\n", encoding="utf-8")


def _show(result: dict[str, Any]) -> None:
    console.say(
        f"{result['source']}: {result['parameters'] / 1e6:.1f} M parameters, {result['n_layer']} layers × "
        f"{result['n_embd']}, vocabulary {result['vocab_size']:,}"
    )
    if result["drawn"]:
        console.say(f"Random rows, for special tokens that the source lacks: {' '.join(result['drawn'])}")
    if result["left_out"]:
        console.say(f"Left out, --to {result['to']} has no place for it: {', '.join(result['left_out'])}")
    rounded = "" if result["dtype"] == "float32" else f", the weights in {result['dtype']}"
    console.say(f"Written: {result['out']}{rounded}")
