"""The result of labeling: one record per image, as plain types. ``labeler.record_files`` stores them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from labeler.geometry.masks import Rle
from labeler.instance_ids import InstanceId

Status = Literal["ok", "error"]


@dataclass(frozen=True, slots=True)
class Instance:
    """One candidate object.

    Attributes:
        class_id: position in the ontology's class list.
        prompt: the prompt that found it; several prompts may name one class.
        box_xyxy: the detector's box, pixels of the EXIF-corrected image, origin top-left.
        score: the detector's score for the class, in [0, 1].
        mask_score: the segmenter's own estimate of the mask's IoU.
        stability: SAM's stability score, in [0, 1].
        area: pixels of the mask.
        rle: the mask, COCO compressed RLE.
        agreement: the share of the views and labelers that found it, in (0, 1]; 1 where there was only one.
        origin: (labeling pass, index in the record of that pass), if the index among the instances of the image is
            another; not stored.
    """

    class_id: int
    prompt: str
    box_xyxy: tuple[float, float, float, float]
    score: float
    mask_score: float
    stability: float
    area: int
    rle: Rle
    agreement: float = 1.0
    origin: tuple[int, int] | None = field(default=None, compare=False)

    @property
    def joint_score(self) -> float:
        """Detector score × mask score × agreement: high only where both models, and all views, agree."""
        return self.score * self.mask_score * self.agreement


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """All that is known of one image; also made for an image with no object, or one that cannot be read.

    Attributes:
        image_id: POSIX path below the input root.
        width, height: pixels after EXIF orientation; 0 if the image could not be read.
        digest: hexadecimal content digest of the file; empty if it could not be read.
        status: ``ok`` or ``error``.
        error: one line, empty when all went well.
        tags: (tag, score), as a tagger gave them.
        instances: every candidate above the run's floor, best detector score first.
    """

    image_id: str
    width: int
    height: int
    digest: str
    status: Status = "ok"
    error: str = ""
    tags: tuple[tuple[str, float], ...] = ()
    instances: tuple[Instance, ...] = field(default=())


def instance_ids(record: ImageRecord) -> list[InstanceId]:
    """The id of each instance of ``record``, in their order."""
    places = [each.origin for each in record.instances]
    free = 1 + max((place[1] for place in places if place and place[0] == 0), default=-1)
    ids = []
    for place in places:
        labeling_pass, index = place or (0, free)
        free += place is None
        ids.append(InstanceId(record.digest, index, labeling_pass))
    return ids
