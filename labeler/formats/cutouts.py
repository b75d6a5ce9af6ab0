"""Cut-outs: each object as a PNG file of its own, with a smooth edge."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from labeler.files.local import naming
from labeler.formats.cutout_config import CutoutConfig
from labeler.formats.names import safe_part
from labeler.geometry.masks import rle_area, rle_box_xyxy, rle_to_mask
from labeler.opencv import opencv
from labeler.records import Instance

COMPRESSION = 3  # of zlib: twice as fast as Pillow's own choice, a few per cent larger


def smooth_alpha(mask: npt.NDArray[np.bool_], radius: float) -> npt.NDArray[np.uint8]:
    """The opacity of a mask with a smooth edge.

    Opacity is linear in the signed distance to the contour: 0 at ``radius`` pixels outside, 255 at ``radius`` pixels
    inside. The contour runs half-way between the centres of mask pixels and background pixels. The image border is not
    a contour.

    Args:
        mask: bool ``(H, W)``.
        radius: pixels, 0 or more; 0 gives a hard edge.

    Returns:
        uint8 ``(H, W)``: 128 or more for pixels of the mask, less for all others.
    """
    inside, outside = _distance(mask), _distance(~mask)
    if not radius:
        return np.where(mask, np.uint8(255), np.uint8(0))
    signed = np.where(mask, inside - 0.5, 0.5 - outside)
    alpha = np.rint(255 * np.clip(0.5 + signed / (2 * radius), 0, 1)).astype(np.uint8)
    return np.where(mask, np.maximum(alpha, 128), np.minimum(alpha, 127))


def _distance(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """The distance of each pixel centre to the nearest one outside the mask; very large if there is none."""
    cv2 = opencv()
    distance = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distance, np.float32)


def cut_out(pixels: npt.NDArray[np.uint8], instance: Instance, config: CutoutConfig) -> npt.NDArray[np.uint8]:
    """Cut one instance out of an image.

    Args:
        pixels: uint8 ``(H, W, 3)``, RGB, of the EXIF-corrected image.
        instance: its mask has the size of the image and is not empty.

    Returns:
        uint8 ``(h, w, 3)``, RGB on white, or ``(h, w, 4)``, RGBA with straight alpha.
    """
    height, width = pixels.shape[:2]
    reach = math.ceil(config.smooth_radius)
    box = [int(side) for side in rle_box_xyxy(instance.rle)]

    def window(by: int) -> tuple[slice, slice]:
        x1, y1, x2, y2 = box
        return slice(max(0, y1 - by), min(height, y2 + by)), slice(max(0, x1 - by), min(width, x2 + by))

    mask = rle_to_mask(instance.rle)[window(reach + 1)]
    alpha = np.zeros((height, width), np.uint8)
    alpha[window(reach + 1)] = smooth_alpha(mask, config.smooth_radius)
    pixels = pixels.copy()
    pixels[window(reach + 1)] = _extended(pixels[window(reach + 1)], mask)
    if config.frame == "crop":
        x, y, shown_width, shown_height = opencv().boundingRect(alpha)
        box = [x, y, x + shown_width, y + shown_height]
        alpha, pixels = alpha[window(config.margin)], pixels[window(config.margin)]
    if config.background == "transparent":
        shown = np.where(alpha[..., None] > 0, pixels, np.uint8(0))
        return np.dstack([shown, alpha])
    share = alpha[..., None].astype(np.float32) / 255
    return np.rint(pixels * share + 255 * (1 - share)).astype(np.uint8)


def _extended(pixels: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """``pixels``, where each pixel outside the mask takes the colour of the nearest pixel inside.

    The smooth edge shows pixels just outside the mask. Without this, they would be a rim of the old background.
    """
    cv2 = opencv()
    kind = {"distanceType": cv2.DIST_L2, "maskSize": 5, "labelType": cv2.DIST_LABEL_PIXEL}
    _, nearest = cv2.distanceTransformWithLabels((~mask).astype(np.uint8), **kind)
    colours = np.zeros((int(nearest.max()) + 1, 3), np.uint8)
    colours[nearest[mask]] = pixels[mask]
    return np.asarray(colours[nearest], np.uint8)


def write_cutouts(
    folder: Path,
    name: str,
    pixels: npt.NDArray[np.uint8],
    instances: Iterable[tuple[int, Instance, str]],
    config: CutoutConfig,
) -> list[str]:
    """Write the cut-outs of one image as ``{name}__{class}__{index}.png``; instances with an empty mask are left out.

    Args:
        folder: an existing folder.
        name: the image's name, without ``__``; see ``FlatNames``.
        pixels: uint8 ``(H, W, 3)``, RGB, of the EXIF-corrected image.
        instances: (index in the record, instance, class name) of each.

    Returns:
        The names of the files.

    Raises:
        OSError: a file cannot be written; the message names it.
    """
    written = []
    for index, instance, class_name in instances:
        if rle_area(instance.rle):
            path = folder / f"{name}__{safe_part(class_name)}__{index}.png"
            with naming(path):
                Image.fromarray(cut_out(pixels, instance, config)).save(path, compress_level=COMPRESSION)
            written.append(path.name)
    return written
