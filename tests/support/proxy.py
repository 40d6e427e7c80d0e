"""A TCP proxy that can stop forwarding: a frozen server, or a network that is cut."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable
from typing import Self


class Proxy:
    """Forwards connections to a server until it is told to stand still.

    Args:
        port: Where the server listens, on 127.0.0.1.
        answers: What becomes of the bytes of the server's, as a pooler changes them.

    Attributes:
        port: Where the proxy listens, on 127.0.0.1.
        connections: How many it was asked for.
    """

    def __init__(self, port: int, *, answers: Callable[[bytes], bytes] = bytes) -> None:
        self._target, self._answers = port, answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._going = threading.Event()
        self._going.set()
        self._pairs: list[socket.socket] = []
        self._closed = False
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def freeze(self) -> None:
        """Accept connections and forward nothing, neither on new ones nor on old ones."""
        self._going.clear()

    def thaw(self) -> None:
        """Forward again, also what has piled up."""
        self._going.set()

    def close(self) -> None:
        """Refuse connections from now on, and drop those there are."""
        if self._closed:
            return
        self._closed = True
        self._going.set()
        # A thread that waits in accept() is woken by a shutdown, not by a close.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._pairs:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(5)
        for each in self._pairs:
            each.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._pairs.append(client)
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        self._going.wait()
        if self._closed:
            return
        try:
            server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
        except OSError:
            client.shutdown(socket.SHUT_RDWR)
            return
        self._pairs.append(server)
        with selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while not self._closed:
                for key, _ in selector.select(0.2):
                    self._going.wait()
                    source, sink = key.fileobj, key.data
                    assert isinstance(source, socket.socket)
                    data = source.recv(65536)
                    if not data:
                        for each in (client, server):
                            each.shutdown(socket.SHUT_RDWR)
                        return
                    sink.sendall(self._answers(data) if source is server else data)
