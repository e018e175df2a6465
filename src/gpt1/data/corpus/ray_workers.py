"""Encoding of a corpus by Ray tasks on all machines of a cluster.

A task receives plain data and runs `shards.answers`, like a process of this machine. All nodes need gpt1 and a shared
file system; they write the shards themselves and return only sizes and names. Ray is imported in this module only. Run
as a program, this module tests whether it can join the cluster with the given address.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import platform
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from gpt1.data.corpus.local_workers import Answers, largest_first
from gpt1.data.corpus.shards import (
    Answer,
    Request,
    answers,
    is_complete,
    is_progress,
    tokenizer_from_json,
    tokenizer_to_json,
)
from gpt1.errors import UserError
from gpt1.system.extras import install_command
from gpt1.system.processes import cores, start_python
from gpt1.tokenization.tokenizer import Tokenizer

CONNECT_WITHIN = 3.0
"""Timeout in seconds of connecting to HOST:PORT."""
JOIN_WITHIN = 20.0
"""Timeout in seconds of joining a cluster; Ray itself retries for minutes and then ends the process."""
SEEN_WITHIN = 60.0
"""Timeout in seconds until a file written by another node is visible here; NFS may take 30."""
TASKS_PER_CORE = 2
"""Tasks submitted per core of the cluster, so that no core is idle and an autoscaler sees the demand."""
OBJECTS = 100 * 2**20
"""Bytes of the object store of a local Ray, which is hardly used here; Ray requires at least 75 MiB."""

KINDS = "local (a new Ray on this machine), auto (the running cluster of this machine) or HOST:PORT of a running one"
NEEDS_TOKEN = "this Ray requires a token: set RAY_AUTH_MODE=token, and the token as for any other Ray program"
ONE_FILE_SYSTEM = "with --ray, all nodes must see the same files under the same paths"


@dataclass(frozen=True)
class RayWorkers:
    """Tasks of a Ray cluster."""

    address: str
    """`local` (a Ray that is started for this command), `auto`, or HOST:PORT."""
    processes: int | None = None
    """Maximum number of files encoded in parallel (default: number of cores of the cluster)."""

    def __post_init__(self) -> None:
        if self.processes is not None and self.processes < 1:
            raise UserError(f"--processes {self.processes}: expected 1 or more")
        if importlib.util.find_spec("ray") is None:
            raise UserError(f"--ray {self.address}: Ray is not installed; run: {install_command('ray')}")
        _require_address(self.address)

    def encode(self, requests: Sequence[Request], tokenizer: Tokenizer) -> Answers:
        """Encode as `Workers.encode` specifies.

        Raises:
            UserError: the cluster cannot be joined, or its nodes lack gpt1 or the shared file system.
        """
        with _connected(self.address, self.processes) as ray:
            task = ray.remote(num_cpus=1, num_returns="streaming")(encode_there)
            tokenizer_json = ray.put(tokenizer_to_json(tokenizer))
            at_once = self.processes or TASKS_PER_CORE * max(1, int(ray.cluster_resources().get("CPU", 1)))
            waiting = largest_first(requests)[::-1]
            running: dict[Any, Request] = {}
            try:
                while waiting or running:
                    while waiting and len(running) < at_once:
                        request = waiting.pop()
                        running[task.remote(_from_anywhere(request), tokenizer_json)] = request
                    ready, _ = ray.wait(list(running))
                    for stream in ready:
                        request = running[stream]
                        answer = _next(ray, stream, request, self.address)
                        if not is_progress(answer):
                            del running[stream]
                        yield request, answer
            finally:
                for stream in running:
                    ray.cancel(stream, force=True)


def encode_there(request: Request, tokenizer_json: Mapping[str, str]) -> Iterator[Answer]:
    """Encode a file on any node; the function that tasks run."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a task has one core
    for path in (Path(request["source"]), Path(request["shard"]).parent):
        if not path.exists():
            yield {"refused": f"{path}: not found on node {platform.node()}; {ONE_FILE_SYSTEM}"}
            return
    yield from answers(request, _tokenizer(tokenizer_json["pipeline"], tokenizer_json["pretokenizer"]))


@lru_cache(maxsize=1)
def _tokenizer(pipeline: str, pretokenizer: str) -> Tokenizer:
    """Return the tokenizer, cached because a Ray worker runs many tasks."""
    return tokenizer_from_json({"pipeline": pipeline, "pretokenizer": pretokenizer})


def _from_anywhere(request: Request) -> Request:
    """Return the request with absolute paths."""
    return request | {key: str(Path(request[key]).absolute()) for key in ("shard", "source")}


def _next(ray: Any, stream: Any, request: Request, address: str) -> Answer:
    """Return the next answer of a task; failures of the task itself are converted to answers."""
    try:
        answer: Answer = ray.get(next(stream))
    except ray.exceptions.RayTaskError as error:  # the function cannot be loaded; its own errors are answers
        what = str(error).strip().splitlines()[-1]
        return {"refused": f"--ray {address}: a task cannot run ({what}); every node needs the same gpt1 as this one"}
    except (ray.exceptions.RayError, StopIteration) as error:
        why = f"the task that encoded it ended ({type(error).__name__}); rerun the same command to resume"
        return {"failed": why}
    match answer:
        case {"refused": str(message)}:
            return {"refused": message.replace(str(Path(request["source"]).absolute()), request["source"])}
        case {"done": details}:
            require_seen(Path(request["shard"]), details["shard"])
    return answer


def require_seen(shard: Path, facts: Mapping[str, Any]) -> None:
    """Wait until the files of a shard written by a task are visible; raise UserError after `SEEN_WITHIN`."""
    deadline = time.monotonic() + SEEN_WITHIN
    while not is_complete(shard, facts):
        if time.monotonic() > deadline:
            raise UserError(f"{shard}: written by a task but not visible on this machine; {ONE_FILE_SYSTEM}")
        time.sleep(0.1)


# ---- connecting to Ray


def _require_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    if address in ("local", "auto"):
        return
    if not host or not port.isdecimal() or "/" in host:
        raise UserError(f"--ray {address}: expected {KINDS}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"--ray {address}: cannot connect ({error}); expected {KINDS}") from None


@contextmanager
def _connected(address: str, processes: int | None) -> Iterator[Any]:
    own: dict[str, Any] = {}
    if address == "local":
        own = {"num_cpus": processes or cores(), "include_dashboard": False, "object_store_memory": OBJECTS}
    else:
        _require_joinable(address)
    with _environment(_private() if address == "local" else {}):
        import ray

        if ray.is_initialized():
            raise UserError(f"--ray {address}: this process is already connected to Ray; call ray.shutdown() first")
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL, **own)
            yield ray
        finally:
            ray.shutdown()


@lru_cache
def _private() -> dict[str, str]:
    """Return environment variables that make a local Ray inaccessible to others, who could run any program in it.

    Cached, because Ray reads them only once per process.
    """
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # binds to loopback
        "RAY_AUTH_MODE": "token",  # excludes other users; RAY_AUTH_TOKEN avoids a token in ~/.ray
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _require_joinable(address: str) -> None:
    """Raise UserError if the cluster cannot be joined; tested in another process, which Ray ends on failure."""
    probe = start_python("gpt1.data.corpus.ray_workers", stderr=subprocess.PIPE, text=True, encoding="utf-8")
    try:
        output, log = probe.communicate(address, JOIN_WITHIN)
    except subprocess.TimeoutExpired as error:
        output, log = f"no answer from Ray within {JOIN_WITHIN:.0f} s", str(error.stderr)
    finally:
        probe.kill()
        probe.wait()
    if probe.returncode:
        why, _, _ = " ".join(output.split()).partition(". ")  # the rest is about Ray's own flags
        if "InvalidAuthToken" in log:
            raise UserError(f"--ray {address}: {NEEDS_TOKEN}")
        raise UserError(f"--ray {address}: {why or 'no Ray found there'}; expected {KINDS}")


def main() -> None:
    """Join the cluster whose address is read from stdin; on failure print the reason and exit with code 1."""
    import ray

    try:
        ray.init(sys.stdin.read(), log_to_driver=False, logging_level=logging.CRITICAL)
    except Exception as error:
        print(error)
        sys.exit(1)


if __name__ == "__main__":
    main()
