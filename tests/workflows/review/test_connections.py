"""Strangers on the machine who keep connections, and what other users can see of the page's address."""

from __future__ import annotations

import http.client
import json
import re
import socket
import stat
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.reviews import NEAR, labeled, serving
from workflows.review import connections
from workflows.review.browser import shown_in_browser
from workflows.review.server import ReviewServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewServer]:
    with serving(labeled(tmp_path_factory.mktemp("run"), (NEAR,), "a.png")) as server:
        yield server


def connected(server: ReviewServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.server_port), timeout=60)


def is_closed(client: socket.socket) -> bool:
    """Wait until the server answers or closes; True if it closed without an answer."""
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def works(server: ReviewServer) -> bool:
    client = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    client.request("GET", f"/{server.token}/session")
    answer = json.loads(client.getresponse().read())
    client.close()
    return bool(answer["total"] == 1)


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nA: ", b"POST /{token}/undo HTTP/1.1\r\n{length}"],
)
def test_a_request_that_never_ends_is_closed(
    sent: bytes, server: ReviewServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.1)
    length = f"Host: 127.0.0.1:{server.server_port}\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"
    with connected(server) as client:
        client.sendall(sent.replace(b"{token}", server.token.encode()).replace(b"{length}", length.encode()))
        assert is_closed(client)


def test_a_request_that_comes_byte_by_byte_is_closed(server: ReviewServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)
    with connected(server) as client:
        client.settimeout(0.02)  # between two bytes
        client.sendall(b"GET / HTTP/1.1\r\nA: ")
        for _ in range(1000):
            try:
                client.sendall(b"a")
                assert client.recv(1) == b""
                break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            pytest.fail("still open")


@pytest.mark.parametrize("sent", [b"A: " + b"a" * 50_000 + b"\r\n", b"A: a\r\n" * 90 + b"B: " + b"b" * 65_000])
def test_huge_headers_are_not_kept(sent: bytes, server: ReviewServer) -> None:
    with connected(server) as client:
        try:
            client.sendall(b"GET / HTTP/1.1\r\n" + sent * 3)
        except ConnectionError:
            return
        assert is_closed(client)


def test_a_body_of_more_than_a_decision_is_refused_unread(server: ReviewServer) -> None:
    with connected(server) as client:
        head = f"POST /{server.token}/decisions HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n"
        client.sendall(f"{head}Content-Length: {2**40}\r\n\r\n".encode())
        assert client.recv(2**16).startswith(b"HTTP/1.1 413 ")


def test_strangers_cannot_keep_the_owner_out(server: ReviewServer) -> None:
    known = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    known.request("GET", f"/{server.token}/session")
    known.getresponse().read()
    socket_of_owner = known.sock
    strangers = [connected(server) for _ in range(3 * connections.MAX_CONNECTIONS)]
    try:
        assert works(server)
        assert all(is_closed(each) for each in strangers[: connections.MAX_CONNECTIONS])  # the oldest
        threads = sum(thread.name.endswith("(process_request_thread)") for thread in threading.enumerate())
        assert threads <= 2 * connections.MAX_CONNECTIONS
        known.request("GET", f"/{server.token}/session")  # its connection was kept
        assert known.getresponse().status == 200
        assert known.sock is socket_of_owner
    finally:
        for each in strangers:
            each.close()
        known.close()


def test_the_token_is_in_no_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    url, opened = "http://127.0.0.1:8000/secret-token/", list[str]()
    came = threading.Event()

    def browser(address: str) -> bool:
        opened.append(address)
        came.set()
        return True

    monkeypatch.setattr(webbrowser, "open", browser)
    with shown_in_browser(url):
        assert came.wait(60)
        (address,) = opened
        assert address.startswith("file://")
        assert "secret" not in address
        path = Path(unquote(urlsplit(address).path))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert re.search(r'content="0; url=([^"]+)"', path.read_text()) is not None
        assert re.findall(r'(?:url=|href=")([^"]+)"', path.read_text()) == [url, url]
    assert not path.parent.exists()
