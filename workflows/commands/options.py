"""How a command says what it takes: a dataclass whose fields are flags, and what else its help page shows.

A field of the dataclass is a setting (see ``labeler.setting``), other options (``nested``), or what the user changes of
some settings (``changes``). Flags, keys of configuration files, help pages and the reference come from there alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from labeler.setting import Kind, Setting, check, kind_of, setting, setting_of
from workflows.run.exit_codes import OK
from workflows.settings.changes import Changes, settings_in

if TYPE_CHECKING:
    from workflows.commands.terminal import Terminal

Options = TypeVar("Options")
GENERAL = "general"
_CHANGES, _NESTED, _GIVEN = "changes", "nested", "given"


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        line: the last line of its output, which ``--quiet`` leaves.
    """

    exit_code: int = OK
    line: str = ""


@dataclass(frozen=True)
class Command(Generic[Options]):
    """One command.

    Attributes:
        options: the dataclass of its options.
        run: does the work.
        examples: two or three command lines.
        first: names of the options that most people need; the help page shows these first, in this order.
        notes: by the title of a group of flags, a line to stand above it.
    """

    options: type[Options]
    run: Callable[[Options, Terminal], Outcome]
    examples: tuple[str, ...]
    first: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GeneralOptions:
    """What every command takes."""

    config: str | None = setting(
        None, "TOML file with flags as keys; the command line wins", metavar="FILE", group=GENERAL, unset="none"
    )
    quiet: bool = setting(False, "print only errors and the summary line", names=("-q", "--quiet"), group=GENERAL)
    verbose: bool = setting(False, "log details for debugging", names=("-v", "--verbose"), group=GENERAL)
    help: bool = setting(False, "show this page", names=("-h", "--help"), group=GENERAL)


@dataclass(frozen=True)
class Flag:
    """One flag of a command, or one positional argument.

    Attributes:
        name: of the option that it gives.
        kind: of its value; ``table`` is NAME=X, given once for each class, and ``arguments`` KEY=VALUE.
        default: MISSING if it is required.
        unset: what happens where it is not given, in words; empty where ``default`` says it.
    """

    name: str
    setting: Setting
    kind: Kind
    default: Any
    unset: str

    @property
    def shown_names(self) -> tuple[str, ...]:
        """The flags as help pages list them, without older ones; none for a positional argument."""
        if self.setting.positional:
            return ()
        return self.setting.names or (f"--{self.name.replace('_', '-')}",)

    @property
    def names(self) -> tuple[str, ...]:
        """All flags that mean this, older ones included."""
        return (*self.shown_names, *self.setting.aliases)

    @property
    def off_names(self) -> tuple[str, ...]:
        """The flags that switch it off."""
        return tuple(f"--no-{name[2:]}" for name in self.shown_names) if self.setting.negatable else ()

    @property
    def title(self) -> str:
        """The flag as messages name it."""
        names = self.shown_names
        return next((name for name in names if name.startswith("--")), names[0]) if names else self.setting.metavar

    @property
    def keys(self) -> tuple[str, ...]:
        """What it is called in a configuration file."""
        is_key = not self.setting.positional and self.name not in ("config", "help")
        return tuple(name[2:] for name in self.names if name.startswith("--")) if is_key else ()

    @property
    def required(self) -> bool:
        return self.default is MISSING and not self.unset

    @property
    def default_text(self) -> str:
        """The default in words; empty if the flag is required."""
        if self.unset or self.default is MISSING:
            return self.unset
        if self.kind == "switch":
            return "yes" if self.default else "no"
        if self.kind in ("list", "table", "arguments"):
            return ",".join(self.default) or "none"
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)


def changes(
    settings: type[Any],
    only: Collection[str] = (),
    without: Collection[str] = (),
    unset: Mapping[str, str] | None = None,
) -> Any:
    """A field for the ``Changes`` of some settings.

    Args:
        only, without: as ``settings_in`` takes them.
        unset: by name, what happens in this command where a flag is not given.
    """
    return field(default_factory=Changes, metadata={_CHANGES: (settings, only, without, unset or {})})


def nested(options: type[Any], without: Collection[str] = (), unset: Mapping[str, str] | None = None) -> Any:
    """A field for more options, less those whose names are in ``without``; ``unset`` as in ``changes``."""
    return field(default_factory=options, metadata={_NESTED: (options, without, unset or {})})


def everything_given() -> Any:
    """A field for all that was given to the command, by name."""
    return field(default_factory=dict, metadata={_GIVEN: True})


def flags_of(
    options: type[Any], without: Collection[str] = (), unset: Mapping[str, str] | None = None
) -> Iterator[Flag]:
    """The flags of a dataclass of options, in the order of its fields; ``unset`` as in ``changes``."""
    told = unset or {}
    for each in fields(options):
        if each.name in without:
            continue
        if setting_of(each) is not None:
            yield _flag(each.name, each, told.get(each.name))
        elif _NESTED in each.metadata:
            inner, less, own = each.metadata[_NESTED]
            yield from flags_of(inner, (*without, *less), {**own, **told})
        elif _CHANGES in each.metadata:
            settings, only, less, own = each.metadata[_CHANGES]
            for name, found in settings_in(settings, only, (*without, *less)):
                yield _flag(name, found, {**own, **told}.get(name))


def _flag(name: str, each: Field[Any], unset: str | None = None) -> Flag:
    about = each.metadata["setting"]
    default = each.default if each.default_factory is MISSING else each.default_factory()
    if name.startswith("class_") and name != each.name:
        return Flag(name, about, "table", {}, "none")
    return Flag(name, about, kind_of(each), default, about.unset if unset is None else unset)


def built(options: type[Options], given: Mapping[str, Any], without: Collection[str] = ()) -> Options:
    """The options that were given; the others have their defaults.

    Raises:
        UsageError: a value is out of its range.
    """
    values: dict[str, Any] = {}
    for each in fields(options):  # type: ignore[arg-type]
        if _NESTED in each.metadata:
            inner, less, _ = each.metadata[_NESTED]
            values[each.name] = built(inner, given, (*without, *less))
        elif _CHANGES in each.metadata:
            settings, only, less, _ = each.metadata[_CHANGES]
            names = [name for name, _ in settings_in(settings, only, (*without, *less))]
            values[each.name] = Changes({name: given[name] for name in names if name in given})
        elif _GIVEN in each.metadata:
            values[each.name] = given
        elif each.name in given and each.name not in without:
            values[each.name] = given[each.name]
    made = options(**values)
    check(made)
    return made
