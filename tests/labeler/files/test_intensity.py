"""More than 8 bits per channel, against numbers worked out by hand and OpenCV as an encoder."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from labeler.errors import UsageError
from labeler.files.image_config import ImageConfig
from labeler.files.images import DecodedImage, ImageFile

GREY = np.array([[0, 1000, 2048, 4095]], np.uint16)


def read(path: Path, intensity: str = "auto") -> DecodedImage:
    return ImageFile(path, config=ImageConfig(intensity)).read()  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_12_bits_in_16(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    Image.fromarray(GREY).save(path)
    image = read(path)
    assert image.pixels[0, :, 0].tolist() == [0, 62, 128, 255]  # v x 255 / 4095
    assert image.scaled == "12 bits"
    assert read(path, "full").pixels[0, :, 0].tolist() == [0, 4, 8, 16]  # v x 255 / 65535
    assert read(path, "minmax").pixels[0, :, 0].tolist() == [0, 62, 128, 255]


@pytest.mark.parametrize(
    ("top", "bits"), [(255, 8), (256, 10), (1023, 10), (1024, 12), (4096, 14), (16383, 14), (16384, 16), (65535, 16)]
)
def test_the_fewest_bits_that_hold_all_values(tmp_path: Path, top: int, bits: int) -> None:
    Image.fromarray(np.array([[0, top]], np.uint16)).save(tmp_path / "a.png")
    image = read(tmp_path / "a.png")
    assert image.scaled == f"{bits} bits"
    assert image.pixels[0, 1, 0] == round(top * 255 / (2**bits - 1))


def test_percentiles_ignore_outliers(tmp_path: Path) -> None:
    values = np.linspace(1000, 2000, 10_000).astype(np.uint16)
    values[:20], values[-20:] = 0, 65535
    Image.fromarray(values.reshape(100, 100)).save(tmp_path / "a.png")
    low, high = np.percentile(values, [0.5, 99.5])
    expected = np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    assert (read(tmp_path / "a.png", "percentile").pixels[:, :, 0].ravel() == expected).all()
    floats = np.concatenate([values.astype(np.float32)[:-1], np.array([np.nan], np.float32)])
    Image.fromarray(floats.reshape(100, 100)).save(tmp_path / "a.tif")
    assert read(tmp_path / "a.tif", "percentile").pixels[50, 50, 0] == expected[5050]


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_12_bit_colour(tmp_path: Path, name: str) -> None:
    rgb = np.array([[[0, 1000, 4095], [2048, 4095, 0]]], np.uint16)
    cv2.imwrite(str(tmp_path / name), rgb[:, :, ::-1])
    image = read(tmp_path / name)
    assert image.pixels.tolist() == [[[0, 62, 255], [128, 255, 0]]]
    assert image.scaled == "12 bits"
    assert read(tmp_path / name, "full").pixels.tolist() == (rgb >> 8).tolist()


def test_8_bits_stay(tmp_path: Path) -> None:
    values = np.array([[10, 20, 30]], np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    for intensity in ("auto", "full", "minmax", "percentile"):
        image = read(tmp_path / "a.png", intensity)
        assert image.pixels[0, :, 0].tolist() == [10, 20, 30]
        assert image.scaled == ""


def test_a_strip_is_as_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (37, 29)).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(values).save(tmp_path / "a.png", exif=exif)
    whole = read(tmp_path / "a.png").pixels
    monkeypatch.setattr("labeler.files.pixels.STRIP_PIXELS", 100)
    assert (read(tmp_path / "a.png").pixels == whole).all()
    by_hand = np.rot90((values.astype(np.uint32) * 255 + 2047) // 4095, -1)
    assert (whole[:, :, 1] == by_hand).all()


def test_what_is_not_among_the_choices() -> None:
    with pytest.raises(UsageError, match="--intensity must be one of auto, full, minmax, percentile"):
        ImageConfig("most")  # type: ignore[arg-type]
