"""From command line and configuration file to the options of a command; the command line wins."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NoReturn

from labeler.errors import UsageError
from workflows.commands.options import Command, Flag, GeneralOptions, Options, built, flags_of
from workflows.commands.values import did_you_mean, value_of


@dataclass(frozen=True)
class Parsed(Generic[Options]):
    options: Options
    general: GeneralOptions


def all_flags(command: Command[Any]) -> list[Flag]:
    """The flags of a command, those of every command last."""
    return [*flags_of(command.options), *flags_of(GeneralOptions)]


def wants_help(arguments: Sequence[str]) -> bool:
    return bool({"-h", "--help"} & set(_before_dashes(arguments)))


def parse(name: str, command: Command[Options], arguments: Sequence[str]) -> Parsed[Options]:
    """What the user asks of the command ``name``.

    Raises:
        UsageError: a flag or key is unknown, has no value or one that cannot be meant, or is missing.
    """
    flags = all_flags(command)
    line = _from_line(name, flags, arguments)
    given = line
    if "config" in line:
        from workflows.commands.config_file import read_config

        given = _merged(flags, read_config(line["config"], name, flags), line)
    for flag in flags:
        if flag.required and flag.name not in given:
            raise UsageError(f"{'/'.join(flag.shown_names)} is missing: {flag.setting.help}")
    return Parsed(built(command.options, given), built(GeneralOptions, given))


# ---------------------------------------------------------------- the command line


class _Parser(argparse.ArgumentParser):
    """Splits a command line into flags and their text."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message.removeprefix('argument ')}; see `{self.prog} --help`")


def _from_line(name: str, flags: Sequence[Flag], arguments: Sequence[str]) -> dict[str, Any]:
    parser = _Parser(prog=f"labeler {name}", add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for flag in flags:
        if flag.setting.positional:
            parser.add_argument(flag.name, metavar=flag.setting.metavar)
        elif flag.kind == "switch":
            parser.add_argument(*flag.names, dest=flag.name, action="store_const", const=True)
            if flag.off_names:
                parser.add_argument(*flag.off_names, dest=flag.name, action="store_const", const=False)
        else:
            parser.add_argument(*flag.names, dest=flag.name, action="append")
    _refuse_unknown(name, [each for flag in flags for each in (*flag.names, *flag.off_names)], arguments)
    found, rest = parser.parse_known_args(list(arguments))
    if rest:
        what = "unknown flag" if rest[0].startswith("-") else "unexpected argument"
        raise UsageError(f"{what} {rest[0]}; see `labeler {name} --help`")
    by_name, raw = {flag.name: flag for flag in flags}, vars(found)
    given = {}
    for each, value in raw.items():
        texts = value if isinstance(value, list) else [value]
        given[each] = value if isinstance(value, bool) else value_of(by_name[each], texts)
    return given


def _before_dashes(arguments: Sequence[str]) -> Sequence[str]:
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _refuse_unknown(name: str, known: Sequence[str], arguments: Sequence[str]) -> None:
    for argument in _before_dashes(arguments):
        flag = argument.partition("=")[0]
        if flag.startswith("--") and " " not in flag and flag not in known:
            raise UsageError(f"unknown flag {flag}; {did_you_mean(flag, known, f'see `labeler {name} --help`')}")


def _merged(flags: Sequence[Flag], file: Mapping[str, Any], line: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a configuration file and of the command line together; the command line wins."""
    given = dict(file)
    for one, other in (("classes", "ontology"), ("ontology", "classes")):
        if one in line:  # both say what to look for
            given.pop(other, None)
    by_flag = {flag.title: flag.name for flag in flags}
    for flag in flags:
        common = by_flag.get(flag.title.replace("--class-", "--"))
        if flag.kind == "table" and common in line:  # which sets it for all classes
            given.pop(flag.name, None)
        if flag.kind in ("table", "arguments") and flag.name in line:
            given[flag.name] = {**given.get(flag.name, {}), **line[flag.name]}
        elif flag.name in line:
            given[flag.name] = line[flag.name]
    return given
