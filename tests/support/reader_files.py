"""Image files of many formats, depths, sizes and names, which the tools of the table read differently."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pillow_heif
from PIL import Image

WIDTH, HEIGHT = 64, 48
_COLUMNS = np.mgrid[:HEIGHT, :WIDTH][1]
_ROWS = np.mgrid[:HEIGHT, :WIDTH][0]
COLOURS = np.stack([_COLUMNS * 4, _ROWS * 5, (_COLUMNS + _ROWS) * 2], axis=2).astype(np.uint8)
_IMAGE, _GREY = Image.fromarray(COLOURS), Image.fromarray((_COLUMNS * 4).astype(np.uint8))
_FADING = _IMAGE.copy()
_FADING.putalpha(_GREY)
_TURNED = Image.Exif()
_TURNED[0x0112] = 6  # stored on its side
_UPSIDE_DOWN = Image.Exif()
_UPSIDE_DOWN[0x0112] = 3


def _saved(image: Image.Image, **options: Any) -> Callable[[Path], Any]:
    return lambda path: image.save(path, **options)


def _twelve_bits(path: Path) -> None:
    """An uncompressed grey TIFF of 12 bits per pixel, as cameras of microscopes write it."""
    pairs = (_COLUMNS * 60).ravel().reshape(-1, 2).tolist()
    data = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs)
    tags = [(256, 3, WIDTH), (257, 3, HEIGHT), (258, 3, 12), (259, 3, 1), (262, 3, 1)]
    tags += [(273, 4, 8 + 2 + 9 * 12 + 4), (277, 3, 1), (278, 3, HEIGHT), (279, 4, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    path.write_bytes(struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + data)


def _heif(path: Path) -> None:
    pillow_heif.from_pillow(_IMAGE).save(path)


FILES: Mapping[str, Callable[[Path], Any]] = {
    **{f"a.{suffix}": _saved(_IMAGE) for suffix in ("jpg", "jpeg", "png", "bmp", "tif", "tiff", "webp", "ppm", "jp2")},
    **{f"a.{suffix}": _saved(_IMAGE) for suffix in ("gif", "tga", "dib", "ico", "avif", "apng", "PNG")},
    **{f"jpeg.{suffix}": _saved(_IMAGE, format="JPEG") for suffix in ("jfif", "jpe", "JPG")},
    "phone.mpo": _saved(_IMAGE, format="MPO"),
    "phone.heic": _heif,
    "no_suffix": _saved(_IMAGE, format="PNG"),
    "gif_called.jpg": _saved(_IMAGE, format="GIF"),
    "png_called.jpg": _saved(_IMAGE, format="PNG"),
    "grey.png": _saved(_GREY),
    "palette.png": _saved(_IMAGE.convert("P")),
    "cmyk.jpg": _saved(_IMAGE.convert("CMYK")),
    "grey_16.png": _saved(Image.fromarray((_COLUMNS * 60).astype(np.uint16))),
    "grey_16.tif": _saved(Image.fromarray((_COLUMNS * 60).astype(np.uint16))),
    "colour_16.png": lambda path: cv2.imwrite(str(path), COLOURS[..., ::-1].astype(np.uint16) * 8),
    "float.tif": _saved(Image.fromarray((_COLUMNS / WIDTH).astype(np.float32))),
    "int.tif": _saved(Image.fromarray((_COLUMNS * 1000).astype(np.int32))),
    "bits_12.tif": _twelve_bits,
    "alpha.png": _saved(_FADING),
    "alpha_palette.png": _saved(_IMAGE.convert("P"), transparency=bytes(range(256))),
    "lzw.tif": _saved(_IMAGE, compression="tiff_lzw"),
    "zstd.tif": _saved(_IMAGE, compression="zstd"),
    "lzma.tif": _saved(_IMAGE, compression="lzma"),
    **{f"turned.{suffix}": _saved(_IMAGE, exif=_TURNED) for suffix in ("jpg", "png", "webp", "tif")},
    "upside_down.tif": _saved(_IMAGE, exif=_UPSIDE_DOWN),
    "wide_9.png": _saved(_IMAGE.resize((9, 30))),
    "high_9.png": _saved(_IMAGE.resize((30, 9))),
    "side_10.png": _saved(_IMAGE.resize((10, 10))),
    "sub/nested.png": _saved(_IMAGE),
    ".hidden.png": _saved(_IMAGE),
    "with space [1].png": _saved(_IMAGE),
    "größe.a.png": _saved(_IMAGE),
}


OPAQUE = frozenset({"a.ico"})  # with an alpha channel that changes nothing


def write_files(folder: Path) -> None:
    for name, write in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write(folder / name)
