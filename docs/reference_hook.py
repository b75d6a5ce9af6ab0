"""MkDocs hook: puts the tables of all commands and settings into ``reference/commands.md``."""

from __future__ import annotations

from typing import Any

MARK = "<!-- commands -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    return markdown.replace(MARK, commands()) if MARK in markdown else markdown


def commands() -> str:
    """Markdown: a section for each command, with a table for each group of its flags."""
    try:
        from workflows.commands.reference import markdown
    except ModuleNotFoundError:
        return "\n".join(of_parser())
    return "## " + markdown().partition("\n## ")[2]  # the page has a title and an introduction of its own


def of_parser() -> Any:
    """The lines of ``commands`` as argparse knows them. Goes as soon as ``workflows.commands.reference`` is there."""
    import argparse

    from workflows.commands import cli

    for name, parser in cli._parser()[1].items():
        yield f"## labeler {name}\n\n{parser.description}\n"
        for group in parser._action_groups:
            actions = [each for each in group._group_actions if each.help != argparse.SUPPRESS and each.dest != "help"]
            if actions:
                yield f"**{group.title}**\n\n| flag | meaning |\n|---|---|"
            for each in actions:
                flag = f"{', '.join(each.option_strings)} {each.metavar or ''}".strip().replace("|", "\\|")
                text = (each.help or "").replace("|", "\\|").replace("%%", "%")
                yield f"| `{flag}` | {text} |"
            yield ""
