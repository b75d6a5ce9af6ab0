"""SAM of this project and of Ultralytics on equal weights: CPU seconds, and what makes their masks differ.

Ultralytics prepares images in another way: its ``LetterBox`` pads with the grey 114 before pixels are normalised, where
SAM itself and transformers pad with 0 after it; it resizes with OpenCV; and it upscales mask logits to the size of the
image at once, without the step to the size of the model's input. These differences are taken away, one after the other.
Masks whose predicted IoU is not above ``conf`` are dropped by Ultralytics; here it keeps all.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.metadata import version
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from labeler.geometry.masks import rle_to_mask
from labeler.models.segmenters.sam import SamSegmenter
from labeler.models.segmenters.segmenter import SegmentPrompts

KEEP_ALL = -1e9  # as ``conf``: random weights predict IoUs below 0, too

Image = NDArray[np.uint8]


def compare_segmenters(ours: SamSegmenter, theirs: Any, images: Sequence[Image], boxes: NDArray[np.float32]) -> None:
    """Print CPU seconds from an image and ``boxes`` to masks, and where masks of the first image differ.

    Args:
        theirs: ``Predictor`` of Ultralytics with the same weights.
    """
    theirs.args.conf = KEEP_ALL
    rows = [_cpu_seconds(ours, theirs, image, boxes) for image in images]
    own, other = (median(row[side] for row in rows) for side in range(2))
    print(
        f"\nSAM with {len(boxes)} boxes: labeler {own:.2f} CPU s, Ultralytics {version('ultralytics')} "
        f"{other:.2f} CPU s ({other / own:.2f})\n",
        flush=True,
    )
    print_differences(ours, theirs, images[0], boxes)


def _cpu_seconds(ours: SamSegmenter, theirs: Any, image: Image, boxes: NDArray[np.float32]) -> tuple[float, float]:
    before = time.process_time()
    ours.segment([image], [SegmentPrompts.of_boxes(boxes)])
    between = time.process_time()
    theirs(source=np.ascontiguousarray(image[..., ::-1]), bboxes=boxes.tolist())
    return between - before, time.process_time() - between


@torch.no_grad()
def print_differences(ours: SamSegmenter, theirs: Any, image: Image, boxes: NDArray[np.float32]) -> None:
    """Print how far embeddings, logits and masks of Ultralytics are off, as it is and without its differences."""
    bgr = np.ascontiguousarray(image[..., ::-1])
    theirs(source=bgr, bboxes=boxes.tolist())  # sets what its stages read
    expected = [rle_to_mask(mask.rle) for mask in ours.segment([image], [SegmentPrompts.of_boxes(boxes)])[0]]
    pixels, (height, width) = ours._preprocess(image)
    features = ours.model.get_image_embeddings(pixels)
    scale = width / image.shape[1]
    corners = torch.from_numpy(boxes * scale)
    prompts = ours.model.get_prompt_embeddings(input_boxes=corners[None])[0][0]
    logits = ours.model(image_embeddings=features, input_boxes=corners[None], multimask_output=False).pred_masks[0]

    own_pixels = theirs.preprocess([bgr])
    off = (own_pixels - pixels).abs()
    inside = off[..., :height, :width].max()
    off[..., :height, :width] = 0
    print(f"pixels of Ultralytics, normalised: {inside:.3f} off in the image, {off.max():.3f} in the padding, at most")
    padded = pixels.clone()
    padded[..., :height, :width] = own_pixels[..., :height, :width]
    embedded = theirs.model.prompt_encoder(points=None, boxes=corners, masks=None)[0]
    print(f"embeddings of the boxes: {_off(embedded, prompts)} off, at most\n")
    print("| Ultralytics | image embedding | mask logits | IoU of masks, median | at least |")
    print(f"| --- {'| ---: ' * 4}|", flush=True)

    def print_row(name: str, embedding: Tensor, its_logits: Tensor, masks: Tensor) -> None:
        overlaps = _overlaps(expected, masks.numpy())
        offs = f"{_off(embedding, features)} | {_off(its_logits, logits[:, 0])}"
        print(f"| {name} | {offs} | {median(overlaps):.4f} | {min(overlaps):.4f} |", flush=True)

    for name, its_pixels in (
        ("as it is", own_pixels),
        ("with padding of 0", padded),
        ("with the same pixels, too", pixels),
    ):
        embedding = theirs.model.image_encoder(its_pixels)
        its_logits, scores = theirs._inference_features(embedding, corners)
        (result,) = theirs.postprocess((its_logits, scores), its_pixels, [bgr])
        print_row(name, embedding, its_logits, result.masks.data)
    masks = _upscaled_as_sam(its_logits, pixels, (height, width), image) > 0
    print_row("with the same upscaling, too", embedding, its_logits, masks)
    below = int((scores <= 0).sum())
    print(f"{below} of {len(boxes)} masks have a predicted IoU of 0 or less: with a `conf` of 0, they would be dropped")


def _upscaled_as_sam(logits: Tensor, pixels: Tensor, inner: tuple[int, int], image: Image) -> Tensor:
    """Mask logits ``(n, h, w)`` at the size of ``image``, by way of the model's input, as SAM's own code does it."""
    whole = functional.interpolate(logits[None], pixels.shape[-2:], mode="bilinear", align_corners=False)
    cut = whole[..., : inner[0], : inner[1]]
    return functional.interpolate(cut, image.shape[:2], mode="bilinear", align_corners=False)[0]


def _off(found: Tensor, expected: Tensor) -> str:
    """The largest difference, in standard deviations of what is expected."""
    return f"{float((found - expected).abs().max() / expected.std()):.1e}"


def _overlaps(expected: Sequence[NDArray[np.bool_]], found: NDArray[Any]) -> list[float]:
    """The IoU of every mask with the one of the same box."""
    pairs = [(mask, other.astype(bool)) for mask, other in zip(expected, found, strict=True)]
    return [float((mask & other).sum() / max((mask | other).sum(), 1)) for mask, other in pairs]
