"""The journal: what an export is about to change in the dataset, written before the first change.

    OUT/run/journal.json

A run that finds one carries it out again: every operation is safe to repeat, and leaves alone what somebody else has
changed since. So a dataset is never left half-way, whatever kills the run that publishes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc

from labeler.errors import RunError
from labeler.files.storage import read_bytes, write_bytes
from workflows.dataset.ledger import Entry, check_name, to_table

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

VERSION = 1
JOURNAL = "run/journal.json"
VERDICTS = "run/verdicts.parquet"  # published with the dataset, but no part of it


@dataclass(frozen=True, slots=True)
class Operation:
    """One change of a dataset.

    Attributes:
        do: ``put`` a new file, ``move`` one that is there, ``delete`` one, or ``set aside`` one.
        name: POSIX path below the dataset's folder.
        source: for ``move``, the name that the file has now.
        expected: the stamp of what is at ``name`` now; if something else is there later, it is left alone.
        old: digest of what is at ``name`` now, if this tool wrote it.
        digest, image_id: of the file that is put or moved, as in ``Entry``.
    """

    do: Literal["put", "move", "delete", "set aside"]
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
        """Of the file that is put or moved."""
        return Entry(self.name, stamp, self.digest, self.image_id)


def read_journal(path: AnyPath) -> list[Operation]:
    """The operations of an export that did not come to its end; none if there is no such export.

    Raises:
        RunError: the journal is damaged, of another version, or names files outside the dataset.
    """
    try:
        content = json.loads(read_bytes(path))
        if content["version"] != VERSION:
            raise RunError(f"{path} was written by another version of labeler; update labeler")
        operations = [Operation(**row) for row in content["operations"]]
        for name in (name for each in operations for name in (each.name, each.source) if name != VERDICTS):
            if name:
                check_name(name, path)
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RunError(f"{path} is damaged ({error}); remove it and export again") from None
    return operations


def write_journal(path: AnyPath, operations: Sequence[Operation]) -> None:
    content = {"version": VERSION, "operations": [asdict(each) for each in operations]}
    write_bytes(path, json.dumps(content, ensure_ascii=False).encode())


def after(ledger: pa.Table, operations: Iterable[Operation], added: Iterable[Entry]) -> pa.Table:
    """The ledger once ``operations`` are carried out; ``added`` are the entries of what was put or moved."""
    touched = {name for each in operations for name in (each.name, each.source)}
    kept = ledger.filter(pc.invert(pc.is_in(ledger.column("name"), pa.array(touched, pa.string()))))
    return pa.concat_tables([kept, to_table(entry for entry in added if entry.name != VERDICTS)])
