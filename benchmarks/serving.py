"""How many clients a server answers, how fast, and whether each gets its own answer.

    python -m benchmarks.serving      # the embedded model: load, then 10,000 requests of which some break off
    python -m benchmarks.serving --config configs/real.yaml --overrides data.sample=16 --requests 64 --soak 0

Questions are answered by `prag test` first, and every reply of the server is held to that, letter by letter. Writes
benchmarks/SERVING.json and benchmarks/SERVING.md; a run replaces what an earlier one said of the same model.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from statistics import quantiles
from urllib.parse import urlsplit

import psutil

from benchmarks.timing import machine
from prag_lightning.inference.confidence import answer_part

CLIENTS = (1, 4, 16, 64)
METHODS = ("prag", "icl", "combine")
HERE = Path(__file__).parent
RESULTS = HERE / "SERVING.json"
WORK = Path("serving-out")


@dataclass(frozen=True)
class Asked:
    """A question, the method that it is asked by, and the answer that `prag test` has to it."""

    question: str
    method: str
    answer: str


@dataclass
class Load:
    """What came of requests."""

    seconds: list[float] = field(default_factory=list)
    wrong: int = 0
    broken_off: int = 0
    failed: int = 0

    def row(self, elapsed: float) -> dict[str, float]:
        """For the table."""
        cuts = quantiles(self.seconds, n=20) if len(self.seconds) > 1 else self.seconds * 20
        return {
            "requests": len(self.seconds),
            "rate": len(self.seconds) / elapsed,
            "p50": cuts[9],
            "p95": cuts[18],
            "wrong": self.wrong,
            "failed": self.failed,
            "broken_off": self.broken_off,
        }


class Client:
    """One that asks over a connection of its own.

    Args:
        url: Of the server.
        model: Its plain model.
    """

    def __init__(self, url: str, model: str) -> None:
        self.address, self.model = urlsplit(url), model

    async def ask(self, asked: Asked, load: Load, *, breaks_off: bool = False) -> None:
        """Ask a question, and see whether the answer is its own."""
        started = time.perf_counter()
        body = json.dumps(
            {
                "model": f"{self.model}:{asked.method}",
                "messages": [{"role": "user", "content": asked.question}],
                "stream": breaks_off,
            }
        ).encode()
        reader, writer = await asyncio.open_connection(self.address.hostname, self.address.port)
        try:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {self.address.netloc}\r\nConnection: close\r\n"
            writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
            if breaks_off:
                await asyncio.sleep(random.random() * 0.2)
                load.broken_off += 1
                return
            reply = await reader.read()
        finally:
            writer.close()
        status, _, content = reply.partition(b"\r\n\r\n")
        if b" 200 " not in status.partition(b"\r\n")[0]:
            load.failed += 1
            return
        load.seconds.append(time.perf_counter() - started)
        load.wrong += json.loads(content)["choices"][0]["message"]["content"] != asked.answer


async def loaded(client: Client, asked: Sequence[Asked], clients: int, breaking: float = 0.0) -> tuple[Load, float]:
    """Ask questions, so many at a time; what came of it, and seconds in all."""
    load, waiting, chance = Load(), list(reversed(asked)), random.Random(0)

    async def work() -> None:
        while waiting:
            await client.ask(waiting.pop(), load, breaks_off=chance.random() < breaking)

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(clients)))
    return load, time.perf_counter() - started


def prag(command: str, config: str, overrides: Sequence[str], *more: str) -> None:
    """Run a stage."""
    subprocess.run([*_prag(command, config, overrides), *more], check=True, cwd=WORK)


def _prag(command: str, config: str, overrides: Sequence[str]) -> list[str]:
    settings = [f"--{each}" for each in overrides]
    return [sys.executable, "-m", "prag_lightning", command, "--config", str(Path(config).resolve()), *settings]


def answered(config: str, overrides: Sequence[str], methods: Sequence[str]) -> list[Asked]:
    """The questions, each by each method, with the answers of `prag test`."""
    root = ["model.output_root=results", "model.answer_extraction=full"]
    WORK.mkdir(exist_ok=True)
    asked = []
    for method in methods:
        prag("test", config, [*overrides, *root, f"model.inference_method={method}"])
        path = max(Path(WORK, "results").rglob("predict.json"), key=lambda path: path.stat().st_mtime)
        rows = json.loads(path.read_text(encoding="utf-8"))
        asked += [Asked(row["question"], method, answer_part(row["text"])) for row in rows]
    return asked


def measure(
    config: str, overrides: Sequence[str], methods: Sequence[str], requests: int, soak: int
) -> dict[str, object]:
    """Load a server."""
    asked = answered(config, overrides, methods)
    random.Random(0).shuffle(asked)
    command = [*_prag("serve", config, overrides), "--port=0"]
    process = subprocess.Popen(command, cwd=WORK, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().partition(": ")[0]
        model = process.stdout.readline().removeprefix("models: ").partition(",")[0]
        client, memory = Client(url, model), psutil.Process(process.pid).memory_info
        asyncio.run(loaded(client, asked, 4))  # adapters and index are in memory from here on
        rows: dict[str, dict[str, object]] = {}
        for method in methods:
            own = list(islice(cycle(each for each in asked if each.method == method), requests))
            rows[method] = {}
            for clients in CLIENTS:
                load, seconds = asyncio.run(loaded(client, own, clients))
                rows[method][str(clients)] = load.row(seconds)
                print(method, clients, rows[method][str(clients)], flush=True)
        found: dict[str, object] = {"model": model, "questions": len(asked), "methods": rows}
        if soak:
            before = memory().rss
            load, seconds = asyncio.run(loaded(client, list(islice(cycle(asked), soak)), 16, breaking=0.05))
            found["soak"] = {**load.row(seconds), "mb_before": before / 1e6, "mb_after": memory().rss / 1e6}
            print(found["soak"], flush=True)
        return found
    finally:
        process.terminate()
        process.wait()


def table(results: dict[str, dict]) -> str:
    """The page."""
    lines = [
        "# Answering many at once",
        "",
        "`prag serve`, every question with its own passage or that passage's adapter, by so many clients at a time;",
        "server and clients on the same machine. Each reply is held to that of `prag test`, letter by letter.",
    ]
    for model, found in results.items():
        lines += ["", f"## {model}, {found['machine']}", "", f"`{found['command']}`", ""]
        lines += ["| method | clients | requests a second | beside one by one | p50 | p95 | wrong | failed |"]
        lines += ["|" + "---|" * 8]
        for method, rows in found["methods"].items():
            one = rows["1"]["rate"]
            lines += [
                f"| `{method}` | {clients} | {row['rate']:.1f} | {row['rate'] / one:.2f} × | {row['p50']:.2f} s | "
                f"{row['p95']:.2f} s | {row['wrong']} | {row['failed']} |"
                for clients, row in rows.items()
            ]
        if soak := found.get("soak"):
            asked = soak["requests"] + soak["broken_off"]
            lines += [
                "",
                f"{asked:,} requests of all methods by 16 clients, of which {soak['broken_off']:,} broke off: "
                f"{soak['rate']:.1f} a second, {soak['wrong']} wrong, {soak['failed']} failed; the server's memory was "
                f"{soak['mb_before']:.0f} MB before and {soak['mb_after']:.0f} MB after.",
            ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/demo.yaml")
    parser.add_argument("--overrides", nargs="*", default=[], help="Settings, as in data.sample=16.")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS)
    parser.add_argument("--requests", type=int, default=600, help="For each number of clients.")
    parser.add_argument(
        "--soak", type=int, default=10_000, help="Requests of which one in twenty breaks off; 0 for none."
    )
    options = parser.parse_args()
    for stage in ("augment", "fit"):
        WORK.mkdir(exist_ok=True)
        if stage == "fit" or "ostrane" not in Path(options.config).read_text(encoding="utf-8"):
            prag(stage, options.config, options.overrides)
    found = measure(options.config, options.overrides, options.methods, options.requests, options.soak)
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    command = "python -m benchmarks.serving " + " ".join(sys.argv[1:])
    results[str(found["model"])] = {**found, "machine": machine(), "command": command.strip()}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (HERE / "SERVING.md").write_text(table(results), encoding="utf-8")


if __name__ == "__main__":
    main()
