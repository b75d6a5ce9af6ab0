"""Images as users of autodistill give them: a path, a URL, an array, a PIL image, or a folder and an extension."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from labeler.errors import ImageError, UsageError
from labeler.files.credentials import without_secrets
from labeler.files.download import DownloadLimits, download
from labeler.files.images import decode_image, read_image
from labeler.files.pixels import to_rgb

Pixels = npt.NDArray[np.uint8]
DOWNLOADS = DownloadLimits()


def pixels_of(source: Any) -> Pixels:
    """The pixels of a path, a URL, a BGR array or a PIL image; uint8 ``(H, W, 3)``, RGB.

    Raises:
        ImageError: the image cannot be read.
        UsageError: ``source`` is none of these.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or not source.size:
            raise UsageError(f"expected a BGR array, uint8 (H, W, 3), not {source.dtype} {source.shape}")
        return np.ascontiguousarray(source[:, :, ::-1])
    if not isinstance(source, (str, os.PathLike, Image.Image)):
        raise UsageError(f"expected a path, URL, array or PIL image, not {type(source).__name__}")
    try:
        if isinstance(source, Image.Image):
            source.load()
            return to_rgb(source)[0]
        if str(source).startswith(("http://", "https://")):
            return decode_image(download(str(source), DOWNLOADS)).pixels
        return read_image(os.fspath(source)).pixels
    except Exception as error:  # decoders can raise anything
        what = "the PIL image" if isinstance(source, Image.Image) else os.fspath(source)
        cause = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{without_secrets(str(what))}: {without_secrets(cause)}") from error


def find_by_extension(folder: str, extension: str) -> list[str]:
    """The image files, as autodistill's own ``label`` finds them, sorted.

    Raises:
        UsageError: there are none, or two would share a label file.
    """
    if not os.path.isdir(folder):
        raise UsageError(f"{folder}: no such folder")
    paths = sorted(path for path in glob.glob(f"{glob.escape(os.fspath(folder))}/*{extension}") if os.path.isfile(path))
    if not paths:
        raise UsageError(f"{folder}: no file here ends in {extension!r}; give another extension=")
    stems: dict[str, str] = {}
    for path in paths:
        if (other := stems.setdefault(Path(path).stem, path)) != path:
            raise UsageError(f"{other} and {path} would share one label file; rename one, or give one extension=")
    return paths
