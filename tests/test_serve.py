"""Responses and errors of the server. Run: pytest tests/test_serve.py

The server runs in the test's process; `tests/test_serve_process.py` runs it as a program.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from starlette.testclient import TestClient

from gpt1 import backends
from gpt1.checkpoint.model_dir import save_model
from gpt1.config import DeviceConfig, GenerateConfig, ServeConfig
from gpt1.data.example import Example
from gpt1.inference.classifier import Classifier
from gpt1.inference.explainer import Explainer
from gpt1.inference.generator import TextGenerator
from gpt1.serve import schemas
from gpt1.serve.errors import Refused
from gpt1.serve.server import guarded_app
from gpt1.serve.service import Service
from support import served_models

TOLERANCE = 1e-5
"""Tolerance of a float32 probability: batches of other shapes sum in another order."""

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def text_client() -> Iterator[TestClient]:
    with served_models.client("single") as found:
        yield found


def refusal(response: Any) -> dict[str, Any]:
    """Return the error of a response, after a check that it has OpenAI's format."""
    document = response.json()
    assert list(document) == ["error"]
    error: dict[str, Any] = document["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    return error


# ---- answers


@pytest.mark.parametrize("kind", ["single", "pair", "similarity", "choices"])
def test_answers_are_those_of_offline_prediction(kind: str) -> None:
    with served_models.client(kind) as client:
        item = served_models.ITEMS[kind]
        found = client.post("/v1/classify", json={"input": [item] * 3}).json()
    model = served_models.model(kind)
    offline = Classifier(model, backends.get(model.config, model.params, hardware=DeviceConfig(dtype="float32")))
    kind_of_input = offline.task.input_kind
    parsed = TypeAdapter(schemas.input_type(kind_of_input)).validate_python(item)
    example = schemas.example(kind_of_input, parsed)
    [expected] = offline.predict([example])
    assert [each["index"] for each in found["data"]] == [0, 1, 2]
    for each in found["data"]:
        assert each["label"] == expected["label"]
        assert each["score"] == pytest.approx(expected["score"], abs=TOLERANCE)
        assert each["scores"] == pytest.approx(expected["scores"], abs=TOLERANCE)
    assert found["usage"]["prompt_tokens"] > 0


def test_one_input_needs_no_list(text_client: TestClient) -> None:
    one = text_client.post("/v1/classify", json={"input": "a good day"}).json()
    many = text_client.post("/v1/classify", json={"input": ["a good day"]}).json()
    assert one == many


def test_a_text_that_is_cut_says_so(text_client: TestClient) -> None:
    found = text_client.post("/v1/classify", json={"input": ["a good day", served_models.TEXT * 3]}).json()
    assert [each["truncated"] for each in found["data"]] == [False, True]


def test_score_and_next_are_those_of_the_commands(text_client: TestClient) -> None:
    scored = text_client.post("/v1/score", json={"input": ["a good day", "it rains"]}).json()["data"]
    assert [each["text"] for each in scored] == ["a good day", "it rains"]
    assert scored[0]["logprobs"][0] is None and scored[0]["perplexity"] > 1
    tokens = text_client.post("/v1/next", json={"prompt": "a good", "top": 4}).json()["tokens"]
    assert len(tokens) == 4
    assert sorted((each["probability"] for each in tokens), reverse=True) == [each["probability"] for each in tokens]


def test_the_model_is_described(text_client: TestClient) -> None:
    [model] = text_client.get("/v1/models").json()["data"]
    assert model["id"] == "tiny" and model["gpt1"]["labels"] == ["x", "y", "z"]
    assert text_client.get("/v1/models/tiny").json() == model
    assert refusal(text_client.get("/v1/models/other"))["code"] == "model_not_found"


def test_pages_and_figures_are_there(text_client: TestClient) -> None:
    assert text_client.get("/health").json() == {"status": "ok"}
    assert text_client.get("/ready").status_code == 200
    assert "script-src" not in text_client.get("/").headers["content-security-policy"]  # so default-src 'self' holds
    assert text_client.get("/static/app.js").headers["cache-control"] == "no-cache"
    documentation = text_client.get("/docs").text
    assert "cdn" not in documentation and "swagger" in documentation
    text_client.post("/v1/classify", json={"input": "a"})
    figures = text_client.get("/metrics").text
    assert 'gpt1_requests_total{route="/v1/classify",status="200"}' in figures
    assert "gpt1_batch_sequences_count" in figures and "gpt1_inputs_waiting 0.0" in figures


def test_the_report_of_a_run_is_offered_where_there_is_one(text_client: TestClient, tmp_path: Path) -> None:
    [model] = text_client.get("/v1/models").json()["data"]
    assert model["gpt1"]["report"] is False
    assert refusal(text_client.get("/report"))["code"] == "no_report"
    save_model(tmp_path / "model", served_models.model("single"))
    (tmp_path / "report.html").write_text("<p>a report</p>")
    with TestClient(
        guarded_app(Service.open(tmp_path, ServeConfig()), "secret"), raise_server_exceptions=False
    ) as client:
        assert client.get("/report").status_code == 401  # it quotes the data
        client.headers["Authorization"] = "Bearer secret"
        assert client.get("/v1/models").json()["data"][0]["gpt1"]["report"] is True
        found = client.get("/report")
        assert found.text == "<p>a report</p>" and found.headers["content-type"].startswith("text/html")
        assert found.headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")
        (tmp_path / "report.html").unlink()
        assert client.get("/report").status_code == 404


@pytest.mark.parametrize("kind", ["single", "pair", "similarity", "choices"])
def test_an_explanation_has_the_words_of_every_text(kind: str) -> None:
    item = served_models.ITEMS[kind]
    with served_models.client(kind) as client:
        found = client.post("/v1/explain", json={"input": item, "occlusion": True}).json()
        [label] = [each["label"] for each in client.post("/v1/classify", json={"input": item}).json()["data"]]
    assert found["label"] == found["explained"] == label
    for text in found["texts"]:
        for word in text["words"]:
            assert text["text"][word["start"] : word["end"]] == word["text"]
            assert word["weight"] != 0 and word["occlusion"] is not None


def test_another_label_can_be_explained(text_client: TestClient) -> None:
    weights = {}
    for label in ("x", "y", "z"):
        found = text_client.post("/v1/explain", json={"input": "a good day", "label": label}).json()
        assert found["explained"] == label
        weights[label] = [word["weight"] for word in found["texts"][0]["words"]]
    assert len(set(map(tuple, weights.values()))) == 3
    refused = text_client.post("/v1/explain", json={"input": "a", "label": "w"})
    assert refusal(refused)["message"] == "label: 'w' not found; choose one of x, y, z"


def test_occlusion_that_is_too_much_work_is_refused_and_the_rest_is_not() -> None:
    asked = {"input": served_models.TEXT}
    with served_models.client("single", max_request_tokens=300) as client:
        refused = client.post("/v1/explain", json=asked | {"occlusion": True})
        assert (refused.status_code, refusal(refused)["param"]) == (422, "occlusion")
        assert client.post("/v1/explain", json=asked).status_code == 200


def test_occlusion_is_that_of_the_command(text_client: TestClient) -> None:
    found = text_client.post(
        "/v1/explain", json={"input": served_models.TEXT + " a b c d e f g", "occlusion": True}
    ).json()
    model = served_models.model("single")
    engine = backends.get(model.config, model.params, hardware=DeviceConfig(dtype="float32"))
    example = Example((served_models.TEXT + " a b c d e f g",))
    expected = Explainer(Classifier(model, engine)).explain(example, occlusion=True)
    changes = [[word["occlusion"] for word in each["texts"][0]["words"]] for each in (found, expected)]
    assert changes[0] == pytest.approx(changes[1], abs=TOLERANCE) and 0.0 in changes[0]


@pytest.mark.parametrize("kind", ["single", "pair", "choices", "none"])
def test_attention_looks_back_alone(kind: str) -> None:
    with served_models.client(kind) as client:
        for given in ("a good day", served_models.ITEMS.get(kind, "a")):
            found = client.post("/v1/attention", json={"input": given, "layer": 1}).json()
            assert found["tokens"][0] == "<bos>" and len(found["heads"]) == 2
            for head in found["heads"]:
                assert [len(row) for row in head] == list(range(1, len(found["tokens"]) + 1))
                assert [sum(row) for row in head] == pytest.approx([1.0] * len(head), abs=1e-4)
        assert refusal(client.post("/v1/attention", json={"input": "a", "layer": 2}))["param"] == "layer"


def test_attention_of_a_text_longer_than_the_context_is_refused() -> None:
    with served_models.client("none") as client:
        n_ctx = client.get("/v1/models").json()["data"][0]["gpt1"]["n_ctx"]
        response = client.post("/v1/attention", json={"input": "a good day " * n_ctx})
        assert response.status_code == 422
        assert f"attention is limited to {n_ctx}; shorten the text" in refusal(response)["message"]


# ---- completions


def written(kind: str, prompt: str, **settings: Any) -> list[str]:
    model = served_models.model(kind)
    engine = backends.get(model.config, model.params, hardware=DeviceConfig(dtype="float32"))
    generator = TextGenerator.of(model, engine)
    config = GenerateConfig(**{"top_p": 1.0, "temperature": 1.0, "max_tokens": 16} | settings)
    return [each["text"] for each in generator.generate([prompt], config)]


def test_a_completion_is_what_the_command_writes(text_client: TestClient) -> None:
    asked = {"prompt": "a good", "max_tokens": 9, "seed": 3, "n": 2}
    found = text_client.post("/v1/completions", json=asked).json()
    assert [choice["text"] for choice in found["choices"]] == written("single", "a good", max_tokens=9, seed=3, n=2)
    assert found["usage"]["total_tokens"] == sum(found["usage"][f"{part}_tokens"] for part in ("prompt", "completion"))


def test_streamed_pieces_make_up_the_same_text(text_client: TestClient) -> None:
    asked = {"prompt": "it", "max_tokens": 9, "seed": 5, "n": 2, "stream_options": {"include_usage": True}}
    whole = text_client.post("/v1/completions", json=asked).json()
    lines = text_client.post("/v1/completions", json=asked | {"stream": True}).text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    texts = ["", ""]
    for event in events[:-1]:
        [choice] = event["choices"]
        texts[choice["index"]] += choice["text"]
    assert texts == [choice["text"] for choice in whole["choices"]]
    assert events[-1]["choices"] == [] and events[-1]["usage"] == whole["usage"]
    assert len({event["id"] for event in events}) == 1


def test_token_ids_are_a_prompt_and_the_prompt_can_be_echoed(text_client: TestClient) -> None:
    ids = served_models.tokenizer().encode("a good")
    asked = {"max_tokens": 4, "seed": 1}
    texts = [
        text_client.post("/v1/completions", json=asked | {"prompt": prompt}).json()["choices"][0]["text"]
        for prompt in ("a good", ids, [ids], ["a good"])
    ]
    assert len(set(texts)) == 1
    echoed = text_client.post("/v1/completions", json=asked | {"prompt": "a good", "echo": True}).json()
    assert echoed["choices"][0]["text"] == "a good" + texts[0]


def test_more_texts_than_places_are_written_one_after_another() -> None:
    with served_models.client("none", max_batch_size=2) as client:
        found = client.post("/v1/completions", json={"prompt": ["a", "it"], "n": 3, "max_tokens": 5, "seed": 2}).json()
    expected = written("none", "a", n=3, max_tokens=5, seed=2) + written("none", "it", n=3, max_tokens=5, seed=2)
    assert [choice["text"] for choice in found["choices"]] == expected


def test_without_a_seed_texts_differ(text_client: TestClient) -> None:
    asked = {"prompt": "a", "max_tokens": 12, "temperature": 2}
    texts = {text_client.post("/v1/completions", json=asked).json()["choices"][0]["text"] for _ in range(4)}
    assert len(texts) > 1


def test_openais_client_works_unchanged(text_client: TestClient) -> None:
    openai = pytest.importorskip("openai", reason="the openai client is not installed")
    client = openai.OpenAI(base_url="http://testserver/v1", api_key="none", http_client=text_client)
    assert [model.id for model in client.models.list()] == ["tiny"]
    found = client.completions.create(model="tiny", prompt="a good", max_tokens=5, seed=1, temperature=0.5)
    pieces = client.completions.create(
        model="tiny", prompt="a good", max_tokens=5, seed=1, temperature=0.5, stream=True
    )
    assert "".join(piece.choices[0].text for piece in pieces) == found.choices[0].text
    with pytest.raises(openai.UnprocessableEntityError, match="temperature"):
        client.completions.create(model="tiny", prompt="a", temperature=-1)
    with pytest.raises(openai.NotFoundError, match="'gpt-4' not found; this server has 'tiny'"):
        client.completions.create(model="gpt-4", prompt="a")


def test_the_session_of_the_documentation_runs(
    text_client: TestClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    openai = pytest.importorskip("openai", reason="the openai client is not installed")
    text = (Path(__file__).parent.parent / "docs" / "serve.md").read_text(encoding="utf-8")
    [session] = re.findall(r"```python\n(.*?)```", text, re.S)

    def connected(base_url: str, api_key: str) -> Any:
        return ordinary(
            base_url=base_url.replace("127.0.0.1:8000", "testserver"), api_key=api_key, http_client=text_client
        )

    ordinary = openai.OpenAI
    monkeypatch.setattr(openai, "OpenAI", connected)
    exec(session, {})
    assert capsys.readouterr().out.strip()


# ---- refusals


@pytest.mark.parametrize(
    ("route", "body", "status", "param"),
    [
        ("classify", b'{"input": ', 400, None),
        ("classify", b"\xff\xfe", 400, None),
        ("classify", b"[" * 100_000, 400, None),
        ("classify", b'"text"', 422, None),
        ("classify", b"", 400, None),
        ("classify", {}, 422, "input"),
        ("classify", {"input": []}, 422, "input"),
        ("classify", {"input": ["a"] * 33}, 422, "input"),
        ("classify", {"input": ["a", ""]}, 422, "input[1]"),
        ("classify", {"input": " \n\t"}, 422, "input"),
        ("classify", {"input": 7}, 422, "input"),
        ("classify", {"input": None}, 422, "input"),
        ("classify", {"input": {"text_a": "a", "text_b": "b"}}, 422, "input"),
        ("classify", b'{"input": "\\ud800"}', 422, "input"),
        ("classify", {"input": "a", "labels": 3}, 422, "labels"),
        ("classify", {"input": "a", "model": "other"}, 404, "model"),
        ("score", {"input": ["a", 1]}, 422, "input[1]"),
        ("score", {"input": [(served_models.TEXT + " ") * 40] * 20}, 422, "input"),
        ("next", {"prompt": served_models.TEXT * 3}, 422, "prompt"),
        ("next", {"prompt": "a", "top": 0}, 422, "top"),
        ("next", {"prompt": "a", "top": "5"}, 422, "top"),
        ("next", {"prompt": "a", "top": 1_000_000}, 422, "top"),
        ("completions", {"prompt": "a", "temperature": -1}, 422, "temperature"),
        ("completions", b'{"prompt": "a", "temperature": NaN}', 422, "temperature"),
        ("completions", {"prompt": "a", "temperature": 1e300}, 422, "temperature"),
        ("completions", {"prompt": "a", "top_p": 0}, 422, "top_p"),
        ("completions", {"prompt": "a", "top_k": 0}, 422, "top_k"),
        ("completions", {"prompt": "a", "max_tokens": 10**9}, 422, "max_tokens"),
        ("completions", {"prompt": "a", "max_tokens": 0}, 422, "max_tokens"),
        ("completions", {"prompt": "a", "n": 10**6}, 422, "n"),
        ("completions", {"prompt": ["a"] * 8, "n": 8}, 422, "n"),
        ("completions", {"prompt": ["a"] * 1000}, 422, "prompt"),
        ("completions", {"prompt": [10**9]}, 422, "prompt[0]"),
        ("completions", {"prompt": served_models.TEXT * 3}, 422, "prompt"),
        ("completions", {"prompt": "a", "stop": ""}, 422, "stop"),
        ("completions", {"prompt": "a", "logprobs": 5}, 422, "logprobs"),
        ("completions", {"prompt": "a", "best_of": 2}, 422, "best_of"),
        ("completions", {"prompt": "a", "logit_bias": {"5": 1}}, 422, "logit_bias"),
        ("completions", {"prompt": "a", "presence_penalty": 1}, 422, "presence_penalty"),
        ("completions", {"prompt": "a", "seed": 1.5}, 422, "seed"),
        ("completions", b'{"prompt": "a \\ud800", "echo": true}', 422, "prompt"),
        ("completions", b'{"prompt": ["a", "a \\ud800"], "stream": true}', 422, "prompt[1]"),
        ("completions", b'{"prompt": "a", "model": "\\ud800"}', 422, "model"),
        ("next", b'{"prompt": "\\ud800"}', 422, "prompt"),
    ],
)
def test_a_bad_field_is_named(text_client: TestClient, route: str, body: Any, status: int, param: str | None) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = text_client.post(f"/v1/{route}", content=content, headers=JSON)
    assert (found.status_code, refusal(found)["param"]) == (status, param)
    assert text_client.post("/v1/classify", json={"input": "a"}).status_code == 200


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"input": " "}, "input: must not be empty"),
        ({"input": ["a"] * 33}, "input: 33 found, at most 32 allowed per request"),
        ({"input": 3}, "input: Input should be a valid string (expected: a text)"),
        ([1], "the body must be a JSON object with the header Content-Type: application/json"),
    ],
)
def test_a_refusal_says_what_is_expected(text_client: TestClient, body: Any, said: str) -> None:
    assert refusal(text_client.post("/v1/classify", json=body))["message"] == said


def test_what_openai_has_and_we_do_not_is_called_so(text_client: TestClient) -> None:
    for field, value in {"logprobs": 5, "best_of": 3, "frequency_penalty": 1, "logit_bias": {"1": 1}}.items():
        error = refusal(text_client.post("/v1/completions", json={"prompt": "a", field: value}))
        assert error["message"] == f"{field}: not supported; remove the field"


@pytest.mark.parametrize("text", ["\0", "a\0b", "<br />", "\x1c", "🎉" * 50, "ﷺ", "\u202e", "e" + "\u0301" * 500])
def test_strange_texts_are_answered_or_refused(text_client: TestClient, text: str) -> None:
    for route in ("classify", "score"):
        assert text_client.post(f"/v1/{route}", json={"input": text}).status_code in (200, 422)
    asked = {"prompt": text, "max_tokens": 2}
    assert text_client.post("/v1/completions", json=asked).status_code in (200, 422)


def test_openais_neutral_values_are_taken(text_client: TestClient) -> None:
    neutral = {
        "best_of": 1, "presence_penalty": 0.0, "frequency_penalty": 0, "logit_bias": {}, "logprobs": None,
        "suffix": None, "user": "me", "stop": None, "seed": -5,
    }  # fmt: skip
    found = text_client.post("/v1/completions", json={"prompt": "a", "max_tokens": 2} | neutral)
    assert found.status_code == 200


def test_a_language_model_says_that_it_cannot_label() -> None:
    with served_models.client("none") as client:
        found = client.post("/v1/classify", json={"input": "a"})
        assert found.status_code == 400
        assert "language model without a task" in refusal(found)["message"]
        assert client.post("/v1/explain", json={"input": "a"}).status_code == 400
        assert client.post("/v1/completions", json={"prompt": "a", "max_tokens": 2}).status_code == 200


def test_questions_with_different_numbers_of_choices_are_answered() -> None:
    question = served_models.ITEMS["choices"]
    with served_models.client("choices") as client:
        found = client.post("/v1/classify", json={"input": [question, question | {"choices": ["a", "b", "c"]}]}).json()
    assert [len(each["scores"]) for each in found["data"]] == [2, 3]


def test_unknown_routes_and_methods_have_the_same_form(text_client: TestClient) -> None:
    assert refusal(text_client.get("/v1/nothing"))["code"] == "not_found"
    assert refusal(text_client.put("/v1/classify"))["code"] == "method_not_allowed"
    assert text_client.get("/static/../../pyproject.toml").status_code == 404


def test_what_breaks_inside_stays_inside(text_client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client gets neither a path nor a traceback, and the next request succeeds."""

    def broken(batch: Any) -> Any:
        raise RuntimeError("/secret/path")

    engine = text_client.app.app.state.service.engine  # type: ignore[attr-defined]
    with monkeypatch.context() as patched:
        patched.setattr(engine, "logits", broken)
        found = text_client.post("/v1/classify", json={"input": "a"})
    assert found.status_code == 500 and "secret" not in found.text and "Traceback" not in found.text
    assert refusal(found)["code"] == "internal_error"
    assert text_client.post("/v1/classify", json={"input": "a"}).status_code == 200


def test_refused_is_what_routes_raise() -> None:
    assert Refused(404, "x").status == 404


# ---- the guard


def test_a_key_is_asked_for_under_v1_alone() -> None:
    with served_models.client("single", key="geheim") as client:
        for header in ({}, {"authorization": "Bearer falsch"}, {"authorization": "geheim"}):
            found = client.post("/v1/classify", json={"input": "a"}, headers=header)
            assert (found.status_code, refusal(found)["code"]) == (401, "invalid_api_key")
        good = {"authorization": "Bearer geheim"}
        assert client.post("/v1/classify", json={"input": "a"}, headers=good).status_code == 200
        assert [client.get(path).status_code for path in ("/", "/health", "/ready", "/docs")] == [200] * 4


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused(chunked: bool) -> None:
    body = json.dumps({"input": "a" * 5_000}).encode()
    with served_models.client("single", max_bytes=1_000) as client:
        content: Any = (body[i : i + 100] for i in range(0, len(body), 100)) if chunked else body
        found = client.post("/v1/classify", content=content, headers=JSON)
        assert (found.status_code, refusal(found)["code"]) == (413, "payload_too_large")
        assert client.post("/v1/classify", json={"input": "a"}).status_code == 200


def test_a_draining_server_refuses_new_requests_and_says_that_it_is_not_ready() -> None:
    with served_models.client("single") as client:
        served_models.guard(client).draining = True
        found = client.post("/v1/classify", json={"input": "a"})
        assert (found.status_code, refusal(found)["code"]) == (503, "draining")
        assert (client.get("/ready").status_code, client.get("/health").status_code) == (503, 200)
