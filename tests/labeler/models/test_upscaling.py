"""Masks upscaled in windows, against ``torch.nn.functional.interpolate`` on the whole image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torch.nn import functional

from labeler.models.segmenters.encoding import MaskChunk, encode, stability, windows
from labeler.models.segmenters.upscaling import Steps, axis, upscaled

NEAR = 1e-4  # of a threshold: pixels whose logits lie so near to it may differ


def blobs(count: int, side: int, seed: int = 0) -> Tensor:
    """Logits of ellipses of many sizes, some cut by the frame, with noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] + 0.5
    logits = []
    for _ in range(count):
        centre, radius = rng.uniform(0, side, 2), rng.uniform(0.5, side / 3, 2)
        distance = ((x - centre[0]) / radius[0]) ** 2 + ((y - centre[1]) / radius[1]) ** 2
        logits.append(np.clip(6 * (1 - distance), -20, 20) + rng.normal(0, 0.3, (side, side)))
    return torch.from_numpy(np.stack(logits)).float()


def whole(logits: Tensor, vertical: Steps, horizontal: Steps) -> Tensor:
    values = logits[:, None]
    for (height, kept_height), (width, kept_width) in zip(vertical, horizontal, strict=True):
        values = functional.interpolate(values, (height, width), mode="bilinear", align_corners=False)
        values = values[..., :kept_height, :kept_width]
    return values[:, 0]


@pytest.mark.parametrize(
    ("vertical", "horizontal"),
    [
        (((301, 301),), ((517, 517),)),
        (((40, 40),), ((23, 23),)),  # smaller than the logits
        (((256, 144), (1080, 1080)), ((256, 256), (1920, 1920))),  # SAM: padding is cut, then the image is resized
        (((256, 256), (33, 33)), ((256, 70), (9, 9))),
    ],
)
def test_windows_hold_what_the_whole_image_has(vertical: Steps, horizontal: Steps) -> None:
    logits = blobs(12, 64)
    logits[3] = -5.0  # nothing
    logits[4] = 5.0  # everything
    expected = whole(logits, vertical, horizontal)
    axes = axis(64, vertical, "cpu"), axis(64, horizontal, "cpu")
    size = vertical[-1][1], horizontal[-1][1]
    seen = []
    for part in upscaled(logits, axes, threshold=-1.0):
        chunk = MaskChunk(
            part.rows.tolist(),
            windows(part.values > 0, part.tops, part.lefts),
            [1.0] * len(part.rows),
            stability(part.values).tolist(),
            size,
        )
        for row, mask in zip(chunk.rows, encode(chunk, 0.0), strict=True):
            seen.append(row)
            decoded = coco_mask.decode(mask.rle).astype(bool)
            differs = decoded != (expected[row] > 0).numpy()
            assert (expected[row].abs().numpy()[differs] < NEAR).all()
            inner, outer = (expected[row] > 1).sum().item(), (expected[row] > -1).sum().item()
            unsure = ((expected[row].abs() - 1).abs() < NEAR).sum().item()
            assert mask.stability == pytest.approx(inner / max(outer, 1), abs=(unsure + 1e-3) / max(outer, 1))
    assert sorted(seen) == list(range(12))


def test_a_window_is_not_larger_than_it_must_be() -> None:
    logits = torch.full((1, 64, 64), -10.0)
    logits[0, 10:14, 20:22] = 10.0
    (part,) = upscaled(logits, (axis(64, ((640, 640),), "cpu"),) * 2, threshold=-1.0)
    height, width = part.values.shape[1:]
    assert 40 <= height <= 60
    assert 20 <= width <= 40


def test_chunks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labeler.models.segmenters.upscaling.PIXELS_PER_CHUNK", 5000)
    logits = blobs(40, 32)
    parts = list(upscaled(logits, (axis(32, ((90, 90),), "cpu"),) * 2, threshold=-1.0))
    assert all(len(part.rows) == 1 or part.values.numel() <= 5000 for part in parts)
    assert sorted(row for part in parts for row in part.rows) == list(range(40))
