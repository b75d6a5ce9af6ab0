"""Reads the export of any supported annotation tool, recognised by its content.

That is Label Studio's JSON or JSON-MIN, CVAT's "CVAT for images 1.1", the COCO of any of the tools, a zip archive with
one of these, or a folder with FiftyOne's ``labels.json``.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from io import BytesIO
from typing import TYPE_CHECKING

from labeler.annotation_tools.corrections import CorrectedImage
from labeler.annotation_tools.cvat import read_cvat
from labeler.annotation_tools.fiftyone import read_corrected_coco
from labeler.annotation_tools.label_studio_reader import read_label_studio
from labeler.errors import FormatError
from labeler.files.storage import info, read_bytes

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

# Tools leave out of COCO what it cannot hold, as Label Studio does with brush masks.
_NO_OBJECT = (
    "images without a single object; export the masks too (Label Studio: as JSON), or reject the objects on the page "
    "of `labeler review`"
)
MAX_UNPACKED = 2**30  # bytes of the unpacked file: a zip archive of a few kilobytes can unpack to gigabytes


def read_corrected(path: AnyPath) -> list[CorrectedImage]:
    """The images in a tool's export.

    Raises:
        FormatError: the file is not an export that can be read.
    """
    try:
        data = _exported(path)
        if data.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
            return read_cvat(data)
        content = json.loads(data)
        if isinstance(content, list):
            return read_label_studio(content)
        if isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys():
            if content["images"] and content["annotations"] == []:
                raise FormatError(_NO_OBJECT)
            return read_corrected_coco(content)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    except MemoryError:
        raise FormatError(f"{path}: not enough memory to read it") from None
    except (ValueError, RecursionError):
        pass  # neither XML nor JSON
    raise FormatError(
        f'{path}: not an export that can be read; give Label Studio\'s JSON, "CVAT for images 1.1", or COCO'
    )


def _exported(path: AnyPath) -> bytes:
    """Content of the exported file: the given one, the one in a zip archive, or FiftyOne's in a folder."""
    what = info(path)
    if what is None or (what.is_folder and info(path / "labels.json") is None):
        raise FormatError(
            "no export of a tool in this folder" if what else "no such file; name the file that the tool exported"
        )
    data = read_bytes(path / "labels.json" if what.is_folder else path)
    if not zipfile.is_zipfile(BytesIO(data)):
        return data
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if name.lower().endswith((".xml", ".json"))]
            if len(names) != 1:
                raise FormatError(f"{len(names) or 'no'} XML or JSON files in it; unpack it and name one")
            if archive.getinfo(names[0]).file_size > MAX_UNPACKED:
                raise FormatError(f"{names[0]} in it is larger than {MAX_UNPACKED >> 20} MiB; unpack it and name that")
            return archive.read(names[0])
    except (zipfile.BadZipFile, RuntimeError, EOFError, zlib.error) as error:
        raise FormatError(f"a damaged zip archive ({error})") from error
