from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import distance_transform_edt

from labeler.errors import UsageError
from labeler.formats.cutout_config import CutoutConfig
from labeler.formats.cutouts import cut_out, smooth_alpha, write_cutouts
from labeler.formats.names import FlatNames, safe_part
from labeler.geometry.masks import mask_to_rle, rle_area
from labeler.records import Instance
from tests.support.hard_masks import HARD_MASKS, iou, random_masks

MASKS = {**HARD_MASKS, **{f"random {index}": mask for index, mask in enumerate(random_masks(30))}}
DISC = np.hypot(*(np.mgrid[:60, :80] - np.array([28, 35])[:, None, None])) <= 20


def instance(mask: np.ndarray) -> Instance:
    rle = mask_to_rle(mask)
    return Instance(0, "p", (0.0, 0.0, 1.0, 1.0), 0.9, 0.9, 0.9, rle_area(rle), rle)


def noise(mask: np.ndarray) -> np.ndarray:
    """An image without white or black pixels."""
    return np.random.default_rng(0).integers(20, 200, (*mask.shape, 3), dtype=np.uint8)


def tight(mask: np.ndarray) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


@pytest.mark.parametrize("radius", [0.0, 0.5, 2.0, 7.5, 300.0])
def test_the_contour_stays_in_place_and_the_ramp_within_the_radius(radius: float) -> None:
    for name, mask in MASKS.items():
        alpha = smooth_alpha(mask, radius)
        assert np.array_equal(alpha >= 128, mask), name
        # Distances by another library; None of the mask (or all of it) means no contour in sight.
        far_inside = distance_transform_edt(mask) - 0.5 >= radius if not mask.all() else mask
        far_outside = distance_transform_edt(~mask) - 0.5 >= radius
        assert (alpha[far_inside] == 255).all(), name
        assert (alpha[far_outside] == 0).all(), name


def test_the_ramp_is_linear_in_the_distance() -> None:
    mask = np.zeros((9, 40), dtype=bool)
    mask[:, :20] = True
    wanted = [255] * 18 + [223, 159, 96, 32] + [0] * 18  # 0.875, 0.625, 0.375, 0.125 of 255
    assert np.abs(smooth_alpha(mask, 2.0)[4].astype(int) - wanted).max() <= 1
    assert set(np.unique(smooth_alpha(mask, 0.0))) == {0, 255}


@pytest.mark.parametrize("background", ["white", "transparent"])
def test_the_edge_has_no_rim_of_the_old_background(background: str) -> None:
    image = np.full((*DISC.shape, 3), (255, 0, 0), dtype=np.uint8)
    image[DISC] = (0, 0, 0)
    shown = cut_out(image, instance(DISC), CutoutConfig(background=background, frame="full"))
    if background == "white":
        assert (shown[..., 0] == shown[..., 1]).all()  # grey from black to white
        assert (shown[..., 1] == shown[..., 2]).all()
        assert len(np.unique(shown)) > 4
    else:
        assert not shown[..., :3].any()


def test_on_white_in_the_full_frame() -> None:
    for name, mask in MASKS.items():
        image = noise(mask)
        shown = cut_out(image, instance(mask), CutoutConfig(frame="full", smooth_radius=2))
        assert shown.shape == image.shape, name
        inside = distance_transform_edt(np.pad(mask, 9, mode="edge"))[9:-9, 9:-9]
        outside = distance_transform_edt(~mask)
        assert (shown[(outside >= 3) & ~mask] == 255).all(), name
        deep = (inside >= 3) | mask.all()
        assert np.array_equal(shown[deep & mask], image[deep & mask]), name
        # Solved for alpha, where the object is of one colour: a pixel of it shows by half or more.
        flat = cut_out(np.full_like(image, 55), instance(mask), CutoutConfig(frame="full", smooth_radius=2))
        assert iou((255.0 - flat[..., 0]) / 200 >= 0.495, mask) >= 0.98, name


@pytest.mark.parametrize("frame", ["crop", "full"])
def test_on_a_transparent_background(frame: str) -> None:
    for name, mask in MASKS.items():
        image = noise(mask)
        shown = cut_out(image, instance(mask), CutoutConfig("transparent", 2.0, frame))  # type: ignore[arg-type]
        alpha = shown[..., 3]
        if frame == "full":
            window = (slice(None), slice(None))
            assert alpha.shape == mask.shape, name
        else:  # the crop is what shows
            window = tight(smooth_alpha(mask, 2.0) > 0)
        assert iou(alpha >= 128, mask[window]) == 1, name
        assert (shown[alpha == 0] == 0).all(), name
        assert np.array_equal(shown[mask[window]][:, :3], image[window][mask[window]]), name
        # Outside, each colour is that of a pixel of the mask, and none is nearer.
        rim = (alpha > 0) & ~mask[window]
        own = {tuple(colour) for colour in image[mask]}
        assert {tuple(colour) for colour in shown[rim][:, :3]} <= own, name


def test_the_margin_stays_within_the_image() -> None:
    image = noise(DISC)
    mask = DISC.copy()
    assert cut_out(image, instance(mask), CutoutConfig(smooth_radius=0)).shape == (41, 41, 3)
    with_margin = cut_out(image, instance(mask), CutoutConfig(smooth_radius=0, margin=10))
    assert with_margin.shape == (8 + 41 + 10, 10 + 41 + 10, 3)
    assert (with_margin[-10:] == 255).all()
    assert cut_out(image, instance(mask), CutoutConfig(margin=500)).shape == image.shape


def test_files(tmp_path: Path) -> None:
    empty = np.zeros_like(DISC)
    items = [(0, instance(DISC), "dog"), (3, instance(~DISC), "hot dog/würstchen"), (4, instance(empty), "dog")]
    assert write_cutouts(tmp_path, "sub_photo", noise(DISC), items, CutoutConfig("transparent")) == sorted(
        path.name for path in tmp_path.iterdir()
    )
    written = {path.name: Image.open(path) for path in tmp_path.iterdir()}
    assert set(written) == {"sub_photo__dog__0.png", "sub_photo__hot_dog_würstchen__3.png"}
    assert {image.mode for image in written.values()} == {"RGBA"}


def test_names_are_safe_and_never_collide() -> None:
    names = FlatNames()
    ids = [
        "sub/photo.jpg",
        "sub_photo.jpg",
        "sub/photo.png",
        "SUB/Photo.jpg",
        "a__b.jpg",
        "..",
        "ä?*.jpg",
        "日本/写真.jpg",
    ]
    given = [names.give(image_id) for image_id in ids]
    assert given == ["sub_photo", "sub_photo_2", "sub_photo_3", "SUB_Photo_4", "a_b", "unnamed", "ä", "日本_写真"]
    long = [names.give(f"{'写' * 300}/{index}.jpg") for index in range(3)]
    assert len(set(long)) == 3
    assert max(len(name.encode()) for name in long) < 130
    assert all("__" not in safe_part(text) for text in ("a__b", "a _ b", "_a_", "写_" * 60))


@pytest.mark.parametrize(
    "settings",
    [{"background": "red"}, {"frame": "half"}, {"smooth_radius": -1}, {"smooth_radius": np.nan}, {"margin": -1}],
)
def test_invalid_settings(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"--{next(iter(settings)).replace('_', '-')} must be"):
        CutoutConfig(**settings)  # type: ignore[arg-type]
