"""The journal: the changes that an export will make to the dataset, written before the first change.

    OUT/run/journal.json

A run that finds a journal carries it out again. Every operation can be repeated, and skips files that someone else has
changed since. So an export that is killed never leaves a half-published dataset.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from labeler.errors import RunError
from labeler.files.documents import load_json
from labeler.files.storage import write_bytes
from labeler.sizes import shown, unicode_text
from workflows.dataset.ledger import Entry, check_name, to_table

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

VERSION = 1
JOURNAL = "run/journal.json"
VERDICTS = "run/verdicts.parquet"
SPLIT_TABLE = "run/splits.parquet"
BESIDE = (VERDICTS, SPLIT_TABLE)  # published together with the dataset, but not part of it
SET_ASIDE = "run/set-aside"
Do = Literal["put", "move", "delete", "set aside"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One change of a dataset.

    Attributes:
        do: ``put`` a new file, ``move`` an existing one, ``delete`` one, or ``set aside`` one in ``run/set-aside``.
        name: POSIX path below the dataset's folder.
        source: for ``move``, the current name of the file.
        expected: the current stamp at ``name``; the operation is skipped if the file has another one by then.
        old: the digest of the current file at ``name``, if the tool wrote it.
        digest, image_id: of the file that is put or moved, as in ``Entry``.
    """

    do: Do
    name: str
    source: str = ""
    expected: str = ""
    old: str = ""
    digest: str = ""
    image_id: str = ""

    @property
    def adds(self) -> bool:
        return self.do in ("put", "move")

    def entry(self, stamp: str = "") -> Entry:
        """The ledger entry of the file that is put or moved."""
        return Entry(self.name, stamp, self.digest, self.image_id)


def read_journal(path: AnyPath) -> list[Operation]:
    """The operations of an export that was killed; empty if there is no journal.

    Raises:
        RunError: the journal is damaged, of another version, or names files outside the dataset.
    """
    try:
        content = load_json(path)
        if content["version"] != VERSION:
            raise RunError(f"{path} was written by another version of labeler; update labeler")
        operations = [_operation(row) for row in content["operations"]]
        for name in (name for each in operations for name in (each.name, each.source) if name not in BESIDE):
            if name:
                check_name(name, path)
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunError(f"{path} is damaged ({error}); remove it and export again") from None
    return operations


def _operation(row: dict[str, Any]) -> Operation:
    """One entry of a journal.

    Raises:
        ValueError, TypeError: it is not what ``write_journal`` writes.
    """
    operation = Operation(**row)
    if operation.do not in get_args(Do):
        raise ValueError(f"{shown(operation.do)} is not an operation")
    for name, value in asdict(operation).items():
        if not isinstance(value, str):
            raise ValueError(f"{name} of an operation is {shown(value)}, not text")
        unicode_text(value, f"{name} of an operation")
    if not operation.name or (operation.do == "move") != bool(operation.source):
        raise ValueError("an operation names no file, or a source that it does not move")
    return operation


def write_journal(path: AnyPath, operations: Sequence[Operation]) -> None:
    content = {"version": VERSION, "operations": [asdict(each) for each in operations]}
    write_bytes(path, json.dumps(content, ensure_ascii=False).encode())


def after(ledger: pa.Table, operations: Iterable[Operation], added: Iterable[Entry]) -> pa.Table:
    """The ledger after ``operations``; ``added`` are the entries of the files that were put or moved."""
    touched = {name for each in operations for name in (each.name, each.source)}
    kept = ledger.filter(pc.invert(pc.is_in(ledger.column("name"), pa.array(touched, pa.string()))))
    return pa.concat_tables([kept, to_table(entry for entry in added if entry.name not in BESIDE)])
