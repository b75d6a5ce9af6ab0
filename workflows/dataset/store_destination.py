"""Publish a dataset to a store.

Uploads are atomic. The local files to be uploaded are lost if the run is killed, so the next run cannot repeat the
journal; it only learns from it which files the tool has written.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from labeler.files.images import file_digest
from labeler.files.listing import stamps
from labeler.files.parallel import in_order
from labeler.files.paths import FileInfo
from labeler.files.storage import copy, free_path, move, remove, scan
from workflows.dataset.journal import SET_ASIDE, Operation
from workflows.dataset.ledger import FOLDER, Entry

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath


class StoreDestination:
    """``Destination`` in a store."""

    def __init__(self, output: AnyPath) -> None:
        self.output = output
        self.building = Path(tempfile.mkdtemp(prefix="labeler-"))
        self._folder = lru_cache(maxsize=16)(self._list)
        self._sources: dict[str, AnyPath] = {}

    def path(self, name: str) -> AnyPath:
        return self.output / name

    def stamp(self, name: str) -> str:
        folder, _, base = name.rpartition("/")
        file = self._folder(folder).get(base)
        return "" if file is None else FOLDER if file.is_folder else file.stamp

    def _list(self, folder: str) -> dict[str, FileInfo]:
        try:
            return {file.name: file for file in scan(self.output / folder if folder else self.output)}
        except FileNotFoundError:
            return {}

    def digest(self, name: str) -> str:
        try:
            return file_digest(self.output / name)
        except FileNotFoundError:
            return ""

    def checked_stamp(self, name: str) -> str:
        return self.stamp(name)  # a store has no folders that could be in the way

    def bring(self, source: AnyPath, name: str, link: str) -> None:
        self._sources[name] = source

    def settle(self) -> None:
        pass  # uploads are atomic

    def carry_out(self, phases: Sequence[Sequence[Operation]]) -> list[Entry]:
        for operations in (each for phase in phases for each in self._rounds(phase)):
            for _ in in_order(self._do, operations):
                pass
        self._folder.cache_clear()
        added = [each for phase in phases for each in phase if each.adds]
        known = stamps(self.output, [each.name for each in added])
        return [each.entry(stamp) for each, stamp in zip(added, known, strict=True)]

    def _rounds(self, phase: Sequence[Operation]) -> list[list[Operation]]:
        """The operations such that none of a round reads what another one reads, since some stores cannot do that."""
        rounds: list[list[Operation]] = []
        seen = Counter[str]()
        for operation in phase:
            source = str(self._sources.get(operation.name, operation.name))
            if seen[source] == len(rounds):
                rounds.append([])
            rounds[seen[source]].append(operation)
            seen[source] += 1
        return rounds

    def _do(self, operation: Operation) -> None:
        path = self.output / operation.name
        if operation.do == "put":
            copy(self._sources.get(operation.name, self.building / operation.name), path)
        elif operation.do == "move":
            move(self.output / operation.source, path)
        elif operation.do == "delete":
            remove(path)
        else:
            move(path, free_path(self.output / SET_ASIDE / operation.name))

    def clean_up(self) -> None:
        shutil.rmtree(self.building, ignore_errors=True)
