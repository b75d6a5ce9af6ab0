"""The kinds of labelers that ``--labeler`` names. A new kind is one file in this folder and one line here."""

from __future__ import annotations

from labeler.models.kinds.grounded_sam import GroundedSamKind
from labeler.models.kinds.sam3 import Sam3Kind

KINDS = {each.kind: each for each in (GroundedSamKind, Sam3Kind)}
