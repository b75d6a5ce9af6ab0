"""What is measured of labels against ground truth: the results."""

from __future__ import annotations

from dataclasses import dataclass

from labeler.metrics.coco import CocoMetrics
from labeler.metrics.single_object import Rule


@dataclass(frozen=True, slots=True)
class Overlap:
    """Means over ``pairs`` pairs of masks; None if there are none."""

    pairs: int = 0
    iou: float | None = None
    boundary_iou: float | None = None
    tolerant_iou: float | None = None


@dataclass(frozen=True, slots=True)
class ClassMeasures:
    """Measures of one class, or of all classes together.

    Attributes:
        objects: objects in the ground truth, without crowds.
        accepted: accepted instances, without those that are neither right nor wrong (see ``match_masks`` and
            ``GroundTruthImage``).
        matched: accepted instances that match an object (true positives).
        false_negatives: objects that no accepted instance matches.
        false_positives: accepted instances that match no object.
        precision: matched / accepted; None if that is 0 / 0.
        recall: matched / objects; None if that is 0 / 0.
        f1: harmonic mean of precision and recall; None if there are neither objects nor accepted instances.
        overlap: over the matched pairs of masks.
        semantic_iou: see ``iou.semantic_overlap``; for all classes together the mean (mIoU).
        mask, box: COCO metrics over all candidates; for all classes together the mean.
    """

    name: str
    objects: int
    accepted: int
    matched: int
    false_negatives: int
    false_positives: int
    precision: float | None
    recall: float | None
    f1: float | None
    overlap: Overlap
    semantic_iou: float | None
    mask: CocoMetrics
    box: CocoMetrics


@dataclass(frozen=True, slots=True)
class ImageMeasures:
    """Measures of the accepted instances of one image.

    Attributes:
        score: the image's panoptic quality (Kirillov et al. 2019, arXiv 1801.00868), which is the sum of IoU over the
            matched pairs, divided by matched + (false negatives + false positives) / 2; None if that is 0 / 0.
    """

    matched: int
    false_negatives: int
    false_positives: int
    score: float | None


@dataclass(frozen=True, slots=True)
class DatasetMeasures:
    """Measures of all images.

    Attributes:
        single: for each rule of ``single_object.pick``, how well the picked candidates overlap the objects. Images
            without any candidate count as IoU 0; images in which the rule picks none of several are left out. Empty if
            an image has more than one object.
    """

    classes: tuple[ClassMeasures, ...]
    total: ClassMeasures
    single: dict[Rule, Overlap]
