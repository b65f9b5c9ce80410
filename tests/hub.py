"""A local stand-in of the Hugging Face hub's API: as much of it as an upload needs, over real HTTP."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_of_the_test"
READ_ONLY = "hf_read_only"
LARGE = (".safetensors", ".onnx", ".bin")
"""Endings of files that the hub stores by git LFS."""


@dataclass
class Hub:
    """What the server was sent."""

    address: str = ""
    repositories: dict[str, bool] = field(default_factory=dict)
    """Name → whether it is private."""
    stored: dict[str, bytes] = field(default_factory=dict)
    """SHA-256 → content of a file in LFS."""
    commits: list[dict[str, Any]] = field(default_factory=list)
    """Message and files of each commit: path → content."""


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def answer(self, content: Any, status: int = 200) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def do_PUT(self) -> None:
            hub.stored[self.path.rpartition("/")[2]] = self.body()
            self.answer({})

        def do_POST(self) -> None:
            content, path = self.body(), self.path.partition("?")[0]
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if path == "/api/validate-yaml":
                self.answer({"errors": [], "warnings": []})
            elif token == READ_ONLY:
                self.answer({"error": "You don't have the rights to create a model under this namespace"}, 403)
            elif token != TOKEN:
                self.answer({"error": "Invalid username or password."}, 401)
            elif path == "/api/repos/create":
                self.create(json.loads(content))
            elif path.endswith("/preupload/main"):
                self.answer({"files": [self.mode(file["path"]) for file in json.loads(content)["files"]]})
            elif path.endswith("/info/lfs/objects/batch"):
                objects = [self.upload(item) for item in json.loads(content)["objects"]]
                self.answer({"transfer": "basic", "objects": objects})
            elif path.endswith("/commit/main"):
                self.commit(path, [json.loads(line) for line in content.splitlines()])
            else:
                self.answer({"error": f"not part of the stand-in: {path}"}, 404)

        def create(self, wanted: dict[str, Any]) -> None:
            name = f"{wanted['organization']}/{wanted['name']}" if wanted.get("organization") else wanted["name"]
            known = name in hub.repositories
            hub.repositories.setdefault(name, wanted.get("visibility") == "private")
            url = {"url": f"{hub.address}/{name}"}
            self.answer({"error": "You already created this model repo"} | url if known else url, 409 if known else 200)

        def mode(self, path: str) -> dict[str, Any]:
            return {
                "path": path,
                "uploadMode": "lfs" if path.endswith(LARGE) else "regular",
                "shouldIgnore": False,
                "oid": None,
            }

        def upload(self, item: dict[str, Any]) -> dict[str, Any]:
            return {**item, "actions": {"upload": {"href": f"{hub.address}/lfs/{item['oid']}"}}}

        def commit(self, path: str, lines: list[dict[str, Any]]) -> None:
            files: dict[str, bytes] = {}
            for line in lines:
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = hub.stored[value["oid"]]
            name = path.removeprefix("/api/models/").removesuffix("/commit/main")
            hub.commits.append({"repository": name, "message": lines[0]["value"]["summary"], "files": files})
            self.answer({"commitUrl": f"{hub.address}/{name}/commit/1234", "commitOid": "1234", "pullRequestUrl": None})

    return Handler


@contextmanager
def serving() -> Iterator[Hub]:
    """A running server; it stops when the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
