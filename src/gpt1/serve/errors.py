"""Every error as OpenAI's API has them: {"error": {message, type, param, code}}."""

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
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    error: Error


TYPES = {401: "authentication_error", 429: "rate_limit_error", 503: "unavailable_error", 504: "timeout_error"}
"""Status -> type; other 4xx are `invalid_request_error`, 5xx `server_error`."""

CODES = {404: "not_found", 405: "method_not_allowed", 413: "payload_too_large"}

RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": what, "model": ErrorBody}
    for status, what in {
        400: "No JSON, or the model cannot do this",
        401: "No valid key",
        404: "No such model",
        408: "The body came too slowly",
        413: "The body is too large",
        422: "A field is wrong; `param` names it",
        429: "Too much waits already",
        503: "The server is shutting down",
        504: "No answer in time",
    }.items()
}
"""What the OpenAPI document says of errors."""

NOT_SUPPORTED = {"logprobs", "suffix", "best_of", "presence_penalty", "frequency_penalty", "logit_bias"}
"""Fields of OpenAI's that may only ask for nothing."""

TAKE_ITEMS = ("/v1/classify", "/v1/explain")
"""Routes whose input is an example of the model's task."""

UNIONS = {"str", "Pair", "Question", "list", "int", "body"}
"""Steps of a validation error's path that name a type and not a field."""


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None):
        super().__init__(message)
        self.status, self.message, self.param = status, message, param
        self.code = code or ("invalid_value" if status == 422 else None)


def body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Return the JSON of an error."""
    kind = TYPES.get(status) or ("invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code or CODES.get(status)}}


def response(status: int, message: str, param: str | None = None, code: str | None = None) -> JSONResponse:
    headers = {"Retry-After": "1"} if status in (429, 503) else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body(status, message, param, code), status, headers)


def install(app: FastAPI, input_expected: str) -> None:
    """Let every error of the app's routes have this form; what went wrong inside stays in the server's own log.

    `input_expected` says what one input of the model is.
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
            return response(400, "the body is empty; JSON is expected", code="invalid_json")
        param, message = describe(errors, error.body)
        wrong_kind = any(each["type"].endswith(("_type", "forbidden", "missing")) for each in errors)
        if param and param.startswith("input") and request.url.path in TAKE_ITEMS and wrong_kind:
            message += f" (this model takes {input_expected})"
        return response(422, message, param, "invalid_value")

    async def user_error(request: Request, error: Exception) -> JSONResponse:
        return response(422, str(error), code="invalid_value")

    async def full(request: Request, error: Exception) -> JSONResponse:
        return response(429, "too many inputs are waiting; try again in a moment", code="queue_full")

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if error.status_code == 400:  # FastAPI's, of bytes that are no text or nested too deep
            return response(400, "the body is not valid JSON", code="invalid_json")
        messages = {404: f"no such route: {request.url.path}", 405: f"{request.method} is not for this route"}
        return response(error.status_code, messages.get(error.status_code, str(error.detail)))

    async def ours(request: Request, error: Exception) -> JSONResponse:
        return response(500, "something went wrong in the server; its log says what", code="internal_error")

    for kind, handler in {
        Refused: refused,
        RequestValidationError: not_valid,
        UserError: user_error,
        QueueFull: full,
        HTTPException: http,
        Exception: ours,
    }.items():
        app.add_exception_handler(kind, handler)


def describe(errors: Sequence[Any], body: Any = None) -> tuple[str | None, str]:
    """Return (field, message) of the most specific validation error of a `body`.

    An error of a value comes before one of a type, because every branch of a union that does not apply reports its
    type; then the one deepest in the body.
    """
    deepest = max(errors, key=lambda error: (not error["type"].endswith("_type"), len(error["loc"])))
    field = ""
    for step in deepest["loc"]:
        if isinstance(step, int):
            field += f"[{step}]"
        elif step not in UNIONS and not step.startswith(("list[", "constrained-", "function-", "tagged-")):
            field += f".{step}" if field else step
    if not field:
        return None, "a JSON object is expected as the body, with the header Content-Type: application/json"
    if isinstance(body, dict) and not isinstance(body.get("input"), list):
        field = field.replace("input[0]", "input", 1)  # a single input, not a list
    return field, f"{field}: {reason(field, deepest)}"


def reason(field: str, error: Any) -> str:
    """Return what is wrong with a field, for people."""
    if field.partition("[")[0] in NOT_SUPPORTED:
        return "is not supported; leave it out"
    match error["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return "is no field of this request"
        case "string_unicode":
            return "is not valid Unicode (a lone surrogate)"
        case "string_pattern_mismatch" | "string_too_short":
            return "is empty"
        case "too_long":
            return f"{error['ctx']['actual_length']:,} found, {error['ctx']['max_length']} at most in a request"
        case "too_short":
            return f"{error['ctx']['min_length']} or more expected"
        case "string_type" | "model_type" | "dict_type" | "model_attributes_type" if isinstance(error["input"], list):
            return "one is expected here, not a list"
    message: str = error["msg"]
    return message.removeprefix("Value error, ")
