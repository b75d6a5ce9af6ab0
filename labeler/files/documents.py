"""Reads files of JSON, TOML and YAML that anyone may have written. ``ontologies.documents`` parses them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from labeler.files.storage import as_local, info, read_bytes
from ontologies.documents import parse_json, parse_yaml

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

MAX_BYTES = 2**32  # more than the largest COCO file; also keeps a file of holes from being read into memory


def load_json(path: AnyPath, most: int = MAX_BYTES) -> Any:
    """The content of a JSON file.

    Raises:
        DocumentError: it is not valid; the message does not name the file.
        OSError: it cannot be read, or is larger than ``most`` bytes.
    """
    return parse_json(read_limited(path, most))


def load_yaml(path: AnyPath) -> Any:
    """The content of a YAML file.

    Raises:
        DocumentError, OSError: as ``load_json``.
    """
    return parse_yaml(read_limited(path, MAX_BYTES))


def read_limited(path: AnyPath, most: int = MAX_BYTES) -> bytes:
    """The content of a file.

    Raises:
        OSError: it cannot be read, or is larger than ``most`` bytes.
    """
    size = None
    if (local := as_local(path)) is not None:  # of a file in a store, asking would take one more request
        size = what.size if (what := info(local)) else None
    data = b"" if size and size > most else read_bytes(path)
    if max(size or 0, len(data)) > most:
        raise OSError(errno.EFBIG, f"larger than {most >> 20} MiB", str(path))
    return data
