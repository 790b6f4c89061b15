"""A relay between a client and a server, which can hold a streamed reply after its first words, or cut it off."""

from __future__ import annotations

import re
import socket
import struct
import threading
from contextlib import suppress
from urllib.parse import urlsplit

_FIRST_WORDS = re.compile(rb'"content": "[^"].*?\n\n', re.DOTALL)


class Relay:
    """Listens at a port of its own and passes on what comes; a context manager.

    Args:
        url: Of the server.
    """

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._server = (address.hostname, address.port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._clients: list[socket.socket] = []
        self._pass = threading.Event()
        self._pass.set()
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> Relay:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._pass.set()
        self._listening.close()
        self.cut()

    def hold(self) -> None:
        """From now on, pass on no more of a streamed reply than its first words."""
        self._pass.clear()

    def release(self) -> None:
        """Pass on what was held, and what comes."""
        self._pass.set()

    def cut(self) -> None:
        """Break off every connection."""
        clients, self._clients = self._clients, []
        for client in clients:
            with suppress(OSError):
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
                client.shutdown(socket.SHUT_RD)
            client.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(self._server)
                self._clients.append(client)
                for work in (self._up, self._down):
                    threading.Thread(target=work, args=(client, server), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    def _down(self, client: socket.socket, server: socket.socket) -> None:
        seen = b""
        with server, suppress(OSError):
            while data := server.recv(65536):
                before, seen = len(seen), seen + data
                first = None if self._pass.is_set() else _FIRST_WORDS.search(seen)
                if first is not None:
                    end = max(0, first.end() - before)
                    client.sendall(data[:end])
                    self._pass.wait()
                    data = data[end:]
                client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
