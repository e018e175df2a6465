"""MindSpore's `.ckpt` files and MindNLP's names: exact round trips, and errors for damaged or foreign files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt1 import backends
from gpt1.backends.parameters import Params, from_huggingface
from gpt1.checkpoint.convert import convert
from gpt1.checkpoint.model_dir import load_model
from gpt1.config import Head
from gpt1.errors import UserError
from gpt1.system.extras import install_command
from gpt1.system.files import CorruptFile, read_json, write_json
from gpt1.system.tensors import read_tensors, write_tensors
from gpt1.tokenization.tokenizer import SPECIAL_TOKENS
from support.command_line import assert_refused, done
from support.command_line import gpt1 as run
from support.comparisons import assert_same_arrays
from support.openai_release import COMPLETE, CONFIG, ENCODER, MERGES, contents, random_params, trained_on_release

SMALL: Params = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.ones(2, np.float32),
    "number": np.array(3, np.float32),
}
"""Tensors with different numbers of dimensions, whose values are exact in every dtype."""


@pytest.fixture
def mindspore() -> Any:
    return pytest.importorskip("mindspore")


@pytest.fixture
def ckpt(mindspore: Any) -> Any:
    from gpt1.backends.mindspore import ckpt

    return ckpt


def save_theirs(path: Path, tensors: Mapping[str, Any], dtype: str = "float32", **options: Any) -> Path:
    """Write a `.ckpt` with MindSpore, in the given order."""
    import mindspore as ms

    named = [{"name": name, "data": ms.Tensor(value).astype(getattr(ms, dtype))} for name, value in tensors.items()]
    ms.save_checkpoint(named, str(path), **options)
    path.chmod(0o600)  # MindSpore makes it read-only
    return path


def old_names(params: Params) -> Params:
    """Names of MindNLP before 0.4: those of MindSpore's cells in embeddings and layer norms."""
    endings = {"_embed.weight": "_embed.embedding_table"}
    endings |= {f"{norm}.{ours}": f"{norm}.{theirs}" for norm in ("ln_1", "ln_2")
                for ours, theirs in (("weight", "gamma"), ("bias", "beta"))}  # fmt: skip

    def renamed(name: str) -> str:
        end = next((end for end in endings if name.endswith(end)), "")
        return f"transformer.{name.removesuffix(end)}{endings.get(end, '')}"

    return {renamed(name): value for name, value in params.items()}


def new_names(params: Params) -> Params:
    return {name if name.startswith("score.") else f"transformer.{name}": value for name, value in params.items()}


def mindnlp_folder(folder: Path, **config: Any) -> Path:
    """The files of MindNLP's `save_pretrained` for model and tokenizer, except the weights."""
    folder.mkdir()
    shape = {name: getattr(CONFIG, name) for name in ("n_layer", "n_head", "n_embd", "vocab_size")}
    write_json(
        folder / "config.json",
        {"model_type": "openai-gpt", "afn": "gelu", "n_positions": CONFIG.n_ctx, "ms_dtype": "float32"}
        | shape
        | config,
    )
    (folder / "vocab.json").write_text(json.dumps(ENCODER))
    (folder / "merges.txt").write_text(MERGES)
    return folder


# ---- the file


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_written_file_is_mindspores_byte_for_byte(ckpt: Any, mindspore: Any, tmp_path: Path, dtype: Any) -> None:
    ckpt.write(tmp_path / "ours.ckpt", SMALL, dtype)
    theirs = save_theirs(tmp_path / "theirs.ckpt", SMALL, dtype)
    assert (tmp_path / "ours.ckpt").read_bytes() == theirs.read_bytes()
    loaded = mindspore.load_checkpoint(str(tmp_path / "ours.ckpt"))
    assert {value.dtype for value in loaded.values()} == {getattr(mindspore, dtype)}
    assert_same_arrays({name: value.astype(mindspore.float32).asnumpy() for name, value in loaded.items()}, SMALL)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("checked", [False, True])
def test_what_mindspore_wrote_is_read(ckpt: Any, tmp_path: Path, dtype: str, checked: bool) -> None:
    assert_same_arrays(ckpt.read(save_theirs(tmp_path / "x.ckpt", SMALL, dtype, crc_check=checked)), SMALL)


def test_a_tensor_that_mindspore_cut_in_pieces_is_one_again(
    ckpt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of MindSpore is 512 MiB."""
    from mindspore.train import serialization
    from mindspore.train.checkpoint_pb2 import Checkpoint

    monkeypatch.setattr(serialization, "SLICE_SIZE", 1)  # KiB
    whole = {"large": np.arange(600, dtype=np.float32).reshape(20, 30), "b": SMALL["b"]}
    path = save_theirs(tmp_path / "x.ckpt", whole)
    assert len(Checkpoint.FromString(path.read_bytes()).value) > 2
    assert_same_arrays(ckpt.read(path), whole)


def test_every_cut_and_every_flipped_bit_is_an_error_or_changes_no_shape(ckpt: Any, tmp_path: Path) -> None:
    """`mindspore.load_checkpoint` ends the process on some of these files."""
    path = tmp_path / "x.ckpt"
    ckpt.write(path, SMALL)
    whole = path.read_bytes()
    values = sum(value.nbytes for value in SMALL.values())
    read, errors = 0, set[bool]()
    for place in range(len(whole)):
        flips = (whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :] for bit in range(8))
        for damaged in (whole[:place], *flips):
            path.write_bytes(damaged)
            try:
                found = ckpt.read(path)
            except UserError as error:
                errors.add(str(error).startswith(f"{path}: "))
                continue
            read += 1
            expected = list(SMALL.values())[: len(found)]
            assert [value.shape for value in found.values()] == [value.shape for value in expected]
            assert all(isinstance(name, str) for name in found)
    assert errors == {True}
    assert 8 * values <= read < 8 * (values + sum(map(len, SMALL))) + len(SMALL), "only values and names may change"


def test_a_checksum_that_does_not_fit_is_found(ckpt: Any, tmp_path: Path) -> None:
    path = save_theirs(tmp_path / "x.ckpt", SMALL, crc_check=True)
    content = path.read_bytes()
    place = content.index(SMALL["b"].tobytes())
    path.write_bytes(content[:place] + b"\x01" + content[place + 1 :])
    with pytest.raises(CorruptFile, match=r"x\.ckpt: the content does not match the checksum at the end"):
        ckpt.read(path)


def pickled(path: Path) -> None:
    path.write_bytes(b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.")


def as_safetensors(path: Path) -> None:
    write_tensors(path, SMALL)


def encrypted(path: Path) -> None:
    save_theirs(path, SMALL, enc_key=b"0123456789abcdef")


def integer(path: Path) -> None:
    save_theirs(path, SMALL, append_dict={"epoch_num": 3})


def text(path: Path) -> None:
    save_theirs(path, SMALL, append_dict={"note": "x"})


def message(*values: tuple[str, list[int], bytes]) -> bytes:
    """Return a file of float32 tensors with these names, shapes and bytes."""
    from mindspore.train.checkpoint_pb2 import Checkpoint

    found = Checkpoint()
    for name, dims, content in values:
        value = found.value.add(tag=name)
        value.tensor.dims.extend(dims)
        value.tensor.tensor_type = "Float32"
        value.tensor.tensor_content = content
    return bytes(found.SerializeToString())


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: path.write_bytes(b""), "contains no tensor; the file is empty or truncated"),
        (pickled, "not a MindSpore .ckpt file"),
        (as_safetensors, "not a MindSpore .ckpt file"),
        (encrypted, "not a MindSpore .ckpt file, or truncated, damaged or encrypted"),
        (lambda path: path.write_bytes(b"\x20\x01"), "a name that is not in MindSpore's schema"),
        (integer, "tensor epoch_num has dtype 'Int64'; Float32, BFloat16, Float16 expected"),
        (text, "tensor note has dtype 'str'"),
        (
            lambda path: path.write_bytes(message(("a", [2], bytes(8)), ("b", [1], bytes(4)), ("a", [2], bytes(8)))),
            "two tensors are named a",
        ),
        (
            lambda path: path.write_bytes(message(("a", [2], bytes(8)), ("a", [1], bytes(4)))),
            "two tensors are named a, of different shapes",
        ),
        (
            lambda path: path.write_bytes(message(("a", [3], bytes(8)))),
            "tensor a of shape (3,) in Float32 has 8 bytes, 12 expected",
        ),
        (lambda path: path.write_bytes(b"\n\x03\n\x01a"), "a is not a tensor"),
        (lambda path: path.write_bytes(message(("ab", [1], bytes(4))).replace(b"ab", b"\xe1b")), "not a MindSpore"),
        (lambda path: path.write_bytes(message(("a", [-1, -2], bytes(8)))), "tensor a of shape (-1, -2)"),
        (lambda path: path.write_bytes(message(("a", [2**62, 2**62], b""))), "has 0 bytes, "),
        (lambda path: None, "missing"),
    ],
)  # fmt: skip
def test_a_file_that_holds_something_else_is_named(
    ckpt: Any, tmp_path: Path, write: Callable[[Path], None], said: str
) -> None:
    write(tmp_path / "x.ckpt")
    with pytest.raises(UserError) as error:
        ckpt.read(tmp_path / "x.ckpt")
    assert str(error.value).startswith(str(tmp_path / "x.ckpt"))
    assert said in str(error.value)


def test_a_value_beyond_the_dtype_is_refused(ckpt: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tensor b contains 100000, which is out of the range of float16"):
        ckpt.write(tmp_path / "x.ckpt", {"b": np.full(2, 1e5, np.float32)}, "float16")


# ---- a model there and back


@pytest.mark.parametrize(
    "changes",
    [{}, {"head": Head("classification", 2), "n_segments": 1}, {"head": Head("multiple-choice", 1, bias=True)}],
    ids=["language model", "classifier", "multiple choice"],
)
def test_a_model_goes_there_and_back_byte_for_byte(mindspore: Any, tmp_path: Path, changes: dict[str, Any]) -> None:
    given = trained_on_release(tmp_path, **changes)
    result = convert(str(given), tmp_path / "ms", "mindspore")
    assert (result["to"], result["left_out"], result["drawn"]) == ("mindspore", [], [])
    assert not (tmp_path / "ms" / "model.safetensors").exists()
    same = contents(given).keys() - {"model.safetensors", "gpt1.json", "README.md"}
    assert {name: contents(tmp_path / "ms")[name] for name in same} == {name: contents(given)[name] for name in same}
    convert(str(tmp_path / "ms"), tmp_path / "back")
    assert contents(tmp_path / "back") == contents(given)


def test_the_weights_have_mindnlps_names(mindspore: Any, tmp_path: Path) -> None:
    given = trained_on_release(tmp_path, head=Head("classification", 2))
    done("convert", given, tmp_path / "ms", "--to", "mindspore")
    loaded = mindspore.load_checkpoint(str(tmp_path / "ms" / "mindspore.ckpt"))
    assert_same_arrays({name: value.asnumpy() for name, value in loaded.items()}, new_names(load_model(given).params))


def test_the_directory_says_what_transformers_does_not_read(mindspore: Any, tmp_path: Path) -> None:
    convert(str(trained_on_release(tmp_path)), tmp_path / "ms", "mindspore")
    details = read_json(tmp_path / "ms" / "gpt1.json")
    assert details["sha256"].keys() == {"mindspore.ckpt", "tokenizer.json"}
    assert details["huggingface_differences"][-1].startswith("mindspore.ckpt is a MindSpore file")
    assert not details["huggingface_exact"]


def test_our_directory_knows_its_own_weights_among_others(mindspore: Any, tmp_path: Path) -> None:
    given = trained_on_release(tmp_path)
    convert(str(given), tmp_path / "ms", "mindspore")
    for folder, other in ((given, "mindspore.ckpt"), (tmp_path / "ms", "model.safetensors")):
        (folder / other).write_bytes(b"something else")
        assert_same_arrays(load_model(folder).params, random_params(COMPLETE))


@pytest.mark.parametrize("damage", ["flip", "lose"])
def test_damage_to_our_weights_is_found_by_their_checksum(mindspore: Any, tmp_path: Path, damage: str) -> None:
    convert(str(trained_on_release(tmp_path)), tmp_path / "ms", "mindspore")
    path = tmp_path / "ms" / "mindspore.ckpt"
    content = path.read_bytes()
    path.unlink()
    if damage == "flip":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CorruptFile, match=r"mindspore\.ckpt: (its sha256 is not the one|missing)"):
        load_model(tmp_path / "ms")


def test_bfloat16_is_the_same_in_both_files(mindspore: Any, tmp_path: Path) -> None:
    given = trained_on_release(tmp_path)
    found = done("convert", given, tmp_path / "ms", "--to", "mindspore", "--dtype", "bfloat16", "--json")
    assert found.json["dtype"] == "bfloat16"
    loaded = mindspore.load_checkpoint(str(tmp_path / "ms" / "mindspore.ckpt"))
    assert {value.dtype for value in loaded.values()} == {mindspore.bfloat16}
    convert(str(given), tmp_path / "narrow", dtype="bfloat16")
    convert(str(tmp_path / "ms"), tmp_path / "again", dtype="bfloat16")
    assert contents(tmp_path / "again") == contents(tmp_path / "narrow")


# ---- MindNLP's folders


@pytest.mark.parametrize("names", [new_names, old_names])
@pytest.mark.parametrize("file", ["mindspore.ckpt", "checkpoint-9.ckpt", "model.safetensors"])
def test_a_folder_of_mindnlp_is_read(tmp_path: Path, names: Callable[[Params], Params], file: str) -> None:
    folder = mindnlp_folder(tmp_path / "mindnlp")
    given = names(random_params())
    if file.endswith(".ckpt"):
        pytest.importorskip("mindspore")
        save_theirs(folder / file, given)
    else:
        write_tensors(folder / file, given)
    if file.endswith(".ckpt"):
        assert convert(str(folder), tmp_path / "ms", "mindspore")["drawn"] == list(SPECIAL_TOKENS)
    done("convert", folder, tmp_path / "model")
    found = load_model(tmp_path / "model")
    assert found.config == COMPLETE
    rows = found.params["tokens_embed.weight"]
    assert_same_arrays(found.params | {"tokens_embed.weight": rows[: len(ENCODER)]}, random_params())


def test_a_classifier_of_mindnlp_is_read(mindspore: Any, tmp_path: Path) -> None:
    folder = mindnlp_folder(tmp_path / "mindnlp", id2label={"0": "bad", "1": "good", "2": "so-so"})
    params = random_params(replace(CONFIG, head=Head("classification", 3)))
    save_theirs(folder / "mindspore.ckpt", new_names(params))
    found = load_model(folder)
    assert (found.label_names, found.config.head) == (("bad", "good", "so-so"), Head("classification", 3))
    assert found.params["score.weight"].tobytes() == params["score.weight"].tobytes()


def test_what_cells_of_mindspore_save_has_the_old_names(mindspore: Any, ckpt: Any, tmp_path: Path) -> None:
    """The embedding and layer norm of older MindNLP releases."""
    nn = mindspore.nn

    class Block(nn.Cell):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm((4,)), nn.LayerNorm((4,))

    class Model(nn.Cell):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.tokens_embed, self.positions_embed = nn.Embedding(5, 4), nn.Embedding(3, 4)
            self.h = nn.CellList([Block(), Block()])

    mindspore.save_checkpoint(Model(), str(tmp_path / "x.ckpt"))
    found = {from_huggingface(name) for name in ckpt.read(tmp_path / "x.ckpt")}
    norms = {f"h.{layer}.{norm}.{kind}" for layer in (0, 1) for norm in ("ln_1", "ln_2") for kind in ("weight", "bias")}
    assert found == {"tokens_embed.weight", "positions_embed.weight"} | norms


@pytest.mark.parametrize(
    "name",
    [
        "h.0.attn.c_attn.gamma", "score.gamma", "ln_1.gamma", "h.0.ln_1.embedding_table", "tokens_embed.beta",
        "moment1.transformer.h.0.ln_1.gamma", "h.0.ln_1.gamma.x",
    ],
)  # fmt: skip
def test_an_old_ending_elsewhere_is_another_name(name: str) -> None:
    assert from_huggingface(name) == name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"transformer.h.0.ln_1.gamma": np.ones(128, np.float32)}, "parameter h.0.ln_1.weight occurs twice"),
        ({"moment1.transformer.h.0.ln_1.weight": np.ones(128, np.float32)}, "tensor moment1.transformer.h.0.ln_1.weig"),
        ({"transformer.h.2.ln_1.beta": np.ones(128, np.float32)}, "n_layer is 2, but 3 in mindspore.ckpt"),
        ({"transformer.h.1.mlp.c_fc.bias": None}, "mindspore.ckpt: parameter h.1.mlp.c_fc.bias is missing"),
        ({"transformer.h.1.mlp.c_fc.bias": np.ones(3, np.float32)}, "c_fc.bias: shape (3,) found, (512,) expected"),
        ({"transformer.positions_embed.weight": None}, "mindspore.ckpt: parameter positions_embed.weight is missing"),
        ({"transformer.tokens_embed.weight": None}, "parameter tokens_embed.weight is missing; this is not a GPT-1"),
        ({"transformer.h.0.ln_1.bias": np.full(128, np.nan, np.float32)}, "ln_1.bias contains NaN or infinity"),
    ],
)  # fmt: skip
def test_every_tensor_has_a_place_or_is_named(
    mindspore: Any, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    folder = mindnlp_folder(tmp_path / "mindnlp")
    given = new_names(random_params()) | change
    save_theirs(folder / "mindspore.ckpt", {name: value for name, value in given.items() if value is not None})
    assert_refused(run("convert", folder, tmp_path / "out"), said)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("files", [("mindspore.ckpt", "model.safetensors"), ("a.ckpt", "b.ckpt")])
def test_two_files_of_weights_are_refused_by_name(tmp_path: Path, files: tuple[str, str]) -> None:
    folder = mindnlp_folder(tmp_path / "mindnlp")
    for file in files:
        (folder / file).touch()
    with pytest.raises(UserError, match="one file of weights") as error:
        load_model(folder)
    assert all(file in str(error.value) for file in files)


def test_a_folder_of_mindnlp_is_a_model_everywhere(mindspore: Any, tmp_path: Path) -> None:
    folder = mindnlp_folder(tmp_path / "mindnlp")
    save_theirs(folder / "mindspore.ckpt", new_names(random_params()))
    shutil.copytree(folder, tmp_path / "hf")
    (tmp_path / "hf" / "mindspore.ckpt").unlink()
    write_tensors(tmp_path / "hf" / "model.safetensors", new_names(random_params()))
    here, there = (
        done("score", path, "abc bad", "--json", "--device", "cpu").json for path in (folder, tmp_path / "hf")
    )
    assert here["logprobs"] == there["logprobs"]
    assert done("convert", folder, tmp_path / "plain", "--to", "huggingface").code == 0
    found = read_tensors(tmp_path / "plain" / "model.safetensors")
    assert_same_arrays(found, new_names(random_params()))


# ---- without MindSpore


@pytest.fixture(params=["missing", "NumPy 2"])
def absent(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Hide MindSpore, or one of its requirements; return the error message."""
    if request.param == "missing":
        monkeypatch.setattr(backends, "installed", lambda: ["torch"])
        return f"MindSpore is not installed; run: {install_command('mindspore')}"
    monkeypatch.setattr(backends, "installed", lambda: ["torch", "mindspore"])
    monkeypatch.setattr(np, "__version__", "2.4.0")
    return "NumPy 2.4.0 found, MindSpore needs 1.26; run: pip install 'numpy<2'"


def test_writing_says_what_to_install(tmp_path: Path, absent: str) -> None:
    assert_refused(
        run("convert", trained_on_release(tmp_path), tmp_path / "ms", "--to", "mindspore"), f"--to mindspore: {absent}"
    )
    assert not (tmp_path / "ms").exists()


def test_reading_says_what_to_install(tmp_path: Path, absent: str) -> None:
    folder = mindnlp_folder(tmp_path / "mindnlp")
    (folder / "mindspore.ckpt").write_bytes(b"anything")
    for words in (("convert", folder, tmp_path / "model"), ("score", folder, "abc")):
        assert_refused(run(*words), f"{folder / 'mindspore.ckpt'}: {absent}")
