"""Real Elasticsearch and OpenSearch servers on loopback, for tests that start, kill and halt them."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from urllib.request import urlopen

import pytest

from prag_lightning.progress import Progress

ROOT = Path(__file__).parent.parent
FOLDER = Path(os.environ.get("PRAG_SEARCH_SERVERS") or ROOT.parent / "shared" / "services")
"""With `search-server` and `search-cluster`."""
KINDS = ("elasticsearch", "opensearch")
CLAIM_SECONDS = 15
"""After which the claim of a build that was killed lapses."""
_SECONDS_TO_START = 600


def missing() -> str:
    """Why no server can be started; empty if one can."""
    if not (FOLDER / "search-server").exists():
        return f"there are no search servers in {FOLDER}: set PRAG_SEARCH_SERVERS"
    return "" if shutil.which("java") else "there is no Java to run search servers with"


class Node:
    """A node that runs in a process of its own; started again, it has what it had.

    Args:
        kind: `elasticsearch` or `opensearch`.
        folder: For its data.
        settings: The server's.
        port: Unset means a free one.
    """

    def __init__(self, kind: str, folder: Path, *settings: str, port: int | None = None) -> None:
        self.kind, self.folder, self.settings = kind, folder, settings
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, without waiting for it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [FOLDER / "search-server", self.kind, str(self.port), self.folder, *self.settings]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def wait(self, nodes: int = 1, status: str = "yellow") -> None:
        """Wait until it answers, in a cluster of so many nodes, and its indices can be searched; with the status
        `green` also until all their copies are there."""
        assert self._process is not None
        end = time.monotonic() + _SECONDS_TO_START
        health = f"{self.url}/_cluster/health?wait_for_status={status}&wait_for_nodes={nodes}&timeout=10s"
        while time.monotonic() < end and self._process.poll() is None:
            with suppress(OSError, ValueError), urlopen(health, timeout=20) as answer:
                if not json.load(answer)["timed_out"]:
                    return
            time.sleep(0.2)
        raise AssertionError(f"{self.kind} does not answer: {(self.folder / 'log').read_text()[-2000:]}")

    def kill(self) -> None:
        """End it with SIGKILL, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def halt(self) -> None:
        """Let it hang: it takes connections and answers none."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on after `halt`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def put(self, path: str, body: object) -> None:
        """Ask it to change something."""
        curl = [
            "curl",
            "-sf",
            "-XPUT",
            f"{self.url}{path}",
            "-H",
            "Content-Type: application/json",
            "-d",
            json.dumps(body),
        ]
        subprocess.run(curl, check=True, capture_output=True)


def cluster(kind: str, folder: Path, nodes: int = 3) -> list[Node]:
    """The nodes of one cluster, not started."""
    names = [f"n{number}" for number in range(nodes)]
    inner = [free_port() for _ in names]
    seeds = ",".join(f"127.0.0.1:{port}" for port in inner)
    first = {"elasticsearch": "cluster.initial_master_nodes", "opensearch": "cluster.initial_cluster_manager_nodes"}
    many = {"elasticsearch": "multi-node", "opensearch": "zen"}
    shared = (f"discovery.type={many[kind]}", f"{first[kind]}={','.join(names)}", f"discovery.seed_hosts={seeds}")
    return [
        Node(kind, folder / name, f"node.name={name}", f"transport.port={port}", *shared)
        for name, port in zip(names, inner, strict=True)
    ]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def kill_server_often(node: Node, line: list[str], kills: int, rng: random.Random) -> int:
    """Run `prag index` to its end while its server is killed and started again at random moments; gives how often that
    happened."""
    killed = 0
    with subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, text=True) as program:
        while killed < kills and program.poll() is None:
            time.sleep(rng.uniform(0.5, 3))
            node.kill()
            killed += program.poll() is None
            node.start()
            node.wait()
        _, said = program.communicate()
    assert program.returncode == 0, said
    return killed


def kill_program_often(line: list[str], kills: int, rng: random.Random) -> int:
    """Run `prag index` to its end, after killing it at random moments so many times; gives how often it was killed."""
    killed = 0
    while killed < kills:
        with subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, text=True) as program:
            # The next one waits until the claim of the one before lapses, and gets as far as that one again.
            try:
                program.communicate(timeout=rng.uniform(1, 6) + (CLAIM_SECONDS if killed else 0))
                break
            except subprocess.TimeoutExpired:
                program.kill()
                killed += 1
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return killed


def index_command(node: Node, name: str, corpus: Path) -> list[str]:
    """`prag index` for a node."""
    line = [sys.executable, "-m", "prag_lightning", "index", "--config", "configs/retrieval/elasticsearch.yaml"]
    settings = {"corpus": corpus, "index": name, "url": node.url, "server": node.kind}
    return line + [f"--data.retriever.{key}={value}" for key, value in settings.items()]


def held(node: Node, name: str) -> int:
    """How many passages can be searched under a name; each id stands there once."""
    with urlopen(f"{node.url}/{name}/_count", timeout=60) as answer:
        return int(json.load(answer)["count"])


def behind(node: Node, name: str) -> list[str]:
    """The indices that are there whose name begins so, without the hash of what is in them."""
    with urlopen(f"{node.url}/_cat/indices/{name}*?format=json", timeout=60) as answer:
        return sorted(re.sub("-[0-9a-f]{8}$", "", each["index"]) for each in json.load(answer))


@contextmanager
def once_at(passages: int, act: Callable[[], object]) -> Iterator[None]:
    """Do something when a build has read so many passages: a multiple of 1000."""
    calls, advance = count(0, 1000), Progress.advance

    def advance_and_act(self: Progress, pieces: int) -> None:
        advance(self, pieces)
        if next(calls) == passages:
            act()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Progress, "advance", advance_and_act)
        yield
