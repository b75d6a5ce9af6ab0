"""Plan what to do with each file of the dataset: keep it, write it, or leave what the user edited.

Nothing in the dataset is changed here: new files are created in ``building``, and ``workflows.dataset.dataset`` carries
out the plans.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import NamedTuple

from labeler.errors import ImageError
from labeler.files.images import content_digest, file_digest
from labeler.files.local import naming
from workflows.dataset.destination import Destination
from workflows.dataset.file_names import shows_image
from workflows.dataset.journal import Operation
from workflows.dataset.ledger import Entry, Ledger

# Errors that concern a single file or its name, and not the whole disk.
_ONE_FILE = frozenset({errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EINVAL, errno.EILSEQ,
                       errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENOENT})  # fmt: skip


class Plan(NamedTuple):
    """What to do with one file of the dataset.

    Attributes:
        row: the ledger row to keep.
        entry: a new ledger entry, for an existing file that needs no change.
        operation: the change to make.
        edited: the user's file stays, instead of the planned one.
        restored: someone deleted the file, and it is written again.
    """

    name: str
    row: int | None = None
    entry: Entry | None = None
    operation: Operation | None = None
    edited: bool = False
    restored: bool = False


class Seen(NamedTuple):
    """What exists under a name in the dataset.

    Attributes:
        stamp: empty if nothing exists.
        row: of the name in the ledger.
        digest: of the content; empty if it is not known.
        is_ours: the file is as the tool wrote it.
    """

    stamp: str
    row: int | None
    digest: str
    is_ours: bool


class Planner:
    """Plans one file at a time.

    Args:
        overwrite: replace files that the user edited.
        taken_in: digests, by name, of edited files whose content is in people's decisions; these are replaced too.

    Attributes:
        stamps: new stamps, by ledger row, of files whose stamp changed but whose content did not.
    """

    def __init__(
        self,
        destination: Destination,
        ledger: Ledger,
        overwrite: bool = False,
        taken_in: Mapping[str, str] | None = None,
    ) -> None:
        self.destination = destination
        self.ledger = ledger
        self.overwrite = overwrite
        self.taken_in = taken_in or {}
        self.stamps: dict[int, str] = {}

    def plan_file(self, name: str, content: bytes, image_id: str = "") -> Plan:
        """A plan for a file with this content.

        Raises:
            ImageError: no file of this name can be created.
        """
        return self.plan_content(name, content_digest(content), image_id, lambda: content)

    def plan_content(self, name: str, digest: str, image_id: str, content: Callable[[], bytes]) -> Plan:
        """As ``plan_file``; ``content``, which has this digest, is made only if the file must be written."""

        def make() -> None:
            path, data = self.destination.building / name, content()
            path.parent.mkdir(parents=True, exist_ok=True)
            with naming(path):
                path.write_bytes(data)

        return self.plan(name, digest, image_id, make)

    def digest_made(self, name: str) -> str:
        """The digest of a file that was created in ``building``."""
        return file_digest(self.destination.building / name)

    def plan_made(self, name: str, image_id: str = "", digest: str = "") -> Plan:
        """A plan for a file that was created in ``building``, and is deleted there if no change is needed.

        Args:
            digest: of the file, if that is known.
        """
        plan = self.plan(name, digest or self.digest_made(name), image_id, lambda: None)
        if plan.operation is None:
            (self.destination.building / name).unlink()
        return plan

    def kept(self, name: str, digest: str) -> Plan | None:
        """A plan to keep a file that the tool wrote with this digest; None if it is not there like that."""
        try:
            seen = self.look_where_a_file_can_be(name)
        except ImageError:
            return None
        return Plan(name, row=seen.row) if seen.is_ours and seen.digest == digest else None

    def plan(self, name: str, digest: str, image_id: str, make: Callable[[], None]) -> Plan:
        """A plan for a file with this digest; ``make`` is called to create it in ``building`` if it must be written."""
        with one_file():
            seen = self.look_where_a_file_can_be(name)
            old = seen.digest if seen.is_ours else ""
            put = Operation("put", name, "", seen.stamp, old, digest, image_id)
            if not seen.stamp:
                make()
                was_there = seen.row is not None and self.ledger.at(seen.row).stamp != ""
                return Plan(name, operation=put, restored=was_there)
            if (seen.digest or self.destination.digest(name)) == digest:
                if seen.row is not None and (seen.is_ours or self.ledger.at(seen.row).digest == digest):
                    return Plan(name, row=seen.row)
                return Plan(name, entry=Entry(name, seen.stamp, digest, image_id))
            may_overwrite = self.overwrite and (seen.row is not None or not name.startswith("images/"))
            is_taken_in = seen.digest != "" and self.taken_in.get(name) == seen.digest
            if not seen.is_ours and not may_overwrite and not is_taken_in:
                return Plan(name, row=seen.row, edited=True)
            make()
            return Plan(name, operation=put)

    def is_edited(self, name: str) -> bool:
        """Whether the user edited a file that the tool wrote."""
        if self.ledger.row(name) is None:
            return False
        seen = self.look(name)
        return seen.stamp != "" and not seen.is_ours

    def look(self, name: str) -> Seen:
        """What exists under ``name`` in the dataset."""
        return self._seen(name, self.destination.stamp(name))

    def look_where_a_file_can_be(self, name: str) -> Seen:
        """As ``look``.

        Raises:
            ImageError: no file of this name can be created.
        """
        return self._seen(name, self.destination.checked_stamp(name))

    def _seen(self, name: str, stamp: str) -> Seen:
        row = self.ledger.row(name)
        if row is None or not stamp:
            return Seen(stamp, row, "", False)
        entry = self.ledger.at(row)
        if stamp.startswith("link:") and not shows_image(name):  # the tool links only images
            return Seen(stamp, row, self.destination.digest(name), False)
        if entry.stamp == stamp:
            return Seen(stamp, row, entry.digest, True)
        digest = self.destination.digest(name)
        if digest == entry.digest:
            self.stamps[row] = stamp
            return Seen(stamp, row, digest, True)
        return Seen(stamp, row, digest, False)


class one_file:
    """Turn an ``OSError`` about a single file into an ``ImageError``, so that the export continues with other files."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, OSError) and error.errno in _ONE_FILE:
            where = f"{error.filename}: " if error.filename else ""
            raise ImageError(f"{where}{error.strerror}") from error
