"""Conversion of a model to another file layout, with a report of everything that the layout cannot store.

`gpt1` is the model directory of gpt1 and stores everything; `mindspore` is the same with weights in MindNLP's format.
`huggingface` and `openai` store only the language model as OpenAI published it, without special tokens, segments and
head. `onnx` is the model directory with an ONNX graph instead of the weights, for use without gpt1.
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
from gpt1.system.extras import install_command
from gpt1.system.files import dump_json, replace_directory
from gpt1.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer

WHOLE: dict[Layout, str] = {"gpt1": huggingface.WEIGHTS, "mindspore": huggingface.CKPT, "onnx": huggingface.ONNX}
"""Layouts that store a complete model, with the name of their file of weights."""

ONNX_TOLERANCE = 1e-4
"""Maximum difference between scores of the graph and of gpt1; summation order in float32 causes 1e-7 to 1e-6."""


def convert(
    source: str | Path, out: Path, to: Layout = "gpt1", *, dtype: Stored = "float32"
) -> dict[str, Any]:  # fmt: skip
    """Convert a model to the layout `to`; the new directory `out` is written completely or not at all.

    Args:
        source: Any name of a model that `loading.resolve_model` accepts.
        out: A new or empty directory.
        to: Layout to write.
        dtype: Data type of the written weights, rounded to nearest.

    Returns:
        {source, out, to, dtype, parameters, n_layer, n_head, n_embd, n_ctx, vocab_size} of the written model; "drawn",
        the special tokens whose embeddings are random because the source has none; and "left_out", the names of
        everything that `to` cannot store.

    Raises:
        UserError: the model does not exist or is damaged, `out` is not empty, MindSpore or ONNX is required and not
            installed, or the layout cannot store the model: a head in `huggingface`; another head size, layer-norm
            epsilon or dtype in `openai`.
    """
    if to not in get_args(Layout):
        raise UserError(f"--to {to}: expected one of {', '.join(get_args(Layout))}")
    if dtype not in get_args(Stored):
        raise UserError(f"--dtype {dtype}: expected one of {', '.join(get_args(Stored))}")
    if to == "openai" and dtype != "float32":
        raise UserError(f"--dtype {dtype}: OpenAI's release is float32; --to gpt1 and --to huggingface support {dtype}")
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
        raise UserError(f"--dtype {dtype}: --to onnx supports float32 only")
    backends.require("torch", "--to onnx")
    if missing := [name for name in ("onnx", "onnxscript") if not importlib.util.find_spec(name)]:
        raise UserError(f"--to onnx: {' and '.join(missing)} not installed; run: {install_command('onnx')}")


def _write_onnx(model: Model, path: Path) -> None:
    """Write the graph, and compare it with the engine in float32 if ONNX Runtime is installed.

    Raises:
        RuntimeError: the results differ by more than `ONNX_TOLERANCE`.
    """
    from gpt1.backends.torch import onnx

    onnx.export(model.config, model.params, path)
    if not onnx_check.installed():
        console.say("Not compared with gpt1: ONNX Runtime is not installed; run: pip install onnxruntime")
        return
    engine = backends.get(
        model.config, model.params, hardware=DeviceConfig(backend="torch", device="cpu", dtype="float32")
    )
    difference = onnx_check.largest_difference(engine, path)
    if not difference <= ONNX_TOLERANCE:  # also true for NaN
        raise RuntimeError(
            f"results of the graph in ONNX Runtime differ from gpt1's by {difference:.1e}, allowed {ONNX_TOLERANCE:g}"
        )
    console.say(f"Compared with gpt1 in float32: the results of ONNX Runtime differ by at most {difference:.1e}.")


def _write_bare(
    out: Path, to: Layout, model: Model, dropout: DropoutConfig, dtype: Stored
) -> tuple[ModelConfig, list[str]]:
    """Write the language model only; return its configuration and the names of everything that was left out."""
    if to == "huggingface" and model.config.head:
        raise UserError(
            "--to huggingface: the model has a head, which needs the special tokens that this layout omits; "
            "use --to gpt1, which transformers can load too"
        )
    config, params, left_out = _bare(model)
    if model.label_names:
        left_out.append(f"labels {', '.join(model.label_names)}")
    if model.max_length != config.n_ctx:
        left_out.append(f"max_length {model.max_length}")
    if to == "openai":
        openai_release.require_storable(config)

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
    """Return the language model without special tokens, segments and head, and the names of these."""
    whole, tokenizer = model.config, model.tokenizer
    rows = whole.vocab_size - len(SPECIAL_TOKENS)
    special = sorted([tokenizer.pad, tokenizer.bos, tokenizer.sep, tokenizer.eos])
    if special != list(range(rows, whole.vocab_size)):
        raise UserError(
            f"the special tokens have the ids {', '.join(map(str, special))}; they can be left out only if they are "
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
    """Write the files of `openai-gpt` on the hub, whose words `transformers` splits by its own rules."""
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
        console.say(f"Randomly initialized, because the source has no such tokens: {' '.join(result['drawn'])}")
    if result["left_out"]:
        console.say(f"Left out, because --to {result['to']} cannot store it: {', '.join(result['left_out'])}")
    rounded = "" if result["dtype"] == "float32" else f" (weights in {result['dtype']})"
    console.say(f"Written: {result['out']}{rounded}")
