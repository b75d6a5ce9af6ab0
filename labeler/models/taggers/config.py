"""The settings of taggers: which one runs, with which model, vocabulary and thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labeler.errors import UsageError
from labeler.files.documents import load_json
from labeler.models.config import AUTO_VERIFIER, PRESETS, ModelConfig
from labeler.models.identity import CHECKPOINT_FILES, EMBEDDED, EMBEDDED_CLASSES, is_on_this_machine, may_fetch
from labeler.setting import check, setting
from ontologies.vocabularies import read_vocabulary

GROUP = "tags"
TAGGERS = ("auto", "vocabulary", "ram", "vlm", "detector")
# By the preset's detector; other detectors use the model of ``balanced``.
VOCABULARY_MODELS = {
    PRESETS["fast"].detector: "google/siglip2-base-patch16-224",
    PRESETS["balanced"].detector: "google/siglip2-base-patch16-384",
    PRESETS["best"].detector: "google/siglip2-so400m-patch14-384",
}
LANGUAGE_MODEL = "florence-community/Florence-2-base"
CONTRASTIVE = ("siglip", "siglip2", "clip")  # model types of the tagger ``vocabulary``
DEFAULT_VOCABULARIES = {"vocabulary": "lvis", "detector": "coco"}  # a detector's time grows with every word
TAG_SCORES = {"vocabulary": 0.1, "detector": 0.3}  # ram has a threshold per tag, a vlm gives no scores
TAG_FLOORS = {"vocabulary": 0.01, "detector": 0.1}  # `labeler tag` records tags from these scores on
# The settings that each tagger takes.
FLAGS = {
    "vocabulary": ("tagger_model", "vocabulary", "tag_score", "tag_tiles"),
    "detector": ("vocabulary", "tag_score"),
    "ram": ("tagger_model",),
    "vlm": ("tagger_model",),
}


@dataclass(frozen=True)
class TaggingConfig:
    """Which tagger runs, and how.

    Attributes:
        tagger: one of ``TAGGERS``. ``auto`` follows from ``tagger_model`` if that is given. Otherwise it is
            ``vocabulary``, or ``detector`` if the detector is embedded or no other model is available offline.
        tagger_model: hub id or folder; for ``ram`` the checkpoint file.
        vocabulary: the words that ``vocabulary`` and ``detector`` choose from.
        tag_score: tags with a lower score are dropped; None for the tagger's default.
        tag_tiles: ``vocabulary`` also scores the tiles of an n x n grid; 1 for the whole image only.
        gate_below: if classes are given, those that the tagger scores below this are skipped in an image.
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
        1, "with --tagger vocabulary: also tag N x N parts of each image", metavar="N", group=GROUP, least=1, most=4
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
        """Hub id, folder or file of the tagger's model; None if the tagger is the detector."""
        defaults = {"vocabulary": vocabulary_model(model), "vlm": LANGUAGE_MODEL}
        return self.tagger_model or defaults.get(self.kind(model))

    def kind(self, model: ModelConfig) -> str:
        """The tagger that runs: ``tagger``, with ``auto`` resolved."""
        if self.tagger != "auto":
            return self.tagger
        if self.tagger_model is not None:
            return _kind_of(self.tagger_model)
        if model.detector.startswith(EMBEDDED):
            return "detector"
        if not may_fetch() and not is_on_this_machine(vocabulary_model(model)):
            return "detector"
        return "vocabulary"

    def threshold(self, model: ModelConfig) -> float:
        """Tags with a lower score are dropped."""
        return TAG_SCORES.get(self.kind(model), 0.0) if self.tag_score is None else self.tag_score


def no_detector() -> UsageError:
    return UsageError(
        "--tagger detector: this labeler has no detector that takes prompts; use --tagger vocabulary or another labeler"
    )


def vocabulary_model(model: ModelConfig) -> str:
    """The model of the tagger ``vocabulary`` unless another one is given: larger for larger detectors."""
    return VOCABULARY_MODELS.get(model.detector, VOCABULARY_MODELS[PRESETS["balanced"].detector])


def verifier_of(model: ModelConfig) -> str | None:
    """The model that scores the detector's boxes; None if the detector's own scores stay."""
    return vocabulary_model(model) if model.verify == AUTO_VERIFIER else model.verify


def _kind_of(tagger_model: str) -> str:
    """The tagger that a checkpoint is for. RAM's is a single file; others name their type in a local config.json."""
    if Path(tagger_model).suffix in CHECKPOINT_FILES:
        return "ram"
    try:
        content = load_json(Path(tagger_model).expanduser() / "config.json")
    except (OSError, ValueError):
        return "vocabulary"
    is_contrastive = not isinstance(content, dict) or content.get("model_type", "siglip") in CONTRASTIVE
    return "vocabulary" if is_contrastive else "vlm"


def vocabulary_for(tagging: TaggingConfig, model: ModelConfig, source: str | None) -> tuple[str, ...]:
    """The words that the tagger chooses from; empty for taggers with a built-in vocabulary.

    Args:
        source: the name of a list in ``ontologies.vocabularies``, or a file; None for the default.

    Raises:
        OntologyError: there is no such list or file, or it is empty.
        UsageError: ``source`` is given for a tagger with a built-in vocabulary.
    """
    kind = tagging.kind(model)
    if kind not in DEFAULT_VOCABULARIES:
        if source is not None:
            raise UsageError(f"--vocabulary: the tagger {kind} has a built-in vocabulary; leave the flag out")
        return ()
    if source is None and model.detector.startswith(EMBEDDED):
        return EMBEDDED_CLASSES
    return read_vocabulary(source or DEFAULT_VOCABULARIES[kind])
