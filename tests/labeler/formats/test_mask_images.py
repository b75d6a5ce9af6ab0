"""Ground truth in mask images: binary ones, and those with a colour or value per class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labeler.formats.ground_truth import read_ground_truth
from labeler.geometry.masks import rle_area, rle_to_mask
from labeler.image_pairs import pair_images


def square(x: int, y: int, side: int = 4, height: int = 20, width: int = 30) -> np.ndarray[Any, np.dtype[np.bool_]]:
    mask = np.zeros((height, width), dtype=bool)
    mask[y : y + side, x : x + side] = True
    return mask


@pytest.mark.parametrize("mode", ["1", "L", "L of 0 and 1", "RGB", "RGBA", "P", "I;16"])
def test_binary_masks(tmp_path: Path, mode: str) -> None:
    mask = square(5, 6)
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    images = {
        "L of 0 and 1": Image.fromarray(mask.astype(np.uint8)),
        "I;16": Image.fromarray(mask.astype(np.uint16) * 65535),
    }
    (tmp_path / "deep").mkdir()
    (images.get(mode) or grey.convert(mode)).save(tmp_path / "deep" / "a.png")
    Image.new("L", (30, 20)).save(tmp_path / "empty.png")
    truth = read_ground_truth(tmp_path)
    assert (truth.class_names, truth.semantic) == (("object",), True)
    by_name = {image.name: image for image in truth.images}
    assert set(by_name) == {"deep/a.png", "empty.png"}
    assert by_name["empty.png"].instances == ()
    (true,) = by_name["deep/a.png"].instances
    np.testing.assert_array_equal(rle_to_mask(true.rle), mask)


def test_soft_edges_of_a_scaled_mask_are_cut_in_the_middle(tmp_path: Path) -> None:
    mask = Image.fromarray(square(8, 8, 60, 120, 120).astype(np.uint8) * 255)
    mask.rotate(20, Image.Resampling.BICUBIC).resize((60, 60), Image.Resampling.LANCZOS).save(tmp_path / "a.png")
    (true,) = read_ground_truth(tmp_path).images[0].instances
    assert rle_area(true.rle) == pytest.approx(30 * 30, rel=0.03)


def test_soft_edges_of_a_jpeg_are_cut_in_the_middle(tmp_path: Path) -> None:
    mask = square(8, 8, 8, 32, 32)
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "a.jpg", quality=90)
    (true,) = read_ground_truth(tmp_path).images[0].instances
    np.testing.assert_array_equal(rle_to_mask(true.rle), mask)


LABEL_MAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ndog:128,0,0::\ncat:0,128,0::\n"


@pytest.mark.parametrize("folder", ["", "SegmentationClass"])
@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_one_colour_per_class(tmp_path: Path, folder: str, mode: str) -> None:
    pixels = np.zeros((20, 30, 3), dtype=np.uint8)
    pixels[square(2, 2)] = pixels[square(12, 2)] = (128, 0, 0)
    pixels[square(5, 12)] = (0, 128, 0)
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / "labelmap.txt").write_text(LABEL_MAP)
    image = Image.fromarray(pixels)
    (image if mode == "RGB" else image.quantize(4)).save(tmp_path / folder / "a.png")
    truth = read_ground_truth(tmp_path)
    assert truth.class_names == ("dog", "cat")
    assert [image.name for image in truth.images] == ["a.png"]
    dog, cat = truth.images[0].instances
    assert (dog.class_id, cat.class_id) == (0, 1)
    np.testing.assert_array_equal(rle_to_mask(dog.rle), square(2, 2) | square(12, 2))
    np.testing.assert_array_equal(rle_to_mask(cat.rle), square(5, 12))


def test_masks_of_roboflow_lie_among_the_images(tmp_path: Path) -> None:
    grey = np.zeros((20, 30), dtype=np.uint8)
    grey[square(2, 2)], grey[square(12, 2)] = 1, 2
    Image.new("RGB", (30, 20), (9, 200, 40)).save(tmp_path / "a_jpg.rf.0a1b.jpg")
    Image.fromarray(grey).save(tmp_path / "a_jpg.rf.0a1b_mask.png")
    (tmp_path / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, dog\n2, big cat\n")
    truth = read_ground_truth(tmp_path)
    assert (truth.class_names, truth.semantic) == (("dog", "big cat"), True)
    (image,) = truth.images
    dog, cat = image.instances
    np.testing.assert_array_equal(rle_to_mask(dog.rle), square(2, 2))
    np.testing.assert_array_equal(rle_to_mask(cat.rle), square(12, 2))
    assert pair_images(["a.jpg"], [image.name]) == {"a.jpg": image.name}


def test_two_colours_of_one_class_and_a_mask_that_cannot_be_read(tmp_path: Path) -> None:
    pixels = np.zeros((20, 30, 3), dtype=np.uint8)
    pixels[square(2, 2)], pixels[square(12, 2)] = (128, 0, 0), (0, 128, 0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    (tmp_path / "labelmap.txt").write_bytes(
        b"\xef\xbb\xbf  # names\r\nbackground:0,0,0::\r\ndog:128,0,0\r\nDog:0,128,0::\r\n"
    )
    truth = read_ground_truth(tmp_path)
    assert (truth.class_names, [image.name for image in truth.images]) == (("dog",), ["a.png"])
    (dog,) = truth.images[0].instances
    np.testing.assert_array_equal(rle_to_mask(dog.rle), square(2, 2) | square(12, 2))
    assert truth.notes[0] == "1 class with the name of another: one class with it (Dog)"
    assert truth.notes[1].startswith(f"1 mask image that cannot be read: left out ({tmp_path}/b.png: not a mask image")
