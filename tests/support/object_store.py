"""An S3 server on this machine, and a proxy before it that fails when told to."""

from __future__ import annotations

import http.client
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


@contextmanager
def s3_server() -> Iterator[str]:
    """The endpoint of an empty S3."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@contextmanager
def web_server(folder: Path, asked: list[str] | None = None) -> Iterator[str]:
    """The address of a plain web server, which knows no ranges; what it is asked for is added to ``asked``."""

    class Quiet(SimpleHTTPRequestHandler):
        def parse_request(self) -> bool:
            parsed = super().parse_request()
            if asked is not None:
                asked.append(self.path)
            return parsed

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def files_below(folder: Any) -> list[str]:
    """POSIX paths of all files below ``folder``, on this machine or in a store; none if it is not there."""
    if isinstance(folder, Path):
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    top = folder.path.strip("/")
    return sorted(path.strip("/").removeprefix(f"{top}/") for path in folder.fs.find(folder.path))


class Bucket:
    """A bucket as another program sees it, by boto3."""

    def __init__(self, name: str, endpoint: str) -> None:
        import boto3

        self.name = name
        self.endpoint = endpoint
        self.uri = f"s3://{name}"
        self._client: Any = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1",
                                         aws_access_key_id="test", aws_secret_access_key="test")  # fmt: skip
        self._client.create_bucket(Bucket=name)

    def put(self, key: str, data: bytes) -> None:
        self._client.put_object(Bucket=self.name, Key=key, Body=data)

    def get(self, key: str) -> bytes:
        return bytes(self._client.get_object(Bucket=self.name, Key=key)["Body"].read())

    def remove(self, key: str) -> None:
        self._client.delete_object(Bucket=self.name, Key=key)

    def keys(self, prefix: str = "") -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def contents(self, prefix: str = "") -> dict[str, bytes]:
        """By key below ``prefix``."""
        return {key.removeprefix(prefix): self.get(key) for key in self.keys(prefix)}


class Proxy:
    """A server on this machine that passes requests on, unless ``fail`` says otherwise.

    Attributes:
        fail: of method, path and how often this was asked before: ``drop`` closes the connection without an answer,
            ``lose`` does so once the request was passed on, ``busy`` answers 503, ``denied`` 403, ``hang`` nothing for
            a while; an empty word passes request and answer on.
        asked: how often, by (method, path).
        log: the requests in order.
    """

    def __init__(self, endpoint: str) -> None:
        self.fail: Callable[[str, str, int], str] = lambda method, path, before: ""
        self.asked: Counter[tuple[str, str]] = Counter()
        self.log: list[tuple[str, str]] = []
        self.target = endpoint.removeprefix("http://")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.proxy = self  # type: ignore[attr-defined]
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def count(self, method: str, part: str) -> int:
        return sum(count for (asked, path), count in self.asked.items() if asked == method and part in path)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _pass_on(self) -> None:
        proxy: Proxy = self.server.proxy  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = (self.command, self.path)
        before = proxy.asked[request]
        proxy.asked[request] += 1
        proxy.log.append(request)
        failure = proxy.fail(*request, before)
        if failure == "hang":
            time.sleep(20)
        if failure in ("drop", "hang"):
            self.close_connection = True
        elif failure in ("busy", "denied"):
            self._answer(503 if failure == "busy" else 403, {}, b"" if failure == "busy" else DENIED)
        else:
            connection = http.client.HTTPConnection(proxy.target)
            connection.request(self.command, self.path, body, dict(self.headers.items()))
            response = connection.getresponse()
            answer = response.read()
            connection.close()
            if failure == "lose":
                self.close_connection = True
            else:
                self._answer(response.status, dict(response.getheaders()), answer)

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on

    def log_message(self, *_: object) -> None:
        pass
