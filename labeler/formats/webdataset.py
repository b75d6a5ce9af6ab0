"""WebDataset: tar files of samples, which training reads in order, also from a store.

A sample is an image as it is and a JSON file, both named by the key of the sample::

    street_0012-9f3a61c2.jpg
    street_0012-9f3a61c2.json   {"image_id": "a/street.0012.jpg", "width": …, "height": …, "annotations": […]}

The annotations are those of the COCO file without ids. Format: https://github.com/webdataset/webdataset.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import BinaryIO

from labeler.formats.names import safe_part


def sample_key(image_id: str) -> str:
    """The key of an image's sample: unique, and without the dots that would end it."""
    digest = hashlib.blake2b(image_id.encode(errors="surrogateescape"), digest_size=4).hexdigest()
    return f"{safe_part(PurePosixPath(image_id).stem).replace('.', '_')}-{digest}"


class SampleWriter:
    """Appends samples to a tar file. Equal samples give equal bytes.

    Args:
        file: is written to, and stays open.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 closed by close

    def add(
        self, image_id: str, width: int, height: int, annotations: Sequence[str], suffix: str, image: bytes
    ) -> None:
        """Append an image and its annotations.

        Args:
            annotations: as ``labeler.formats.coco.coco_annotations`` makes them.
            suffix: of the image file, such as ``.jpg``.
            image: the content of the image file.
        """
        key = sample_key(image_id)
        about = json.dumps({"image_id": image_id, "width": width, "height": height}).removesuffix("}")
        sample = f'{about}, "annotations": [{", ".join("{" + each for each in annotations)}]}}\n'
        self._member(f"{key}{suffix.lower()}", image)
        self._member(f"{key}.json", sample.encode())

    def close(self) -> None:
        self._tar.close()

    def _member(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)  # without time and owner
        member.size = len(content)
        self._tar.addfile(member, io.BytesIO(content))
