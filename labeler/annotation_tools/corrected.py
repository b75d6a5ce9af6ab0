"""Reads the export of any supported annotation tool, recognised by its content.

That is Label Studio's JSON or JSON-MIN, CVAT's "CVAT for images 1.1", the COCO of any of the tools, a zip archive with
one of these, or a folder with FiftyOne's ``labels.json``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from labeler.annotation_tools.archives import is_archive, read_only_entry
from labeler.annotation_tools.corrections import CorrectedImage
from labeler.annotation_tools.cvat import read_cvat
from labeler.annotation_tools.fiftyone import read_corrected_coco
from labeler.annotation_tools.label_studio_reader import read_label_studio
from labeler.errors import FormatError
from labeler.files.documents import read_limited
from labeler.files.storage import info, storage_of
from ontologies.documents import DocumentError, parse_json

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

# Tools leave out of COCO what it cannot hold, as Label Studio does with brush masks.
_NO_OBJECT = (
    "images without a single object; export the masks too (Label Studio: as JSON), or reject the objects on the page "
    "of `labeler review`"
)
_FORMATS = 'give Label Studio\'s JSON, "CVAT for images 1.1", or COCO'


def read_corrected(path: AnyPath) -> list[CorrectedImage]:
    """The images in a tool's export.

    Raises:
        FormatError: the file is not an export that can be read.
    """
    try:
        data = _exported(path)
        if data.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
            return read_cvat(data)
        content = parse_json(data)
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
    except DocumentError as error:
        raise FormatError(f"{path}: not an export that can be read ({error}); {_FORMATS}") from None
    raise FormatError(f"{path}: not an export that can be read; {_FORMATS}")


def _exported(path: AnyPath) -> bytes:
    """Content of the exported file: the given one, the one in a zip archive, or FiftyOne's in a folder."""
    what = info(path)
    if what is None or (what.is_folder and info(path / "labels.json") is None):
        raise FormatError(
            "no export of a tool in this folder" if what else "no such file; name the file that the tool exported"
        )
    source = storage_of(path).for_seeking(path / "labels.json" if what.is_folder else path)
    if is_archive(source):
        return read_only_entry(source, (".xml", ".json"))
    if isinstance(source, Path):
        return read_limited(source)
    source.seek(0)
    return source.read()
