"""The files of a corpus encoded by Ray tasks, on as many machines as its cluster has.

A task gets plain data and does what a process of this machine does (`shards.answers`). All nodes see one file system,
have gpt1 installed, and write the shards themselves: nothing but sizes and names comes back. Ray is imported here
alone. Run as a program, this module joins the cluster that it is given and leaves it: whether one answers there.
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
from gpt1.data.corpus.shards import Answer, Request, answers, tokenizer_from_json, tokenizer_to_json, whole
from gpt1.errors import UserError
from gpt1.system.processes import cores, start_python
from gpt1.tokenization.tokenizer import Tokenizer

CONNECT_WITHIN = 3.0
"""Seconds in which HOST:PORT takes a connection."""
JOIN_WITHIN = 20.0
"""Seconds in which a cluster lets a process join it; Ray itself tries for minutes, and then ends the process."""
SEEN_WITHIN = 60.0
"""Seconds after which a file that another node wrote is seen here; NFS may take 30."""
TASKS_PER_CORE = 2
"""Tasks that are handed out for each core of the cluster, so that none waits and one that grows knows what is asked."""
OBJECTS = 100 * 2**20
"""Bytes that a Ray of our own sets aside for what tasks give each other: here next to nothing, and Ray wants 75 MiB."""

KINDS = "local (a Ray of its own on this machine), auto (the cluster of this machine) or HOST:PORT of a running one"
NEEDS_TOKEN = "this Ray asks for a token: set RAY_AUTH_MODE=token, and the token as for any other Ray program"
ONE_FILE_SYSTEM = "with --ray, all nodes must see the same files under the same paths"


@dataclass(frozen=True)
class RayWorkers:
    """The tasks of a Ray cluster."""

    address: str
    """`local`, which starts a Ray for the time of the command, `auto`, or HOST:PORT."""
    processes: int | None = None
    """Files that are encoded at once; by default as many as the cluster has cores."""

    def __post_init__(self) -> None:
        if self.processes is not None and self.processes < 1:
            raise UserError(f"--processes {self.processes}: expected 1 or more")
        if importlib.util.find_spec("ray") is None:
            raise UserError(f"--ray {self.address}: Ray is not installed; run: pip install 'gpt1[ray]'")
        _require_address(self.address)

    def encode(self, requests: Sequence[Request], tokenizer: Tokenizer) -> Answers:
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
                        if "size" not in answer:
                            del running[stream]
                        yield request, answer
            finally:
                for stream in running:
                    ray.cancel(stream, force=True)


def encode_there(request: Request, tokenizer_json: Mapping[str, str]) -> Iterator[Answer]:
    """Encode a file: what a task runs, on whatever node."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a task has one core
    for path in (Path(request["source"]), Path(request["shard"]).parent):
        if not path.exists():
            yield {"refused": f"{path}: node {platform.node()} does not see it; {ONE_FILE_SYSTEM}"}
            return
    yield from answers(request, _tokenizer(tokenizer_json["pipeline"], tokenizer_json["pretokenizer"]))


@lru_cache(maxsize=1)
def _tokenizer(pipeline: str, pretokenizer: str) -> Tokenizer:
    """Return the tokenizer; a worker of Ray runs many tasks, and makes it once."""
    return tokenizer_from_json({"pipeline": pipeline, "pretokenizer": pretokenizer})


def _from_anywhere(request: Request) -> Request:
    """Return the request with paths that do not depend on where a process was started."""
    return request | {key: str(Path(request[key]).absolute()) for key in ("shard", "source")}


def _next(ray: Any, stream: Any, request: Request, address: str) -> Answer:
    """Return the next answer of a task, with what Ray says of a task that did not end by itself as one."""
    try:
        answer: Answer = ray.get(next(stream))
    except ray.exceptions.RayTaskError as error:  # not ours, which come as answers: the function cannot be had there
        what = str(error).strip().splitlines()[-1]
        return {"refused": f"--ray {address}: a task cannot run ({what}); every node needs gpt1 as it is here"}
    except (ray.exceptions.RayError, StopIteration) as error:
        why = f"the task that encoded it ended ({type(error).__name__}); the same command goes on from here"
        return {"failed": why}
    match answer:
        case {"refused": str(message)}:
            return {"refused": message.replace(str(Path(request["source"]).absolute()), request["source"])}
        case {"done": details}:
            require_seen(Path(request["shard"]), details["shard"])
    return answer


def require_seen(shard: Path, facts: Mapping[str, Any]) -> None:
    """Raise UserError where the files of a shard that a task wrote are not seen here."""
    deadline = time.monotonic() + SEEN_WITHIN
    while not whole(shard, facts):
        if time.monotonic() > deadline:
            raise UserError(f"{shard}: a task wrote it, and it is not seen here; {ONE_FILE_SYSTEM}")
        time.sleep(0.1)


# ---- a Ray to run on


def _require_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    if address in ("local", "auto"):
        return
    if not host or not port.isdecimal() or "/" in host:
        raise UserError(f"--ray {address}: expected {KINDS}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"--ray {address}: nothing answers there ({error}); expected {KINDS}") from None


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
            raise UserError(f"--ray {address}: this process uses a Ray already; call ray.shutdown() first")
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL, **own)
            yield ray
        finally:
            ray.shutdown()


@lru_cache
def _private() -> dict[str, str]:
    """Return what makes a Ray one that nobody else can reach: who can has it run any program.

    The same again in the same process, for Ray keeps what it has read.
    """
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # binds to loopback
        "RAY_AUTH_MODE": "token",  # against others on this machine; otherwise Ray writes a token to ~/.ray
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
    """Raise UserError where no Ray lets another process join it: Ray would end the process that tries."""
    probe = start_python("gpt1.data.corpus.ray_workers", stderr=subprocess.PIPE, text=True, encoding="utf-8")
    try:
        output, log = probe.communicate(address, JOIN_WITHIN)
    except subprocess.TimeoutExpired as error:
        output, log = f"no Ray answered within {JOIN_WITHIN:.0f} s", str(error.stderr)
    finally:
        probe.kill()
        probe.wait()
    if probe.returncode:
        why, _, _ = " ".join(output.split()).partition(". ")  # what follows speaks of Ray's own flags
        if "InvalidAuthToken" in log:
            raise UserError(f"--ray {address}: {NEEDS_TOKEN}")
        raise UserError(f"--ray {address}: {why or 'no Ray answers there'}; expected {KINDS}")


def main() -> None:
    """Join the cluster whose address comes through stdin; where that fails, print why."""
    import ray

    try:
        ray.init(sys.stdin.read(), log_to_driver=False, logging_level=logging.CRITICAL)
    except Exception as error:
        print(error)
        sys.exit(1)


if __name__ == "__main__":
    main()
