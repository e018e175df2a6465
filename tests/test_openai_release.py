"""OpenAI's release: exact reading and writing, and errors for all kinds of damage."""

from __future__ import annotations

import json
import lzma
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gpt1 import backends
from gpt1.backends.base import IGNORE, Batch
from gpt1.backends.parameters import INIT_STD, Params, shapes
from gpt1.checkpoint import openai_release
from gpt1.checkpoint.model_dir import load_model
from gpt1.config import DeviceConfig, Head, ModelConfig
from gpt1.errors import UserError
from gpt1.inference.scorer import Scorer
from gpt1.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer
from support import openai_model, reference_model
from support.engines import hardware
from support.openai_model import Original
from support.openai_release import COMPLETE, CONFIG, ENCODER, MERGES, contents, evenly, random_params, write_release
from support.shared_data import SHARED_DATA

LOGITS = 1e-5
"""Maximum difference of logits of about 3, both computed in float32."""
LOGPROBS = 1e-5
"""Maximum difference of log-probabilities of about 5 in float32 and float64."""
FLOAT64 = 1e-10
"""Maximum difference of two float64 computations of the same value."""

REAL = SHARED_DATA / "gpt1-bpe"
needs_the_real_files = pytest.mark.skipif(not REAL.is_dir(), reason="OpenAI's files are not on this machine")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release", random_params())


# ---- reading


def test_release_is_read_bit_for_bit(release: Path) -> None:
    config, params = openai_release.read(release)
    assert config == CONFIG
    given = random_params()
    assert params.keys() == given.keys()
    for name, value in given.items():
        assert params[name].dtype == np.float32
        assert params[name].shape == value.shape, name
        assert params[name].tobytes() == value.tobytes(), name


def test_any_cut_into_ten_is_read(tmp_path: Path) -> None:
    def unevenly(vector: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        return np.split(vector, [1, 2, 2, 700, 701, 20_000, 20_001, len(vector) - 5, len(vector)])

    _, params = openai_release.read(write_release(tmp_path / "release", random_params(), unevenly))
    for name, value in random_params().items():
        assert params[name].tobytes() == value.tobytes(), name


def test_model_directory_is_what_a_release_is_too(release: Path) -> None:
    """All commands therefore accept its folder."""
    model = load_model(release, seed=5)
    assert model.config == COMPLETE
    rows = model.params["tokens_embed.weight"]
    assert rows[:-4].tobytes() == random_params()["tokens_embed.weight"].tobytes()
    assert 0 < np.abs(rows[-4:]).max() < 5 * INIT_STD
    assert model.tokenizer.tokens(range(len(ENCODER), COMPLETE.vocab_size)) == list(SPECIAL_TOKENS)
    assert [model.tokenizer.encode(token.removesuffix("</w>")) for token in ("ab</w>", "abc</w>")] == [[28], [29]]
    assert model.provenance["drawn"] == {"tokens": list(SPECIAL_TOKENS), "seed": 5}
    assert load_model(release, seed=6).params["tokens_embed.weight"].tobytes() != rows.tobytes()


def test_packed_vocabulary_is_read(release: Path) -> None:
    for name in ("encoder_bpe_40000.json", "vocab_40000.bpe"):
        path = release / name
        (release / f"{name}.xz").write_bytes(lzma.compress(path.read_bytes()))
        path.unlink()
    assert load_model(release).config == COMPLETE


@pytest.mark.parametrize(("width", "n_head"), [(16, 1), (64, 1), (128, 2), (192, 3)])
def test_heads_are_64_wide_and_a_narrower_model_has_one(tmp_path: Path, width: int, n_head: int) -> None:
    given = replace(CONFIG, n_embd=width, n_head=1, n_layer=1)
    config, _ = openai_release.read(write_release(tmp_path / "release", random_params(given)))
    assert config == replace(given, n_head=n_head)


# ---- what it computes


def test_imported_weights_give_the_logits_of_transformers(tmp_path: Path) -> None:
    """The folder is written from a `transformers` model, with its parameter names."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(7)
    theirs = transformers.OpenAIGPTLMHeadModel(
        transformers.OpenAIGPTConfig(
            vocab_size=CONFIG.vocab_size, n_positions=CONFIG.n_ctx, n_embd=CONFIG.n_embd, n_layer=CONFIG.n_layer,
            n_head=CONFIG.n_head, initializer_range=0.3,
        )
    ).eval()  # fmt: skip
    weights = {
        name.removeprefix("transformer."): value.numpy()
        for name, value in theirs.state_dict().items()
        if name != "lm_head.weight" and not name.endswith(".attn.bias")
    }
    model = load_model(write_release(tmp_path / "release", weights))
    engine: Any = backends.get(model.config, model.params, hardware=DeviceConfig("torch", "cpu", "float32"))
    tokens = np.random.default_rng(1).integers(0, CONFIG.vocab_size, (3, CONFIG.n_ctx))
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(tokens)).logits.numpy()
        found = (engine.model(torch.from_numpy(tokens), None) @ engine.model.tokens_embed.weight.T).numpy()
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(found[..., : CONFIG.vocab_size], expected, rtol=0, atol=LOGITS)


def test_imported_weights_give_the_log_probabilities_of_the_original(release: Path, backend: str) -> None:
    """Its softmax also includes the rows of the positions, unlike gpt1: only the rows of tokens are compared."""
    model = load_model(release)
    rows = model.config.vocab_size
    original = Original.from_release(release, n_head=2, special=model.params["tokens_embed.weight"][-4:])
    texts = [[rows - 3, 5, 9, 0, 27, 13, rows - 1], [rows - 3, *range(1, 22), rows - 1], [3, 4]]
    batch = original.inputs([[ids] for ids in texts])
    logprobs = openai_model.log_softmax(original.lm_logits(batch)[..., :rows])
    tokens = batch.X[:, 0, :, 0]
    expected = np.take_along_axis(logprobs, tokens[:, 1:, None], -1)[..., 0] * batch.M[:, 0, 1:]
    assert expected.min() < -3
    engine = backends.get(model.config, model.params, hardware=hardware(backend, device="cpu"))
    found = engine.token_logprobs(lm_batch(tokens, batch.M[:, 0]))
    np.testing.assert_allclose(found[:, :-1], expected, rtol=0, atol=LOGPROBS)


def lm_batch(tokens: NDArray[Any], mask: NDArray[np.float64]) -> Batch:
    targets = np.full(tokens.shape, IGNORE, np.int32)
    targets[:, :-1][mask[:, 1:] > 0] = tokens[:, 1:][mask[:, 1:] > 0]
    last = mask.sum(1).astype(np.int32) - 1
    return Batch(tokens.astype(np.int32), last, lm_targets=targets)


def test_a_release_can_be_scored_as_it_is(release: Path) -> None:
    [found] = Scorer.open(release, DeviceConfig(device="cpu", dtype="float32")).score(["ab abc bad"])
    assert found["tokens"][:2] == ["ab</w>", "abc</w>"]
    assert found["perplexity"] > 1


# ---- the two references agree where the original and gpt1 do not differ


@pytest.fixture
def classifier() -> tuple[ModelConfig, Params]:
    config = replace(COMPLETE, head=Head("multiple-choice", 1))
    return config, random_params(config)


def test_the_original_from_a_release_is_the_original_from_parameters(release: Path) -> None:
    model = load_model(release)
    one = Original.from_release(release, n_head=2, special=model.params["tokens_embed.weight"][-4:], n_ctx=20)
    other = Original.from_params(model.params, n_head=2, n_ctx=20)
    assert one.we.shape == (COMPLETE.vocab_size + 20, COMPLETE.n_embd)
    np.testing.assert_array_equal(one.we, other.we)
    for ours, theirs in zip(one.blocks, other.blocks, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            np.testing.assert_array_equal(value, theirs[name], name)


def test_states_and_scores_are_those_of_the_reference(classifier: tuple[ModelConfig, Params]) -> None:
    config, params = classifier
    original = Original.from_params(params, n_head=2)
    clf_token = config.vocab_size - 1
    batch = original.inputs([[[7, 8, clf_token], [9, clf_token]], [[1, 2, 3, 4, clf_token], [5, 6, clf_token]]])
    tokens = batch.X.reshape(4, -1, 2)[..., 0]
    np.testing.assert_allclose(original.states(batch), reference_model.hidden(params, config, tokens), atol=FLOAT64)
    eos_positions = np.array([2, 1, 4, 2], np.int32)
    expected = reference_model.task_logits(
        params, config, Batch(tokens.astype(np.int32), eos_positions, sequences_per_example=2)
    )
    assert expected.shape == (2, 2)
    np.testing.assert_allclose(original.logits(batch, clf_token), expected, atol=FLOAT64)
    biased = Original.from_params({**params, "score.bias": np.array([2.5])}, n_head=2)
    np.testing.assert_allclose(biased.logits(batch, clf_token), expected + 2.5, atol=FLOAT64)


def test_losses_of_the_original_are_those_of_its_definition(classifier: tuple[ModelConfig, Params]) -> None:
    """Reference: means over a sequence, then over sequences; the softmax is over all of `we`."""
    config, params = classifier
    original = Original.from_params(params, n_head=2, n_ctx=9)
    clf_token = config.vocab_size - 1
    examples = [[[7, 8, clf_token], [9, clf_token]], [[1, 2, 3, 4, clf_token], [5, 6, clf_token]]]
    batch, labels = original.inputs(examples), np.array([1, 0])
    found = original.losses(batch, labels, clf_token, 0.5)
    sequences = [ids for example in examples for ids in example]
    lm = []
    for logits, ids in zip(original.lm_logits(batch), sequences, strict=True):
        assert logits.shape == (8, config.vocab_size + 9)
        lm.append(np.mean([np.log(np.exp(logits[t]).sum()) - logits[t, ids[t + 1]] for t in range(len(ids) - 1)]))
    np.testing.assert_allclose(found.lm, lm, atol=FLOAT64)
    scores = original.logits(batch, clf_token)
    clf = [np.log(np.exp(row).sum()) - row[label] for row, label in zip(scores, labels, strict=True)]
    np.testing.assert_allclose(found.clf, clf, atol=FLOAT64)
    assert found.total == pytest.approx(np.mean(clf) + 0.5 * np.mean(lm), abs=FLOAT64)
    assert original.losses(batch, labels, clf_token, 0.0).total == pytest.approx(np.mean(clf), abs=FLOAT64)


# ---- writing


def test_release_that_was_read_is_written_byte_for_byte(release: Path, tmp_path: Path) -> None:
    config, params = openai_release.read(release)
    (tmp_path / "again").mkdir()
    openai_release.write(tmp_path / "again", config, params, Tokenizer.load(release))
    assert contents(tmp_path / "again") == contents(release)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"n_head": 4},
            "4 heads of width 32; the release does not store the number of heads and implies a width of 64",
        ),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon 1e-06"),
    ],
)
def test_what_a_release_cannot_say_is_not_written(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """Readers of the folder would compute other results."""
    with pytest.raises(UserError, match=f"--to openai: {message}"):
        openai_release.write(tmp_path, replace(CONFIG, **change), random_params(), Tokenizer.from_vocab(ENCODER, []))
    assert list(tmp_path.iterdir()) == []


@needs_the_real_files
def test_vocabulary_and_shapes_of_the_paper_are_written_as_openai_wrote_them() -> None:
    encoder, merges = openai_release.vocabulary(Tokenizer.load(REAL))
    assert encoder.encode() == lzma.decompress((REAL / "encoder_bpe_40000.json.xz").read_bytes())
    assert merges.encode() == lzma.decompress((REAL / "vocab_40000.bpe.xz").read_bytes())
    table = openai_release.layout(ModelConfig(vocab_size=40_478))
    assert json.dumps(list(table.values())) == (REAL / "params_shapes.json").read_text()


# ---- what is wrong is named


def refused(release: Path, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_model(release)


@pytest.mark.parametrize("name", ["params_0.npy", "params_7.npy", "params_shapes.json"])
def test_missing_part_is_named(release: Path, name: str) -> None:
    (release / name).unlink()
    refused(release, rf"{name}: missing; the release folder is incomplete")


@pytest.mark.parametrize("name", ["encoder_bpe_40000.json", "vocab_40000.bpe"])
def test_missing_half_of_the_vocabulary_is_named(release: Path, name: str) -> None:
    (release / name).unlink()
    refused(release, f"{name}: no such file")


@pytest.mark.parametrize("name", ["params_10.npy", "params_00.npy", "params_3 (copy).npy"])
def test_extra_array_is_named(release: Path, name: str) -> None:
    np.save(release / name, np.zeros(3, np.float32))
    refused(release, r"params_.*\.npy: does not belong to a release; expected params_0\.npy to params_9\.npy")


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, ">f4", np.complex64])
def test_numbers_of_another_type_are_named(release: Path, dtype: Any) -> None:
    np.save(release / "params_4.npy", np.load(release / "params_4.npy").astype(dtype))
    refused(release, r"params_4\.npy: numbers of type [<>]?\w+; float32 expected")


@pytest.mark.parametrize("shape", [(-1, 1), (1, -1), ()])
def test_piece_that_is_no_vector_is_named(release: Path, shape: tuple[int, ...]) -> None:
    piece = np.load(release / "params_4.npy")
    np.save(release / "params_4.npy", piece.reshape(shape) if shape else piece[0])
    refused(release, r"params_4\.npy: an array of shape \(.*\); one dimension expected")


class Trap:
    """Unpickling it would create a file."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, ("trap", "w")


def pickled_array(path: Path) -> None:
    np.save(path, np.array([Trap()], object), allow_pickle=True)


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Trap()))


def archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3, np.float32))


def broken_archive(path: Path) -> None:
    archive(path)
    path.write_bytes(path.read_bytes()[:40])


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def boundless(path: Path) -> None:
    """The header requests more memory than available."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d,), }" % 10**17
    path.write_bytes(b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n" + bytes(8))


@pytest.mark.parametrize(
    "damage", [pickled_array, bare_pickle, archive, broken_archive, cut_off, empty, boundless], ids=lambda f: f.__name__
)
def test_file_that_is_no_array_of_numbers_is_named_and_never_unpickled(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    damage(release / "params_2.npy")
    refused(release, r"params_2\.npy: (not a complete \.npy file of numbers \(.*\)|an archive)")
    assert not (tmp_path / "trap").exists()


TOTAL = sum(int(np.prod(shape)) for shape in shapes(CONFIG).values())


def test_short_vector_says_where_it_ends_and_which_piece_is_short(release: Path) -> None:
    """The weight of c_proj is followed by its bias, a gain and a bias, 128 numbers each: 65,536 + 384 - 20,000."""
    piece = np.load(release / "params_6.npy")
    assert len(piece) == len(evenly(np.zeros(TOTAL, np.float32))[6])
    np.save(release / "params_6.npy", piece[:-20_000])
    refused(
        release,
        rf"{TOTAL - 20_000:,} numbers in params_0\.npy to params_9\.npy, {TOTAL:,} expected from params_shapes\.json: "
        r"they end within h\.1\.mlp\.c_proj\.weight \(1, 512, 128\), 45,920 numbers after its start; "
        rf"pieces of unexpected size: params_6\.npy {len(piece) - 20_000:,} \(expected {len(piece):,}\)$",
    )


def test_long_vector_says_how_much_is_too_much(release: Path) -> None:
    piece = np.load(release / "params_9.npy")
    np.save(release / "params_9.npy", np.concatenate([piece, piece[:7]]))
    refused(release, rf"{TOTAL + 7:,} numbers .* 7 follow the last parameter; .* params_9\.npy")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[24, 128],", "not JSON"),
        ("\xff", "not JSON"),
        ('{"shapes": []}', "a list of shapes expected, dict found"),
        ("[[24, 128], 3]", "entry 1 is 3; a list of positive whole numbers expected"),
        ("[[24, 128.0]]", r"entry 0 is \[24, 128\.0\]"),
        ("[[24, true]]", r"entry 0 is \[24, True\]"),
        ("[[24, 0]]", r"entry 0 is \[24, 0\]"),
        ("[]", "0 shapes; a GPT-1 has 2 .* and 12 for each block"),
        ("[[24, 128], [31, 128]]", "2 shapes"),
    ],
)
def test_file_of_shapes_that_holds_something_else_is_named(release: Path, text: str, message: str) -> None:
    (release / "params_shapes.json").write_text(text, encoding="latin-1")
    refused(release, rf"params_shapes\.json: {message}")


@pytest.mark.parametrize(
    ("index", "shape", "message"),
    [
        (0, [24], r"shape 0 \(positions_embed\.weight\) is \(24,\); \(rows, width\) expected"),
        (1, [1, 31, 128], r"shape 1 \(tokens_embed\.weight\) is \(1, 31, 128\); \(rows, width\) expected"),
        (0, [24, 130], "embedding width 130; expected a multiple of 64"),
        (1, [31, 64], r"shape 1 \(tokens_embed\.weight\) is \(31, 64\); \(31, 128\) expected"),
        (2, [128, 384], r"shape 2 \(h\.0\.attn\.c_attn\.weight\) is \(128, 384\); \(1, 128, 384\) expected"),
        (6, [1, 128], r"shape 6 \(h\.0\.ln_1\.weight\) is \(1, 128\); \(128,\) expected"),
        (20, [1, 512, 128], r"shape 20 \(h\.1\.mlp\.c_fc\.weight\) is \(1, 512, 128\); \(1, 128, 512\) expected"),
        (25, [127], r"shape 25 \(h\.1\.ln_2\.bias\) is \(127,\); \(128,\) expected"),
    ],
)
def test_shape_that_is_no_gpt1s_is_named(release: Path, index: int, shape: list[int], message: str) -> None:
    path = release / "params_shapes.json"
    found = json.loads(path.read_text())
    found[index] = shape
    path.write_text(json.dumps(found))
    refused(release, rf"params_shapes\.json: {message}")


@pytest.mark.parametrize("rows", [len(ENCODER) - 1, len(ENCODER) + 1, len(ENCODER) + 5])
def test_vocabulary_and_embedding_of_different_sizes_are_named(tmp_path: Path, rows: int) -> None:
    release = write_release(tmp_path / "release", random_params(replace(CONFIG, vocab_size=rows)))
    tokens = len(ENCODER) + (4 if rows < len(ENCODER) else 0)
    refused(release, f"{rows} rows in the embedding, {tokens} tokens in the vocabulary")


def test_shapes_beyond_all_memory_are_named(release: Path) -> None:
    path = release / "params_shapes.json"
    shapes = json.loads(path.read_text())
    shapes[1][0] = 10**12
    path.write_text(json.dumps(shapes))
    refused(release, r"numbers in params_0\.npy to params_9\.npy, .* expected from params_shapes\.json")


def test_numbers_that_are_none_are_named(release: Path) -> None:
    piece = np.load(release / "params_2.npy", allow_pickle=False)
    piece[3] = np.nan
    np.save(release / "params_2.npy", piece, allow_pickle=False)
    refused(release, r"params_2\.npy: number 3 is nan; the file is damaged")


def test_bytes_after_an_array_are_named(release: Path) -> None:
    with (release / "params_2.npy").open("ab") as file:
        file.write(b"xxxx")
    refused(release, r"params_2\.npy: 4 bytes follow its array; the file is damaged")


def test_merges_that_are_cut_off_are_named(release: Path) -> None:
    (release / "vocab_40000.bpe").write_text("#version: 0.2\n")
    refused(release, r"vocab_40000\.bpe: 0 merges make none of \d+ tokens of encoder_bpe_40000\.json")


def test_merges_that_name_unknown_symbols_are_refused(release: Path) -> None:
    (release / "vocab_40000.bpe").write_text(MERGES + "b z\n")
    refused(release, r"vocab_40000\.bpe: merge 4 \('b' and 'z'\) needs 'z', which is not in the vocabulary")


def test_folder_that_is_a_release_and_a_model_directory_is_refused(release: Path) -> None:
    """One of the two would be ignored."""
    (release / "config.json").write_text("{}")
    refused(release, r"contains config\.json and files of OpenAI's release; use a directory for each")
