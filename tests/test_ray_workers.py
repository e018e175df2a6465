"""Ray tasks write the same files as local processes; their errors are reported in one line.

Tests that start Ray are skipped if it is not installed (`pip install ray`); it is too large for `dev`.
Run: pytest tests/test_ray_workers.py
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpt1.data.corpus import ray_workers as ray_module
from gpt1.data.corpus.local_workers import LocalWorkers, Workers
from gpt1.data.corpus.prepare import MANIFEST, prepare, sources
from gpt1.data.corpus.ray_workers import RayWorkers, encode_there, require_seen
from gpt1.data.corpus.shards import tokenizer_from_json, tokenizer_to_json
from gpt1.errors import UserError
from gpt1.tokenization.tokenizer import Tokenizer
from gpt1.tokenization.trainer import train
from support.corpora import END, PATIENCE, files_of, prepared_corpus, story

needs_ray = pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="Ray is not installed: pip install ray")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train(["the fox ran over the hill and the hen sat still", "a bc a bc 7 - ' \" . < > /"], 80)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    (folder / "more").mkdir(parents=True)
    for number, name in enumerate(["a.txt", "b.txt", "c.txt", "more/a.txt"]):
        (folder / name).write_text(f"{story(number)}{END}\n{story(number, 100)}", encoding="utf-8")
    return folder


# ---- without Ray


def test_a_tokenizer_survives_the_way_to_another_machine(tokenizer: Tokenizer) -> None:
    there = tokenizer_from_json(json.loads(json.dumps(tokenizer_to_json(tokenizer))))
    assert there.pretokenizer == tokenizer.pretokenizer
    assert there.encode(story(3)) == tokenizer.encode(story(3))


def test_what_a_task_runs_makes_the_same_files(
    texts: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function of a task, called without Ray, with requests that are plain data."""
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")

    class Direct:
        def encode(self, requests, tokenizer):  # type: ignore[no-untyped-def]
            tokenizer_json = json.loads(json.dumps(tokenizer_to_json(tokenizer)))
            for request in requests:
                for answer in encode_there(json.loads(json.dumps(request)), tokenizer_json):
                    yield request, answer

    workers: Workers = Direct()
    prepare(sources([texts]), tokenizer, tmp_path / "direct", end_of_document=END, workers=workers)
    prepared_corpus(texts, tokenizer, tmp_path / "here")
    assert files_of(tmp_path / "direct") == files_of(tmp_path / "here")


def test_a_task_gets_paths_that_hold_wherever_it_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of other nodes have another working directory, unlike those of a local Ray."""
    monkeypatch.chdir(tmp_path)
    request = {"shard": "out/a.bin", "source": "texts/a.txt", "name": "a.txt", "asked": {}}
    expected = request | {"shard": str(tmp_path / "out" / "a.bin"), "source": str(tmp_path / "texts" / "a.txt")}
    assert ray_module._from_anywhere(request) == expected


@pytest.mark.parametrize("missing", ["source", "shard"])
def test_a_node_that_does_not_see_the_files_says_so(
    missing: str, texts: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    request = {"shard": str(tmp_path / "a.bin"), "source": str(texts / "a.txt"), "name": "a.txt", "asked": {}}
    request[missing] = str(tmp_path / "elsewhere" / "a")
    ((kind, message),) = next(encode_there(request, tokenizer_to_json(tokenizer))).items()
    assert kind == "refused"
    assert "elsewhere" in message
    assert (
        "not found on node" in message
        and "; with --ray, all nodes must see the same files under the same paths" in message
    )


def test_a_shard_that_is_not_seen_here_is_named(
    texts: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_module, "SEEN_WITHIN", 0.0)
    corpus = prepared_corpus(texts, tokenizer, tmp_path / "out")
    facts = corpus.manifest["shards"][0]
    require_seen(tmp_path / "out" / "a.bin", facts)
    for name in ("a.bin", "a.index.bin", "a.json"):
        (tmp_path / "out" / name).rename(tmp_path / "kept")
        with pytest.raises(
            UserError, match=r"a\.bin: written by a task but not visible on this machine; with --ray, all nodes"
        ):
            require_seen(tmp_path / "out" / "a.bin", facts)
        (tmp_path / "kept").rename(tmp_path / "out" / name)


def test_without_ray_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^--ray local: Ray is not installed; run: pip install \"ray>=2.40\"$"):
        RayWorkers("local")


@pytest.mark.parametrize("workers", [LocalWorkers, lambda count: RayWorkers("local", count)])
def test_zero_files_at_once_are_refused(workers: type[LocalWorkers]) -> None:
    with pytest.raises(UserError, match=r"^--processes 0: expected 1 or more$"):
        workers(0)


@pytest.mark.parametrize("address", ["", "nonsense", "ray://host:10001", "host:", ":6379", "host:port"])
def test_an_address_of_another_kind_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(UserError, match=f"^--ray {address}: expected local .*, auto .* or HOST:PORT of a running one$"):
        RayWorkers(address)


@pytest.mark.parametrize("port", ["closed", "99999"])
def test_an_address_where_nothing_answers_is_refused_at_once(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        port = str(bound.getsockname()[1]) if port == "closed" else port
        with pytest.raises(UserError, match=rf"^--ray 127\.0\.0\.1:{port}: cannot connect \(.*\); expected local"):
            RayWorkers(f"127.0.0.1:{port}")


# ---- on a Ray of this machine


def command(texts: Path, tokenizer: Tokenizer, out: Path, *more: str) -> list[str]:
    tokenizer.save(out.parent / "bpe")
    words = ["prepare", "--corpus", texts, "--tokenizer", out.parent / "bpe", "--out", out, "--ray", "local"]
    return [sys.executable, "-m", "gpt1", *map(str, words), *more]


@needs_ray
def test_ray_tasks_make_the_same_files(texts: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Ray also writes nothing to the user's home directory."""
    (tmp_path / "home").mkdir()
    words = command(Path("texts"), tokenizer, tmp_path / "out")
    words[words.index(str(tmp_path / "out"))] = "out"
    found = subprocess.run(
        words, cwd=tmp_path, env=os.environ | {"HOME": str(tmp_path / "home")}, capture_output=True, text=True
    )
    assert (found.returncode, found.stdout) == (0, ""), found.stderr
    assert found.stderr.splitlines()[-1].startswith("4 files, 8 documents")
    assert len(found.stderr.splitlines()) == 1, "Ray's own messages"
    prepared_corpus(texts, tokenizer, tmp_path / "here")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "here")
    assert not list((tmp_path / "home").iterdir())


@needs_ray
def test_a_bad_file_is_the_line_that_it_is_without_ray(texts: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    (texts / "b.txt").write_bytes(b"fine\n\xff\xfe\x00binary")
    found = {}
    for name, drop in (("ray", 0), ("here", 2)):
        words = command(Path("texts"), tokenizer, tmp_path / name)
        words = words[: len(words) - drop]
        found[name] = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert found["ray"].returncode == found["here"].returncode == 2
    assert found["ray"].stderr == found["here"].stderr
    assert "b.txt line 2: byte 0xff at offset 5 is not UTF-8" in found["ray"].stderr
    assert not (tmp_path / "ray" / MANIFEST).exists()


@needs_ray
def test_where_no_cluster_runs_auto_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set by the environment variable that Ray reads, so that tests do not join a cluster of the user."""
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    with pytest.raises(UserError, match=r"^--ray auto: Invalid address format: nonsense; expected local .*, auto"):
        list(RayWorkers("auto").encode([], None))  # type: ignore[arg-type]


def of_session(process: subprocess.Popen[bytes]) -> list[str]:
    """Return the running processes that a command started; Ray's agents end within a minute after a kill."""
    listed = subprocess.run(["ps", "-eo", "sid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return [args for sid, state, args in rows if int(sid) == process.pid and state[0] != "Z" and "Agent" not in args]


@needs_ray
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Ray's processes end with a killed one on Linux alone")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_command_leaves_nothing_running_and_goes_on(
    how: signal.Signals, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    folder, out = tmp_path / "texts", tmp_path / "out"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number:02}.txt").write_text(story(number, 6_000), encoding="utf-8")
    words = command(folder, tokenizer, out, "--processes", "2")
    process = subprocess.Popen(words, stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + PATIENCE
    while len(list(out.glob("*.json"))) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(how)
    _, said = process.communicate(timeout=PATIENCE)
    if how == signal.SIGINT:
        assert (process.returncode, said.decode().count("\n")) == (130, 1), said.decode()
    deadline = time.monotonic() + PATIENCE
    while of_session(process) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert of_session(process) == []
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("*.json")}
    assert 2 <= len(kept) < 12
    assert subprocess.run(words, capture_output=True).returncode == 0
    assert kept.items() <= {path.name: path.stat().st_mtime_ns for path in out.glob("*.json")}.items()
    prepared_corpus(folder, tokenizer, tmp_path / "whole", processes=1)
    assert files_of(out) == files_of(tmp_path / "whole")
    assert not [path for path in out.iterdir() if "partial" in path.name]


@needs_ray
def test_a_program_that_is_no_ray_is_refused_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_module, "JOIN_WITHIN", 5.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(UserError, match=rf"^--ray {address}: no answer from Ray within 5 s; expected local"):
            list(RayWorkers(address).encode([], None))  # type: ignore[arg-type]
        assert time.monotonic() - started < PATIENCE
