"""Synthetic scenes with exact ground truth: coloured shapes on noisy gradients.

The seed determines every pixel, so a scene and its masks can be reproduced anywhere. The demo, the training script, the
benchmarks and the tests use these scenes.

A scene contains one to eight objects. Each has a colour, a shape, and a random radius (6 to 20 % of the image side),
position and rotation. An object may hide up to 30 % of the pixels of earlier ones. The background is a linear gradient
between two random colours, and the whole image has Gaussian noise of 2 to 12 grey levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from labeler.formats.coco import INFO, LICENSES, coco_annotation, coco_categories, coco_image
from labeler.geometry.masks import mask_to_rle
from labeler.ground_truth import GroundTruth, GroundTruthImage, GroundTruthInstance

Pair = tuple[str, str]  # (colour, shape)

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 215, 50),
    "purple": (140, 50, 170),
    "orange": (245, 140, 30),
    "white": (245, 245, 245),
    "black": (25, 25, 25),
}
COLOUR_JITTER = 18
RADIUS_SHARE = (0.06, 0.20)
NOISE_LEVELS = (2.0, 12.0)
MAX_OBJECTS = 8
MAX_HIDDEN = 0.30
SUPERSAMPLING = 4


def _arc(radius: float, start: float, stop: float, points: int = 48) -> NDArray[np.float64]:
    angles = np.linspace(start, stop, points)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _regular(points: int, radii: Sequence[float]) -> NDArray[np.float64]:
    angles = np.arange(points) * 2 * np.pi / points - np.pi / 2
    radius = np.resize(np.asarray(radii), points)
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _heart() -> NDArray[np.float64]:
    t = np.linspace(0, 2 * np.pi, 80, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    points = np.stack([x, y - (y.min() + y.max()) / 2], axis=1)
    return np.asarray(points / np.linalg.norm(points, axis=1).max(), dtype=np.float64)


def _crescent() -> NDArray[np.float64]:
    # A unit disc minus a disc with radius 0.8 centred at x = 0.5; the circles intersect at (x, y) and (x, -y).
    bite, offset = 0.8, 0.5
    x = (1 - bite**2 + offset**2) / (2 * offset)
    y = np.sqrt(1 - x**2)
    outer = np.arctan2(y, x)
    inner = np.arctan2(y, x - offset)
    far = _arc(1.0, outer, 2 * np.pi - outer)
    near = _arc(bite, 2 * np.pi - inner, inner) + np.array([offset, 0.0])
    return np.concatenate([far, near])


_CROSS = np.array(
    [(-1, 3), (1, 3), (1, 1), (3, 1), (3, -1), (1, -1), (1, -3), (-1, -3), (-1, -1), (-3, -1), (-3, 1), (-1, 1)]
) / np.sqrt(10)

# The polygons of each shape, inside the unit circle: the outline and, for the ring, the hole.
SHAPES: dict[str, list[NDArray[np.float64]]] = {
    "circle": [_arc(1.0, 0, 2 * np.pi)],
    "square": [_regular(4, [1.0])],
    "triangle": [_regular(3, [1.0])],
    "star": [_regular(10, [1.0, 0.42])],
    "ring": [_arc(1.0, 0, 2 * np.pi), _arc(0.55, 0, 2 * np.pi)],
    "cross": [_CROSS],
    "heart": [_heart()],
    "crescent": [_crescent()],
}

PAIRS: list[Pair] = [(colour, shape) for colour in COLOURS for shape in SHAPES]
# No training prompt names these pairs. The detector can only find them by combining colour and shape.
HELD_OUT_PAIRS: list[Pair] = [
    ("red", "star"),
    ("green", "ring"),
    ("blue", "heart"),
    ("yellow", "cross"),
    ("purple", "circle"),
    ("orange", "triangle"),
]
SEEN_PAIRS: list[Pair] = [pair for pair in PAIRS if pair not in HELD_OUT_PAIRS]


@dataclass(frozen=True)
class Scene:
    """One image and its ground truth.

    Attributes:
        image: uint8 ``(side, side, 3)``, RGB.
        pairs: (colour, shape) of each object, in drawing order; later objects are on top.
        index_map: uint8 ``(side, side)``: 0 for background, ``i + 1`` for visible pixels of object ``i``.
    """

    image: NDArray[np.uint8]
    pairs: list[Pair]
    index_map: NDArray[np.uint8]

    def mask(self, index: int) -> NDArray[np.bool_]:
        """The visible pixels of object ``index``, bool ``(side, side)``."""
        visible: NDArray[np.bool_] = self.index_map == index + 1
        return visible


def scene_rng(seed: int, index: int) -> np.random.Generator:
    """The random generator for scene number ``index`` of a ``seed``."""
    return np.random.default_rng([seed, index])


def make_scene(rng: np.random.Generator, side: int = 320, pairs: Sequence[Pair] = PAIRS) -> Scene:
    """Draw a scene of ``side`` x ``side`` pixels with objects from ``pairs``."""
    image = _gradient(rng, side)
    index_map = np.zeros((side, side), dtype=np.uint8)
    chosen: list[Pair] = []
    full_areas: list[int] = []
    for _ in range(int(rng.integers(1, MAX_OBJECTS + 1))):
        pair = pairs[int(rng.integers(len(pairs)))]
        for _attempt in range(20):
            coverage, top, left = _draw_shape(rng, side, pair[1])
            window = (slice(top, top + coverage.shape[0]), slice(left, left + coverage.shape[1]))
            mask = coverage >= 0.5
            if _hides_too_much(index_map, window, mask, full_areas):
                continue
            colour = np.asarray(COLOURS[pair[0]]) + rng.integers(-COLOUR_JITTER, COLOUR_JITTER + 1, size=3)
            image[window] += coverage[..., None] * (np.clip(colour, 0, 255) - image[window])
            chosen.append(pair)
            full_areas.append(int(mask.sum()))
            index_map[window][mask] = len(chosen)
            break
    noise = rng.standard_normal(image.shape, dtype=np.float32) * rng.uniform(*NOISE_LEVELS)
    return Scene(np.clip(image + noise, 0, 255).round().astype(np.uint8), chosen, index_map)


def _gradient(rng: np.random.Generator, side: int) -> NDArray[np.float32]:
    start, stop = rng.uniform(0, 255, size=(2, 3)).astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    ramp = axis[None, :] * np.float32(np.cos(angle)) + axis[:, None] * np.float32(np.sin(angle))
    ramp = (ramp - ramp.min()) / (ramp.max() - ramp.min())
    gradient: NDArray[np.float32] = start + ramp[..., None] * (stop - start)
    return gradient


def _draw_shape(rng: np.random.Generator, side: int, shape: str) -> tuple[NDArray[np.float32], int, int]:
    """How much of each pixel a random shape covers, float32 ``(h, w)`` in [0, 1]; top and left of this window."""
    radius = rng.uniform(*RADIUS_SHARE) * side
    angle = rng.uniform(0, 2 * np.pi)
    centre = rng.uniform(radius, side - radius, size=2)  # x, y
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    rings = [ring @ rotation * radius + centre for ring in SHAPES[shape]]
    left, top = np.maximum(np.floor(centre - radius).astype(int), 0)
    right, bottom = np.minimum(np.ceil(centre + radius).astype(int), side)
    width, height = int(right - left), int(bottom - top)
    canvas = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
    draw = ImageDraw.Draw(canvas)
    for ring, fill in zip(rings, (255, 0), strict=False):
        draw.polygon([tuple(point) for point in (ring - [left, top]) * SUPERSAMPLING], fill=fill)
    coverage = np.asarray(canvas.reduce(SUPERSAMPLING), dtype=np.float32) / np.float32(255)
    return coverage.astype(np.float32, copy=False), int(top), int(left)


def _hides_too_much(
    index_map: NDArray[np.uint8], window: tuple[slice, slice], mask: NDArray[np.bool_], full_areas: list[int]
) -> bool:
    covered = np.bincount(index_map[window][mask], minlength=len(full_areas) + 1)[1:]
    if not covered.any():
        return False
    visible = np.bincount(index_map.ravel(), minlength=len(full_areas) + 1)[1:]
    return bool(np.any(visible - covered < (1 - MAX_HIDDEN) * np.asarray(full_areas)))


def class_name(pair: Pair) -> str:
    """The name of a pair in prompts and class lists: ``red circle`` for ``("red", "circle")``."""
    return f"{pair[0]} {pair[1]}"


def scene_ground_truth(scenes: Sequence[Scene], names: Sequence[str], class_names: Sequence[str]) -> GroundTruth:
    """The ground truth of scenes whose images are named ``names``.

    An object is an instance of each class that names it, so a red circle of both ``red circle`` and ``circle``. Objects
    that no class names are left out.
    """
    class_ids = {name: class_id for class_id, name in enumerate(class_names)}
    images = []
    for scene, image_name in zip(scenes, names, strict=True):
        instances: list[GroundTruthInstance] = []
        for index, pair in enumerate(scene.pairs):
            rle = mask_to_rle(scene.mask(index))
            named = [class_ids[name] for name in (class_name(pair), pair[1]) if name in class_ids]
            instances += [GroundTruthInstance(class_id, rle) for class_id in named]
        height, width = scene.image.shape[:2]
        images.append(GroundTruthImage(image_name, width, height, tuple(instances)))
    return GroundTruth(tuple(class_names), tuple(images))


def coco_ground_truth(scenes: Sequence[Scene], file_names: Sequence[str], class_names: Sequence[str]) -> dict[str, Any]:
    """``scene_ground_truth`` as a COCO dictionary, with masks as compressed RLE; ids count from 1."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(scene_ground_truth(scenes, file_names, class_names).images, start=1):
        images.append(coco_image(number, image.name, image.width, image.height))
        for each in image.instances:
            identity = len(annotations) + 1
            annotations.append(coco_annotation(identity, number, each.class_id, each.rle, {"iscrowd": 0}))
    return {
        "info": INFO,
        "licenses": LICENSES,
        "images": images,
        "annotations": annotations,
        "categories": coco_categories(class_names),
    }
