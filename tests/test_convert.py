"""`gpt1 convert`: exact conversion between all layouts; everything that is left out is listed."""

from __future__ import annotations

import json
import lzma
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt1 import api
from gpt1.checkpoint.convert import convert
from gpt1.checkpoint.model_dir import Model, load_model, save_model
from gpt1.config import Head, Layout
from gpt1.errors import UserError
from gpt1.system.files import read_json
from gpt1.system.tensors import read_tensors
from gpt1.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer
from support.command_line import Outcome, assert_refused, done
from support.command_line import gpt1 as run
from support.comparisons import assert_same_arrays
from support.fake_hub import FakeHub
from support.openai_release import (
    COMPLETE,
    CONFIG,
    ENCODER,
    MERGES,
    contents,
    random_params,
    trained_on_release,
    write_release,
)
from support.shared_data import SHARED_DATA

LOGITS = 1e-5
"""Maximum difference of logits of about 3, both computed in float32."""

BFLOAT16 = 2.0**-8
"""Maximum relative error of rounding to 8 bits of significand."""

REAL = SHARED_DATA / "gpt1-bpe"
TOKENIZER = Tokenizer.from_vocab(dict(ENCODER), [("a", "b"), ("a", "b</w>"), ("ab", "c</w>")])
SPECIAL = list(SPECIAL_TOKENS)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release", random_params())


# ---- round trips


def test_release_comes_back_byte_for_byte_through_every_layout(release: Path, tmp_path: Path) -> None:
    steps: tuple[Layout, ...] = ("gpt1", "huggingface", "gpt1", "openai", "huggingface", "openai")
    source = release
    for number, layout in enumerate(steps):
        target = tmp_path / f"{number}-{layout}"
        convert(str(source), target, layout)
        source = target
    assert contents(tmp_path / "3-openai") == contents(release)
    assert contents(tmp_path / "5-openai") == contents(release)
    assert contents(tmp_path / "4-huggingface") == contents(tmp_path / "1-huggingface")


@pytest.mark.skipif(not REAL.is_dir(), reason="OpenAI's files are not on this machine")
def test_the_real_vocabulary_comes_back_byte_for_byte(tmp_path: Path) -> None:
    """A narrow model with the full vocabulary of 40,478 tokens."""
    config = replace(CONFIG, n_layer=1, n_head=1, n_embd=2, vocab_size=40_478)
    release = write_release(tmp_path / "release", random_params(config))
    for name in ("encoder_bpe_40000.json", "vocab_40000.bpe"):
        (release / name).write_bytes(lzma.decompress((REAL / f"{name}.xz").read_bytes()))
    convert(str(release), tmp_path / "gpt1")
    convert(str(tmp_path / "gpt1"), tmp_path / "hf", "huggingface")
    convert(str(tmp_path / "hf"), tmp_path / "again", "openai")
    assert contents(tmp_path / "again") == contents(release)
    assert (tmp_path / "hf" / "vocab.json").read_bytes() == (release / "encoder_bpe_40000.json").read_bytes()
    assert (tmp_path / "hf" / "merges.txt").read_bytes() == (release / "vocab_40000.bpe").read_bytes()


def test_our_directory_is_complete(release: Path, tmp_path: Path) -> None:
    result = convert(str(release), tmp_path / "model")
    model = load_model(tmp_path / "model")
    assert model.config == COMPLETE
    assert_same_arrays(model.params, load_model(release).params)
    assert model.tokenizer.encode("abc bad") == load_model(release).tokenizer.encode("abc bad")
    assert result == {
        "source": str(release), "out": str(tmp_path / "model"), "to": "gpt1",
        "dtype": "float32",
        "parameters": sum(value.size for value in model.params.values()), "n_layer": 2, "n_head": 2, "n_embd": 128,
        "n_ctx": 24, "vocab_size": len(ENCODER) + 4, "drawn": SPECIAL, "left_out": [],
    }  # fmt: skip


def test_our_own_directory_is_copied_whole(tmp_path: Path) -> None:
    given = trained_on_release(tmp_path, head=Head("classification", 2), n_segments=1)
    result = convert(str(given), tmp_path / "copy")
    assert contents(tmp_path / "copy") == contents(given)
    assert (result["drawn"], result["left_out"]) == ([], [])


def test_run_is_a_source(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    trained_on_release(tmp_path, head=Head("classification", 2)).rename(tmp_path / "run" / "model")
    convert(str(tmp_path / "run"), tmp_path / "copy")
    assert contents(tmp_path / "copy") == contents(tmp_path / "run" / "model")


# ---- Hugging Face's layout


def test_plain_directory_is_like_the_hubs(release: Path, tmp_path: Path) -> None:
    """No special tokens and no rows for them; OpenAI's vocabulary files under other names."""
    result = convert(str(release), tmp_path / "hf", "huggingface")
    folder = tmp_path / "hf"
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "model.safetensors", "vocab.json", "merges.txt", "tokenizer_config.json",
    }  # fmt: skip
    assert json.loads((folder / "vocab.json").read_text()) == ENCODER
    assert (folder / "merges.txt").read_text() == MERGES
    tensors = read_tensors(folder / "model.safetensors")
    assert {name.removeprefix("transformer.") for name in tensors} == random_params().keys()
    assert_same_arrays({name.removeprefix("transformer."): value for name, value in tensors.items()}, random_params())
    config = read_json(folder / "config.json")
    assert not [name for name in config if name.endswith("_token_id")]
    assert (config["vocab_size"], config["architectures"]) == (len(ENCODER), ["OpenAIGPTLMHeadModel"])
    assert (result["vocab_size"], result["left_out"], result["drawn"]) == (len(ENCODER), SPECIAL, [])


def test_dropout_of_the_source_is_kept(tmp_path: Path) -> None:
    convert(str(trained_on_release(tmp_path)), tmp_path / "hf", "huggingface")
    config = read_json(tmp_path / "hf" / "config.json")
    assert [config[f"{name}_pdrop"] for name in ("embd", "resid", "attn")] == [0.2, 0.3, 0.4]


def test_transformers_loads_the_plain_directory_and_computes_the_same(release: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers", minversion="5")
    convert(str(release), tmp_path / "hf", "huggingface")
    theirs, report = transformers.OpenAIGPTLMHeadModel.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(report[part] for part in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokens = torch.arange(CONFIG.n_ctx)[None] % CONFIG.vocab_size
    peer = transformers.OpenAIGPTLMHeadModel(theirs.config)
    peer.load_state_dict(
        {f"transformer.{name}": torch.from_numpy(value) for name, value in random_params().items()}, strict=False
    )
    with torch.inference_mode():
        assert torch.equal(theirs.eval()(tokens).logits, peer.eval()(tokens).logits)
    for kind in (transformers.OpenAIGPTTokenizer, transformers.AutoTokenizer):
        tokenizer = kind.from_pretrained(tmp_path / "hf")
        assert tokenizer.get_vocab() == ENCODER
        assert tokenizer("ab abc")["input_ids"] == TOKENIZER.encode("ab abc")
        assert tokenizer.model_max_length == CONFIG.n_ctx


def test_what_transformers_saved_becomes_a_release(tmp_path: Path) -> None:
    """From a model that `transformers` created and saved."""
    transformers = pytest.importorskip("transformers", minversion="5")
    theirs = transformers.OpenAIGPTLMHeadModel(
        transformers.OpenAIGPTConfig(vocab_size=len(ENCODER), n_positions=24, n_embd=128, n_layer=2, n_head=2)
    )
    theirs.save_pretrained(tmp_path / "hf")
    (tmp_path / "hf" / "vocab.json").write_text(json.dumps(ENCODER))
    (tmp_path / "hf" / "merges.txt").write_text(MERGES)
    convert(str(tmp_path / "hf"), tmp_path / "found", "openai")
    weights = {name.removeprefix("transformer."): value.numpy() for name, value in theirs.state_dict().items()}
    expected = write_release(tmp_path / "expected", {name: weights[name] for name in random_params()})
    assert contents(tmp_path / "found") == contents(expected)


# ---- what has no place


def test_a_head_does_not_go_to_the_plain_layout(tmp_path: Path) -> None:
    given = trained_on_release(tmp_path, head=Head("classification", 2))
    with pytest.raises(
        UserError, match=r"--to huggingface: the model has a head.*use --to gpt1, which transformers can load"
    ):
        convert(str(given), tmp_path / "out", "huggingface")
    assert not (tmp_path / "out").exists()


def test_everything_without_a_place_in_a_release_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = trained_on_release(tmp_path, head=Head("entailment", 2), n_segments=2)
    result = convert(str(given), tmp_path / "out", "openai")
    left_out = [*SPECIAL, "segment 0", "segment 1", "score.weight", "labels bad, good", "max_length 20"]
    assert result["left_out"] == left_out
    assert f"Left out, because --to openai cannot store it: {', '.join(left_out)}\n" in capsys.readouterr().err
    body = load_model(given).params
    del body["score.weight"]
    body["tokens_embed.weight"] = body["tokens_embed.weight"][: len(ENCODER)]
    assert contents(tmp_path / "out") == contents(write_release(tmp_path / "expected", body))


@pytest.mark.parametrize("to", ["huggingface", "openai"])
def test_word_splitter_that_the_layout_does_not_name_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: Layout
) -> None:
    """The folder is read with another pre-tokenizer than the model was trained with."""
    model = replace(load_model(trained_on_release(tmp_path)), tokenizer=Tokenizer(TOKENIZER.backend, "other"))
    monkeypatch.setattr("gpt1.checkpoint.convert.open_model", lambda path: model)
    assert convert(str(tmp_path), tmp_path / "out", to)["left_out"][-1] == "pre-tokenizer other"


@pytest.mark.parametrize("to", ["huggingface", "openai"])
def test_special_tokens_amid_the_vocabulary_cannot_be_left_out(tmp_path: Path, to: Layout) -> None:
    """The tokens after them would get other ids."""
    vocab = dict(ENCODER) | {token: len(ENCODER) + i for i, token in enumerate([*SPECIAL, "z</w>"])}
    config = replace(COMPLETE, vocab_size=len(vocab))
    save_model(tmp_path / "given", Model(config, random_params(config), Tokenizer.from_vocab(vocab, []), (), 24))
    with pytest.raises(UserError, match=r"special tokens have the ids 31, 32, 33, 34; .* use --to gpt1"):
        convert(str(tmp_path / "given"), tmp_path / "out", to)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", [{"n_head": 4}, {"layer_norm_epsilon": 1e-6}])
def test_shape_of_which_a_release_says_nothing_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="--to openai: "):
        convert(str(trained_on_release(tmp_path, **change)), tmp_path / "out", "openai")
    assert not list(tmp_path.glob("*out*")), "no partial output"


# ---- the command


def test_command_says_what_it_did(release: Path, tmp_path: Path) -> None:
    found = done("convert", release, tmp_path / "model", "--json")
    assert found.json["drawn"] == SPECIAL
    assert found.err.splitlines() == [
        f"{release}: 0.4 M parameters, 2 layers × 128, vocabulary 35",
        "Randomly initialized, because the source has no such tokens: <pad> <bos> <sep> <eos>",
        f"Written: {tmp_path / 'model'}",
    ]
    again = done("convert", tmp_path / "model", tmp_path / "openai", "--to", "openai")
    assert again.out == ""
    assert "Left out, because --to openai cannot store it: <pad>, <bos>, <sep>, <eos>" in again.err
    assert contents(tmp_path / "openai") == contents(release)


def test_converted_and_released_folders_score_alike(release: Path, tmp_path: Path) -> None:
    done("convert", release, tmp_path / "model")
    scores = [
        done("score", folder, "abc bad", "--json", "--device", "cpu").json["logprobs"]
        for folder in (release, tmp_path / "model")
    ]
    assert scores[0] == scores[1]


def refuse(*words: object) -> Outcome:
    return run("convert", *words)


def test_directory_that_is_not_empty_is_left_alone(release: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    assert_refused(refuse(release, tmp_path / "out"), "out: exists and is not empty; choose a new directory")
    assert_refused(refuse(release, tmp_path / "out" / "mine"), "mine: exists and is not empty")
    assert contents(tmp_path / "out") == {"mine": b"x"}
    assert_refused(refuse(release, release, "--to", "openai"), "release: exists and is not empty")


def test_empty_directory_is_filled(release: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    done("convert", release, tmp_path / "out" / ".." / "out")
    assert load_model(tmp_path / "out").config == COMPLETE


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "params_3.npy").unlink(), "params_3.npy: missing"),
        (lambda folder: np.save(folder / "params_10.npy", np.zeros(1)), "params_10.npy: does not belong"),
        (lambda folder: np.save(folder / "params_5.npy", np.zeros(5, np.float32)), "params_5.npy 5 (expected"),
        (lambda folder: (folder / "params_shapes.json").write_text("{"), "params_shapes.json: not JSON"),
        (lambda folder: (folder / "vocab_40000.bpe").write_text(MERGES + "b z\n"), "merge 4 ('b' and 'z') needs 'z'"),
        (lambda folder: (folder / "encoder_bpe_40000.json").write_text('{"<unk>": 0}'), "merge 1 ('a' and 'b') needs"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], "not a model directory"),
        (shutil.rmtree, "no such directory; expected a run, a model directory, a folder of OpenAI's release or "),
    ],
)  # fmt: skip
def test_bad_source_is_one_line_and_writes_nothing(
    release: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(release)
    assert_refused(refuse(release, tmp_path / "out"), message)
    assert not (tmp_path / "out").exists()


def test_unknown_layout_is_refused(release: Path, tmp_path: Path) -> None:
    assert_refused(refuse(release, tmp_path / "out", "--to", "keras"), "--to", "huggingface")
    with pytest.raises(UserError, match="--to keras: expected one of gpt1, mindspore, huggingface, openai, onnx"):
        api.convert(str(release), tmp_path / "out", "keras")  # type: ignore[arg-type]


# ---- lower precision


@pytest.mark.parametrize("to", ["gpt1", "huggingface"])
def test_weights_are_written_in_the_dtype_that_is_asked_for(release: Path, tmp_path: Path, to: Layout) -> None:
    convert(str(release), tmp_path / "whole", to)
    found = done("convert", release, tmp_path / "half", "--to", to, "--dtype", "bfloat16", "--json")
    assert found.json["dtype"] == "bfloat16"
    assert found.err.splitlines()[-1] == f"Written: {tmp_path / 'half'} (weights in bfloat16)"
    whole, half = (read_tensors(tmp_path / name / "model.safetensors") for name in ("whole", "half"))
    for name, value in whole.items():
        np.testing.assert_allclose(half[name], value, rtol=BFLOAT16, err_msg=name)
        assert not (half[name].view(np.uint32) & 0xFFFF).any(), name
    assert read_json(tmp_path / "half" / "config.json")["dtype"] == "bfloat16"
    assert read_json(tmp_path / "whole" / "config.json")["dtype"] == "float32"


def test_narrow_model_is_widened_unless_it_is_asked_for_again(release: Path, tmp_path: Path) -> None:
    convert(str(release), tmp_path / "half", dtype="bfloat16")
    convert(str(tmp_path / "half"), tmp_path / "again", dtype="bfloat16")
    convert(str(tmp_path / "half"), tmp_path / "wide")
    assert contents(tmp_path / "again") == contents(tmp_path / "half")
    assert read_json(tmp_path / "wide" / "config.json")["dtype"] == "float32"
    assert_same_arrays(load_model(tmp_path / "wide").params, load_model(tmp_path / "half").params)


def test_dtype_that_a_layout_lacks_is_refused(release: Path, tmp_path: Path) -> None:
    refused = refuse(release, tmp_path / "out", "--to", "openai", "--dtype", "bfloat16")
    assert_refused(
        refused, "--dtype bfloat16: OpenAI's release is float32; --to gpt1 and --to huggingface support bfloat16"
    )
    assert_refused(
        refuse(release, tmp_path / "out", "--dtype", "int8"), "--dtype int8: expected one of float32, bfloat16, float16"
    )
    with pytest.raises(UserError, match="--dtype int8: expected one of float32, bfloat16, float16"):
        api.convert(str(release), tmp_path / "out", dtype="int8")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_revision_of_a_local_path_is_refused(release: Path, tmp_path: Path) -> None:
    assert_refused(refuse(f"{release}@main", tmp_path / "out"), f"{release}@main: {release} is a local path")


# ---- from the hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    pytest.importorskip("huggingface_hub")
    for variable in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    with FakeHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def test_hub_name_is_a_source(hub: FakeHub, release: Path, tmp_path: Path) -> None:
    convert(str(release), tmp_path / "hf", "huggingface")
    commit = hub.commit("openai-community/openai-gpt", contents(tmp_path / "hf"), repo_type="model")
    done("convert", f"openai-gpt@{commit}", tmp_path / "out", "--to", "openai")
    assert contents(tmp_path / "out") == contents(release)
    refused = refuse("someone/nothing", tmp_path / "none")
    assert_refused(refused, "someone/nothing")
