"""Reading images against pixels worked out by hand."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labeler.errors import ImageError
from labeler.files.images import image_size, read_image

# 2 rows, 3 columns, six colours with all channels different
SCENE = np.array(
    [[[250, 10, 30], [10, 240, 50], [20, 40, 230]], [[200, 210, 5], [7, 190, 180], [170, 3, 160]]], dtype=np.uint8
)


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"never opened")


def png(
    width: int, height: int, depth: int, colour: int, rows: bytes, before: bytes = b"", after: bytes = b""
) -> bytes:
    """A PNG by hand; ``rows`` with their filter bytes, ``before`` and ``after`` whole chunks around the pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + before + pixels + after + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def oriented(value: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif.tobytes()


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pixels(folder: Path, data: bytes, name: str = "image") -> np.ndarray:
    """Decoded ``data``, whose size by the header must agree."""
    path = folder / name
    path.write_bytes(data)
    decoded = read_image(path).pixels
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    assert decoded.flags.writeable
    assert image_size(path) == (decoded.shape[1], decoded.shape[0])
    return decoded


# ---------------------------------------------------------------- reading: sizes, turns, bytes


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, SCENE),
        (2, np.fliplr(SCENE)),
        (3, np.rot90(SCENE, 2)),
        (4, np.flipud(SCENE)),
        (5, np.swapaxes(SCENE, 0, 1)),
        (6, np.rot90(SCENE, -1)),  # clockwise
        (7, np.rot90(np.fliplr(SCENE), -1)),  # stored row 0 is the right edge, column 0 the bottom
        (8, np.rot90(SCENE, 1)),
        (0, SCENE),
        (9, SCENE),
    ],
)
def test_exif_orientation(tmp_path: Path, kind: str, orientation: int, upright: np.ndarray) -> None:
    # JPEG: flat 16 x 16 blocks, so that their middles keep their colour
    scale = 16 if kind == "JPEG" else 1
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    image = Image.fromarray(SCENE.repeat(scale, axis=0).repeat(scale, axis=1))
    got = pixels(tmp_path, saved(image, kind, exif=oriented(orientation), **options))
    assert got.shape == (upright.shape[0] * scale, upright.shape[1] * scale, 3)
    difference = np.abs(got[scale // 2 :: scale, scale // 2 :: scale].astype(int) - upright)
    assert difference.max() <= (3 if kind == "JPEG" else 0)


@pytest.mark.parametrize("where", ["before", "after"])
def test_orientation_of_a_png_told_before_or_after_its_pixels(tmp_path: Path, where: str) -> None:
    exif = chunk(b"eXIf", oriented(6).removeprefix(b"Exif\0\0"))
    rows = b"".join(b"\0" + row.tobytes() for row in SCENE)
    data = png(3, 2, 8, 2, rows, **{where: exif})
    assert (pixels(tmp_path, data) == np.rot90(SCENE, -1)).all()


def test_orientation_of_16_bit_grey(tmp_path: Path) -> None:
    ramp = np.array([[0, 257, 514], [771, 1028, 65535]], dtype=np.uint16)
    got = pixels(tmp_path, saved(Image.fromarray(ramp), "PNG", exif=oriented(8)))
    assert got[:, :, 0].tolist() == [[2, 255], [1, 4], [0, 3]]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_is_no_reason_to_refuse(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in SCENE)
    data = png(3, 2, 8, 2, rows, before=chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff garbage"))
    assert (pixels(tmp_path, data) == SCENE).all()


def test_digest_is_of_the_bytes(tmp_path: Path) -> None:
    data = saved(Image.fromarray(SCENE), "PNG")
    for name in ("a.png", "b.jpg"):
        (tmp_path / name).write_bytes(data)
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    assert read_image(tmp_path / "a.png").digest == read_image(str(tmp_path / "b.jpg")).digest == digest
    assert len(digest) == 32


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA", "GIF", "WEBP", "JPEG2000", "ICO", "SGI", "PCX"])
def test_lossless_formats_by_content_whatever_the_name(tmp_path: Path, kind: str) -> None:
    image = Image.fromarray(SCENE.repeat(16, axis=0).repeat(16, axis=1)[:32, :32])
    options = {"WEBP": {"lossless": True}, "ICO": {"sizes": [(32, 32)]}}.get(kind, {})
    assert (pixels(tmp_path, saved(image, kind, **options), "wrong.jpg") == np.asarray(image)).all()


# ---------------------------------------------------------------- reading: colours


def test_grey_and_one_bit(tmp_path: Path) -> None:
    grey = Image.fromarray(np.array([[0, 7, 255]], dtype=np.uint8))
    assert pixels(tmp_path, saved(grey, "PNG")).tolist() == [[[0, 0, 0], [7, 7, 7], [255, 255, 255]]]
    bits = Image.fromarray(np.array([[False, True]]))
    assert pixels(tmp_path, saved(bits, "PNG")).tolist() == [[[0, 0, 0], [255, 255, 255]]]
    assert pixels(tmp_path, saved(bits, "TIFF")).tolist() == [[[0, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize(
    ("rgba", "over_white"),
    [
        ((255, 0, 0, 255), (255, 0, 0)),
        ((255, 0, 0, 0), (255, 255, 255)),
        ((255, 0, 0, 128), (255, 127, 127)),  # 255 x 127 / 255
        ((0, 100, 200, 51), (204, 224, 244)),  # a fifth: 0.2 c + 0.8 x 255
    ],
)
def test_transparency_over_white(tmp_path: Path, rgba: tuple[int, ...], over_white: tuple[int, ...]) -> None:
    image = Image.new("RGBA", (1, 1), rgba)
    for kind in ("PNG", "TIFF", "TGA"):
        assert tuple(pixels(tmp_path, saved(image, kind))[0, 0]) == over_white
    sixteen = b"\0" + struct.pack(">4H", *(value * 257 for value in rgba))
    assert tuple(pixels(tmp_path, png(1, 1, 16, 6, sixteen))[0, 0]) == over_white


def test_grey_with_transparency(tmp_path: Path) -> None:
    image = Image.new("LA", (1, 1), (0, 128))
    assert pixels(tmp_path, saved(image, "PNG")).tolist() == [[[127, 127, 127]]]
    assert pixels(tmp_path, png(1, 1, 16, 4, b"\0" + struct.pack(">2H", 0, 128 * 257))).tolist() == [[[127, 127, 127]]]


def test_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    plain = [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    assert pixels(tmp_path, saved(image, "PNG")).tolist() == plain
    one = [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]]
    assert pixels(tmp_path, saved(image, "PNG", transparency=1)).tolist() == one
    assert pixels(tmp_path, saved(image, "GIF", transparency=1)).tolist() == one
    alphas = pixels(tmp_path, saved(image, "PNG", transparency=bytes([0, 255, 128])))
    assert alphas.tolist() == [[[255, 255, 255], [0, 255, 0], [127, 127, 255]]]


def test_a_colour_that_stands_for_transparent(tmp_path: Path) -> None:
    key = chunk(b"tRNS", struct.pack(">3H", *SCENE[0, 1]))
    got = pixels(tmp_path, png(3, 1, 8, 2, b"\0" + SCENE[0].tobytes(), before=key))
    assert got.tolist() == [[SCENE[0, 0].tolist(), [255, 255, 255], SCENE[0, 2].tolist()]]


def test_cmyk(tmp_path: Path) -> None:
    image = Image.new("CMYK", (1, 1), (0, 255, 255, 0))
    assert pixels(tmp_path, saved(image, "TIFF")).tolist() == [[[255, 0, 0]]]
    inks = Image.new("CMYK", (8, 8), (10, 60, 200, 30))
    data = saved(inks, "JPEG", quality=95)
    assert (pixels(tmp_path, data) == np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))).all()


def test_ycbcr_and_lab(tmp_path: Path) -> None:
    grey = Image.new("YCbCr", (8, 8), (90, 128, 128))
    assert (pixels(tmp_path, saved(grey, "TIFF", compression="tiff_lzw")) == 90).all()
    white = Image.new("LAB", (1, 1), (255, 128, 128))
    assert pixels(tmp_path, saved(white, "TIFF")).min() >= 250


def test_16_bit_grey_is_scaled(tmp_path: Path) -> None:
    values = [0, 128, 129, 257, 32768, 65278, 65535]
    expected = [0, 0, 1, 1, 128, 254, 255]  # v / 257, rounded
    image = Image.fromarray(np.array([values], dtype=np.uint16))
    big = b"P5 7 1 65535\n" + struct.pack(">7H", *values)
    swapped = Image.fromarray(np.array([values], dtype=">u2"))
    for data in (saved(image, "PNG"), saved(image, "TIFF"), saved(swapped, "TIFF"), big):
        assert pixels(tmp_path, data)[0].tolist() == [[value] * 3 for value in expected]


def test_12_bit_tiff_is_scaled(tmp_path: Path) -> None:
    # two pixels, 0xFFF and 0x800, in three bytes; entries: tag, kind, count, value
    entries = [(256, 3, 1, 2), (257, 3, 1, 1), (258, 3, 1, 12), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    entries += [(277, 3, 1, 1), (278, 3, 1, 1), (279, 4, 1, 3)]
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    data = b"II*\0" + struct.pack("<I", 12) + b"\xff\xf8\x00\0" + table + struct.pack("<I", 0)
    assert pixels(tmp_path, data)[0, :, 0].tolist() == [255, 128]  # 2048 / 4095 x 255 = 127.53


def test_16_bit_colour_keeps_its_high_bytes(tmp_path: Path) -> None:
    row = b"\0" + struct.pack(">3H", 0x12FF, 0x8000, 0xFFFF)
    assert pixels(tmp_path, png(1, 1, 16, 2, row)).tolist() == [[[0x12, 0x80, 0xFF]]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),  # 127.5 rounds to the even 128
        ([0.2, 0.4, np.nan], [51, 102, 0]),
        ([np.nan, np.inf, -np.inf], [0, 0, 0]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([1000.0, 1100.0, 1500.0], [0, 51, 255]),
        ([7.0, 7.0, 7.0], [0, 0, 0]),
        ([-3e38, 3e38, np.inf], [0, 255, 0]),
    ],
)
def test_floats(tmp_path: Path, values: list[float], expected: list[int]) -> None:
    image = Image.fromarray(np.array([values], dtype=np.float32))
    assert pixels(tmp_path, saved(image, "TIFF"))[0].tolist() == [[value] * 3 for value in expected]


def test_32_bit_integers_are_stretched(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[-(2**31), 0, 2**31 - 1]], dtype=np.int32))
    assert pixels(tmp_path, saved(image, "TIFF"))[0, :, 0].tolist() == [0, 128, 255]
    image = Image.fromarray(np.array([[100, 105, 150]], dtype=np.int32))
    assert pixels(tmp_path, saved(image, "TIFF"))[0, :, 0].tolist() == [0, 26, 255]  # 25.5 to the even 26


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if kind == "WEBP" else {}
    got = pixels(tmp_path, saved(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert (got == (255, 0, 0)).all()


# ---------------------------------------------------------------- reading: what is no image


def scene(kind: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return saved(Image.fromarray(noise), kind)


HUGE = png(60000, 60000, 8, 2, b"\0")
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "^the file is empty$"),
        (b"dear diary\n" * 100, "^not an image in a format labeler reads$"),
        (b"<html><body>404 Not Found</body></html>", "^not an image in a format labeler reads$"),
        (bytes(5000), "^not an image in a format labeler reads$"),
        (b"%PDF-1.4\n", "^not an image in a format labeler reads$"),
        (EPS, "^not an image in a format labeler reads$"),
        (scene("JPEG")[:1500], "^the file is cut short"),
        (scene("JPEG")[:100], "^the file is cut short"),
        (scene("PNG")[:3000], "^the file is cut short"),
        (scene("BMP")[:3000], "^the file is cut short"),
        (scene("WEBP")[:300], "^cannot be decoded"),
        (HUGE, r"^too large: 60000 x 60000 pixels are more than 179 megapixels; .* --max-megapixels$"),
        (scene("PNG").replace(b"IDAT", b"IDAT\xff\xff\xff", 1), "^cannot be decoded"),
    ],
)
def test_what_is_no_image(tmp_path: Path, data: bytes, cause: str) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=cause) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)
    assert " at 0x" not in str(caught.value)


@pytest.mark.parametrize("read", [read_image, image_size])
def test_what_is_no_file(tmp_path: Path, read: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(read)
    make(tmp_path, "text.jpg")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "huge.png").write_bytes(HUGE)
    cases = [
        (tmp_path, "^is a folder$"),
        (tmp_path / "missing.jpg", "^no such file or directory$"),
        (tmp_path / "empty.jpg", "^the file is empty$"),
        (tmp_path / "text.jpg", "^not an image in a format labeler reads$"),
        (tmp_path / "huge.png", "^too large"),
        (f"{tmp_path}/nul\0.jpg", "^cannot be decoded"),
    ]
    for path, cause in cases:
        with pytest.raises(ImageError, match=cause):
            read(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_permission_denied(tmp_path: Path) -> None:
    path = tmp_path / "locked.png"
    path.write_bytes(scene("PNG"))
    path.chmod(0)
    with pytest.raises(ImageError, match=r"^permission denied$"):
        read_image(path)


@pytest.mark.parametrize(
    ("raised", "cause"),
    [
        (PermissionError(13, "Permission denied", "/a/b.jpg"), "permission denied"),
        (MemoryError(), "not enough memory to decode it"),
        (struct.error("unpack requires\n4 bytes"), "cannot be decoded (unpack requires)"),
        (EOFError(), "cannot be decoded (EOFError)"),
        (zlib.error("Error -3"), "cannot be decoded (Error -3)"),
        (Image.DecompressionBombWarning("big"), "too large: Pillow decodes at most 179 megapixels"),
    ],
)
def test_whatever_a_decoder_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, cause: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    path = tmp_path / "image.png"
    path.write_bytes(scene("PNG"))
    monkeypatch.setattr("labeler.files.images.open_image", fail)
    for read in (read_image, image_size):
        with pytest.raises(ImageError) as caught:
            read(path)
        assert str(caught.value).startswith(cause)


def test_size_reads_the_header_alone(tmp_path: Path) -> None:
    for kind in ("PNG", "JPEG", "BMP", "TIFF"):
        path = tmp_path / "cut"
        data = scene(kind)
        path.write_bytes(data if kind == "TIFF" else data[: len(data) - 1000])  # a TIFF's header is at its end
        assert image_size(path) == (64, 64)


def test_no_setting_of_pillow_is_touched(tmp_path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    pixels(tmp_path, scene("PNG"))
    assert before == Image.MAX_IMAGE_PIXELS


def test_many_threads(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    scenes, paths = [], []
    for index in range(24):
        scenes.append(random.integers(0, 256, (40 + index, 30, 3), dtype=np.uint8))
        paths.append(tmp_path / str(index))
        kind = ("PNG", "TIFF", "BMP")[index % 3]
        paths[-1].write_bytes(saved(Image.fromarray(scenes[-1]), kind, **({"exif": oriented(6)} if index % 3 else {})))
    (tmp_path / "broken").write_bytes(scene("PNG")[:2000])

    def attempt(path: Path) -> np.ndarray | str:
        try:
            return read_image(path).pixels
        except ImageError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(attempt, [*paths, tmp_path / "broken"] * 8))
    for place, result in enumerate(results):
        index = place % 25
        if index == 24:
            assert isinstance(result, str)
            assert result.startswith("the file is cut short")
        else:
            upright = np.rot90(scenes[index], -1) if index % 3 == 1 else scenes[index]  # BMP holds no EXIF
            assert np.array_equal(result, upright)
