"""Which tagger runs, with which model, vocabulary and thresholds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from labeler.errors import UsageError
from labeler.models.config import PRESETS, ModelConfig
from labeler.models.identity import CHECKPOINT_FILES, EMBEDDED, EMBEDDED_CLASSES, is_on_this_machine, may_fetch
from labeler.setting import check, setting
from ontologies.vocabularies import read_vocabulary

GROUP = "tags"
TAGGERS = ("auto", "vocabulary", "ram", "vlm", "detector")
# By the preset's detector; for any other that of ``balanced``.
VOCABULARY_MODELS = {
    PRESETS["fast"].detector: "google/siglip2-base-patch16-224",
    PRESETS["balanced"].detector: "google/siglip2-base-patch16-384",
    PRESETS["best"].detector: "google/siglip2-so400m-patch14-384",
}


LANGUAGE_MODEL = "florence-community/Florence-2-base"
CONTRASTIVE = ("siglip", "siglip2", "clip")
DEFAULT_VOCABULARIES = {"vocabulary": "lvis", "detector": "coco"}  # a detector pays for every word
TAG_SCORES = {"vocabulary": 0.1, "detector": 0.3}  # the others have thresholds of their own, or none
TAG_FLOORS = {"vocabulary": 0.01, "detector": 0.1}  # where tags are kept for a threshold to be chosen later
# What can be set of each kind, beside the kind.
FLAGS = {
    "vocabulary": ("tagger_model", "vocabulary", "tag_score", "tag_tiles"),
    "detector": ("vocabulary", "tag_score"),
    "ram": ("tagger_model",),
    "vlm": ("tagger_model",),
}


@dataclass(frozen=True)
class TaggingConfig:
    """Who tags, and what for.

    Attributes:
        tagger: one of ``TAGGERS``; ``auto`` is what ``tagger_model`` is, else ``vocabulary``, or the detector itself
            where that is embedded or nothing else can be had offline.
        tagger_model: hub id or folder; for ``ram`` the checkpoint file.
        vocabulary: words that ``vocabulary`` and ``detector`` choose from.
        tag_score: tags below are dropped; None for the kind's own threshold.
        tag_tiles: 2 lets ``vocabulary`` look at the quarters of an image too.
        gate_below: with classes given, one is asked for only in images where the tagger scores it so high.
    """

    tagger: str = setting(
        "auto",
        "model that tags each image; auto: SigLIP 2 with a vocabulary, or with --model demo its detector",
        choices=TAGGERS,
        group=GROUP,
        unset="no tagger",
    )
    tagger_model: str | None = setting(
        None,
        "hub id or folder of the tagger; for ram its checkpoint file",
        metavar="ID",
        group=GROUP,
        unset="chosen by preset",
    )
    vocabulary: tuple[str, ...] = ()
    tag_score: float | None = setting(
        None, "drop tags with a lower score", metavar="P", group=GROUP, least=0, most=1, unset="the tagger's own"
    )
    tag_tiles: int = setting(
        1, "for the tagger vocabulary: also tag N x N parts of each image", metavar="N", group=GROUP, least=1, most=4
    )
    gate_below: float | None = setting(
        None,
        "look for a given class only in images where its tag scores P or more",
        metavar="P",
        group=GROUP,
        least=0,
        most=1,
        unset="in every image",
    )

    def __post_init__(self) -> None:
        check(self)

    def source(self, model: ModelConfig) -> str | None:
        """Hub id, folder or file of the tagger's model; None if it is the detector."""
        defaults = {"vocabulary": vocabulary_model(model), "vlm": LANGUAGE_MODEL}
        return self.tagger_model or defaults.get(self.kind(model))

    def kind(self, model: ModelConfig) -> str:
        """The tagger, where ``auto`` is what ``tagger_model`` is, else what suits the models and can be had."""
        if self.tagger != "auto":
            return self.tagger
        if self.tagger_model is not None:
            return _kind_of(self.tagger_model)
        if model.detector.startswith(EMBEDDED):
            return "detector"
        if not may_fetch() and not is_on_this_machine(vocabulary_model(model)):
            return "detector"
        return "vocabulary"

    def least_score(self, model: ModelConfig) -> float:
        """The score that a tag must have."""
        return TAG_SCORES.get(self.kind(model), 0.0) if self.tag_score is None else self.tag_score


def vocabulary_model(model: ModelConfig) -> str:
    return VOCABULARY_MODELS.get(model.detector, VOCABULARY_MODELS[PRESETS["balanced"].detector])


def _kind_of(tagger_model: str) -> str:
    """What a checkpoint is of: RAM's are single files, others tell in their configuration, if it is here."""
    if Path(tagger_model).suffix in CHECKPOINT_FILES:
        return "ram"
    try:
        content = json.loads((Path(tagger_model).expanduser() / "config.json").read_bytes())
    except (OSError, ValueError):
        return "vocabulary"
    is_contrastive = not isinstance(content, dict) or content.get("model_type", "siglip") in CONTRASTIVE
    return "vocabulary" if is_contrastive else "vlm"


def vocabulary_for(tagging: TaggingConfig, model: ModelConfig, source: str | None) -> tuple[str, ...]:
    """The words that the tagger chooses from; none for one that has words of its own.

    Args:
        source: a list of ``ontologies.vocabularies`` or a file; None for what suits the model.

    Raises:
        OntologyError: there is no such list, or it is empty.
    """
    kind = tagging.kind(model)
    if kind not in DEFAULT_VOCABULARIES:
        if source is not None:
            raise UsageError(f"--vocabulary: the tagger {kind} has words of its own; leave it out")
        return ()
    if source is None and model.detector.startswith(EMBEDDED):
        return EMBEDDED_CLASSES
    return read_vocabulary(source or DEFAULT_VOCABULARIES[kind])
