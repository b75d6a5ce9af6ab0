"""The settings that a user gave: they change the defaults, or what a run folder remembers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from typing import Any, Generic, TypeVar

from labeler.quality_config import QualityConfig
from labeler.setting import setting_of

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Changes(Generic[Settings]):
    """What the user gave of some settings, by flags or in a configuration file.

    Attributes:
        values: by name of the field, also of fields of nested settings; nothing that was not given.
    """

    values: Mapping[str, Any] = field(default_factory=dict)

    def of(self, base: Settings) -> Settings:
        """``base`` with what was given.

        Raises:
            UsageError: a value is out of its range.
        """
        changed: Settings = _changed(base, self.values)
        return changed


def _changed(base: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(base, QualityConfig):
        return base.with_changes(values)
    given = {}
    for each in fields(base):
        value = getattr(base, each.name)
        if setting_of(each) is not None:
            given.update({each.name: values[each.name]} if each.name in values else {})
        elif is_dataclass(value) and nested_settings(each) is not None:
            given[each.name] = _changed(value, values)
    return replace(base, **given)


def nested_settings(each: Field[Any]) -> Any:
    """The dataclass of settings that a field holds, if it holds one by default."""
    factory = each.default_factory
    return factory if factory is not MISSING and is_dataclass(factory) else None


def settings_in(
    settings: Any, only: Collection[str] = (), without: Collection[str] = ()
) -> Iterator[tuple[str, Field[Any]]]:
    """(name, field) of every setting in a dataclass and in those nested in it, by the names of ``Changes.values``.

    Args:
        only: fields of ``settings`` to look at; all of them by default.
        without: names that are left out.
    """
    for each in fields(settings):
        if only and each.name not in only:
            continue
        if setting_of(each) is not None:
            found = [(each.name, each)]
        else:
            nested = nested_settings(each)
            found = [] if nested is None else list(settings_in(nested))
        yield from ((name, inner) for name, inner in found if name not in without)
