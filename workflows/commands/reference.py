"""The reference of commands and settings, as the docs show it: ``python -m workflows.commands.reference``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from workflows.commands.cli import COMMANDS, load
from workflows.commands.help import about, grouped, usage
from workflows.commands.options import GENERAL, Flag, GeneralOptions, flags_of


@dataclass(frozen=True)
class Entry:
    """One flag of one command, in words.

    Attributes:
        flag: as help pages show it, with the placeholder of its value.
        aliases: older flags that mean the same.
        key: what it is called in a configuration file; empty if it cannot be set there.
        type: kind of its value.
        default: in words; empty if it is required.
        group: title of its group; empty for the flags that most people need.
    """

    command: str
    flag: str
    aliases: tuple[str, ...]
    key: str
    type: str
    default: str
    help: str
    group: str


def entries() -> Iterator[Entry]:
    """Every flag of every command that help pages show, in their order."""
    for name in COMMANDS:
        for title, _, flags in grouped(load(name)):
            yield from (_entry(name, title, flag) for flag in flags)


def _entry(command: str, group: str, flag: Flag) -> Entry:
    return Entry(
        command=command,
        flag=usage(flag),
        aliases=flag.setting.aliases,
        key=flag.keys[0] if flag.keys else "",
        type=flag.kind,
        default="" if flag.required else flag.default_text,
        help=about(flag, with_default=False),
        group=group,
    )


def markdown() -> str:
    """The reference: a section for each command, and in it a table for each group of flags."""
    parts = [
        "# Commands and settings",
        "Every flag can stand in a TOML file that is given with `--config`, under the key that the tables name; the "
        "command line wins. `labeler help COMMAND` shows the same.",
        "## Every command",
        _table([_entry("", GENERAL, flag) for flag in flags_of(GeneralOptions)]),
    ]
    for name, sentence in COMMANDS.items():
        command = load(name)
        parts += [f"## labeler {name}", sentence, "```bash\n" + "\n".join(command.examples) + "\n```"]
        for title, note, flags in grouped(command):
            if title != GENERAL:
                heading = [f"### {title[0].upper()}{title[1:]}"] if title else []
                parts += [*heading, *filter(None, [note]), _table([_entry(name, title, flag) for flag in flags])]
    return "\n\n".join(parts) + "\n"


def _table(entries: list[Entry]) -> str:
    lines = ["| flag | key | type | default | what it does |", "|---|---|---|---|---|"]
    for each in entries:
        flag = f"`{each.flag}`" + "".join(f", also `{alias}`" for alias in each.aliases)
        default = each.default.replace("*", "\\*") or "required"
        cells = (flag, each.key and f"`{each.key}`", each.type, default, each.help)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(), end="")
