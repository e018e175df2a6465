"""Request bodies. Unknown fields are rejected, and types are strict: no conversion between numbers and strings."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, create_model
from pydantic_core import PydanticCustomError

from gpt1.config import MOST_SAMPLES, ServeConfig
from gpt1.data.example import NOT_BLANK, Example
from gpt1.data.input_kinds import InputKind

MOST_CHOICES = 16
MOST_TOP = 100
"""Maximum `top` of /v1/next."""
OPENAI_TEMPERATURE = 2.0
OPENAI_STOPS = 4


class Body(BaseModel):
    """Base of all request bodies: strict types, no unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True)


Text = Annotated[str, StringConstraints(min_length=1, pattern=NOT_BLANK)]
"""A text that is not blank."""


def encodable(text: str) -> str:
    """Return `text` if it can be encoded as UTF-8, else raise a validation error."""
    if not text.isascii() and any("\ud800" <= each <= "\udfff" for each in text):
        raise PydanticCustomError("string_unicode", "lone surrogate")
    return text


Unicode = Annotated[str, AfterValidator(encodable)]
"""A text that may be empty. (Texts with string constraints are checked by pydantic itself.)"""


def _fields(kind: InputKind) -> dict[str, Any]:
    """Return the fields of the JSON object of an example: (type, default)."""
    choices = Annotated[list[Text], Field(min_length=2, max_length=MOST_CHOICES)]
    fields: dict[str, Any] = {}
    for name, (required, is_list) in kind.json_fields.items():
        of_field: Any = choices if is_list else Text
        fields[name] = (of_field, ...) if required else (of_field | None, None)
    return fields


@cache  # one schema per kind in the OpenAPI document
def input_type(kind: InputKind) -> Any:
    """Return the type of one input: `Text`, or a model with the fields of the kind."""
    if kind.is_plain_json:
        return Text
    return create_model(kind.schema_name, __base__=Body, __doc__=kind.schema_description, **_fields(kind))


def example(kind: InputKind, item: Any) -> Example:
    """Return the example of a validated input."""
    values = item.model_dump() if isinstance(item, Body) else dict.fromkeys(kind.json_fields, item)
    return kind.from_json(values, "input")


def example_or_text(kind: InputKind | None, item: Any) -> Example | str:
    """Return the example of a validated input; a string is plain text unless the kind's inputs are strings."""
    if kind is None or (isinstance(item, str) and not kind.is_plain_json):
        return str(item)
    return example(kind, item)


def one_or_many(item: Any, most: int) -> Any:
    """Return the type of `input`: one item or a list of at most `most` items, always validated to a list."""
    many = Annotated[list[item], Field(min_length=1, max_length=most)]
    as_list = BeforeValidator(lambda value: value if isinstance(value, list) else [value], item | many)
    return Annotated[many, as_list]


def classify_request(kind: InputKind, config: ServeConfig) -> type[BaseModel]:
    """Return the body of /v1/classify for an input kind."""
    fields: Any = {"input": (one_or_many(input_type(kind), config.max_inputs), ...), "model": (Unicode | None, None)}
    return create_model("ClassifyRequest", __base__=Body, **fields)


def score_request(config: ServeConfig) -> type[BaseModel]:
    """Return the body of /v1/score."""
    fields: Any = {"input": (one_or_many(Text, config.max_inputs), ...), "model": (Unicode | None, None)}
    return create_model("ScoreRequest", __base__=Body, **fields)


class NextRequest(Body):
    """Body of /v1/next."""

    prompt: Unicode = ""
    """Text to continue; an empty text starts from `<bos>`."""
    top: Annotated[int, Field(ge=1, le=MOST_TOP)] = 10
    model: Unicode | None = None


def explain_request(kind: InputKind) -> type[BaseModel]:
    """Return the body of /v1/explain for an input kind."""
    fields: Any = {
        "input": (input_type(kind), ...),
        "label": (Unicode | None, None),
        "occlusion": (bool, False),
        "model": (Unicode | None, None),
    }
    return create_model("ExplainRequest", __base__=Body, **fields)


def attention_request(kind: InputKind | None, n_layer: int) -> type[BaseModel]:
    """Return the body of /v1/attention; `kind` is None for a language model without a task head."""
    fields: Any = {
        "input": (Text | input_type(kind) if kind else Text, ...),
        "layer": (Annotated[int, Field(ge=0, lt=n_layer)], 0),
        "choice": (Annotated[int, Field(ge=0, lt=MOST_CHOICES)], 0),
        "model": (Unicode | None, None),
    }
    return create_model("AttentionRequest", __base__=Body, **fields)


Number = Annotated[float, Field(allow_inf_nan=False)]
Zero = Annotated[float, Field(ge=0, le=0)]


class StreamOptions(Body):
    """Streaming options of /v1/completions."""

    include_usage: bool = False


def completion_request(config: ServeConfig, vocab_size: int) -> type[BaseModel]:
    """Return the body of /v1/completions: OpenAI's fields and defaults, plus `top_k` and `repetition_penalty`.

    Fields of OpenAI's API that are not supported accept their default value only.
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
