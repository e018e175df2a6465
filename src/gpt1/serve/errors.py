"""Error responses in the format of OpenAI's API: {"error": {message, type, param, code}}."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from gpt1.errors import UserError
from gpt1.serve.worker import QueueFull


class Error(BaseModel):
    """Details of an error; `param` is the field that caused it, as "input.text_a"."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """Body of an error response."""

    error: Error


TYPES = {401: "authentication_error", 429: "rate_limit_error", 503: "unavailable_error", 504: "timeout_error"}
"""Status -> type; other 4xx have `invalid_request_error`, other 5xx `server_error`."""

CODES = {404: "not_found", 405: "method_not_allowed", 413: "payload_too_large"}

RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": what, "model": ErrorBody}
    for status, what in {
        400: "Invalid JSON, or not supported by the model",
        401: "Missing or invalid API key",
        404: "Model not found",
        408: "Timeout while receiving the body",
        413: "Body too large",
        422: "Invalid field, named by `param`",
        429: "Queue full",
        503: "Server is shutting down",
        504: "Timeout of the request",
    }.items()
}
"""Error responses in the OpenAPI document."""

INTERNAL_ERROR = "internal server error; see the server's log"

NOT_SUPPORTED = {"logprobs", "suffix", "best_of", "presence_penalty", "frequency_penalty", "logit_bias"}
"""Fields of OpenAI's API that are accepted with their default value only."""

TAKE_ITEMS = ("/v1/classify", "/v1/explain")
"""Routes whose input is an example of the model's task."""

UNIONS = {"str", "Pair", "Question", "list", "int", "body"}
"""Elements of a validation error's path that are types, not fields."""


class Refused(Exception):
    """A request that is rejected with an HTTP error."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None):
        super().__init__(message)
        self.status, self.message, self.param = status, message, param
        self.code = code or ("invalid_value" if status == 422 else None)


def body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Return the JSON body of an error."""
    kind = TYPES.get(status) or ("invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code or CODES.get(status)}}


def response(status: int, message: str, param: str | None = None, code: str | None = None) -> JSONResponse:
    """Return an error response with its body and headers."""
    headers = {"Retry-After": "1"} if status in (429, 503) else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body(status, message, param, code), status, headers)


def install(app: FastAPI, input_expected: str) -> None:
    """Register the exception handlers of `app`; details of internal errors go to the log only.

    `input_expected` describes one input of the model, for messages.
    """

    async def refused(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Refused)
        return response(error.status, error.message, error.param, error.code)

    async def not_valid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        errors = error.errors()
        if any(each["type"] == "json_invalid" for each in errors):
            return response(400, "the body is not valid JSON", code="invalid_json")
        if all(each["type"] == "missing" and each["loc"] == ("body",) for each in errors):
            return response(400, "the body is empty; JSON expected", code="invalid_json")
        param, message = describe(errors, error.body)
        wrong_kind = any(each["type"].endswith(("_type", "forbidden", "missing")) for each in errors)
        if param and param.startswith("input") and request.url.path in TAKE_ITEMS and wrong_kind:
            message += f" (expected: {input_expected})"
        return response(422, message, param, "invalid_value")

    async def user_error(request: Request, error: Exception) -> JSONResponse:
        return response(422, str(error), code="invalid_value")

    async def full(request: Request, error: Exception) -> JSONResponse:
        return response(429, "the queue is full; retry later", code="queue_full")

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if error.status_code == 400:  # from FastAPI: invalid UTF-8, or nested too deep
            return response(400, "the body is not valid JSON", code="invalid_json")
        messages = {404: f"route not found: {request.url.path}", 405: f"method {request.method} not allowed"}
        return response(error.status_code, messages.get(error.status_code, str(error.detail)))

    async def internal(request: Request, error: Exception) -> JSONResponse:
        return response(500, INTERNAL_ERROR, code="internal_error")

    for kind, handler in {
        Refused: refused,
        RequestValidationError: not_valid,
        UserError: user_error,
        QueueFull: full,
        HTTPException: http,
        Exception: internal,
    }.items():
        app.add_exception_handler(kind, handler)


def describe(errors: Sequence[Any], body: Any = None) -> tuple[str | None, str]:
    """Return (field, message) of the most specific validation error of a `body`.

    Errors of values are preferred to errors of types, because each branch of a union that does not apply reports a type
    error; among equals the deepest one in the body is used.
    """
    deepest = max(errors, key=lambda error: (not error["type"].endswith("_type"), len(error["loc"])))
    field = ""
    for step in deepest["loc"]:
        if isinstance(step, int):
            field += f"[{step}]"
        elif step not in UNIONS and not step.startswith(("list[", "constrained-", "function-", "tagged-")):
            field += f".{step}" if field else step
    if not field:
        return None, "the body must be a JSON object with the header Content-Type: application/json"
    if isinstance(body, dict) and not isinstance(body.get("input"), list):
        field = field.replace("input[0]", "input", 1)  # a single input, not a list
    return field, f"{field}: {reason(field, deepest)}"


def reason(field: str, error: Any) -> str:
    """Return the message of a field's validation error."""
    if field.partition("[")[0] in NOT_SUPPORTED:
        return "not supported; remove the field"
    match error["type"]:
        case "missing":
            return "field required"
        case "extra_forbidden":
            return "unknown field"
        case "string_unicode":
            return "not valid Unicode (lone surrogate)"
        case "string_pattern_mismatch" | "string_too_short":
            return "must not be empty"
        case "too_long":
            return f"{error['ctx']['actual_length']:,} found, at most {error['ctx']['max_length']} allowed per request"
        case "too_short":
            return f"at least {error['ctx']['min_length']} required"
        case "string_type" | "model_type" | "dict_type" | "model_attributes_type" if isinstance(error["input"], list):
            return "a single value expected, not a list"
    message: str = error["msg"]
    return message.removeprefix("Value error, ")
