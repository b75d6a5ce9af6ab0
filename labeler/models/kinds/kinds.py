"""The kinds of labelers that ``--labeler`` names. A new kind is one file in this folder and one line here."""

from __future__ import annotations

from labeler.models.kinds.everything import EverythingKind
from labeler.models.kinds.grounded_sam import GroundedSamKind

KINDS = {each.kind: each for each in (GroundedSamKind, EverythingKind)}
