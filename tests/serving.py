"""A server in a process of its own, and what asks it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from openai import OpenAI

from prag_lightning.cli.entry import main

DEMO = str(Path(__file__).parent.parent / "configs/demo.yaml")
QUESTION = "Which country does Helstead belong to?"


def make_store(folder: Path, *documents: str) -> None:
    """Put documents of a folder into a store beside them, on the embedded model."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["sync", "--config", DEMO, "--documents", *documents, "--model.group_tokens", "1"]) == 0
    finally:
        os.chdir(before)


class Served:
    """`prag serve` at a free port; a context manager.

    Args:
        folder: Its working directory.
        arguments: Of the command.
        environment: Beside the test's own.
    """

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.log = folder / "serve.log"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "prag_lightning", "serve", *arguments, "--port=0"],
            cwd=folder,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            text=True,
        )
        line = self.process.stdout.readline()
        assert line.startswith("http://"), self.log.read_text()
        self.url = line.split(": ")[0]
        self.models = self.process.stdout.readline().removeprefix("models: ").strip().split(", ")

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def name(self) -> str:
        """Of the plain model."""
        return self.models[0]

    def client(self, key: str = "none") -> OpenAI:
        """The official client."""
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Ask it to end; its exit code and what it said."""
        self.process.send_signal(number)
        code = self.process.wait(60)
        return code, self.log.read_text()

    def send(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, object]:
        """The status of a raw request, and the JSON of its reply."""
        address = urlsplit(self.url)
        connection = HTTPConnection(address.hostname, address.port, timeout=60)
        try:
            raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method, path, raw, {"content-type": "application/json"} | (headers or {}))
            reply = connection.getresponse()
            text = reply.read()
            return reply.status, json.loads(text) if text[:1] in (b"{", b"[") else text.decode()
        finally:
            connection.close()

    def ask(self, question: str = QUESTION, method: str = "prag", **more: object) -> dict:
        """A question's whole reply."""
        body = {"model": f"{self.name}:{method}", "messages": [{"role": "user", "content": question}], **more}
        status, reply = self.send("POST", "/v1/chat/completions", body)
        assert status == 200, reply
        return reply
