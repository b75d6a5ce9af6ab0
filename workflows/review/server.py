"""The page of ``labeler review``, served to browsers on this machine only.

    GET  /TOKEN/                     the page; its style sheets and scripts are beside it
    GET  /TOKEN/session              classes and progress
    GET  /TOKEN/items?start=N        the next items, at most ITEMS_PER_PAGE
    GET  /TOKEN/images/K             an image, as JPEG
    POST /TOKEN/decisions            {"item": N, "instance": ID, "verdict": "accept" | "reject", "class": name or null}
    POST /TOKEN/undo                 {}

and, where an assistant draws masks, what ``workflows.review.drawing`` says.

The server listens on the loopback interface only. The random token keeps out other users and programs. The ``Host``
header is checked, so that no other site can reach the server through a name that it points here (DNS rebinding). Images
are requested by number, so no path can lead out of the folder.
"""

from __future__ import annotations

import io
import json
import secrets
from http import HTTPStatus
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from PIL import Image

from labeler.errors import ImageError, LabelerError, UsageError
from ontologies.documents import DocumentError, parse_json
from workflows.drawing.assets import shared_asset
from workflows.review.assistant import Assistant
from workflows.review.connections import BoundedHandler, BoundedServer
from workflows.review.drawing import add_object, drawn_mask, new_draft, readiness
from workflows.review.queue import ADDED, ReviewQueue

HOST = "127.0.0.1"
ITEMS_PER_PAGE = 8
MAX_SIDE = 4096  # pixels; larger images are scaled down before they are sent
MAX_BODY = 2**14
CONTENT_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
}
FILES = ("review.css", "review.js", "drawing.css", "drawing.js")
SHARED_FILES = ("page.css", "instance.js")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class RefusedError(Exception):
    """A request that gets an error status as its answer."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class ReviewServer(BoundedServer):
    """Serves ``queue`` at ``url``.

    Args:
        assistant: draws masks on the page; None leaves that out.

    Raises:
        UsageError: the port is taken.
    """

    def __init__(self, queue: ReviewQueue, port: int = 0, assistant: Assistant | None = None) -> None:
        self.queue = queue
        self.assistant = assistant
        self.token = secrets.token_urlsafe(24)
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            cause = getattr(error, "strerror", None) or error
            raise UsageError(f"--port {port}: {cause}; choose another, or leave --port out") from None
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}/{self.token}/"


class _Handler(BoundedHandler):
    server: ReviewServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "labeler", ""
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, *_: object) -> None: ...

    def _answer(self, respond: Any) -> None:
        try:
            kind, body = respond()
            self._send(HTTPStatus.OK, kind, body)
        except RefusedError as refused:
            self._send_error(refused.status, str(refused))
        except ValueError as error:
            self._send_error(HTTPStatus.BAD_REQUEST, str(error))
        except (IndexError, ImageError) as error:
            self._send_error(HTTPStatus.NOT_FOUND, str(error))
        except UsageError as error:
            self._send_error(HTTPStatus.CONFLICT, str(error))
        except (LabelerError, OSError) as error:
            if isinstance(error, (ConnectionError, TimeoutError)) and not error.filename:
                raise  # the browser's connection
            self._send_error(HTTPStatus.INTERNAL_SERVER_ERROR, str(error).splitlines()[0])

    def _get(self) -> tuple[str, bytes]:
        path, query = self._route()
        queue = self.server.queue
        if path == "":
            markup = shared_asset("instance.html")
            return CONTENT_TYPES["html"], _asset("review.html").replace(b"<!-- instance.html -->", markup)
        if path in FILES or path in SHARED_FILES:
            body = _asset(path) if path in FILES else shared_asset(path)
            return CONTENT_TYPES[path.rpartition(".")[2]], body
        if path == "session":
            drawing = {"images": queue.image_count} if self.server.assistant else {}
            about = {"classes": queue.choices, "output": str(queue.labeled.run.output)}
            return _json({**about, **queue.progress(), **drawing})
        if path == "items":
            start = _number(*query.get("start", ["0"]))
            end = min(start + ITEMS_PER_PAGE, len(queue))
            return _json({"items": [queue.item(number) for number in range(start, end)]})
        folder, _, name = path.partition("/")
        if folder == "images":
            return "image/jpeg", _jpeg(queue, _number(name))
        if (assistant := self.server.assistant) and path in ("assist", "objects"):
            image = _number(*query["image"]) if "image" in query else None
            if path == "assist":
                return _json(readiness(assistant, image))
            return _json(queue.objects(image or 0))
        raise RefusedError(HTTPStatus.NOT_FOUND, "there is no such page")

    def _post(self) -> tuple[str, bytes]:
        path, _ = self._route()
        content = self._content()
        queue = self.server.queue
        if path == "decisions":
            number, instance, class_name = content.get("item"), content.get("instance"), content.get("class")
            verdict = content.get("verdict")
            if type(number) is not int or not isinstance(instance, str) or verdict not in ("accept", "reject"):
                raise RefusedError(HTTPStatus.BAD_REQUEST, "not a decision")
            if class_name is not None and not isinstance(class_name, str):
                raise RefusedError(HTTPStatus.BAD_REQUEST, "not a class")
            queue.decide(
                number, verdict, class_name, instance, drawn_mask(self.server.assistant, queue, number, content)
            )
        elif path == "undo":
            number = queue.undo()
        elif (assistant := self.server.assistant) and path in ("masks", "objects"):
            return _json((new_draft if path == "masks" else add_object)(assistant, queue, content))
        else:
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is no such page")
        if number is None or number == ADDED:
            return _json({"item": None, "is_undone": number == ADDED, "progress": queue.progress()})
        return _json({"item": queue.item(number), "progress": queue.progress(number)})

    def _route(self) -> tuple[str, dict[str, list[str]]]:
        """The path behind the token, and the query."""
        if self.headers.get("Host", "").lower() not in self.server.hosts:
            raise RefusedError(HTTPStatus.FORBIDDEN, "not the host of this page")
        url = urlsplit(self.path)
        _, _, rest = url.path.partition("/")
        token, slash, path = rest.partition("/")
        if not secrets.compare_digest(token.encode(), self.server.token.encode()) or not slash:
            raise RefusedError(HTTPStatus.FORBIDDEN, "the address lacks its token; take it from the terminal")
        self.trust()
        return path, parse_qs(url.query)

    def _content(self) -> dict[str, Any]:
        """The JSON object that was sent. Other sites cannot send the content type of JSON without permission."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY:
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"send {MAX_BODY} bytes at most, and their number")
        body = self.rfile.read(int(length))
        if self.headers.get_content_type() != "application/json":
            raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send JSON")
        if (origin := self.headers.get("Origin")) is not None and urlsplit(origin).netloc not in self.server.hosts:
            raise RefusedError(HTTPStatus.FORBIDDEN, "not sent by this page")
        try:
            content = parse_json(body)
        except DocumentError:
            content = None
        if not isinstance(content, dict):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "not a JSON object")
        return content

    def _send_error(self, status: HTTPStatus, why: str) -> None:
        self.close_connection = True  # the rest of the request is not read
        self._send(status, *_json({"error": why}))

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.begin_answer()
        self.send_response(status)
        keeps = kind == "image/jpeg"
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "private, max-age=3600" if keeps else "no-store",
            **({"Connection": "close"} if self.close_connection else {}),
        }
        for name, value in (headers | HEADERS).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _asset(name: str) -> bytes:
    return files("workflows.review").joinpath("templates", name).read_bytes()


def _json(content: Any) -> tuple[str, bytes]:
    return "application/json", json.dumps(content).encode()


def _number(text: str, *_: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 9:
        raise RefusedError(HTTPStatus.NOT_FOUND, "there is no such number")
    return int(text)


def _jpeg(queue: ReviewQueue, number: int) -> bytes:
    """The image as a JPEG, upright, whatever its own format is."""
    try:
        decoded = queue.image(number)
    except ImageError as error:
        raise RefusedError(HTTPStatus.NOT_FOUND, f"{error}; label it again") from error
    image = Image.fromarray(decoded.pixels)
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=92, subsampling=0)
    return stream.getvalue()
