"""`gpt1 serve` as a process: start, shutdown, errors.

Run: pytest tests/test_serve_process.py
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpt1.checkpoint.model_dir import save_model
from gpt1.cli import main
from support import served_models

PATIENCE = 60.0
"""Timeout in seconds for what takes a few seconds on an idle machine."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("served") / "tiny"
    save_model(directory, served_models.model("single"))
    return directory


@contextmanager
def program(model: Path, *flags: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a server and yield the process and its port."""
    command = [sys.executable, "-m", "gpt1", "serve", str(model), "--port", "0", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | environment)
    assert process.stderr
    try:
        line = ""
        while "http://" not in line:
            line = process.stderr.readline()
            assert line, "the server did not start"
        yield process, int(line.split("http://127.0.0.1:")[1].split()[0])
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def ask(port: int, path: str, body: object = None, **headers: str) -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    content = None if body is None else json.dumps(body)
    connection.request(
        "GET" if body is None else "POST", path, content, {"Content-Type": "application/json", **headers}
    )
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to be handled")
def test_sigterm_answers_what_has_begun_refuses_what_comes_and_ends(model: Path) -> None:
    with program(model, GPT1_API_KEY="k") as (process, port):
        key = {"Authorization": "Bearer k"}
        assert ask(port, "/v1/classify", {"input": "a"})[0] == 401
        assert ask(port, "/v1/classify", {"input": "a"}, **key)[0] == 200
        body = b'{"input": "a good day"}'
        head = f"POST /v1/classify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\nContent-Length: {len(body)}\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as slow:
            slow.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body[:5])
            while "gpt1_requests_in_flight 2.0" not in metrics(port):  # this request and that of the figures
                pass
            process.send_signal(signal.SIGTERM)
            while ask(port, "/ready")[0] == 200:
                pass
            status, refusal = ask(port, "/v1/classify", {"input": "a"}, **key)
            assert (status, refusal["error"]["code"]) == (503, "draining")  # type: ignore[index]
            slow.sendall(body[5:])
            assert slow.recv(4096).startswith(b"HTTP/1.1 200")
        assert process.wait(PATIENCE) == 0
        assert process.stderr and "all running requests were completed" in process.stderr.read()


def metrics(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def test_a_port_that_is_taken_is_named(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", str(model), "--port", str(port)]) == 2
    assert f"--port {port}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--port", "70000"], "--port 70000: expected 0 to 65,535"),
        (["--host", "999.1.1.1", "--port", "0"], "--host 999.1.1.1 --port 0: "),
        (["--max-queue-size", "3"], "--max-queue-size 3: expected --max-inputs 32 or more"),
        (["--timeout", "0"], "--timeout 0.0: expected a positive number of seconds"),
        (["--api-key-file", "no-such-file"], "no-such-file: No such file"),
    ],
)
def test_bad_settings_are_refused_before_the_model_is_loaded(
    model: Path, flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(model), *flags]) == 2
    assert said in capsys.readouterr().err


def test_a_model_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(tmp_path / "none"), "--port", "0"]) == 2
    assert "no such directory" in capsys.readouterr().err


def test_an_empty_key_file_is_refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "key").write_text("\n")
    assert main(["serve", str(model), "--port", "0", "--api-key-file", str(tmp_path / "key")]) == 2
    assert "the first line is empty, an API key expected" in capsys.readouterr().err
