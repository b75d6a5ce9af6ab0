"""The kinds of labelers that ``--labeler`` names. A new kind is one file in this folder and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from labeler.models.kinds.boxes import BoxesKind
from labeler.models.kinds.grounded_sam import GroundedSamKind
from labeler.models.kinds.kind import LabelerKind

KINDS: Mapping[str, Callable[..., LabelerKind]] = {
    GroundedSamKind.kind: GroundedSamKind,
    BoxesKind.kind: BoxesKind.of,
}
