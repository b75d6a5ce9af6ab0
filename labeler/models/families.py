"""Families of models, and the defaults of the gate that suit their scores.

Models score on different scales: a right box of Grounding DINO scores 0.3 to 0.9, one of OWLv2 mostly 0.1 to 0.3. A new
run folder therefore starts with the thresholds and the candidate floor of its model's family.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from labeler.errors import UsageError
from labeler.models.config import ModelConfig
from labeler.models.identity import ULTRALYTICS, local_model_type
from labeler.models.kinds.kind import innermost
from labeler.quality_config import QualityConfig

if TYPE_CHECKING:
    from labeler.models.kinds.kind import LabelerKind, NeededModel


SIGMOID_TYPES = (
    "conditional_detr", "d_fine", "dab-detr", "deformable_detr", "deimv2", "lw_detr", "rf_detr", "rt_detr",
    "rt_detr_v2",
)  # fmt: skip
SOFTMAX_TYPES = ("detr", "table-transformer", "yolos")
UNSCORED_TYPES = ("florence2",)  # their detections have no confidence


@dataclass(frozen=True)
class Family:
    """Models whose scores mean the same.

    Attributes:
        name: as ``run.json`` has it.
        title: as messages have it.
        source: where the thresholds come from.
        types: ``model_type`` of its checkpoints.
        ids: patterns of published hub ids, in lower case.
        kinds: kinds of labelers that belong to it whatever models they load.
        quality: what the gate starts from in a new folder.
        floor: the candidate floor in a new folder.
        scores_tokens: it scores each token of a prompt, so ``--prompt-score`` applies.
    """

    name: str
    title: str
    source: str
    types: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    quality: QualityConfig = field(default_factory=QualityConfig)
    floor: float = 0.1
    scores_tokens: bool = False


GENERAL = Family("general", "models of an unknown family", "those of Grounding DINO")
NO_CONFIDENCE = "no confidence is given, so the score is 1.0 and only the mask's scores decide"
FLORENCE2 = Family("florence2", "Florence-2", NO_CONFIDENCE, types=UNSCORED_TYPES, ids=("*/florence-2*",))
VERIFIED = Family(
    "verified",
    "Florence-2 with --verify",
    "threshold of --tagger vocabulary: 0.1; SigLIP's scores are low even for what is there",
    quality=QualityConfig(min_score=0.10, min_joint_score=0.07, accept_score=0.15),
    floor=0.01,
)
FAMILIES = (
    Family(
        "grounding-dino",
        "Grounding DINO",
        "its authors' box threshold is 0.35 on the best token; the mean over a prompt's tokens is a little lower",
        types=("grounding-dino",),
        ids=("idea-research/grounding-dino*",),
        scores_tokens=True,
    ),
    Family(
        "mm-grounding-dino",
        "MM-Grounding-DINO and LLMDet",
        "thresholds in the examples of their model pages and of transformers: 0.3 to 0.4",
        types=("mm-grounding-dino",),
        ids=("openmmlab-community/mm_grounding_dino*", "rziga/mm_grounding_dino*", "*/llmdet*"),
        scores_tokens=True,
    ),
    Family(
        "owlv2",
        "OWLv2",
        "threshold in the examples of transformers: 0.1, in those of its authors up to 0.2; right boxes mostly score "
        "0.1 to 0.3",
        types=("owlv2",),
        ids=("google/owlv2*",),
        quality=QualityConfig(min_score=0.10, min_joint_score=0.07, accept_score=0.15),
        floor=0.05,
    ),
    Family(
        "omdet-turbo",
        "OmDet-Turbo",
        "threshold in the example of transformers: 0.3",
        types=("omdet-turbo",),
        ids=("omlab/omdet-turbo*",),
    ),
    Family(
        "closed-set",
        "RT-DETR, D-FINE, RF-DETR and others with sigmoid scores for a fixed list of classes",
        "thresholds in the examples of transformers: 0.5 (RF-DETR, LW-DETR, Deformable DETR) to 0.9 (RT-DETR, D-FINE)",
        types=SIGMOID_TYPES,
        quality=QualityConfig(accept_score=0.45),
    ),
    Family(
        "detr",
        "DETR, YOLOS and Table Transformer",
        "threshold in the examples of transformers: 0.9; softmax scores are high",
        types=SOFTMAX_TYPES,
        quality=QualityConfig(min_score=0.50, min_joint_score=0.40, accept_score=0.60),
    ),
    Family(
        ULTRALYTICS,
        "Ultralytics",
        "its predict keeps boxes from 0.25 on",
        types=(ULTRALYTICS,),
        quality=QualityConfig(min_score=0.25),
    ),
    FLORENCE2,
    VERIFIED,
    Family(
        "sam3",
        "SAM 3",
        "threshold of its authors and of transformers: 0.5; it has one score, so that score decides",
        types=("sam3", "sam3_video", "sam3_lite_text"),
        ids=("facebook/sam3*",),
        kinds=("sam3",),
        quality=QualityConfig(score="detector", min_score=0.30, min_joint_score=0.30, accept_score=0.50),
    ),
    Family("boxes", "boxes from a file", NO_CONFIDENCE, kinds=("boxes",)),
    Family("everything", "everything in an image", NO_CONFIDENCE, kinds=("everything",)),
    Family(
        "autodistill",
        "autodistill models",
        "the model applies its own thresholds, so those of the gate are off",
        kinds=("autodistill",),
        quality=QualityConfig(min_score=0.0, min_joint_score=0.0, accept_score=0.0),
        floor=0.01,
    ),
)
_BY_NAME = {family.name: family for family in (GENERAL, *FAMILIES)}


def family_named(name: str | None) -> Family:
    """The family that a run folder names; ``GENERAL`` if it names none, or one that this version does not know."""
    return _BY_NAME.get(name or "", GENERAL)


def family_of(kind: LabelerKind, config: ModelConfig, told: Mapping[str, str] | None = None) -> Family:
    """The family of what labels: that of its detector, or else that of the kind; ``GENERAL`` if it is not known.

    Of two labelers, the first decides.

    The model type comes from a checkpoint that is on this machine, or else from ``told``, or else from the hub id.

    Args:
        told: model types by source, as the hub tells them.
    """
    family = _family_of(kind, config, told or {})
    verifies = any(needed.role == "verify" for needed in innermost(kind).models(config))
    return VERIFIED if verifies and family in (FLORENCE2, GENERAL) else family


def check_verify(kind: LabelerKind, config: ModelConfig, family: Family) -> None:
    """Refuse ``verify`` where the detector has scores of its own.

    Raises:
        UsageError: the detector is known to have them, or there is none.
    """
    if config.verify is not None and family is not VERIFIED:
        raise scored(config.verify, family.title if family is not GENERAL else f"the labeler {innermost(kind).kind}")


def _family_of(kind: LabelerKind, config: ModelConfig, told: Mapping[str, str]) -> Family:
    for needed in _detectors(kind, config):
        model_type = local_model_type(needed.source) or told.get(needed.source)
        for family in FAMILIES:
            if model_type in family.types if model_type else _has_id(family, needed.source):
                return family
    return next((family for family in FAMILIES if innermost(kind).kind in family.kinds), GENERAL)


def check_prompt_score(kind: LabelerKind, config: ModelConfig, family: Family) -> None:
    """Refuse another ``prompt_score`` than the mean where no tokens are scored.

    Raises:
        UsageError: the labeler is known to score a prompt as a whole, or to have no detector.
    """
    has_detector = any(True for _ in _detectors(kind, config))
    if config.prompt_score != "mean" and not family.scores_tokens and not (has_detector and family is GENERAL):
        what = family.title if family is not GENERAL else f"the labeler {innermost(kind).kind}"
        raise tokenless(config.prompt_score, what)


def tokenless(prompt_score: str, what: str) -> UsageError:
    return UsageError(
        f"--prompt-score {prompt_score}: {what} does not score the tokens of a prompt; leave it out, or use a detector "
        "such as Grounding DINO"
    )


def scored(verify: str, what: str) -> UsageError:
    return UsageError(
        f"--verify {verify} is for a detector without confidences, such as Florence-2, and not for {what}; leave it out"
    )


def _detectors(kind: LabelerKind, config: ModelConfig) -> Iterator[NeededModel]:
    """The checkpoints of what finds the objects; the first one decides the scores."""
    return (
        needed
        for needed in innermost(kind).models(config)
        if needed.source and needed.role not in ("segmenter", "verify")
    )


def _has_id(family: Family, source: str) -> bool:
    name = source.partition("@")[0].lower()
    return any(fnmatchcase(name, pattern) for pattern in family.ids)
