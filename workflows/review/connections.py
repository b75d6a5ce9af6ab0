"""Bounds on the connections of a server, so that nobody on the machine can block it or fill its memory.

A connection must send each request within ``REQUEST_SECONDS`` and ``REQUEST_BYTES``. Of too many connections, those
that have not shown the token are closed first, and among equals the oldest.
"""

from __future__ import annotations

import io
import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MAX_CONNECTIONS = 64
REQUEST_SECONDS = 10.0  # from the first byte of a request to its last
REQUEST_BYTES = 2**16  # of a request with its headers
IDLE_SECONDS = 120.0  # between requests, and for sending an answer


class BoundedServer(ThreadingHTTPServer):
    """A threading server with at most ``MAX_CONNECTIONS`` connections."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type[BoundedHandler]) -> None:
        self._trusted: dict[socket.socket, bool] = {}  # by connection, the oldest first
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def trust(self, connection: socket.socket) -> None:
        """Note that the other side knows the token."""
        with self._lock:
            if connection in self._trusted:
                self._trusted[connection] = True

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            while len(self._trusted) >= MAX_CONNECTIONS:
                oldest = min(self._trusted, key=self._trusted.__getitem__)  # False comes before True
                del self._trusted[oldest]
                with suppress(OSError):  # its thread, which waits for the connection, ends
                    oldest.shutdown(socket.SHUT_RDWR)
            self._trusted[request] = False
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._trusted.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore errors of one connection, such as a browser that was closed."""


class BoundedHandler(BaseHTTPRequestHandler):
    """Reads requests within the bounds."""

    server: BoundedServer
    trusted = False  # whether the token was sent over this connection

    def setup(self) -> None:
        super().setup()
        self._received = _Received(self.connection)
        self.rfile = io.BufferedReader(self._received)

    def handle_one_request(self) -> None:
        self._received.begin(IDLE_SECONDS if self.trusted else REQUEST_SECONDS)
        super().handle_one_request()

    def trust(self) -> None:
        """Note that the other side knows the token."""
        if not self.trusted:
            self.trusted = True
            self.server.trust(self.connection)

    def begin_answer(self) -> None:
        """Give the other side time to receive an answer."""
        self.connection.settimeout(IDLE_SECONDS)


class _Received(io.RawIOBase):
    """What a connection receives."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.begin(REQUEST_SECONDS)

    def begin(self, seconds: float) -> None:
        """Wait for a request, at most ``seconds`` for its first byte."""
        self._deadline = time.monotonic() + seconds
        self._started, self._left = False, REQUEST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Receive some bytes.

        Raises:
            TimeoutError: the request takes too long.
            ConnectionAbortedError: the request is too large.
        """
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        if self._left <= 0:
            raise ConnectionAbortedError
        self._connection.settimeout(seconds)
        count = self._connection.recv_into(buffer)
        self._left -= count
        if not self._started:
            self._started = True
            self._deadline = min(self._deadline, time.monotonic() + REQUEST_SECONDS)
        return count
