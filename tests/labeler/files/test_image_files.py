"""HEIC, frames, limits, and files that only look like images."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from labeler.errors import ImageError
from labeler.files.conversion import source_at, write_png
from labeler.files.frames import split_frame
from labeler.files.image_config import INTENSITIES, ImageConfig
from labeler.files.images import ImageFile, image_digest, image_size, read_image
from labeler.files.listing import find_images, search_images, with_further_frames
from labeler.files.sorting import sorted_images

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def test_heic_is_turned_once(tmp_path: Path) -> None:
    stored = np.zeros((64, 96, 3), np.uint8)
    stored[:32, :48], stored[32:, :48], stored[:32, 48:] = RED, GREEN, BLUE
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise: the lower left corner comes to the upper left
    heif = pillow_heif.from_pillow(Image.fromarray(stored))
    heif.save(tmp_path / "a.heic", quality=95, exif=exif.tobytes())
    image = read_image(tmp_path / "a.heic")
    assert image.pixels.shape == (96, 64, 3)
    assert image_size(tmp_path / "a.heic") == (64, 96)
    for corner, colour in (((5, 5), GREEN), ((5, -5), RED), ((-5, -5), BLUE)):
        assert np.abs(image.pixels[corner].astype(int) - colour).max() < 12
    data = (tmp_path / "a.heic").read_bytes()
    for name, content in (("cut.heic", data[: len(data) // 2]), ("bogus.heic", b"\0\0\0\x18ftypheic")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=r"^a HEIC file that is damaged or cut short$"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG"])
def test_frames(tmp_path: Path, kind: str) -> None:
    name = f"a.{kind.lower()}"
    pages = [Image.new("RGB", (8, 6), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    pages[0].save(tmp_path / name, kind, save_all=True, append_images=pages[1:], **options)
    Image.new("RGB", (8, 6)).save(tmp_path / "z.png")
    found_with_frames = with_further_frames(tmp_path, search_images(tmp_path).found)
    ids = sorted_images(tmp_path, found_with_frames).ids()
    assert ids == [name, f"{name}#0002", f"{name}#0003", "z.png"]
    assert read_image(tmp_path / name).further_frames == 2
    found = [ImageFile.of(tmp_path, image_id).read() for image_id in ids[:3]]
    assert [tuple(image.pixels[3, 3]) for image in found] == [RED, GREEN, BLUE]
    assert [image.digest for image in found] == [image_digest(tmp_path, image_id) for image_id in ids[:3]]
    assert len({image.digest for image in found}) == 3
    with pytest.raises(ImageError, match=r"^the file has no frame 9$"):
        ImageFile.of(tmp_path, f"{name}#0009").read()


def test_smaller_versions_in_a_tiff_are_no_pages(tmp_path: Path) -> None:
    small = Image.new("RGB", (4, 3), GREEN)
    small.encoderinfo = {"tiffinfo": {254: 1}}  # type: ignore[attr-defined]
    page = Image.new("RGB", (8, 6), RED)
    page.save(tmp_path / "a.tif", save_all=True, append_images=[small])
    assert read_image(tmp_path / "a.tif").further_frames == 0


def test_frame_ids() -> None:
    assert split_frame("a/b.TIF#0012") == ("a/b.TIF", 12)
    for name in ("b.tif", "b.jpg#0002", "b#0002", "b.tif#2"):
        assert split_frame(name) == (name, 0)


def test_too_many_pixels_name_the_flag(tmp_path: Path) -> None:
    Image.new("L", (2000, 1000)).save(tmp_path / "a.png")
    file = ImageFile(tmp_path / "a.png", config=ImageConfig(max_megapixels=1.5))
    for read in (file.read, file.size):
        with pytest.raises(ImageError, match=r"2000 x 1000 pixels are more than 1.5 megapixels; .* --max-megapixels$"):
            read()


def test_sparse_files_are_not_read_whole(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "image.jpg")
    (tmp_path / "nothing.jpg").touch()
    for name, cause in (("image.jpg", "^the file has 3,000 MB, more than"), ("nothing.jpg", "^not an image")):
        os.truncate(tmp_path / name, 3_000_000_000)
        with pytest.raises(ImageError, match=cause):
            read_image(tmp_path / name)


def test_what_cannot_be_read_never_blocks(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "nowhere.jpg").symlink_to("gone.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    for name in ("pipe.jpg", "nowhere.jpg", "loop.jpg"):
        with pytest.raises(ImageError):
            read_image(tmp_path / name)
    found = find_images(tmp_path)
    assert found.image_ids == ("loop.jpg", "nowhere.jpg")
    assert dict(found.not_read) == {".jpg that is no regular file": 1}


def test_a_png_names_the_image_it_was_converted_from(tmp_path: Path) -> None:
    Image.new("RGB", (5, 4), GREEN).save(tmp_path / "a.gif")
    original = read_image(tmp_path / "a.gif")
    write_png(tmp_path / "a.png", original, ImageConfig())
    converted = read_image(tmp_path / "a.png")
    assert (converted.pixels == original.pixels).all()
    assert converted.source == source_at(tmp_path / "a.png").digest == original.digest
    assert source_at(tmp_path / "a.gif").digest == source_at(tmp_path / "none.png").digest == ""


def test_a_png_says_how_the_image_was_read(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 5), 3000, np.uint16)).save(tmp_path / "a.tif")
    for intensity in INTENSITIES:
        reading = ImageConfig(intensity=intensity)
        original = ImageFile(tmp_path / "a.tif", config=reading).read()
        write_png(tmp_path / "a.png", original, reading)
        assert source_at(tmp_path / "a.png") == (original.digest, intensity)
        assert read_image(tmp_path / "a.png").source == original.digest


PEAK = """
import sys
import numpy as np
from labeler.files.images import read_image
read_image(sys.argv[1])
def high():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) * 1024
open("/proc/self/clear_refs", "w").write("5")
before = high()
pixels = read_image(sys.argv[2]).pixels
print((high() - before) / pixels.nbytes)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="measures memory as Linux does")
def test_memory_is_at_most_two_and_a_half_results(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "small.tif")
    ramp = np.tile(np.linspace(-1, 1, 4000, dtype=np.float32), (3000, 1))
    Image.fromarray(ramp).save(tmp_path / "large.tif", compression="tiff_adobe_deflate")
    command = [sys.executable, "-c", PEAK, str(tmp_path / "small.tif"), str(tmp_path / "large.tif")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 1 <= float(done.stdout) <= 2.5
