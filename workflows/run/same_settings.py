"""Refuse to mix records that were made with different settings in one run folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labeler.errors import RunError
from labeler.files.storage import info, is_in_another_store, locate

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from workflows.settings.run_settings import RunSettings


ALL_PASSES = ("tags_only", "intensity")  # what a second labeler must have in common with the first


def refuse_other(output: AnyPath, old: RunSettings, new: RunSettings, adding: bool = False) -> None:
    """Check that the labeler of ``new`` is one of those that labeled ``old``. It may be asked for other prompts.

    Args:
        adding: the labeler may be another one; it makes a labeling pass of its own.

    Raises:
        RunError: it is another labeler; or the input differs and the old one still exists.
    """
    if old.input != new.input and _is_there(old.input, new.input):  # if the old input is gone, it was moved
        raise RunError(f"{output} holds labels of {old.input}, not of {new.input}; choose another -o")
    differing = min((made.differs_from(new.asked) for made in old.passes), key=len)
    may_be_added = new.ontology is not None and old.ontology is not None and not new.tags_only
    if adding and may_be_added:
        differing = [name for name in differing if name in ALL_PASSES]
    if differing:
        raise RunError(
            f"{output} was {'tagged' if new.tags_only else 'labeled'} with another {' and '.join(differing)}; "
            "choose another -o, or start over with --restart"
            + ("" if new.tags_only else ", or use `labeler export` to change only thresholds and formats")
            + (", or add the labels of this labeler with --add-pass" if may_be_added and not adding else "")
        )


def _is_there(old: str, new: str) -> bool:
    """Whether the input ``old`` exists; assumed without a check if it is in a store that only the run folder names."""
    before = locate(old)
    return is_in_another_store(before, locate(new)) or info(before) is not None
