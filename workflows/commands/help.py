"""The help pages."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from workflows.commands.options import Command, Flag, GeneralOptions, flags_of
from workflows.commands.parsing import all_flags

FLAG_COLUMNS, WIDEST = 30, 110


def help_of_all(commands: Mapping[str, str]) -> str:
    """The page of ``labeler --help``: commands and what each does."""
    examples = ("labeler demo", 'labeler label photos -o dataset --classes "dog, cat"', "labeler report dataset")
    parts = [
        "Turn a folder of images and a list of words into a segmentation dataset.",
        *_block("Examples", examples),
        "Usage: labeler COMMAND [flags]",
        "Commands:\n" + _rows(commands.items(), 12),
        "Flags of every command:\n" + _flag_rows(flags_of(GeneralOptions)),
        "labeler help COMMAND shows the flags of a command, labeler --version the version.",
    ]
    return "\n\n".join(parts) + "\n"


def help_of(name: str, sentence: str, command: Command[Any]) -> str:
    """The page of ``labeler NAME --help``: examples, the flags that most people need, and the others by group."""
    required = [flag for flag in all_flags(command) if flag.required]
    needed = [" ".join((*flag.shown_names[:1], flag.setting.metavar)) for flag in required]
    parts = [
        sentence,
        *_block("Examples", command.examples),
        f"Usage: {' '.join(['labeler', name, *needed])} [flags]",
        *(
            "\n".join(filter(None, [title and f"{title[0].upper()}{title[1:]}:", note, _flag_rows(members)]))
            for title, note, members in grouped(command)
        ),
    ]
    return "\n\n".join(parts) + "\n"


def grouped(command: Command[Any]) -> list[tuple[str, str, list[Flag]]]:
    """(title, note, flags) of each group, the flags that most people need first, under no title."""
    flags = [flag for flag in all_flags(command) if not flag.setting.hidden]
    by_name = {flag.name: flag for flag in flags}
    first = [by_name[name] for name in command.first] or [flag for flag in flags if not flag.setting.group]
    groups: dict[str, list[Flag]] = {"": first}
    for flag in flags:
        if flag not in first:
            groups.setdefault(flag.setting.group, []).append(flag)
    return [(title, command.notes.get(title, ""), members) for title, members in groups.items() if members]


def usage(flag: Flag) -> str:
    """A flag as a help page shows it, such as ``-o, --output OUT``."""
    if flag.setting.positional:
        return flag.setting.metavar
    names = ", ".join((*flag.shown_names, *flag.off_names))
    if flag.kind == "switch":
        return names
    value = "NAME=X" if flag.kind == "table" else flag.setting.metavar or "|".join(flag.setting.choices) or "TEXT"
    return f"{names} {value}"


def _flag_rows(flags: Iterable[Flag]) -> str:
    return _rows(((usage(flag), about(flag)) for flag in flags), FLAG_COLUMNS)


def about(flag: Flag, with_default: bool = True) -> str:
    """What a flag does, the words that it takes, and its default."""
    choices = flag.setting.choices
    is_known = set(choices) <= set((flag.setting.metavar or "|".join(choices)).split("|"))
    known = "" if is_known else f": {', '.join(choices)}"
    is_off = flag.kind == "switch" and not flag.off_names  # as all switches are
    default = flag.default_text if with_default and not is_off else ""
    return f"{flag.setting.help}{known}{f' (default: {default})' if default else ''}"


def _block(title: str, lines: Sequence[str]) -> list[str]:
    return ["\n".join([f"{title}:", *(f"  {line}" for line in lines)])] if lines else []


def _rows(rows: Iterable[tuple[str, str]], columns: int) -> str:
    """Two columns; what is too wide for the first stands on a line of its own."""
    width = min(shutil.get_terminal_size().columns, WIDEST)
    lines: list[str] = []
    for left, right in rows:
        wrapped = textwrap.wrap(right, max(width - columns - 2, 30), break_long_words=False, break_on_hyphens=False)
        if len(left) > columns - 2:
            lines.append(f"  {left}")
            left = ""
        lines += [f"  {left if number == 0 else '':<{columns}}{line}".rstrip() for number, line in enumerate(wrapped)]
    return "\n".join(lines)
