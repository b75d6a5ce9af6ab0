"""Measures a trained student with COCO's metrics: on the val split, and on ground truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labeler.errors import UsageError
from labeler.files.images import image_size, read_image
from labeler.files.listing import find_images
from labeler.files.storage import as_local
from labeler.formats.ground_truth import read_ground_truth
from labeler.image_pairs import find_pairs
from labeler.metrics.accumulator import MeasureAccumulator
from labeler.metrics.measures import DatasetMeasures
from labeler.models.students.student import StudentImage, TrainedModel
from workflows.evaluation.evaluate import pair_classes
from workflows.training.data import Dataset, without_copies

Tell = Callable[[str, int, int], None]  # what is measured, images done, images in all


@dataclass(frozen=True)
class Measured:
    """How well a student finds the objects of some images.

    Attributes:
        against: what the labels of the images are, in words.
        left_out: images of the ground truth that were not measured, by reason.
    """

    against: str
    images: int
    measures: DatasetMeasures
    left_out: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Metrics in [0, 1], or None where there is no object."""
        rows = {each.name: each for each in (*self.measures.classes, self.measures.total)}
        return {
            "against": self.against,
            "images": self.images,
            "left_out": dict(self.left_out),
            "metrics": {
                name: {
                    "objects": each.objects,
                    "mask": {"ap": each.mask.ap, "ap50": each.mask.ap50, "ap75": each.mask.ap75},
                    "box": {"ap": each.box.ap, "ap50": each.box.ap50},
                }
                for name, each in rows.items()
            },
        }


def measure_val(model: TrainedModel, dataset: Dataset, tell: Tell) -> Measured:
    """The metrics on the val split."""
    names = dataset.data.class_names
    measures = _measure(model, dataset.measured, names, list(range(len(names))), "val split", tell)
    return Measured(dataset.against, len(dataset.measured), measures, {})


def measure_ground_truth(
    model: TrainedModel, dataset: Dataset, path: str, images: str | None, class_map: Mapping[str, str], tell: Tell
) -> Measured:
    """The metrics on ground truth. An image that the student was trained on does not count.

    Args:
        path: of the ground truth.
        images: the folder of its images; None for those of the val and test splits.
        class_map: classes of the dataset -> classes of the ground truth, where the names differ.

    Raises:
        FormatError: the ground truth cannot be read.
        UsageError: it has no image or no class in common with the dataset.
    """
    truth = read_ground_truth(path)
    names = dataset.data.class_names
    class_ids = pair_classes(names, truth.class_names, class_map)
    files = _files(images, dataset)
    found = find_pairs(files, (image.name for image in truth.images))
    by_name = {image.name: image for image in truth.images}
    paired = [StudentImage(files[ours], by_name[theirs]) for ours, theirs in found.names.items()]
    unseen = without_copies(paired, dataset.data.train)
    same_size = [image for image in unseen if image_size(image.path) == (image.labels.width, image.labels.height)]
    if not same_size:
        where = f"the folder {images}" if images else "the val and test splits; name the folder of its images: --images"
        raise UsageError(f"--ground-truth {path}: none of its {len(truth.images)} images is in {where}")
    measures = _measure(model, same_size, truth.class_names, class_ids, "ground truth", tell)
    left_out = {
        "without a file" if images else "not in the val or test split": len(truth.images) - len(paired),
        "trained on": len(paired) - len(unseen),
        "of another size": len(unseen) - len(same_size),
    }
    return Measured(f"ground truth {path}", len(same_size), measures, {k: v for k, v in left_out.items() if v})


def _files(images: str | None, dataset: Dataset) -> dict[str, Path]:
    """Image files by name."""
    if images is None:
        return {image.labels.name: image.path for image in (*dataset.data.val, *dataset.test)}
    source = find_images(images)
    root = as_local(source.root)
    if root is None:
        raise UsageError(f"--images {images}: a student is measured on files of this machine; copy them here")
    return {image_id: root / image_id for image_id in source.image_ids}


def _measure(
    model: TrainedModel,
    images: Sequence[StudentImage],
    class_names: Sequence[str],
    class_ids: Sequence[int | None],
    what: str,
    tell: Tell,
) -> DatasetMeasures:
    """Measure on ``images``, whose labels are of ``class_names``.

    Args:
        class_ids: for each class of the student, the one in ``class_names``; None for none.
    """
    compared = sorted({each for each in class_ids if each is not None})
    accumulator = MeasureAccumulator(class_names, classes=compared)
    for index, image in enumerate(images):
        candidates = []
        for each in model.find(read_image(image.path).pixels):
            class_id = class_ids[each.class_id]
            if class_id is not None:
                candidates.append(replace(each, class_id=class_id))
        accumulator.add(index, image.labels, candidates, [False] * len(candidates))
        tell(what, index + 1, len(images))
    return accumulator.result()
