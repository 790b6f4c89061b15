"""A stand-in for Elasticsearch and OpenSearch on loopback, for what real ones cannot show here: passwords, TLS, and
answers that are none."""

import json
import re
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class SearchServer:
    """Answers searches of passages that it is given; a context manager that gives its URL.

    Args:
        product: What it calls itself in the header that Elasticsearch's client asks for.
        misbehaviour: `unauthorized`, `fails`, `hangs` or `cuts`.
        times: So many requests are answered like that; unset means every one.
        certificate: A file with a certificate and its key: it speaks TLS.
    """

    def __init__(self, product="Elasticsearch", misbehaviour=None, times=None, certificate=None):
        self.product, self.misbehaviour, self.times = product, misbehaviour, times
        self.passages, self.requests = {}, []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"owner": self}))
        self._scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self._scheme = "https"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path, lines):
        """Status and body of the answer to a request."""
        if path == "/":
            return 200, {"version": {"number": "8.19.0"}}
        if path == "/_msearch":
            return 200, {"responses": [self._search(body) for body in lines[1::2]]}
        return 404, {"error": {"type": "index_not_found_exception", "reason": "no such index"}, "status": 404}

    def misbehaves(self):
        """How it answers the next request."""
        if self.times is not None:
            self.times -= 1
        return self.misbehaviour if self.times is None or self.times >= 0 else None

    def _search(self, body):
        wanted = set(re.findall(r"\w+", body["query"]["multi_match"]["query"].lower()))
        found = [key for key, text in self.passages.items() if wanted & set(re.findall(r"\w+", text))]
        hits = [{"_id": key, "_score": 1.0, "_source": {"txt": self.passages[key]}} for key in found]
        return {"status": 200, "hits": {"hits": hits}}


class _Handler(BaseHTTPRequestHandler):
    owner: SearchServer

    def handle_one(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url, misbehaviour = urlsplit(self.path), self.owner.misbehaves()
        self.owner.requests.append((self.command, url.path, dict(self.headers)))
        if misbehaviour == "hangs":
            time.sleep(1)
        status, answer = {
            "unauthorized": (401, {"error": "who are you"}),
            "fails": (503, {"error": "out of order"}),
        }.get(misbehaviour) or self.owner.answer(url.path, [json.loads(line) for line in body.splitlines() if line])
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if self.owner.product:
            self.send_header("X-Elastic-Product", self.owner.product)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if misbehaviour == "cuts" else content)
        if misbehaviour == "cuts":
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_one

    def log_message(self, *_):
        pass
