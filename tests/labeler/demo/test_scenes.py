from __future__ import annotations

import numpy as np
import pytest

from labeler.demo.scenes import (
    COLOUR_JITTER,
    COLOURS,
    HELD_OUT_PAIRS,
    MAX_HIDDEN,
    PAIRS,
    RADIUS_SHARE,
    SEEN_PAIRS,
    SHAPES,
    class_name,
    coco_ground_truth,
    make_scene,
    scene_rng,
)
from labeler.models.identity import EMBEDDED_CLASSES

SCENES = [make_scene(scene_rng(5, index)) for index in range(60)]


def test_scenes_are_as_documented() -> None:
    assert len(PAIRS) == 64
    assert len(HELD_OUT_PAIRS) == 6
    assert not set(HELD_OUT_PAIRS) & set(SEEN_PAIRS)
    assert set(HELD_OUT_PAIRS) | set(SEEN_PAIRS) == set(PAIRS)
    counts = {len(scene.pairs) for scene in SCENES}
    assert min(counts) == 1
    assert max(counts) == 8


def test_a_scene_depends_only_on_its_seed() -> None:
    again = make_scene(scene_rng(5, 3))
    assert np.array_equal(again.image, SCENES[3].image)
    assert np.array_equal(again.index_map, SCENES[3].index_map)
    assert again.pairs == SCENES[3].pairs
    assert not np.array_equal(make_scene(scene_rng(6, 3)).image, SCENES[3].image)


def test_masks_show_pixels_of_the_object_s_colour() -> None:
    for scene in SCENES:
        for index, (colour, _) in enumerate(scene.pairs):
            found = np.median(scene.image[scene.mask(index)], axis=0)
            assert np.abs(found - COLOURS[colour]).max() <= COLOUR_JITTER + 4, colour  # the rest is noise


@pytest.mark.parametrize(
    ("shape", "share"),  # share of the area of the enclosing circle
    [("circle", 1.0), ("square", 2 / np.pi), ("triangle", 3 * np.sqrt(3) / 4 / np.pi), ("ring", 1 - 0.55**2),
     ("cross", 20 / 10 / np.pi)],
)  # fmt: skip
def test_areas_by_geometry(shape: str, share: float) -> None:
    ratios = []
    for index in range(12):
        scene = make_scene(scene_rng(8, index), pairs=[("red", shape)])
        if len(scene.pairs) > 1:
            continue
        mask = scene.mask(0)
        ys, xs = np.nonzero(mask)
        if shape in ("circle", "ring"):
            radius = (np.ptp(xs) + np.ptp(ys) + 2) / 4
            ratios.append(mask.sum() / (np.pi * radius**2 * share))
        assert RADIUS_SHARE[0] ** 2 * 0.9 <= mask.sum() / share / np.pi / 320**2 <= RADIUS_SHARE[1] ** 2 * 1.1
    assert all(ratio == pytest.approx(1, abs=0.05) for ratio in ratios)


def test_no_object_is_hidden_by_more_than_the_limit() -> None:
    """For circles, the visible part tells how much is hidden."""
    for index in range(40):
        scene = make_scene(scene_rng(9, index), pairs=[("red", "circle")])
        for position in range(len(scene.pairs)):
            ys, xs = np.nonzero(scene.mask(position))
            radius = max(np.ptp(xs), np.ptp(ys)) / 2 + 0.5
            assert len(ys) >= (1 - MAX_HIDDEN) * np.pi * radius**2 * 0.9


def test_ground_truth_matches_the_pixels() -> None:
    names = [*(class_name(pair) for pair in PAIRS), *SHAPES]
    truth = coco_ground_truth(SCENES[:5], [f"{index}.png" for index in range(5)], names)
    assert len(truth["annotations"]) == 2 * sum(len(scene.pairs) for scene in SCENES[:5])
    first = [a for a in truth["annotations"] if a["image_id"] == 1]
    assert [a["area"] for a in first[::2]] == [SCENES[0].mask(i).sum() for i in range(len(SCENES[0].pairs))]
    assert names[first[0]["category_id"] - 1] == class_name(SCENES[0].pairs[0])
    assert names[first[1]["category_id"] - 1] == SCENES[0].pairs[0][1]


def test_the_embedded_detector_knows_every_pair() -> None:
    assert tuple(map(class_name, PAIRS)) == EMBEDDED_CLASSES
