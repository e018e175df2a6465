"""The bodies of requests. What they do not name is refused, and no number is taken for a string or the reverse."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, create_model
from pydantic_core import PydanticCustomError

from gpt1.config import MOST_SAMPLES, ServeConfig
from gpt1.data.dataset import Example
from gpt1.tasks.base import Kind

MOST_CHOICES = 16
MOST_TOP = 100
"""Most tokens that /v1/next lists."""
OPENAI_TEMPERATURE = 2.0
OPENAI_STOPS = 4


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


Text = Annotated[str, StringConstraints(min_length=1, pattern=r"\S")]
"""A text with something in it."""


def encodable(text: str) -> str:
    if not text.isascii() and any("\ud800" <= each <= "\udfff" for each in text):
        raise PydanticCustomError("string_unicode", "lone surrogate")
    return text


Unicode = Annotated[str, AfterValidator(encodable)]
"""A text that may be empty; one with a constraint is checked so by pydantic itself."""


class Pair(Body):
    """Two texts of which the model says how they go together."""

    text_a: Text
    text_b: Text


class Question(Body):
    """A context, perhaps a question, and the choices to be compared."""

    context: Text
    question: Text | None = None
    choices: Annotated[list[Text], Field(min_length=2, max_length=MOST_CHOICES)]


ITEMS: dict[Kind, type] = {"single": Text, "pair": Pair, "choices": Question}
"""What one input is, by the kind of the model's task."""

EXPECTED: dict[Kind, str] = {
    "single": "a text",
    "pair": 'an object with "text_a" and "text_b"',
    "choices": 'an object with "context" and "choices"',
}


def example(item: Any) -> Example:
    """Return the example that an input of a request is."""
    match item:
        case Pair():
            return Example((item.text_a, item.text_b), origin="input")
        case Question():
            parts = (item.context,) if item.question is None else (item.context, item.question)
            return Example(parts, tuple(item.choices), origin="input")
    return Example((item,), origin="input")


def one_or_many(item: Any, most: int) -> Any:
    """Return the type of `input`: one item or a list of up to `most`, always a list once it is read."""
    many = Annotated[list[item], Field(min_length=1, max_length=most)]
    as_list = BeforeValidator(lambda value: value if isinstance(value, list) else [value], item | many)
    return Annotated[many, as_list]


def classify_request(kind: Kind, config: ServeConfig) -> type[BaseModel]:
    """Return the body of /v1/classify for models of a kind."""
    fields: Any = {"input": (one_or_many(ITEMS[kind], config.max_inputs), ...), "model": (Unicode | None, None)}
    return create_model("ClassifyRequest", __base__=Body, **fields)


def score_request(config: ServeConfig) -> type[BaseModel]:
    fields: Any = {"input": (one_or_many(Text, config.max_inputs), ...), "model": (Unicode | None, None)}
    return create_model("ScoreRequest", __base__=Body, **fields)


class NextRequest(Body):
    prompt: Unicode = ""
    """Text to go on from; none: from `<bos>`."""
    top: Annotated[int, Field(ge=1, le=MOST_TOP)] = 10
    model: Unicode | None = None


def explain_request(kind: Kind) -> type[BaseModel]:
    fields: Any = {
        "input": (ITEMS[kind], ...),
        "label": (Unicode | None, None),
        "occlusion": (bool, False),
        "model": (Unicode | None, None),
    }
    return create_model("ExplainRequest", __base__=Body, **fields)


def attention_request(kind: Kind | None, n_layer: int) -> type[BaseModel]:
    fields: Any = {
        "input": (Text if kind in (None, "single") else Text | ITEMS[kind], ...),
        "layer": (Annotated[int, Field(ge=0, lt=n_layer)], 0),
        "choice": (Annotated[int, Field(ge=0, lt=MOST_CHOICES)], 0),
        "model": (Unicode | None, None),
    }
    return create_model("AttentionRequest", __base__=Body, **fields)


Number = Annotated[float, Field(allow_inf_nan=False)]
Zero = Annotated[float, Field(ge=0, le=0)]


class StreamOptions(Body):
    include_usage: bool = False


def completion_request(config: ServeConfig, vocab_size: int) -> type[BaseModel]:
    """Return the body of /v1/completions: OpenAI's fields with OpenAI's defaults, `top_k` and `repetition_penalty`.

    Fields of OpenAI's that ask for something else than their default are refused by the type.
    """
    token = Annotated[int, Field(ge=0, lt=vocab_size)]
    most = config.max_inputs
    prompt = Unicode | list[token] | Annotated[list[Unicode] | list[list[token]], Field(max_length=most)]
    stop = Annotated[str, StringConstraints(min_length=1)]
    fields: Any = {
        "model": (Unicode | None, None),
        "prompt": (prompt, ""),
        "max_tokens": (Annotated[int, Field(ge=1, le=config.max_tokens)] | None, 16),
        "temperature": (Annotated[Number, Field(ge=0, le=OPENAI_TEMPERATURE)] | None, 1.0),
        "top_p": (Annotated[Number, Field(gt=0, le=1)] | None, 1.0),
        "n": (Annotated[int, Field(ge=1, le=min(most, MOST_SAMPLES))] | None, 1),
        "stream": (bool | None, False),
        "stream_options": (StreamOptions | None, None),
        "stop": (stop | Annotated[list[stop], Field(max_length=OPENAI_STOPS)] | None, None),
        "seed": (Annotated[int, Field(ge=-(2**63), lt=2**63)] | None, None),
        "echo": (bool | None, False),
        "top_k": (Annotated[int, Field(ge=1)] | None, None),
        "repetition_penalty": (Annotated[Number, Field(gt=0, le=100)] | None, 1.0),
        "user": (Unicode | None, None),
        "best_of": (Literal[1] | None, None),
        "logprobs": (None, None),
        "suffix": (None, None),
        "presence_penalty": (Zero | None, None),
        "frequency_penalty": (Zero | None, None),
        "logit_bias": (Annotated[dict[str, float], Field(max_length=0)] | None, None),
    }
    return create_model("CompletionRequest", __base__=Body, **fields)
