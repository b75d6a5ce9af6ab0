"""Reads a folder of mask images, which have the names of the images they belong to.

Without a ``labelmap.txt``, masks are binary: pixels that are not black belong to the class ``object``. With one, each
colour is a class, as in Pascal VOC and in CVAT's "Segmentation mask" export. The file has one line ``name:r,g,b::`` per
class, and comments that begin with ``#``. The name ``background`` is no class. Masks may be in a folder
``SegmentationClass`` next to the file.

Roboflow's "Semantic Segmentation Masks" are read too: ``_classes.csv`` names the class of each pixel value, and the
masks lie among the images, with names that end in ``_mask``.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labeler.errors import FormatError
from labeler.files.listing import find_images
from labeler.files.storage import info, read_bytes
from labeler.formats.findings import Findings
from labeler.formats.mask_classes import CLASSES_CSV, LABEL_MAP, mask_classes
from labeler.geometry.masks import mask_to_rle
from labeler.ground_truth import GroundTruth, GroundTruthImage, GroundTruthInstance, unique_classes
from labeler.opencv import opencv

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

_NEIGHBOURHOOD = np.ones((3, 3), dtype=np.uint8)
VOC_MASKS = "SegmentationClass"  # the folder of masks in Pascal VOC


def is_mask_folder(folder: AnyPath) -> bool:
    """Whether there are images in ``folder``, or in ``SegmentationClass`` below it."""
    return bool(find_images(_masks_in(folder)).image_ids)


def read_mask_images(folder: AnyPath) -> GroundTruth:
    """Read all mask images below ``folder``. All pixels of a class in an image are one instance.

    Files that cannot be read are left out and counted.

    Raises:
        FormatError: no image can be read, one has a colour that is not in the label map, or one is not binary and there
            is no label map.
    """
    findings = Findings()
    class_names, colours, names_file = mask_classes(folder)
    names, class_ids = unique_classes(class_names)
    for class_id, name in enumerate(class_names):
        if class_ids[class_id] in class_ids[:class_id]:
            findings.add("class", "with the name of another: one class with it", name)
    if colours is not None:
        colours = {colour: class_ids[each] if each >= 0 else each for colour, each in colours.items()}
    masks = _masks_in(folder)
    images = []
    foregrounds: set[int] = set()
    error = None
    for name in find_images(masks).image_ids:
        if names_file == CLASSES_CSV and not name.rpartition(".")[0].endswith("_mask"):
            continue
        path = masks / name
        try:
            pixels = _read(path, names_file == CLASSES_CSV)
        except FormatError as caught:
            error = error or caught
            findings.add("mask image", "that cannot be read: left out", str(caught))
            continue
        if colours is None:
            foregrounds.add(_foreground(path, pixels))
            _check_foregrounds(path, foregrounds - {0})
            instances = _binary(pixels)
        else:
            instances = _coloured(path, pixels, colours, names_file)
        images.append(GroundTruthImage(name, pixels.shape[1], pixels.shape[0], instances))
    if error and not images:
        raise error
    return GroundTruth(names, tuple(images), semantic=True, notes=findings.lines())


def _masks_in(folder: AnyPath) -> AnyPath:
    below = folder / VOC_MASKS
    entry = info(below)
    return below if entry is not None and entry.is_folder else folder


def _read(path: AnyPath, indices: bool = False) -> NDArray[Any]:
    """The values ``(H, W)`` of a grey image, or the RGB colours ``(H, W, 3)`` of any other, palettes included.

    Args:
        indices: take the indices of a palette, not its colours.
    """
    try:
        with Image.open(io.BytesIO(read_bytes(path))) as image:
            if image.mode not in ("L", "I", "I;16", "F", "P" if indices else "L"):
                return np.asarray(image.convert("RGB"))
            values = np.asarray(image)
            if not np.isfinite(values).all():
                raise ValueError("it has values that are not finite")
            return values
    except Exception as error:  # decoders can raise anything
        raise FormatError(f"{path}: not a mask image ({' '.join(str(error).split())})") from error


def _foreground(path: AnyPath, pixels: NDArray[Any]) -> int:
    """The colour (``0xRRGGBB``) or value of the pixels that are not black; 0 if all are black.

    Soft edges, as in images that were scaled or compressed, are ignored.

    Raises:
        FormatError: there are several colours or values.
    """
    if pixels.ndim == 3 and not (pixels == pixels[..., :1]).all():
        present = np.unique(_pack(pixels))
        if len(present) > 2:
            raise FormatError(f"{path}: has several colours; name them in a {LABEL_MAP}, with a line name:r,g,b:: each")
        return int(present[-1])
    values = np.asarray(pixels[..., 0] if pixels.ndim == 3 else pixels, dtype=np.float32)
    top = float(values.max(initial=0))
    between = (values > 0.1 * top) & (values < 0.9 * top)
    # Soft edges have a slope. Intermediate values in a flat area were drawn on purpose.
    cv2 = opencv()
    is_flat = cv2.dilate(values, _NEIGHBOURHOOD) == cv2.erode(values, _NEIGHBOURHOOD)
    if np.count_nonzero(between & is_flat) > 0.01 * np.count_nonzero(values) or (top < 128 and between.any()):
        others = np.unique(values[between])[:4].astype(int).tolist()
        raise FormatError(f"{path}: not binary, has the values {others} … and {top:g}; name them in a {LABEL_MAP}")
    return int(top)


def _check_foregrounds(path: AnyPath, foregrounds: set[int]) -> None:
    """Raises FormatError if the binary masks read up to ``path`` have several foregrounds, other than white."""
    if len(foregrounds) > 1 and not all(map(_is_white, foregrounds)):
        raise FormatError(
            f"{path}: the mask's colour or value differs from that of earlier files; name each in a {LABEL_MAP}"
        )


def _is_white(value: int) -> bool:
    """Whether a value is white in 8 or 16 bits, as lossy compression leaves it."""
    return 240 <= value <= 255 or value == 65535


def _binary(pixels: NDArray[Any]) -> tuple[GroundTruthInstance, ...]:
    values = pixels.max(axis=2) if pixels.ndim == 3 else pixels
    mask = values > values.max(initial=0) / 2  # cut soft edges in the middle
    return (GroundTruthInstance(0, mask_to_rle(mask)),) if mask.any() else ()


def _coloured(
    path: AnyPath, pixels: NDArray[Any], colours: dict[int, int], names_file: str
) -> tuple[GroundTruthInstance, ...]:
    if pixels.ndim == 2:
        if pixels.max(initial=0) > 255:
            raise FormatError(f"{path}: has values above 255, which {names_file} cannot name")
        pixels = np.repeat(pixels[..., None].astype(np.uint8), 3, axis=2)
    packed = _pack(pixels)
    present = np.unique(packed).tolist()
    if unknown := [colour for colour in present if colour not in colours]:
        rgb = ",".join(str(unknown[0] >> shift & 255) for shift in (16, 8, 0))
        if names_file == CLASSES_CSV:
            raise FormatError(f"{path}: pixel value {unknown[0] & 255} is not in {CLASSES_CSV}; add a line for it")
        raise FormatError(f"{path}: colour {rgb} is not in {LABEL_MAP}; add a line name:{rgb}::")
    colours_of: dict[int, list[int]] = {}
    for colour in present:
        colours_of.setdefault(colours[colour], []).append(colour)
    return tuple(
        GroundTruthInstance(class_id, mask_to_rle(np.isin(packed, own_colours)))
        for class_id, own_colours in sorted(colours_of.items())
        if class_id >= 0
    )


def _pack(pixels: NDArray[Any]) -> NDArray[Any]:
    """RGB as numbers ``0xRRGGBB``, uint32 ``(H, W)``."""
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    return red << 16 | green << 8 | blue
