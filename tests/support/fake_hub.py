"""A local server with the parts of the Hugging Face hub's HTTP API that gpt1 needs.

    with FakeHub() as hub:
        commit = hub.commit("owner/name", {"config.json": b"{}"})
        os.environ["HF_ENDPOINT"] = hub.url

| request                                            | answer                                                       |
|----------------------------------------------------|--------------------------------------------------------------|
| GET /api/{models,datasets}/ID[/revision/REV]       | commit and files, with their sizes and digests               |
| GET /api/{models,datasets}/ID/tree/REV             | the files                                                    |
| HEAD, GET /[datasets/]ID/resolve/REV/FILE          | a file; `ETag` is sha256 for an LFS file, else git's sha1    |
| POST /api/repos/create, …/branch/REV               | a repository, a branch; 409 if it exists                     |
| POST …/preupload/REV, …/commit/REV                 | which files go through LFS; a commit                         |
| POST /ID.git/info/lfs/objects/batch, PUT /lfs/SHA  | a file of LFS                                                |

Errors have the header `X-Error-Code`, which huggingface_hub reads. Uploads require the token `FakeHub.token`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

LFS_SUFFIXES = (".parquet", ".safetensors", ".bin")
"""Files that are stored in LFS, by SHA-256 (selected by suffix here, by .gitattributes on the hub)."""


@dataclass
class FakeRepo:
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Commit -> file -> content."""
    refs: dict[str, str] = field(default_factory=dict)
    """Branch or tag -> commit."""
    private: bool = False
    """Responds with status 401, as for requests without a token."""
    gated: bool = False
    """Can be listed, but downloads are refused with status 403."""
    damaged: dict[str, int] = field(default_factory=dict)
    """File -> how many more times its first byte is sent corrupted."""


class FakeHub:
    """The server, as a context manager; `url` is its endpoint, `requests` every request so far as "METHOD path"."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], FakeRepo] = {}
        self.requests: list[str] = []
        self.token = "hf_writer"
        self.reader = "hf_reader"
        """A token with read access only."""
        self.objects: dict[str, bytes] = {}
        """LFS: sha256 -> content."""
        self.down: HTTPStatus | None = None
        """Status of all responses, if set."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Close the port, so that connections are refused."""
        self._server.shutdown()
        self._server.server_close()

    def commit(
        self, repo_id: str, files: Mapping[str, bytes], *, repo_type: str = "model", revision: str = "main"
    ) -> str:
        """Replace the content of a branch or tag by `files`, creating the repository if needed; return the commit."""
        repo = self.repos.setdefault((repo_type, repo_id), FakeRepo())
        digest = hashlib.sha1(repr((len(repo.commits), revision, sorted(files.items()))).encode()).hexdigest()
        repo.commits[digest] = dict(files)
        repo.refs[revision] = digest
        return digest


def describe(content: bytes, name: str) -> dict[str, Any]:
    """Return size and digests of a file, as in listings of the hub."""
    entry: dict[str, Any] = {
        "size": len(content),
        "oid": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
    }
    if name.endswith(LFS_SUFFIXES):
        sha256 = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": sha256, "sha256": sha256, "size": len(content), "pointerSize": 134}
    return entry


class _Refused(Exception):
    """End a request with `status` and the hub's error code."""

    def __init__(self, status: HTTPStatus, code: str = "", **answer: str) -> None:
        self.status, self.code, self.answer = status, code, answer


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    # HTTP/1.0, the default of the base class, closes each connection, so that none is kept alive after `stop`

    API = re.compile(r"/api/(?P<type>model|dataset)s/(?P<id>[^/]+/[^/]+)(?:/(?P<what>revision|tree)/(?P<rev>[^/]+))?")
    FILE = re.compile(r"/(?P<type>datasets/)?(?P<id>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<file>.+)")

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append(f"{self.command} {unquote(path)}")
        try:
            if self.hub.down:
                raise _Refused(self.hub.down)
            if match := self.API.fullmatch(path):
                self._listing(match)
            elif match := self.FILE.fullmatch(path):
                self._file(match)
            else:
                raise _Refused(HTTPStatus.NOT_FOUND)
        except _Refused as refused:
            headers = {"X-Error-Code": refused.code} if refused.code else {}
            self._send(b'{"error": "refused"}', headers, refused.status)

    do_HEAD = do_GET

    def _commit(self, repo_type: str, repo_id: str, revision: str) -> tuple[FakeRepo, str]:
        repo = self.hub.repos.get((repo_type, repo_id))
        if repo is None:
            raise _Refused(HTTPStatus.NOT_FOUND, "RepoNotFound")
        if repo.private and not self._writes():
            raise _Refused(HTTPStatus.UNAUTHORIZED)
        commit = repo.refs.get(unquote(revision), unquote(revision))
        if commit not in repo.commits:
            raise _Refused(HTTPStatus.NOT_FOUND, "RevisionNotFound")
        return repo, commit

    WRITING = re.compile(r"/api/models/(?P<id>[^/]+/[^/]+)/(?P<what>branch|preupload|commit)/(?P<rev>[^/]+)")

    def _writes(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append(f"{self.command} {unquote(path)}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            if self.hub.down:
                raise _Refused(self.hub.down)
            if not self._writes():
                reader = self.headers.get("Authorization") == f"Bearer {self.hub.reader}"
                raise _Refused(HTTPStatus.FORBIDDEN if reader else HTTPStatus.UNAUTHORIZED)
            self._send(json.dumps(self._written(path, body)).encode(), {"Content-Type": "application/json"})
        except _Refused as refused:
            headers = {"X-Error-Code": refused.code} if refused.code else {}
            self._send(json.dumps({"error": "refused", **refused.answer}).encode(), headers, refused.status)

    def _written(self, path: str, body: bytes) -> dict[str, Any]:
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if ("model", name) in self.hub.repos:
                raise _Refused(HTTPStatus.CONFLICT, url=f"{self.hub.url}/{name}")
            self.hub.commit(name, {".gitattributes": b""})
            self.hub.repos["model", name].private = asked.get("private") or asked.get("visibility") == "private"
            return {"url": f"{self.hub.url}/{name}"}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if path.endswith(".git/info/lfs/objects/batch"):
            put = {"href": f"{self.hub.url}/lfs/"}
            objects = [
                each | {"actions": {"upload": {"href": put["href"] + each["oid"]}}}
                for each in json.loads(body)["objects"]
            ]
            return {"transfer": "basic", "objects": objects}
        match = self.WRITING.fullmatch(path)
        if not match:
            raise _Refused(HTTPStatus.NOT_FOUND)
        repo = self.hub.repos["model", match["id"]]
        branch = unquote(match["rev"])
        if match["what"] == "branch":
            if branch in repo.refs:
                raise _Refused(HTTPStatus.CONFLICT)
            repo.refs[branch] = repo.refs["main"]
            return {}
        if branch not in repo.refs:
            raise _Refused(HTTPStatus.NOT_FOUND, "RevisionNotFound")
        if match["what"] == "preupload":
            modes = {False: "regular", True: "lfs"}
            names = [each["path"] for each in json.loads(body)["files"]]
            files = [
                {"path": name, "uploadMode": modes[name.endswith(LFS_SUFFIXES)], "shouldIgnore": False}
                for name in names
            ]
            return {"files": files}
        content = dict(repo.commits[repo.refs[branch]])
        for line in map(json.loads, body.splitlines()):
            match line["key"]:
                case "file":
                    content[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                case "lfsFile":
                    content[line["value"]["path"]] = self.hub.objects[line["value"]["oid"]]
        digest = self.hub.commit(unquote(match["id"]), content, revision=branch)
        return {"commitUrl": f"{self.hub.url}/{match['id']}/commit/{digest}", "commitOid": digest, "success": True}

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        digest = hashlib.sha256(content).hexdigest()
        self.hub.requests.append(f"PUT {self.path}")
        assert self.path == f"/lfs/{digest}"
        self.hub.objects[digest] = content
        self._send(b"", {})

    def _listing(self, match: re.Match[str]) -> None:
        repo, commit = self._commit(match["type"], match["id"], match["rev"] or "main")
        entries = {name: describe(content, name) for name, content in repo.commits[commit].items()}
        answer: Any
        if match["what"] == "tree":
            answer = [{"type": "file", "path": name, **entry} for name, entry in entries.items()]
        else:
            siblings = [
                {"rfilename": name, "blobId": entry["oid"], "size": entry["size"], "lfs": entry.get("lfs")}
                for name, entry in entries.items()
            ]
            answer = {
                "id": match["id"], "sha": commit, "gated": repo.gated, "private": repo.private, "siblings": siblings
            }  # fmt: skip
        self._send(json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _file(self, match: re.Match[str]) -> None:
        repo, commit = self._commit("dataset" if match["type"] else "model", match["id"], match["rev"])
        name = unquote(match["file"])
        if repo.gated:
            raise _Refused(HTTPStatus.FORBIDDEN, "GatedRepo")
        if name not in repo.commits[commit]:
            raise _Refused(HTTPStatus.NOT_FOUND, "EntryNotFound")
        content = repo.commits[commit][name]
        entry = describe(content, name)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{entry["lfs"]["sha256"] if "lfs" in entry else entry["oid"]}"'}
        if self.command == "GET" and repo.damaged.get(name, 0) > 0:
            repo.damaged[name] -= 1
            content = bytes([content[0] ^ 0xFF]) + content[1:]
        self._send(content, headers)

    def _send(self, body: bytes, headers: Mapping[str, str], status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing; `FakeHub.requests` is the log."""
