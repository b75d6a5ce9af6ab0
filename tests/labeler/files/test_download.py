"""Downloads from servers that do not behave."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from labeler.errors import ImageError
from labeler.files.download import DownloadLimits, download

LIMITS = DownloadLimits(seconds=5, bytes=1000)


class Handler(BaseHTTPRequestHandler):
    stop = threading.Event()
    logins: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        if self.path == "/slow-headers":
            self.wfile.write(b"HTTP/1.0 200 OK\r\nA: ")
            self.trickle()
            return
        if self.path.startswith("/to"):
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname" if self.path == "/to-file" else self.path + "o")
            self.end_headers()
            return
        self.send_response(404 if self.path == "/none" else 200)
        self.logins.append(self.headers.get("Authorization"))
        if self.path == "/cut":
            self.send_header("Content-Length", "500")
        self.end_headers()
        if self.path == "/endless":
            for _ in itertools.takewhile(lambda _: not self.stop.is_set(), itertools.count()):
                self.wfile.write(b"x" * 500)
        elif self.path == "/trickle":
            self.trickle()
        else:
            self.wfile.write(b"image")

    def trickle(self) -> None:
        while not self.stop.wait(0.05):
            self.wfile.write(b"x")
            self.wfile.flush()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        Handler.stop.set()
        server.shutdown()


def test_a_download(server: str) -> None:
    assert download(f"{server}/image", LIMITS) == b"image"
    assert Handler.logins[-1] is None
    assert download(f"{server.replace('//', '//user:p%40ss@')}/image", LIMITS) == b"image"
    assert Handler.logins[-1] == "Basic dXNlcjpwQHNz"  # user:p@ss


@pytest.mark.parametrize(
    ("path", "seconds", "cause"),
    [
        ("/endless", 5, "^more than 0.001 MB; download the image first$"),
        ("/trickle", 0.3, "^the server took more than 0.3 s; download the image first$"),
        ("/slow-headers", 0.3, "^the server took more than 0.3 s; download the image first$"),
        ("/cut", 5, "^the connection broke off$"),
        ("/none", 5, "Not Found"),
        ("/to", 5, "redirect"),
        ("/to-file", 5, "redirect|not allowed|unknown url"),
    ],
)
def test_servers_that_do_not_behave(server: str, path: str, seconds: float, cause: str) -> None:
    with pytest.raises(ImageError, match=cause):
        download(server + path, DownloadLimits(seconds, 1000))


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/hostname",
        "ftp://127.0.0.1/a",
        "http://127.0.0.1:9/a",
        "http://[",
        "nothing",
        "http://a:hush@b:hush/hush?hush hush",
    ],
)
def test_only_http(url: str) -> None:
    with pytest.raises(ImageError) as caught:
        download(url, LIMITS)
    assert "hush" not in str(caught.value)
