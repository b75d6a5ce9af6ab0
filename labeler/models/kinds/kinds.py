"""The kinds of labelers that ``--labeler`` names. A new kind is one file in this folder and one line here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import ClassVar, Protocol

from labeler.errors import UsageError
from labeler.models.config import PRESETS
from labeler.models.kinds.autodistill import AutodistillKind
from labeler.models.kinds.boxes import BoxesKind
from labeler.models.kinds.everything import EverythingKind
from labeler.models.kinds.grounded_sam import GroundedSamKind
from labeler.models.kinds.kind import LabelerKind, innermost
from labeler.models.kinds.sam3 import CHECKPOINT, Sam3Kind


class ListedKind(LabelerKind, Protocol):
    """A kind with what `labeler models` tells of it.

    Attributes:
        about: what it does, in one line.
        flags: the flags that it takes, apart from those that all kinds share.
    """

    about: ClassVar[str]
    flags: ClassVar[tuple[str, ...]]


KINDS: Mapping[str, type[ListedKind]] = {
    each.kind: each for each in (GroundedSamKind, Sam3Kind, BoxesKind, EverythingKind, AutodistillKind)
}


def kind_named(name: str) -> type[ListedKind]:
    """The kind that a user names.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in KINDS:
        near = difflib.get_close_matches(name, KINDS, n=1)
        hint = f"did you mean {near[0]}?" if near else "see `labeler models`"
        raise UsageError(f"there is no labeler {name!r}; the labelers are {', '.join(KINDS)}; {hint}")
    return KINDS[name]


def made_kind(labeler: str | LabelerKind) -> LabelerKind:
    """A kind that is given by its name or as it is.

    Raises:
        UsageError: there is none of that name, or it is something else.
    """
    if not isinstance(labeler, str):
        if isinstance(labeler, type) or not all(hasattr(labeler, each) for each in ("kind", "models", "load")):
            raise UsageError(f"labeler must be the name of a kind or a LabelerKind, not {labeler!r:.80}")
        return labeler
    kind = kind_named(labeler)
    try:
        return kind()
    except TypeError:
        raise UsageError(f"labeler {labeler!r} needs settings; give labeler={kind.__name__}(...)") from None


def preset_models(kind: LabelerKind, name: str) -> tuple[str, str]:
    """The detector and the segmenter that a kind takes from a preset; empty where it has none.

    Raises:
        UsageError: the preset is for another kind.
    """
    kind, preset = innermost(kind), PRESETS[name]
    is_sam3 = preset.labeler == Sam3Kind.kind
    if isinstance(kind, Sam3Kind):
        return preset.detector if is_sam3 else CHECKPOINT, ""
    if isinstance(kind, BoxesKind | EverythingKind | AutodistillKind):
        return "", preset.detector if is_sam3 else preset.segmenter  # SAM 3 segments boxes and points, too
    if is_sam3:
        raise UsageError(f"the preset {name} is for the labeler {preset.labeler}, not for {kind.kind}")
    return preset.detector, preset.segmenter
