"""HTTP routes and the OpenAPI document."""

# No postponed annotations here: the types of the request bodies are created for the served model.

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import Scope

from gpt1.data.paper_kinds import SINGLE
from gpt1.serve import errors, schemas
from gpt1.serve.completions import Completion
from gpt1.serve.errors import Refused
from gpt1.serve.service import Service

STATIC = files("gpt1.serve") / "static"

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
"""Headers of the playground: it loads nothing from other hosts, and browsers enforce that."""


class Files(StaticFiles):
    """Static files of the playground, revalidated by browsers because they change with the package version."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return the file with a `Cache-Control` header."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = PAGE_HEADERS["Cache-Control"]
        return response


REPORT_HEADERS = PAGE_HEADERS | {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
}
"""Headers of the report, which has inline styles and no script."""


def create_app(service: Service) -> FastAPI:
    """Return the ASGI application of one model, without the request guard (`server.guarded_app`)."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.worker.start()
        yield
        service.worker.stop()

    app = FastAPI(
        title="gpt1", version=version("gpt1"), lifespan=lifespan, docs_url=None, redoc_url=None,
        description=f"Serves the model {service.name}. Errors have the format of OpenAI's API.",
        responses=errors.RESPONSES,
        swagger_ui_oauth2_redirect_url=None,
    )  # fmt: skip
    app.state.service = service
    errors.install(app, (service.input_kind or SINGLE).json_description)
    _add_labelling(app, service)
    _add_language_model(app, service)
    _add_operations(app, service)
    _add_pages(app, service)
    return app


def _add_labelling(app: FastAPI, service: Service) -> None:
    kind = service.input_kind or SINGLE
    classify_request = schemas.classify_request(kind, service.config)

    @app.post("/v1/classify", summary="Classify texts, pairs or multiple-choice questions")
    async def classify(request: classify_request) -> Response:  # type: ignore[valid-type]
        _require_model(service, request)
        result = await service.classify([schemas.example(kind, item) for item in request.input])  # type: ignore[attr-defined]
        return JSONResponse({"object": "list", "model": service.name, **result})

    explain_request = schemas.explain_request(kind)

    @app.post("/v1/explain", summary="Explain a prediction by word weights")
    async def explain(request: explain_request) -> Response:  # type: ignore[valid-type]
        _require_model(service, request)
        example = schemas.example(kind, request.input)  # type: ignore[attr-defined]
        result = await service.explain(example, request.label, request.occlusion)  # type: ignore[attr-defined]
        return JSONResponse({"object": "explanation", "model": service.name, **result})

    attention_request = schemas.attention_request(service.input_kind, service.model.config.n_layer)

    @app.post("/v1/attention", summary="Attention weights of the heads of one layer")
    async def attention(request: attention_request) -> Response:  # type: ignore[valid-type]
        _require_model(service, request)
        item = schemas.example_or_text(service.input_kind, request.input)  # type: ignore[attr-defined]
        result = await service.attention(item, request.layer, request.choice)  # type: ignore[attr-defined]
        return JSONResponse({"object": "attention", "model": service.name, **result})


def _add_language_model(app: FastAPI, service: Service) -> None:
    score_request = schemas.score_request(service.config)
    completion_request = schemas.completion_request(service.config, service.model.config.vocab_size)

    @app.post("/v1/score", summary="Log-probability of each token, perplexity, bits per byte")
    async def score(request: score_request) -> Response:  # type: ignore[valid-type]
        _require_model(service, request)
        return JSONResponse({"object": "list", "model": service.name, **await service.score(request.input)})  # type: ignore[attr-defined]

    @app.post("/v1/next", summary="Most likely next tokens")
    async def next_tokens(request: schemas.NextRequest) -> Response:
        _require_model(service, request)
        return JSONResponse(
            {"object": "next", "model": service.name, **await service.next(request.prompt, request.top)}
        )

    @app.post("/v1/completions", summary="Generate text from a prompt (compatible with OpenAI's completions)")
    async def completions(request: completion_request) -> Response:  # type: ignore[valid-type]
        _require_model(service, request)
        completion = await Completion.of(service, request)
        if request.stream:  # type: ignore[attr-defined]
            return StreamingResponse(
                completion.events(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
            )
        return JSONResponse(await completion.whole())

    @app.get("/v1/models", summary="List the served model")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [service.described()]}

    @app.get("/v1/models/{name}", summary="Get the served model by name")
    async def model(name: str) -> dict[str, Any]:
        _require_name(service, name)
        return service.described()


def _add_operations(app: FastAPI, service: Service) -> None:
    @app.head("/health", include_in_schema=False)
    @app.get("/health", summary="Liveness: the server process is running")
    async def health() -> Response:
        return JSONResponse({"status": "ok"})

    @app.head("/ready", include_in_schema=False)
    @app.get("/ready", summary="Readiness: the server accepts requests")
    async def ready(request: Request) -> Response:
        if not service.worker.alive or request.app.state.draining():
            return errors.response(503, "the server is shutting down", code="draining")
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", summary="Metrics in Prometheus format")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _add_pages(app: FastAPI, service: Service) -> None:
    from fastapi_swagger import patch_fastapi

    patch_fastapi(app, redirect_from_root_to_docs=False)  # Swagger UI from the package, not from a CDN
    app.mount("/static", Files(directory=str(STATIC)), name="static")

    @app.get("/", include_in_schema=False)
    async def playground() -> Response:
        return FileResponse(str(STATIC / "index.html"), headers=PAGE_HEADERS)

    @app.get("/report", include_in_schema=False)
    async def report() -> Response:
        if not (service.report and service.report.is_file()):
            raise Refused(404, f"{service.name} has no report.html; gpt1 report RUN writes it", code="no_report")
        return FileResponse(str(service.report), headers=REPORT_HEADERS)


def _require_model(service: Service, request: Any) -> None:
    if request.model is not None:
        _require_name(service, request.model)


def _require_name(service: Service, name: str) -> None:
    if name != service.name:
        raise Refused(
            404, f"model {name!r} not found; this server has {service.name!r}", param="model", code="model_not_found"
        )
