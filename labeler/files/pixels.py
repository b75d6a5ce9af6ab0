"""From what Pillow decoded to 8-bit RGB, in strips: beside the decoded image there is only the result in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from labeler.files.image_config import Intensity

STRIP_PIXELS = 2**17
SAMPLE_PIXELS = 2**22  # percentiles are those of at most so many pixels, evenly spaced
PERCENTILES = (0.5, 99.5)
DEPTHS = (8, 10, 12, 14, 16)
Pixels = npt.NDArray[np.uint8]
# EXIF orientation -> how to turn the image upright: whether to transpose, then the step along rows and columns.
TURNS = {1: (0, 1, 1), 2: (0, 1, -1), 3: (0, -1, -1), 4: (0, -1, 1)}
TURNS |= {5: (1, 1, 1), 6: (1, 1, -1), 7: (1, -1, -1), 8: (1, -1, 1)}


@dataclass(frozen=True, slots=True)
class Scale:
    """How the values of a channel become 8-bit: from ``low`` to ``high``.

    Attributes:
        name: for users, such as ``12 bits``.
        whole: the values are unsigned whole numbers and ``low`` is 0, so that the scaling is exact.
    """

    low: float
    high: float
    name: str
    whole: bool = False

    def apply(self, values: npt.NDArray[Any]) -> Pixels:
        if self.whole:
            top = int(self.high)
            return np.asarray((np.minimum(values, top).astype(np.uint32) * 255 + top // 2) // top, np.uint8)
        wide = values.astype(np.float64)
        wide = np.clip(np.where(np.isfinite(wide), wide, self.low), self.low, self.high)
        return np.asarray(np.rint((wide - self.low) / ((self.high - self.low) or 1.0) * 255), np.uint8)


def to_rgb(image: Image.Image, intensity: Intensity = "auto", orientation: int = 1) -> tuple[Pixels, str]:
    """(H, W, 3) uint8 of a loaded image of any mode, turned upright, and the name of the ``Scale`` or nothing."""
    scale = _scale(image, intensity) if is_deep(image) else None
    return _filled(image, scale, orientation), scale.name if scale else ""


def deep_to_rgb(channels: npt.NDArray[np.uint16], intensity: Intensity, orientation: int) -> tuple[Pixels, str]:
    """As ``to_rgb``, of 16-bit colour ``(H, W, 3)``, RGB, or ``(H, W, 4)`` with alpha, whose channels scale alike."""
    strips = [channels[start : start + 256, :, :3] for start in range(0, len(channels), 256)]
    scale = _scale_of_16_bits(strips, intensity)
    height, width = channels.shape[:2]
    upright, stored = _upright(width, height, orientation)
    for start in range(0, height, 256):
        rows = channels[start : start + 256]
        colours = scale.apply(rows[:, :, :3])
        if rows.shape[2] == 4:
            alpha = np.rint(rows[:, :, 3:] / 257)
            colours = np.rint((colours * alpha + 255 * (255 - alpha)) / 255).astype(np.uint8)
        stored[start : start + 256] = colours
    return upright, scale.name


def is_deep(image: Image.Image) -> bool:
    """Whether Pillow holds more than 8 bits per channel of it; of 16-bit colour it does not."""
    return image.mode[0] in "IF"


def _filled(image: Image.Image, scale: Scale | None, orientation: int) -> Pixels:
    upright, stored = _upright(*image.size, orientation)
    white = None
    for top, strip in _strips(image):
        place = stored[top : top + strip.height]
        if scale is not None:
            place[:] = scale.apply(np.asarray(strip))[:, :, None]
            continue
        if image.has_transparency_data:
            if white is None or white.size != strip.size:
                white = Image.new("RGBA", strip.size, "white")
            strip = Image.alpha_composite(white, strip.convert("RGBA"))
        place[:] = np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))
    return upright


def _upright(width: int, height: int, orientation: int) -> tuple[Pixels, Pixels]:
    """The empty result, and a view of it with the rows and columns of the stored image."""
    transpose, rows, columns = TURNS[orientation]
    upright = np.empty((width, height, 3) if transpose else (height, width, 3), np.uint8)
    stored = upright[::rows, ::columns]
    return upright, stored.swapaxes(0, 1) if transpose else stored


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Parts of full width from top to bottom, each with its first row."""
    width, height = image.size
    rows = max(1, STRIP_PIXELS // max(width, 1))
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(top + rows, height)))


def _scale(image: Image.Image, intensity: Intensity) -> Scale:
    values = [np.asarray(strip) for _, strip in _strips(image)] if image.height * image.width <= STRIP_PIXELS else None
    strips = values or _Strips(image)
    # PNG and PPM have no 32-bit integers; some Pillow versions return their 16-bit images as mode "I".
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        if getattr(image, "tag_v2", {}).get(258) == (12,) and intensity in ("auto", "full"):
            return Scale(0, 4095, "12 bits", whole=True)
        return _scale_of_16_bits(strips, intensity)
    if intensity == "percentile":
        return _percentiles(strips)
    low, high = _range(strips)
    if intensity != "minmax" and image.mode == "F" and low >= 0 and high <= 1:
        return Scale(0.0, 1.0, "0 to 1")
    return Scale(low, high, "minimum and maximum")


class _Strips:
    """The strips of an image as arrays, as often as they are needed."""

    def __init__(self, image: Image.Image) -> None:
        self._image = image

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return (np.asarray(strip) for _, strip in _strips(self._image))


def _scale_of_16_bits(strips: Any, intensity: Intensity) -> Scale:
    if intensity == "percentile":
        return _percentiles(strips)
    if intensity == "minmax":
        return Scale(*_range(strips), "minimum and maximum")
    top = 65535 if intensity == "full" else max((int(strip.max()) for strip in strips), default=0)
    bits = next(depth for depth in DEPTHS if top < 2**depth)
    return Scale(0, 2**bits - 1, f"{bits} bits", whole=True)


def _range(strips: Any) -> tuple[float, float]:
    """The least and the greatest finite value; zeros if there is none."""
    lows, highs = [], []
    for strip in strips:
        finite = strip if strip.dtype.kind in "iu" else strip[np.isfinite(strip)]
        if finite.size:
            lows.append(float(finite.min()))
            highs.append(float(finite.max()))
    return (min(lows), max(highs)) if lows else (0.0, 0.0)


def _percentiles(strips: Any) -> Scale:
    pixels = sum(strip.size for strip in strips)
    step = -(-pixels // SAMPLE_PIXELS)
    parts, seen = [], 0
    for strip in strips:
        parts.append(strip.ravel()[-seen % step :: step])
        seen += strip.size
    sample = np.concatenate(parts).astype(np.float64)
    sample = sample[np.isfinite(sample)]
    low, high = np.percentile(sample, PERCENTILES) if sample.size else (0.0, 0.0)
    return Scale(float(low), float(high), f"percentiles {PERCENTILES[0]} and {PERCENTILES[1]}")
