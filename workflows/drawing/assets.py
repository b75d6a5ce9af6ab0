"""The view of one instance that the report and the review page share: its markup, script and style sheet."""

from __future__ import annotations

from importlib.resources import files


def shared_asset(name: str) -> bytes:
    """Content of ``instance.html``, ``instance.js`` or ``page.css``."""
    return files("workflows.drawing").joinpath("templates", name).read_bytes()
