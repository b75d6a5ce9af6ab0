"""``--everything``: masks of all objects, from a grid of points and without words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from labeler.errors import ModelError, UsageError
from labeler.models.config import ModelConfig
from labeler.models.kinds.grounded_sam import segmenter_identity
from labeler.models.kinds.kind import NeededModel
from labeler.models.loading import SEGMENTER_TYPES
from labeler.setting import check, setting
from ontologies import ClassSpec, Ontology

if TYPE_CHECKING:
    from labeler.models.labelers.labeler import Labeler

GROUP = "segment everything"


@dataclass(frozen=True)
class EverythingKind:
    """See ``labeler.models.labelers.everything``. The defaults are those of segment-anything and of transformers.

    Source: ``SamAutomaticMaskGenerator`` (``segment_anything/automatic_mask_generator.py``), and the pipeline
    ``mask-generation`` of transformers, with the same values.
    """

    kind: ClassVar[str] = "everything"
    about: ClassVar[str] = "all objects without words, from a grid of points, as one class"
    flags: ClassVar[tuple[str, ...]] = (
        "--everything",
        "--segmenter",
        "--segmenter-image-size",
        "--compile",
        "--points-per-side",
        "--crop-layers",
        "--point-mask-score",
        "--point-stability",
        "--point-box-iou",
    )

    points_per_side: int = setting(
        32,
        "points on each side of the grid, on the image and on each crop",
        metavar="N",
        group=GROUP,
        least=1,
        most=256,
    )
    crop_layers: int = setting(
        0, "layers of crops, for small objects; layer n has 4^n crops", metavar="N", group=GROUP, least=0, most=4
    )
    point_mask_score: float = setting(
        0.88, "keep masks above this IoU estimate; 0: keep all", metavar="X", group=GROUP, least=0, most=1
    )
    point_stability: float = setting(
        0.95, "keep masks above this stability score; 0: keep all", metavar="X", group=GROUP, least=0, most=1
    )
    point_box_iou: float = setting(
        0.7,
        "of two masks whose boxes overlap more than this, keep the better",
        metavar="X",
        group=GROUP,
        least=0,
        most=1,
    )

    def __post_init__(self) -> None:
        check(self)

    def classes(self, wanted: Ontology | None) -> Ontology:
        """The class of all masks: ``object``, or the one that is wanted.

        Raises:
            UsageError: more is wanted than one class.
        """
        ontology = Ontology((ClassSpec("object"),)) if wanted is None else wanted
        if len(ontology.classes) > 1:
            raise UsageError(
                f"--everything does not tell classes apart; name one class instead of {len(ontology.classes)}, or none"
            )
        if len(ontology.prompts) > 1:
            raise UsageError("--everything reads no prompts; name one class with no other prompt or distractor")
        return ontology

    def models(self, config: ModelConfig) -> Iterator[NeededModel]:
        yield NeededModel(config.segmenter, "segmenter", SEGMENTER_TYPES)

    def identity(self, config: ModelConfig) -> dict[str, Any]:
        return {"labeler": self.kind, **segmenter_identity(config), **asdict(self)}

    def load(self, config: ModelConfig) -> Labeler:
        from labeler.models.labelers.everything import EverythingLabeler
        from labeler.models.labelers.on_device import labeler_on_device
        from labeler.models.loading import load_segmenter
        from labeler.models.segmenters.sam import SamSegmenter

        segmenter = load_segmenter(config)
        if not isinstance(segmenter, SamSegmenter):
            raise ModelError(f"--everything: {config.segmenter} does not segment from points; take a SAM or SAM 2")
        labeler = EverythingLabeler(
            segmenter,
            self.points_per_side,
            self.crop_layers,
            self.point_mask_score,
            self.point_stability,
            self.point_box_iou,
            config.max_instances,
            config.clean_share,
        )
        return labeler_on_device(labeler, config)
