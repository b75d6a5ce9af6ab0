"""A server on this machine that speaks the part of the model hub's interface that a download uses."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def model_hub(models: Mapping[str, Path], gated: Collection[str] = ()) -> Iterator[tuple[str, list[str]]]:
    """Its address, and the paths that it is asked for.

    Args:
        models: the folder of each model, by its id.
        gated: ids of models that all can see, and nobody may download.
    """
    handler = type("Handler", (_Handler,), {"models": models, "gated": gated, "asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", handler.asked  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    models: dict[str, Path]
    gated: Collection[str]
    asked: list[str]

    def _is_closed(self, parts: list[str]) -> bool:
        return "/".join(parts[:2]) in self.gated and ("auth-check" in parts or not self.path.startswith("/api/"))

    def do_GET(self) -> None:
        self.asked.append(self.path)
        parts = self.path.partition("?")[0].removeprefix("/api/models").strip("/").split("/")
        folder = self.models.get("/".join(parts[:2]))
        headers, status, body = {"X-Repo-Commit": COMMIT}, 200, b""
        if folder is None:
            status, headers["X-Error-Code"] = 404, "RepoNotFound"
        elif self._is_closed(parts):
            status, headers["X-Error-Code"] = 401, "GatedRepo"
        elif "tree" in parts:
            listed = [
                {"type": "file", "path": p.name, "size": p.stat().st_size, "oid": p.name} for p in folder.iterdir()
            ]
            body = json.dumps(listed).encode()
        elif self.path.startswith("/api/"):
            gated = "manual" if "/".join(parts[:2]) in self.gated else False
            siblings = [{"rfilename": path.name} for path in folder.iterdir()]
            body = json.dumps({"id": "/".join(parts[:2]), "sha": COMMIT, "siblings": siblings, "gated": gated}).encode()
        elif (path := folder / parts[-1]).is_file():
            body, headers["ETag"] = path.read_bytes(), f'"{path.name}"'
        else:
            status, headers["X-Error-Code"] = 404, "EntryNotFound"
        self.send_response_only(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET
