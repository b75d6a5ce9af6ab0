"""Training scenes, drawn in advance by worker processes into memory-mapped arrays that both training runs share."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from labeler.demo.scenes import MAX_OBJECTS, PAIRS, Pair, make_scene, scene_rng

SIDE = 320
IMAGE_MEAN, IMAGE_STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]  # RGB, for both models
Step = Callable[[Any], Tensor]  # takes a model and returns the loss of its next batch


@dataclass(frozen=True)
class SceneBatch:
    """A batch of scenes, after a random flip and rotation by quarter turns that is the same for the whole batch.

    Attributes:
        images: uint8 ``(B, 3, side, side)``, RGB.
        index_maps: uint8 ``(B, side, side)``; see ``Scene.index_map``.
        pair_ids: for each image, the index in ``PAIRS`` of each object.
        boxes_xyxy: for each image float32 ``(n, 4)``, tight around the visible pixels, relative to the side.
    """

    images: Tensor
    index_maps: Tensor
    pair_ids: list[list[int]]
    boxes_xyxy: list[Tensor]

    def pixel_values(self, side: int, device: str) -> Tensor:
        """The images as a model's processor would give them: float32 ``(B, 3, side, side)``, normalised."""
        mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (IMAGE_MEAN, IMAGE_STD))
        resized = functional.interpolate(self.images.to(device), size=(side, side), mode="bilinear", antialias=True)
        return (resized.float() / 255 - mean) / std


@dataclass(frozen=True)
class ScenePool:
    """N scenes in memory-mapped arrays."""

    images: NDArray[np.uint8]  # (N, side, side, 3)
    index_maps: NDArray[np.uint8]  # (N, side, side)
    pair_ids: NDArray[np.int8]  # (N, MAX_OBJECTS), -1 where there is no object

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[SceneBatch]:
        """An endless stream of random batches."""
        while True:
            chosen = np.sort(rng.choice(len(self.images), size=size, replace=False))
            images = torch.from_numpy(self.images[chosen]).permute(0, 3, 1, 2)
            index_maps = torch.from_numpy(self.index_maps[chosen])
            turns, flip = int(rng.integers(4)), bool(rng.integers(2))
            images, index_maps = (torch.rot90(x, turns, (-2, -1)) for x in (images, index_maps))
            if flip:
                images, index_maps = images.flip(-1), index_maps.flip(-1)
            pair_ids = [[int(pair) for pair in row if pair >= 0] for row in self.pair_ids[chosen]]
            boxes = [_boxes(index_map, len(ids)) for index_map, ids in zip(index_maps, pair_ids, strict=True)]
            yield SceneBatch(images, index_maps, pair_ids, boxes)


def _boxes(index_map: Tensor, count: int) -> Tensor:
    """The tight boxes of objects 1 to ``count``, xyxy relative to the side, float32 ``(count, 4)``."""
    side = index_map.shape[-1]
    masks = index_map[None] == torch.arange(1, count + 1)[:, None, None]
    boxes = torch.zeros(count, 4)
    for axis, start in ((-2, 0), (-1, 1)):
        occupied = masks.any(axis).float()
        boxes[:, start] = occupied.argmax(-1)
        boxes[:, start + 2] = side - occupied.flip(-1).argmax(-1)
    return boxes / side


def _draw(index: int, seed: int, pairs: list[Pair]) -> Any:
    scene = make_scene(scene_rng(seed, index), SIDE, pairs)
    ids = np.full(MAX_OBJECTS, -1, dtype=np.int8)
    ids[: len(scene.pairs)] = [PAIRS.index(pair) for pair in scene.pairs]
    return index, scene.image, scene.index_map, ids


def scene_pool(folder: Path, count: int, seed: int, pairs: list[Pair]) -> ScenePool:
    """The pool of ``count`` scenes in ``folder``; they are drawn unless the folder contains a complete pool."""
    shapes = {
        "images": ((count, SIDE, SIDE, 3), np.uint8),
        "index_maps": ((count, SIDE, SIDE), np.uint8),
        "pair_ids": ((count, MAX_OBJECTS), np.int8),
    }
    done = folder / "done"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {
            name: np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)
            for name, (shape, dtype) in shapes.items()
        }
        with multiprocessing.Pool() as workers:
            drawn = workers.imap_unordered(functools.partial(_draw, seed=seed, pairs=pairs), range(count), chunksize=64)
            for index, image, index_map, ids in drawn:
                arrays["images"][index], arrays["index_maps"][index], arrays["pair_ids"][index] = image, index_map, ids
        for array in arrays.values():
            array.flush()
        done.touch()
    return ScenePool(**{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in shapes})
