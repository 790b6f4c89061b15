"""A stand-in for a server of the OpenAI chat API on loopback, that can misbehave."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAIRS = [{"question": f"q{i}", "answer": i, "full_answer": f"f{i}"} for i in range(3)]


class ChatServer:
    """Writes a rewrite, or three QA pairs, for every passage; a context manager that gives the base URL.

    Args:
        misbehave: Given the number of a request (from 0) and its body, names what to do instead of answering well:
            a status code, `hang`, `cut`, `garbage`, `empty`, `nonsense` or `length` (a reply that was cut);
            `None` answers well.
        write: The reply to a prompt; unset means an empty phrase or three pairs of them.
    """

    def __init__(
        self,
        misbehave: Callable[[int, dict], object] = lambda number, body: None,
        write: Callable[[str], str] | None = None,
    ):
        self.write = write or _phrases
        self.misbehave, self.requests, self.at_once, self.most_at_once = misbehave, [], 0, 0
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"owner": self}))

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def asks_for_pairs(prompt: str) -> bool:
    """Whether QA pairs are asked for, rather than a rewrite."""
    return "JSON" in prompt or "full_answer" in prompt


def _phrases(prompt: str) -> str:
    return json.dumps(PAIRS) if asks_for_pairs(prompt) else f"In other words: {prompt[-20:]}"


class _Handler(BaseHTTPRequestHandler):
    owner: ChatServer

    def do_POST(self):
        owner = self.owner
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with owner.lock:
            number = len(owner.requests)
            owner.requests.append((body, {name.lower(): value for name, value in self.headers.items()}))
            owner.at_once += 1
            owner.most_at_once = max(owner.most_at_once, owner.at_once)
        with suppress(BrokenPipeError):
            self._answer(body, owner.misbehave(number, body))

    def _answer(self, body, misbehaviour):
        time.sleep(1.0 if misbehaviour == "hang" else 0.02)
        with self.owner.lock:  # before the client has its answer, and may send the next request
            self.owner.at_once -= 1
        text = self.owner.write(body["messages"][0]["content"])
        if misbehaviour == "nonsense":
            text = "I would rather not."
        status = misbehaviour if isinstance(misbehaviour, int) else 200
        message = {"role": "assistant", "content": text}
        reason = "length" if misbehaviour == "length" else "stop"
        choices = [] if misbehaviour == "empty" else [{"index": 0, "finish_reason": reason, "message": message}]
        answer = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"], "choices": choices}
        content = json.dumps({"error": {"message": "no"}} if status != 200 else answer).encode()
        if misbehaviour == "garbage":
            content = b"<html>gateway</html>"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status == 429:
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if misbehaviour == "cut" else content)
        if misbehaviour == "cut":
            self.close_connection = True

    def log_message(self, *_):
        pass
