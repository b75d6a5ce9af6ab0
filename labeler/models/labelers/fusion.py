"""Fusion of what several views of one image, or several labelers, found in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from labeler.geometry.boxes import box_iou
from labeler.records import Instance

SAME_BOX_IOU = 0.55  # that of the paper


def fuse(views: Sequence[Sequence[Instance]]) -> list[Instance]:
    """Weighted boxes fusion: one instance for each object and class, best detector score first.

    From the best score down, each instance joins the object of its class whose fused box it overlaps most, with an IoU
    above ``SAME_BOX_IOU``, or begins a new one. The box of an object is the mean of its members' boxes, weighted by
    their scores, and its score is the mean of their scores. Prompt, mask, mask score and stability are those of the
    member with the best joint score. ``agreement`` is the share of the views that found the object.

    Source: Solovyev et al. 2019, arXiv 1910.13302, github.com/ZFTurbo/Weighted-Boxes-Fusion. Two things differ: an
    object has at most one member of each view, so that neighbours that one view tells apart stay apart; and the score
    is not multiplied by the share of views, which is ``agreement`` here and a factor of the joint score.

    Args:
        views: of the same image, all in its coordinates.
    """
    by_class: dict[int, list[tuple[int, Instance]]] = defaultdict(list)
    for view, instances in enumerate(views):
        for instance in instances:
            by_class[instance.class_id].append((view, instance))
    fused = [each for class_id in sorted(by_class) for each in _fuse_class(by_class[class_id], len(views))]
    return sorted(fused, key=lambda instance: -instance.score)


def _fuse_class(found: Sequence[tuple[int, Instance]], views: int) -> Iterator[Instance]:
    objects: list[_Object] = []
    for view, instance in sorted(found, key=lambda each: -each[1].score):
        others = [each for each in objects if view not in each.views]
        box = np.array([instance.box_xyxy], dtype=np.float32)
        overlaps = box_iou(box, np.stack([each.box for each in others]))[0] if others else np.zeros(1, np.float32)
        best = int(overlaps.argmax())
        if overlaps[best] > SAME_BOX_IOU:
            others[best].add(view, instance)
        else:
            objects.append(_Object({view}, [instance]))
    yield from (each.fused(views) for each in objects)


@dataclass
class _Object:
    views: set[int]
    members: list[Instance]

    def add(self, view: int, instance: Instance) -> None:
        self.views.add(view)
        self.members.append(instance)

    @property
    def box(self) -> NDArray[np.float32]:
        """xyxy, float32 ``(4,)``."""
        boxes = np.array([each.box_xyxy for each in self.members], dtype=np.float64)
        return np.average(boxes, axis=0, weights=[each.score for each in self.members]).astype(np.float32)

    def fused(self, views: int) -> Instance:
        best = max(self.members, key=lambda each: each.joint_score)
        x1, y1, x2, y2 = self.box.tolist()
        score = float(np.mean([each.score for each in self.members]))
        return replace(best, box_xyxy=(x1, y1, x2, y2), score=score, agreement=len(self.views) / views)
