"""Refuse to mix records that were made with different settings in one run folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from labeler.errors import RunError
from labeler.files.storage import info, is_in_another_store, locate
from workflows.settings.run_settings import BEFORE

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from workflows.settings.run_settings import RunSettings


def refuse_other(output: AnyPath, old: RunSettings, new: RunSettings) -> None:
    """Check that ``new`` settings would give the same records as the ``old`` ones.

    Raises:
        RunError: the settings under ``labeling`` differ, or the input differs and the old one still exists.
    """
    if old.input != new.input and _is_there(old.input, new.input):  # if the old input is gone, it was moved
        raise RunError(f"{output} holds labels of {old.input}, not of {new.input}; choose another -o")
    if changed := list(_differing(old.labeling, new.labeling)):
        tags_only = new.tags_only
        raise RunError(
            f"{output} was {'tagged' if tags_only else 'labeled'} with another {' and '.join(changed)}; "
            "choose another -o, or start over with --restart"
            + ("" if tags_only else ", or use `labeler export` to change only thresholds and formats")
        )


def _is_there(old: str, new: str) -> bool:
    """Whether the input ``old`` exists; assumed without a check if it is in a store that only the run folder names."""
    before = locate(old)
    return is_in_another_store(before, locate(new)) or info(before) is not None


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """The names of the settings in ``new`` that differ from ``old``, including nested ones."""
    for name, value in new.items():
        before = old.get(name, BEFORE.get(name))
        if isinstance(before, dict) and isinstance(value, dict):
            yield from _differing(before, value)
        elif before != value:
            yield name
