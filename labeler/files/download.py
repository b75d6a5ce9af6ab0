"""Download one file over HTTP, within limits on its size and on the whole time."""

from __future__ import annotations

import base64
import threading
import time
from dataclasses import dataclass
from http.client import InvalidURL
from urllib.parse import unquote, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from labeler.errors import ImageError

BLOCK_BYTES = 2**16
MOST_REDIRECTS = 5


@dataclass(frozen=True)
class DownloadLimits:
    """What a download may take.

    Attributes:
        seconds: from the start to the last byte.
        bytes: of the content.
    """

    seconds: float = 60.0
    bytes: int = 200_000_000


def download(url: str, limits: DownloadLimits) -> bytes:
    """The content at ``url``; only HTTP and HTTPS are allowed, also in redirects.

    User and password in ``url`` are for its own server, not for one that it redirects to.

    Raises:
        ImageError: the download failed or exceeded ``limits``; the message does not name the URL.
    """
    result: list[bytes | Exception] = []
    began = time.monotonic()

    def fetch() -> None:
        try:
            result.append(_fetch(url, limits, began + limits.seconds))
        except Exception as error:
            result.append(error)

    # In a thread, since a server may also be slow with its headers, one byte at a time.
    thread = threading.Thread(target=fetch, name="download", daemon=True)
    thread.start()
    thread.join(limits.seconds)
    content = result[0] if result else TimeoutError()
    if isinstance(content, TimeoutError):
        raise ImageError(f"the server took more than {limits.seconds:g} s; download the image first")
    if isinstance(content, ImageError):
        raise content
    if isinstance(content, InvalidURL):  # its message repeats parts of the URL, which may hold a password
        raise ImageError("the URL holds a blank or a control character, or its port is no number")
    if isinstance(content, Exception):
        cause = getattr(content, "reason", None) or content
        raise ImageError(" ".join(str(cause).split()) or type(content).__name__) from content
    return content


def _fetch(url: str, limits: DownloadLimits, end: float) -> bytes:
    content = bytearray()
    request = _request(url)
    with _opener().open(request, timeout=limits.seconds) as response:
        while block := response.read1(BLOCK_BYTES):
            content += block
            if len(content) > limits.bytes:
                raise ImageError(f"more than {limits.bytes / 1e6:g} MB; download the image first")
            if time.monotonic() > end:
                raise TimeoutError
        if (stated := response.headers.get("Content-Length", "")).isdigit() and len(content) < int(stated):
            raise ImageError("the connection broke off")
    return bytes(content)


def _request(url: str) -> Request:
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    request = Request(parts._replace(netloc=host).geturl(), headers={"User-Agent": "labeler"})
    if at:
        token = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


class _FewRedirects(HTTPRedirectHandler):
    max_redirections = MOST_REDIRECTS


def _opener() -> OpenerDirector:
    """An opener that speaks HTTP and HTTPS alone, with the proxies of the environment."""
    opener = OpenerDirector()
    for handler in (ProxyHandler(), HTTPHandler(), HTTPSHandler(), HTTPDefaultErrorHandler(), HTTPErrorProcessor()):
        opener.add_handler(handler)
    opener.add_handler(_FewRedirects())
    return opener
