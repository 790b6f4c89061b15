"""A stand-in for Elasticsearch and OpenSearch on loopback: what one retriever needs of them, and ways to misbehave."""

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class SearchServer:
    """Keeps indices and aliases in memory; a context manager that gives its URL.

    Args:
        product: What it calls itself in the header that Elasticsearch's client asks for.
        misbehaviour: `unauthorized`, `fails`, `hangs` or `cuts`, for every answer.
    """

    def __init__(self, product="Elasticsearch", misbehaviour=None):
        self.product, self.misbehaviour = product, misbehaviour
        self.indices, self.aliases, self.requests = {}, {}, []
        self.fail_bulk_after = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"owner": self}))

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method, path, query, lines):
        """Status and body of the answer to a request."""
        if path == "/":
            return 200, {"version": {"number": "8.19.0"}}
        if path == "/_bulk":
            return self._bulk(lines)
        if path.endswith("/_msearch"):
            return 200, {"responses": [self._search(*pair) for pair in zip(lines[::2], lines[1::2], strict=True)]}
        if path == "/_aliases":
            for action in lines[0]["actions"]:
                if "add" in action:
                    self.aliases[action["add"]["alias"]] = action["add"]["index"]
                else:
                    del self.indices[action["remove_index"]["index"]]
            return 200, {"acknowledged": True}
        if path.startswith("/_alias/"):
            index = self.aliases.get(path.rpartition("/")[2])
            return (200, {index: {"aliases": {}}}) if index else (404, {})
        name, _, rest = path[1:].partition("/")
        index = self.indices.get(self.aliases.get(name, name))
        if method == "PUT" and not rest:
            self.indices[name] = {"mappings": lines[0]["mappings"], "passages": {}}
            return 200, {"acknowledged": True}
        if index is None:
            return 404, {"error": {"type": "index_not_found_exception"}, "status": 404}
        if method == "DELETE":
            del self.indices[name]
        if rest == "_mapping":
            return 200, {name: {"mappings": index["mappings"]}}
        return 200, {"count": len(index["passages"]), "acknowledged": True, "_shards": {}}

    def _bulk(self, lines):
        items = []
        for action, source in zip(lines[::2], lines[1::2], strict=True):
            about = action["index"]
            if (
                self.fail_bulk_after is not None
                and len(self.indices[about["_index"]]["passages"]) >= self.fail_bulk_after
            ):
                items.append({"index": {"status": 507, "error": {"type": "disk_full", "reason": "no space"}}})
                continue
            self.indices[about["_index"]]["passages"][about["_id"]] = source
            items.append({"index": {"status": 201, "_id": about["_id"]}})
        return 200, {"errors": any(item["index"]["status"] > 300 for item in items), "items": items}

    def _search(self, header, body):
        index = self.indices.get(self.aliases.get(header["index"], header["index"]))
        if index is None:
            return {"error": {"type": "index_not_found_exception"}, "status": 404}
        query = body["query"]["multi_match"]
        wanted = set(re.findall(r"\w+", query["query"].lower()))
        hits = []
        for key, source in index["passages"].items():
            score = len(wanted & set(re.findall(r"\w+", " ".join(source[field] for field in query["fields"]).lower())))
            if score:
                hits.append({"_id": key, "_score": score, "_source": source})
        return {"hits": {"hits": sorted(hits, key=lambda hit: -hit["_score"])[: body["size"]]}}


class _Handler(BaseHTTPRequestHandler):
    owner: SearchServer

    def handle_one(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        self.owner.requests.append((self.command, url.path, dict(self.headers)))
        if self.owner.misbehaviour == "hangs":
            time.sleep(3)
        status, answer = {
            "unauthorized": (401, {"error": "who are you"}),
            "fails": (503, {"error": "out of order"}),
        }.get(self.owner.misbehaviour) or self.owner.answer(
            self.command, url.path, url.query, [json.loads(line) for line in body.splitlines() if line]
        )
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if self.owner.product:
            self.send_header("X-Elastic-Product", self.owner.product)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if self.owner.misbehaviour == "cuts" else content)
        if self.owner.misbehaviour == "cuts":
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_one

    def log_message(self, *_):
        pass
