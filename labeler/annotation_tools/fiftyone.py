"""Review sets for FiftyOne, and its corrections: a ``COCODetectionDataset`` with ``data/`` and ``labels.json``.

FiftyOne's own formats do not fit: the image detection dataset has no masks, and ``FiftyOneDataset`` is a dump of its
database, which differs between versions. COCO has masks, scores and attributes of any name, and FiftyOne exports all of
them again. It exports masks as polygons with a tolerance of two pixels, but exactly, as RLE, for objects that have the
attribute named in ``export(…, iscrowd=…)``. Here that is ``exact_mask``; ``iscrowd`` itself is left out, because it
makes that export fail.

The reader also takes the COCO files that CVAT and Label Studio export.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from labeler.annotation_tools.corrections import (
    FIRST_OBJECT_ID,
    OBJECT_ID,
    CorrectedImage,
    CorrectedInstance,
    SentImage,
    UnreadShape,
)
from labeler.errors import FormatError
from labeler.formats.coco import INFO, LICENSES, SCORE_DIGITS, coco_annotation, coco_categories, coco_image
from labeler.formats.coco_reader import segmentation_to_rle
from labeler.sizes import checked_size, shown, unicode_text

# FiftyOne divides boxes by the image size and truncates after multiplying again: 2.9999 becomes 2, and the mask moves
# with its box. It rounds when it crops masks from images, so a quarter of a pixel does no harm.
INSIDE_PIXEL = 0.25


def write_fiftyone(folder: Path, images: Iterable[SentImage], class_names: Sequence[str]) -> None:
    """Write ``labels.json`` into ``folder``; the images belong in ``folder/data``."""
    class_ids = {name: class_id for class_id, name in enumerate(class_names)}
    entries, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
    for number, image in enumerate(images, start=1):
        entries.append(coco_image(number, image.name, image.width, image.height))
        for each in image.instances:
            attributes = {"score": round(each.score, SCORE_DIGITS), OBJECT_ID: each.object_id, "exact_mask": 1}
            identity = len(annotations) + 1
            annotation = coco_annotation(identity, number, class_ids[each.class_name], each.rle, attributes)
            left, top, width, height = annotation["bbox"]
            annotations.append({**annotation, "bbox": [left + INSIDE_PIXEL, top + INSIDE_PIXEL, width, height]})
    content = {
        "info": INFO,
        "licenses": LICENSES,
        "categories": coco_categories(class_names),
        "images": entries,
        "annotations": annotations,
    }
    (folder / "labels.json").write_text(json.dumps(content) + "\n", encoding="ascii", newline="\n")


def read_corrected_coco(content: dict[str, Any]) -> list[CorrectedImage]:
    """Every image of a COCO instances file; all images count as reviewed, and crowds are ordinary objects.

    Raises:
        FormatError: the file is damaged.
    """
    try:
        for key in ("categories", "images", "annotations"):
            for each in content[key]:
                if not isinstance(each, dict):
                    raise FormatError(f"not a COCO file (an entry of '{key}' is {shown(each)}, not an object)")
        categories = {each["id"]: unicode_text(str(each["name"]), "'name'") for each in content["categories"]}
        images = {each["id"]: each for each in content["images"]}
        for image in images.values():
            unicode_text(str(image["file_name"]), "'file_name'")
        instances: dict[Any, list[CorrectedInstance]] = {identity: [] for identity in images}
        unread: dict[Any, list[UnreadShape]] = {identity: [] for identity in images}
        for image_id, read in _instances(content["annotations"], images, categories):
            if isinstance(read, UnreadShape):
                unread[image_id].append(read)
            else:
                instances[image_id].append(read)
        return [
            CorrectedImage(
                str(image["file_name"]).replace("\\", "/"), tuple(instances[identity]), tuple(unread[identity])
            )
            for identity, image in images.items()
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"a damaged COCO file ({error!r})") from error
    except ValueError as error:
        raise FormatError(str(error)) from error


def _instances(
    annotations: Sequence[dict[str, Any]], images: dict[Any, dict[str, Any]], categories: dict[Any, str]
) -> Iterator[tuple[Any, CorrectedInstance | UnreadShape]]:
    """The image id of each annotation, and its object, or the shape if that has no mask."""
    for position, annotation in enumerate(annotations):
        identity = annotation.get("id", f"at position {position}")
        where = f"annotation {identity if isinstance(identity, str) else shown(identity)}"
        try:
            image_id, segmentation = annotation["image_id"], annotation.get("segmentation")
            image = images[image_id]
            attributes = {**annotation, **annotation.get("attributes", {})}  # CVAT nests them
            object_id = str(attributes.get(OBJECT_ID) or attributes.get(FIRST_OBJECT_ID) or "")
            outlined = False
            if isinstance(segmentation, list):
                outlined = True  # Tools write specks as one or two points.
                segmentation = [polygon for polygon in segmentation if len(polygon) >= 6]
            if not segmentation:
                kind = "keypoints" if annotation.get("keypoints") else "annotation without a mask"
                yield image_id, UnreadShape(kind, object_id)
                continue
            rle = segmentation_to_rle(segmentation, *checked_size(image["width"], image["height"]))
            yield image_id, CorrectedInstance(categories[annotation["category_id"]], rle, object_id, outlined)
        except KeyError as error:
            raise FormatError(f"{where}: {error} is missing, or refers to something that is not in the file") from error
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise FormatError(f"{where}: {str(error).splitlines()[0]}") from error
