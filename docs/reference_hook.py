"""MkDocs hook: puts the tables of all commands and settings into ``reference/commands.md``."""

from __future__ import annotations

from typing import Any

from workflows.commands.reference import markdown as reference

MARK = "<!-- commands -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    return markdown.replace(MARK, commands()) if MARK in markdown else markdown


def commands() -> str:
    """Markdown: a section for each command, with a table for each group of its flags."""
    return "## " + reference().partition("\n## ")[2]  # the page has a title and an introduction of its own
