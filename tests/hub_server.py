"""A server that takes commits as the Hugging Face hub does, or misbehaves."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Hub:
    """What a hub was sent.

    `refuses` is the status, and `says` the body, that it answers a commit with in place of taking it.
    """

    address: str = ""
    repositories: dict[str, dict] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    refuses: int | None = None
    says: str = "{}"


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub of its own."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            found = self.path.partition("/resolve/main/")[2] in hub.files
            self.send_response(200 if found else 404)
            for name, value in {"X-Repo-Commit": "1", "ETag": '"1"', "Content-Length": "0"}.items():
                self.send_header(name, value)
            if not found:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hub.tokens.add(self.headers["Authorization"])
            if self.path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked.get('organization') or 'me'}/{asked['name']}"
                hub.repositories[name] = asked
                self.reply({"url": f"{hub.address}/{name}"})
            elif "/preupload/" in self.path:
                files = json.loads(body)["files"]
                regular = {"uploadMode": "regular", "shouldIgnore": False}
                self.reply({"files": [{"path": file["path"], **regular} for file in files]})
            elif self.path == "/api/validate-yaml":
                self.reply({"errors": [], "warnings": []})
            elif hub.refuses is not None:
                self.send(hub.refuses, hub.says.encode())
            else:
                entries = [json.loads(line) for line in body.splitlines()]
                added = [entry["value"] for entry in entries if entry["key"] == "file"]
                hub.files |= {file["path"]: base64.b64decode(file["content"]) for file in added}
                name = self.path.removeprefix("/api/models/").partition("/commit/")[0]
                self.reply({"commitUrl": f"{hub.address}/{name}/commit/1", "commitOid": "1"})

        def reply(self, value: dict) -> None:
            self.send(200, json.dumps(value).encode())

        def send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
