"""SAM of this project and of Ultralytics on equal weights: CPU seconds, and what makes their masks differ.

Three things differ in Ultralytics. They are taken away one after the other, until its logits and masks equal those of
this project: pixels and padding (``LetterBox`` pads with the grey 114 before normalisation, the original with 0 after
it), and the corners of boxes, which the original moves by half a pixel of the model's input before they are embedded.
The third is no difference of the models: masks whose predicted IoU is not above ``conf`` are dropped.
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

from labeler.geometry.masks import rle_to_mask
from labeler.models.segmenters.sam import SamSegmenter
from labeler.models.segmenters.segmenter import SegmentPrompts

CORNER_SHIFT = 0.5  # pixels of the model's input; ``PromptEncoder._embed_boxes`` of segment-anything
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
    print(
        f"pixels of Ultralytics: normalised, {inside:.3f} off in the image and {off.max():.3f} in the padding, at most"
    )
    print("| Ultralytics | image embedding | box embedding | low-resolution logits | IoU of masks, median | at least |")
    print(f"| --- {'| ---: ' * 5}|", flush=True)
    for name, its_pixels, shift in (
        ("as it is", own_pixels, 0.0),
        ("with the same pixels and padding", pixels, 0.0),
        ("with corners moved by half a pixel", own_pixels, CORNER_SHIFT),
        ("with both", pixels, CORNER_SHIFT),
    ):
        embedding = theirs.model.image_encoder(its_pixels)
        embedded = theirs.model.prompt_encoder(points=None, boxes=corners + shift, masks=None)[0]
        its_logits, scores = theirs._inference_features(embedding, corners + shift)
        (result,) = theirs.postprocess((its_logits, scores), its_pixels, [bgr])
        overlaps = _overlaps(expected, result.masks.data.numpy())
        print(
            f"| {name} | {_off(embedding, features)} | {_off(embedded, prompts)} "
            f"| {_off(its_logits, logits[:, 0])} | {median(overlaps):.4f} | {min(overlaps):.4f} |",
            flush=True,
        )
    below = int((scores <= 0).sum())
    print(f"{below} of {len(boxes)} masks have a predicted IoU of 0 or less, and would be dropped with a `conf` of 0")


def _off(found: Tensor, expected: Tensor) -> str:
    """The largest difference, in standard deviations of what is expected."""
    return f"{float((found - expected).abs().max() / expected.std()):.1e}"


def _overlaps(expected: Sequence[NDArray[np.bool_]], found: NDArray[Any]) -> list[float]:
    """The IoU of every mask with the one of the same box."""
    pairs = [(mask, other.astype(bool)) for mask, other in zip(expected, found, strict=True)]
    return [float((mask & other).sum() / max((mask | other).sum(), 1)) for mask, other in pairs]
