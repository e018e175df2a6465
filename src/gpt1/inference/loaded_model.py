"""Facade over a model and its engine, returned by `gpt1.load` and used by the server and the estimators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from gpt1 import backends
from gpt1.backends.base import Engine
from gpt1.backends.parameters import count
from gpt1.checkpoint.loading import open_model
from gpt1.checkpoint.model_dir import Model, save_model
from gpt1.config import DeviceConfig, GenerateConfig
from gpt1.config.overrides import named_as_in_python, with_overrides
from gpt1.data.example import Example
from gpt1.errors import UserError
from gpt1.inference.classifier import Classifier, head_of
from gpt1.inference.explainer import Explainer
from gpt1.inference.explanations import Explanation, Explanations
from gpt1.inference.generator import SHORTEST_CONTEXT, TextGenerator
from gpt1.inference.scorer import Scorer


class LoadedModel:
    """A model on one device, with the methods `predict`, `explain`, `score`, `generate` and `next`.

    `predict` and `explain` require a fine-tuned model; the others work with every model.

    Attributes:
        model: configuration, parameters (NumPy), tokenizer and label names.
        engine: backend that computes.
        classifier, explainer: None for a language model without a head.
        scorer: log-probabilities of texts.
        generator: None if the context is too short to generate text.
    """

    def __init__(self, model: Model, engine: Engine):
        self.model, self.engine = model, engine
        self.classifier = Classifier(model, engine) if model.config.head else None
        self.explainer = Explainer(self.classifier) if self.classifier else None
        self.scorer = Scorer(model, engine)
        self.generator = TextGenerator.of(model, engine) if model.config.n_ctx >= SHORTEST_CONTEXT else None

    def __repr__(self) -> str:
        head = self.model.config.head
        names = f" ({', '.join(self.model.label_names)})" if self.model.label_names else ""
        what = f"{head.task}{names}" if head else "language model"
        size = f"{count(self.model.config) / 1e6:.1f} M parameters"
        return f"<gpt1 {what}, {size}, {self.engine.device}, {self.engine.dtype}>"

    @classmethod
    def of(cls, model: Model, hardware: DeviceConfig | None = None) -> Self:
        """Put a model on the device of `hardware`, in float32 unless `hardware` sets a dtype."""
        return cls(model, backends.for_answers(model.config, model.params, hardware))

    def predict(self, examples: Sequence[Any]) -> list[dict[str, Any]]:
        """Return {"label", "score", "scores": {label: probability}} of each example (`Classifier.predict`).

        An example is a text, a pair (text, text), or (context, [choice, choice, …]), depending on the model's task.

        Raises:
            UserError: the model has no head, or the examples do not fit its task.
        """
        classifier = self.require_classifier()
        return classifier.predict(self.examples(examples))

    def explain(self, examples: Sequence[Any], *, label: str | None = None, occlusion: bool = False) -> Explanations:
        """Return the contribution of each word to the label of each example (`Explainer.explain`).

        Examples are those of `predict`. `label` is the label to explain (default: the predicted one). The result is a
        list of dicts that a notebook displays in colours.

        Raises:
            UserError: the model has no head or no such label, or the examples do not fit its task.
        """
        rows = self.examples(examples)
        assert self.explainer
        with named_as_in_python():
            found = self.explainer.explain_all(rows, [label] * len(rows), occlusion=occlusion)
        return Explanations(map(Explanation, found))

    def score(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Return {text, ids, tokens, logprobs, perplexity, bits_per_byte, …} of each text (`Scorer.score`).

        Raises:
            UserError: `texts` is not a list of strings.
        """
        return self.scorer.score(_texts(texts))

    def generate(self, prompt: str, **settings: Any) -> list[dict[str, Any]]:
        """Return {prompt, text, finish_reason, tokens} of each sample (`TextGenerator.generate`).

        `settings` are those of `gpt1 generate`: max_tokens, temperature, top_k, top_p, seed, stop, n …

        Raises:
            UserError: a setting is unknown or invalid, or the model's context is too short.
        """
        return self._generator().generate([_text(prompt)], with_overrides(GenerateConfig(), settings, "generate"))

    def next(self, prompt: str, top: int = 10) -> list[dict[str, Any]]:
        """Return {token, id, probability} of the `top` likeliest tokens after `prompt`, likeliest first.

        Raises:
            UserError: `top` is below 1, or the model's context is too short.
        """
        with named_as_in_python():
            return self._generator().next(_text(prompt), top)

    def save(self, directory: Path | str) -> None:
        """Save the model directory (safetensors and JSON), overwriting an existing one."""
        save_model(Path(directory), self.model)

    def examples(self, values: Sequence[Any], name: str = "examples") -> list[Example]:
        """Convert Python values to examples of the model's task; error messages call them `name`.

        Raises:
            UserError: the model has no head, or a value does not fit its task.
        """
        return self.require_classifier().task.examples(values, name)

    def require_classifier(self) -> Classifier:
        """Return the classifier of a fine-tuned model.

        Raises:
            UserError: the model has no head.
        """
        head_of(self.model)
        assert self.classifier
        return self.classifier

    def _generator(self) -> TextGenerator:
        if self.generator is None:
            raise UserError(f"this model's context is {self.model.config.n_ctx} tokens: too short to generate text")
        return self.generator


def load(model: Path | str, *, backend: str = "auto", device: str = "auto", dtype: str = "auto") -> LoadedModel:
    """Load a model, with the methods `predict`, `explain`, `score`, `generate` and `next`.

    `model` is a run or model directory, a folder of OpenAI's release or of MindNLP's, `mini` (included in the package),
    or a model of the Hugging Face hub: `openai-gpt` or OWNER/NAME, each optionally with @REVISION. All methods share
    one engine, which computes in float32 unless `dtype` is set.

    >>> import gpt1
    >>> model = gpt1.load("mini")
    >>> model.next("The sun rises in the", top=1)[0]["token"]
    'sky</w>'
    >>> model.generate("The old house", max_tokens=3, temperature=0)[0]["finish_reason"]
    'length'

    Raises:
        UserError: the model does not exist, its files are damaged, or the device is unavailable.
    """
    if not isinstance(model, str | Path):
        raise UserError(f"{model!r}: expected the name or path of a model, such as 'runs/demo' or 'mini'")
    hardware = with_overrides(DeviceConfig(), {"backend": backend, "device": device, "dtype": dtype})
    return LoadedModel.of(open_model(model), hardware)


def predict(
    model: Path | str, examples: Sequence[Any], *, backend: str = "auto", device: str = "auto", dtype: str = "auto"
) -> list[dict[str, Any]]:
    """Predict the labels of examples with a fine-tuned model: `gpt1.load(model, …).predict(examples)`.

    Returns {"label", "score", "scores"} of each example: the label, its probability, and the probabilities of all
    labels. `predict("runs/demo", ["Warm, funny and over far too soon."])[0]["label"]` is "positive". An example is a
    text, a pair (text, text), or (context, [choice, choice, …]), depending on the model's task. Computed in float32
    unless `dtype` is set.

    Raises:
        UserError: the model does not exist or has no head, or the examples do not fit its task.
    """
    _require_list(examples)
    return load(model, backend=backend, device=device, dtype=dtype).predict(examples)


def explain(
    model: Path | str, examples: Sequence[Any], *, label: str | None = None, occlusion: bool = False,
    backend: str = "auto", device: str = "auto", dtype: str = "auto",
) -> Explanations:  # fmt: skip
    """Return the words that predictions depend on: `gpt1.load(model, …).explain(examples, …)`.

    `explain("runs/demo", ["Warm, funny and over far too soon."])` displays the text with its words in colours in a
    notebook. Examples are those of `predict`.

    Raises:
        UserError: the model does not exist or has no head or no such label, or the examples do not fit its task.
    """
    _require_list(examples)
    loaded = load(model, backend=backend, device=device, dtype=dtype)
    return loaded.explain(examples, label=label, occlusion=occlusion)


def _require_list(examples: Sequence[Any]) -> None:
    if isinstance(examples, str):
        raise UserError(f"examples {examples[:30]!r}: expected a list of texts, pairs or (context, [choice, …])")


def _text(prompt: str) -> str:
    if not isinstance(prompt, str):
        raise UserError(f"prompt {str(prompt)[:30]!r}: expected a text")
    return prompt


def _texts(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"texts {str(texts)[:30]!r}: expected a list of texts")
    return list(texts)
