"""Where a dataset is published: what exists there, and how files are added, moved and deleted."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from labeler.files.storage import as_local
from workflows.dataset.folder_destination import FolderDestination
from workflows.dataset.journal import Operation
from workflows.dataset.ledger import Entry
from workflows.dataset.store_destination import StoreDestination

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath


class Destination(Protocol):
    """Where a dataset is published.

    Attributes:
        building: a local folder in which new files are created, under their later names.
    """

    building: Path

    def path(self, name: str) -> AnyPath: ...

    def stamp(self, name: str) -> str:
        """A stamp that changes when the file is edited; empty if nothing exists there, ``FOLDER`` for a folder."""

    def digest(self, name: str) -> str:
        """``content_digest`` of the file; empty if it cannot be read."""

    def checked_stamp(self, name: str) -> str:
        """As ``stamp``, of a name that a file can have.

        Raises:
            ImageError: no file of that name can be created; the message says why.
        """

    def bring(self, source: AnyPath, name: str, link: str) -> None:
        """Make ``name`` a new file with the content of the image ``source``."""

    def settle(self) -> None:
        """Sync the files in ``building`` to disk."""

    def carry_out(self, phases: Sequence[Sequence[Operation]]) -> list[Entry]:
        """Change the dataset, one phase after another; returns the entries of the files that were put or moved."""

    def clean_up(self) -> None:
        """Delete ``building``, unless an unfinished journal needs it."""


def destination_of(output: AnyPath) -> Destination:
    return StoreDestination(output) if (folder := as_local(output)) is None else FolderDestination(folder)


class Nowhere:
    """An empty destination, to find out what an export would write."""

    def __init__(self) -> None:
        self.building = Path(tempfile.mkdtemp(prefix="labeler-"))

    def path(self, name: str) -> Path:
        return self.building / name

    def stamp(self, name: str) -> str:
        return ""

    def digest(self, name: str) -> str:
        return ""

    def checked_stamp(self, name: str) -> str:
        return ""

    def bring(self, source: AnyPath, name: str, link: str) -> None: ...
    def settle(self) -> None: ...
    def carry_out(self, phases: Sequence[Sequence[Operation]]) -> list[Entry]:
        raise NotImplementedError

    def clean_up(self) -> None:
        shutil.rmtree(self.building, ignore_errors=True)
