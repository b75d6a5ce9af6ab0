"""What becomes of each file that the dataset is to have: it is there, it is to be written, or the user edited it.

Nothing is changed here: new files are made in ``building``, and ``workflows.dataset.dataset`` carries the plans out.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from labeler.errors import ImageError
from labeler.files.images import content_digest, file_digest
from labeler.files.storage import naming
from workflows.dataset.journal import Operation
from workflows.dataset.ledger import Entry, Ledger
from workflows.dataset.places import Place

# What the operating system says where one file's name or place is the cause, and not the disk.
_ONE_FILE = frozenset({errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EINVAL, errno.EILSEQ,
                       errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENOENT})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of one file of the dataset.

    Attributes:
        row: of the ledger, whose file stays as it is.
        entry: of a file that is as it should be, but for a ledger that does not say so.
        operation: what is to be done.
        edited: the user's file stays, where another was to be.
        restored: the file was deleted by somebody, and is written again.
    """

    name: str
    row: int | None = None
    entry: Entry | None = None
    operation: Operation | None = None
    edited: bool = False
    restored: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What is under a name in the dataset.

    Attributes:
        stamp: empty if nothing is.
        row: of the ledger.
        digest: of the content, if that is known.
        is_ours: it is as this tool wrote it.
    """

    stamp: str
    row: int | None
    digest: str
    is_ours: bool


class Planner:
    """Makes a plan for one file at a time.

    Args:
        overwrite: replace files that the user edited.

    Attributes:
        stamps: by row of the ledger, stamps of files that have another one by now, and still the same content.
    """

    def __init__(self, place: Place, ledger: Ledger, overwrite: bool = False) -> None:
        self.place = place
        self.ledger = ledger
        self.overwrite = overwrite
        self.stamps: dict[int, str] = {}

    def plan_file(self, name: str, content: bytes, image_id: str = "") -> Plan:
        """A plan for a file with that content.

        Raises:
            ImageError: it cannot have this place.
        """

        def make() -> None:
            path = self.place.building / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with naming(path):
                path.write_bytes(content)

        return self.plan(name, content_digest(content), image_id, make)

    def plan_made(self, name: str) -> Plan:
        """A plan for a file that was made in ``building``; it is removed there if it is in place already."""
        made = self.place.building / name
        plan = self.plan(name, file_digest(made), "", lambda: None)
        if plan.operation is None:
            made.unlink()
        return plan

    def plan(self, name: str, digest: str, image_id: str, make: Callable[[], None]) -> Plan:
        """What becomes of a file that is to have this content; ``make`` makes a new one in ``building``."""
        with one_file():
            self.place.check(name)
            seen = self.look(name)
            old = seen.digest if seen.is_ours else ""
            put = Operation("put", name, "", seen.stamp, old, digest, image_id)
            if not seen.stamp:
                make()
                was_there = seen.row is not None and self.ledger.at(seen.row).stamp != ""
                return Plan(name, operation=put, restored=was_there)
            if (seen.digest or self.place.digest(name)) == digest:
                if seen.row is not None and self.ledger.at(seen.row).digest == digest:
                    return Plan(name, row=seen.row)
                return Plan(name, entry=Entry(name, seen.stamp, digest, image_id))
            may_overwrite = self.overwrite and (seen.row is not None or not name.startswith("images/"))
            if not seen.is_ours and not may_overwrite:
                return Plan(name, row=seen.row, edited=True)
            make()
            return Plan(name, operation=put)

    def is_edited(self, name: str) -> bool:
        """Whether the user edited a file of this tool."""
        seen = self.look(name)
        return seen.row is not None and seen.stamp != "" and not seen.is_ours

    def look(self, name: str) -> Seen:
        """What is under ``name`` in the dataset."""
        row, stamp = self.ledger.row(name), self.place.stamp(name)
        if row is None or not stamp:
            return Seen(stamp, row, "", False)
        entry = self.ledger.at(row)
        if stamp.startswith("link:") and not name.startswith("images/"):  # only images are ever linked
            return Seen(stamp, row, self.place.digest(name), False)
        if entry.stamp == stamp:
            return Seen(stamp, row, entry.digest, True)
        digest = self.place.digest(name)
        if digest == entry.digest:
            self.stamps[row] = stamp
            return Seen(stamp, row, digest, True)
        return Seen(stamp, row, digest, False)


@contextmanager
def one_file() -> Iterator[None]:
    """What is wrong with one file's name or place becomes an ``ImageError``, so that the others go on."""
    try:
        yield
    except OSError as error:
        if error.errno not in _ONE_FILE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        raise ImageError(f"{where}{error.strerror}") from error
