"""`gpt1 convert --to onnx`: the graph computes the results of the engine, for any number and length of sequences.

Run: pytest tests/test_onnx.py
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

from gpt1 import backends, cli
from gpt1.backends.parameters import initialise
from gpt1.checkpoint import convert, onnx_check
from gpt1.checkpoint.model_dir import Model, load_model, save_model
from gpt1.config import DeviceConfig, Head, ModelConfig
from gpt1.errors import UserError
from gpt1.inference.classifier import Classifier
from gpt1.system.files import read_json
from gpt1.tokenization.trainer import train

pytest.importorskip("torch")
onnxruntime = pytest.importorskip("onnxruntime", reason="gpt1[onnx] is not installed")
pytest.importorskip("onnxscript", reason="gpt1[onnx] is not installed")

ROUNDING = 1e-5
"""Other summation order in float32, for probabilities and logits of about 1."""

FLOAT32 = DeviceConfig(backend="torch", device="cpu", dtype="float32")
TOKENIZER = train(["a warm and funny story, dull and noisy"] * 3, 60)

HEADS: dict[str, Head | None] = {
    "language model": None,
    "classification": Head("classification", 3, bias=True),
    "similarity": Head("similarity", 1, regression=True),
    "multiple-choice": Head("multiple-choice", 1),
}


@pytest.fixture(scope="module", params=HEADS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A model directory, its conversion to ONNX, and the messages on stderr."""
    folder = tmp_path_factory.mktemp("onnx")
    write_model(folder / "model", HEADS[request.param], n_segments=2 * (request.param == "multiple-choice"))
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        assert cli.main(["convert", str(folder / "model"), str(folder / "onnx"), "--to", "onnx"]) == 0
    return folder / "model", folder / "onnx", said.getvalue()


def write_model(path: Path, head: Head | None, n_segments: int = 0) -> None:
    config = ModelConfig(
        n_layer=2, n_head=2, n_embd=16, n_ctx=24, vocab_size=TOKENIZER.vocab_size, head=head, n_segments=n_segments
    )
    labels = ("bad", "good", "so-so") if head and head.task == "classification" else ()
    params = {name: value * 5 for name, value in initialise(config, 0).items()}
    save_model(path, Model(config, params, TOKENIZER, labels, 24))


def test_the_graph_gives_the_engines_answers_at_any_number_and_length(exported: tuple[Path, Path, str]) -> None:
    """Also for a single sequence, and for more and longer sequences than in the trace."""
    given, out, said = exported
    assert re.search(r"the results of ONNX Runtime differ by at most \d\.\de-0[6-9]\.", said)
    assert "Warning" not in said
    assert "Skipping" not in said
    model = load_model(given)
    engine = backends.get(model.config, model.params, hardware=FLOAT32)
    assert onnx_check.largest_difference(engine, out / "model.onnx", seed=1) < ROUNDING
    session = onnxruntime.InferenceSession(out / "model.onnx")
    feeds = {each.name: np.ones((1, 5)[: len(each.shape)], np.int64) for each in session.get_inputs()}
    if model.config.head and model.config.head.task == "similarity":
        return  # an example has two sequences
    [alone] = session.run(None, feeds)
    [twice] = session.run(None, {name: np.concatenate([value, value]) for name, value in feeds.items()})
    np.testing.assert_allclose(twice, np.concatenate([alone, alone]), atol=ROUNDING)


def test_padding_on_the_right_changes_nothing(exported: tuple[Path, Path, str]) -> None:
    _, out, _ = exported
    session = onnxruntime.InferenceSession(out / "model.onnx")
    names = [each.name for each in session.get_inputs()]
    tokens = np.arange(12).reshape(2, 6)
    feeds = {"tokens": tokens, "eos_positions": np.array([5, 3]), "segments": np.zeros_like(tokens)}
    padded = {
        name: value if name == "eos_positions" else np.pad(value, [(0, 0), (0, 9)]) for name, value in feeds.items()
    }
    [expected], [found] = (session.run(None, {name: each[name] for name in names}) for each in (feeds, padded))
    np.testing.assert_allclose(found[:, :6] if found.ndim == 3 else found, expected, atol=ROUNDING)


def test_the_program_of_the_card_labels_a_text_as_gpt1_does(exported: tuple[Path, Path, str]) -> None:
    given, out, _ = exported
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "gpt1 predict" not in card
    [program] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    scope: dict[str, np.ndarray] = {}
    with contextlib.chdir(out):
        exec(program, scope)
    config = load_model(given).config
    if config.head is None:
        assert scope["logits"].shape[2] == config.vocab_size
        return
    classifier = Classifier.open(given, FLOAT32)
    texts = {"classification": ["a text"], "similarity": ["a text", "another"]}
    choices = ["context", "a choice", "another"]
    encoded = classifier.encode(classifier.examples(texts.get(config.head.task, choices)))
    expected = classifier.logits(encoded)
    np.testing.assert_allclose(scope["logits"].ravel(), expected.ravel(), atol=ROUNDING)


def test_the_directory_has_everything_but_the_weights_and_says_so(exported: tuple[Path, Path, str]) -> None:
    given, out, _ = exported
    assert {path.name for path in out.iterdir()} == {
        *(path.name for path in given.iterdir() if path.suffix != ".safetensors"), "model.onnx",
    }  # fmt: skip
    details = read_json(out / "gpt1.json")
    assert details["labels"] == read_json(given / "gpt1.json")["labels"]
    assert not details["huggingface_exact"]
    with pytest.raises(
        UserError, match=r"contains model\.onnx, a graph for ONNX Runtime; pass the model it was converted from"
    ):
        load_model(out)


def test_a_graph_that_answers_otherwise_is_an_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "model", None)
    monkeypatch.setattr("gpt1.backends.torch.onnx.export", lambda config, params, path: path.write_bytes(b""))
    for difference in (2e-4, float("nan")):
        monkeypatch.setattr(onnx_check, "largest_difference", lambda engine, path, found=difference: found)
        with pytest.raises(RuntimeError, match=r"differ from gpt1's by .*, allowed 0\.0001"):
            convert.convert(str(tmp_path / "model"), tmp_path / "onnx", "onnx")
        assert not (tmp_path / "onnx").exists()


def test_what_an_export_needs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tmp_path / "model", None)
    words = ["convert", str(tmp_path / "model"), str(tmp_path / "onnx"), "--to", "onnx"]
    assert cli.main([*words, "--dtype", "bfloat16"]) == 2
    assert "--dtype bfloat16: --to onnx supports float32 only" in capsys.readouterr().err
    monkeypatch.setattr(convert.importlib.util, "find_spec", lambda name: None if "onnx" in name else object())
    assert cli.main(words) == 2
    assert 'onnx and onnxscript not installed; run: pip install "onnx>=1.17" "onnxruntime' in capsys.readouterr().err
    assert not (tmp_path / "onnx").exists()
