"""The ledger: the files of the dataset that the tool has written, with the digest of each.

    OUT/run/ledger.parquet     name, stamp, digest, image_id

Files that are not in the ledger belong to the user and are never touched. If the content of a file no longer has the
recorded digest, the user has edited it.
"""

from __future__ import annotations

import io
from bisect import bisect_left
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labeler.errors import RunError
from labeler.files.storage import read_bytes, write_bytes
from labeler.record_checks import read_table
from workflows.dataset.file_names import dataset_suffix

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

LEDGER = "run/ledger.parquet"
VERSION = b"1"
FOLDER = "folder"  # the stamp of a folder
# What an export creates in the output folder, and the minimum number of path parts.
_DEPTHS = {"images": 3, "labels": 3, "annotations": 2, "webdataset": 2, "cutouts": 2, "data.yaml": 1}
_DEPTHS |= {"masks": 2, "semantic.yaml": 1, "roboflow": 3, "voc": 2, "hf": 3, "README.md": 1}
SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("stamp", pa.string(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
    ],
    metadata={"labeler.ledger_version": VERSION},
)


class Entry(NamedTuple):
    """One file of the dataset.

    Attributes:
        name: POSIX path below the dataset's folder.
        stamp: of the file when it was written, see ``Destination.stamp``; empty if unknown.
        digest: ``labeler.files.images.content_digest`` of the file.
        image_id: the image that the file shows or labels; empty for files about many images.
    """

    name: str
    stamp: str
    digest: str
    image_id: str = ""


class _Texts:
    """The values of a column of text, of which pyarrow would first make scalars; that takes twice as long."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        array = pa.concat_arrays(column.chunks or [pa.array([], pa.string())])
        _, ends, data = array.buffers()
        self._ends = np.frombuffer(ends or b"", np.int32)[array.offset :].data
        self._data = memoryview(data or b"")

    def __getitem__(self, row: int) -> str:
        return str(self._data[self._ends[row] : self._ends[row + 1]], "utf-8")


class Ledger:
    """Entries, indexed by name; about a hundred bytes each.

    Attributes:
        root: the input that the images came from; empty if unknown.
    """

    def __init__(self, table: pa.Table, root: str = "") -> None:
        self.table = table.combine_chunks()
        self.root = root
        names = self.table.column("name").to_pylist()
        keys = np.fromiter((hash(name) for name in names), np.int64, len(names))
        self._columns = [_Texts(column) for column in self.table.columns]
        order = np.argsort(keys, kind="stable")
        self._order, self._keys = order.data, keys[order].data  # of which `bisect` reads single numbers fastest

    def __len__(self) -> int:
        return len(self.table)

    def row(self, name: str) -> int | None:
        """The row of the entry with that name; None if there is none."""
        key, names = hash(name), self._columns[0]
        for place in range(bisect_left(self._keys, key), len(self._keys)):
            if self._keys[place] != key:
                break
            if names[row := self._order[place]] == name:
                return row
        return None

    def at(self, row: int) -> Entry:
        return Entry(*(column[row] for column in self._columns))


def to_table(entries: Iterable[Entry]) -> pa.Table:
    columns = list(zip(*((e.name, e.stamp, e.digest, e.image_id) for e in entries), strict=True)) or [()] * 4
    return pa.table([pa.array(column, pa.string()) for column in columns], schema=SCHEMA)


def read_ledger(path: AnyPath) -> Ledger | None:
    """The ledger at ``path``; None if there is none.

    Raises:
        RunError: it is damaged or was written by a newer version.
    """
    try:
        table = read_table(read_bytes(path))
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise RunError(
            f"{path} is damaged ({str(error).splitlines()[0]}); delete it; the next export then adopts every file "
            "of the dataset whose content is what it would write"
        ) from None
    version = (table.schema.metadata or {}).get(b"labeler.ledger_version")
    if version != VERSION or not table.schema.equals(SCHEMA):
        raise RunError(f"{path} was written by another version of labeler; update labeler")
    for name in table.column("name").to_pylist():
        check_name(name, path)
    root = (table.schema.metadata or {}).get(b"labeler.root", b"").decode(errors="replace")
    return Ledger(table.replace_schema_metadata(SCHEMA.metadata), root)


def write_ledger(path: AnyPath, table: pa.Table, root: str = "") -> None:
    buffer = io.BytesIO()
    metadata = {**SCHEMA.metadata, b"labeler.root": root.encode(errors="replace")}
    pq.write_table(table.replace_schema_metadata(metadata), buffer, compression="zstd")
    write_bytes(path, buffer.getvalue())


def check_name(name: str, source: AnyPath) -> str:
    """Return ``name`` if it is a file inside the dataset's folder.

    Raises:
        RunError: it is not; the message says that ``source`` contains it.
    """
    parts = name.split("/")
    depth = _DEPTHS.get(parts[0], 0)
    is_deep_enough = len(parts) == 1 if depth == 1 else len(parts) >= depth > 0
    if not is_deep_enough or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise RunError(f"{source} names {name!r}, which is not a file inside the dataset; do not use this run folder")
    return name


def names_given(ledger: Ledger) -> tuple[dict[str, str], set[str]]:
    """The file names of images in the dataset: a mapping for those that differ from the image id, and a set of the
    rest.

    A file name is a path below ``images/SPLIT``. If the dataset contains no images, it is derived from the label or
    mask file.
    """
    rows = ledger.table.filter(pc.not_equal(ledger.table.column("image_id"), ""))
    given: dict[str, str] = {}
    unchanged: set[str] = set()
    for name, image_id in zip(*(rows.column(each).to_pylist() for each in ("name", "image_id")), strict=True):
        kind, _, below = name.partition("/")
        below = below.partition("/")[2]
        if kind in ("labels", "masks"):
            below = below.rpartition(".")[0] + dataset_suffix(image_id)
        elif kind != "images":
            continue
        if below == image_id:
            unchanged.add(image_id)
        elif kind == "images" or image_id not in given:
            given[image_id] = below
    return given, unchanged - given.keys()


def file_names(output: AnyPath) -> dict[str, str]:
    """File names below ``images/SPLIT``, by image id, of the images whose file name is not their id."""
    ledger = read_ledger(output / LEDGER)
    return names_given(ledger)[0] if ledger else {}
