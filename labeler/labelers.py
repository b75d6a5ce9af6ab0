"""Labelers: images and ontologies in, candidate instances out.

A labeler is anything with ``label``. ``GroundedSamLabeler`` puts a detector before a segmenter; the others stand before
a labeler and mind the device it runs on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from labeler.boxes import box_iou
from labeler.detectors import Detections, Detector, Image
from labeler.errors import DeviceError
from labeler.records import Instance
from labeler.segmenters import Segmenter
from ontologies import Ontology
from ontologies.taggers import Tagger, Tags

# A box counts as a distractor's where a better distractor box overlaps it this much (the same box always does).
DISTRACTOR_IOU = 0.8


class Labeler(Protocol):
    def label(self, images: Sequence[Image], ontologies: Sequence[Ontology]) -> list[list[Instance]]:
        """Every candidate above the labeler's floor, best detector score first.

        Args:
            images: uint8 ``(H, W, 3)``, RGB, of any sizes.
            ontologies: one an image; they may differ.
        """
        ...


@dataclass(frozen=True)
class GroundedSamLabeler:
    """Grounding DINO's boxes as prompts to SAM (Ren et al. 2024), with both models' scores kept.

    Attributes:
        floor: candidates whose class score is lower are dropped.
        max_instances: candidates kept an image, the best ones; 300 as in the COCO zero-shot protocol.
    """

    detector: Detector
    segmenter: Segmenter
    floor: float = 0.1
    max_instances: int = 300

    def label(self, images: Sequence[Image], ontologies: Sequence[Ontology]) -> list[list[Instance]]:
        prompts = [tuple(prompt for prompt, _ in ontology.prompts) for ontology in ontologies]
        detections = self.detector.detect(images, prompts)
        candidates = [self._candidates(*pair) for pair in zip(detections, ontologies, strict=True)]
        # Several classes may claim one box: it is segmented once.
        boxes = [sorted({box for box, _, _ in image_candidates}) for image_candidates in candidates]
        masks = self.segmenter.segment(
            images, [found.boxes_xyxy[rows] for found, rows in zip(detections, boxes, strict=True)]
        )
        labeled = []
        for found, ontology, image_candidates, rows, image_masks in zip(
            detections, ontologies, candidates, boxes, masks, strict=True
        ):
            mask_of = dict(zip(rows, image_masks, strict=True))
            prompts_of = ontology.prompts
            labeled.append(
                [
                    Instance(
                        class_id=prompts_of[prompt][1],
                        prompt=prompts_of[prompt][0],
                        box_xyxy=tuple(found.boxes_xyxy[box].tolist()),
                        score=score,
                        mask_score=float(np.clip(mask_of[box].mask_score, 0, 1)),
                        stability=mask_of[box].stability,
                        area=mask_of[box].area,
                        rle=mask_of[box].rle,
                    )
                    for box, prompt, score in image_candidates
                ]
            )
        return labeled

    def _candidates(self, found: Detections, ontology: Ontology) -> list[tuple[int, int, float]]:
        """(box, prompt, score): for each box and class the best prompt, above the floor, best first."""
        class_ids = np.asarray([class_id for _, class_id in ontology.prompts])
        sizes = found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]
        usable = (sizes > 0).all(axis=1) & ~self._distracted(found, class_ids)
        candidates = []
        for class_id in range(len(ontology.classes)):
            columns = np.flatnonzero(class_ids == class_id)
            best = columns[found.scores[:, columns].argmax(axis=1)]
            scores = found.scores[np.arange(len(best)), best]
            for box in np.flatnonzero(usable & (scores >= self.floor)):
                candidates.append((int(box), int(best[box]), float(scores[box])))
        candidates.sort(key=lambda candidate: (-candidate[2], candidate[0], candidate[1]))
        return candidates[: self.max_instances]

    def _distracted(self, found: Detections, class_ids: NDArray[np.int_]) -> NDArray[np.bool_]:
        """Boxes that a distractor claims with a better score than any class does; bool ``(n,)``."""
        nothing = np.zeros(len(found.boxes_xyxy), dtype=bool)
        is_distractor = class_ids < 0
        if not is_distractor.any() or not len(nothing):
            return nothing
        distractor = found.scores[:, is_distractor].max(axis=1)
        wanted = found.scores[:, ~is_distractor].max(axis=1)
        overlaps = box_iou(found.boxes_xyxy, found.boxes_xyxy) >= DISTRACTOR_IOU
        claimed: NDArray[np.bool_] = np.where(overlaps, distractor[None, :], 0).max(axis=1) > wanted
        return claimed


class SingleImageLabeler:
    """Labels every image alone, several at once, each on one thread.

    CPU kernels split a sum by the size of the batch and the number of threads, which changes the last bits of a
    result. Alone on one thread, an image gets the same bits in any company and on any number of cores. It takes no
    longer: cores that work on images of their own never wait for each other.

    Args:
        labeler: may be called from several threads.
        threads: images at once.
        limit_threads: called in each of these threads; makes the models' kernels run on the calling thread alone.
    """

    def __init__(self, labeler: Labeler, threads: int, limit_threads: Callable[[], None]) -> None:
        self._labeler = labeler
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="image", initializer=limit_threads)

    def label(self, images: Sequence[Image], ontologies: Sequence[Ontology]) -> list[list[Instance]]:
        return list(self._pool.map(self._label_one, images, ontologies))

    def _label_one(self, image: Image, ontology: Ontology) -> list[Instance]:
        return self._labeler.label([image], [ontology])[0]


class SingleImageTagger:
    """As ``SingleImageLabeler``, of a tagger."""

    def __init__(self, tagger: Tagger, threads: int, limit_threads: Callable[[], None]) -> None:
        self._tagger = tagger
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="tags", initializer=limit_threads)

    def tag(self, images: Sequence[Image]) -> list[Tags]:
        return list(self._pool.map(lambda image: self._tagger.tag([image])[0], images))

    @property
    def unparsed(self) -> int:
        return getattr(self._tagger, "unparsed", 0)


@dataclass(frozen=True)
class DeviceCheckedLabeler:
    """Tells an image that fails from a device that does.

    After some errors, such as an illegal memory access, everything that a process asks of its GPU fails. Without this,
    every image that follows would be taken for a bad one.

    Attributes:
        synchronize: raises if the device is lost; ``torch.cuda.synchronize``.
    """

    labeler: Labeler
    synchronize: Callable[[], None]

    def label(self, images: Sequence[Image], ontologies: Sequence[Ontology]) -> list[list[Instance]]:
        with _device_checked(self.synchronize):
            return self.labeler.label(images, ontologies)


@dataclass(frozen=True)
class DeviceCheckedTagger:
    """As ``DeviceCheckedLabeler``, of a tagger."""

    tagger: Tagger
    synchronize: Callable[[], None]

    def tag(self, images: Sequence[Image]) -> list[Tags]:
        with _device_checked(self.synchronize):
            return self.tagger.tag(images)

    @property
    def unparsed(self) -> int:
        return getattr(self.tagger, "unparsed", 0)


@contextmanager
def _device_checked(synchronize: Callable[[], None]) -> Iterator[None]:
    try:
        yield
    except Exception:
        try:
            synchronize()
        except Exception as error:
            cause = (str(error).splitlines() or [type(error).__name__])[0]
            raise DeviceError(f"the GPU is lost to this process ({cause}); run the same command again") from error
        raise
