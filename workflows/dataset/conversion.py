"""Plan the files of images that trainers cannot read, such as HEIC, GIF and further frames: they become PNG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labeler.errors import ImageError
from labeler.files.conversion import source_at, write_png
from labeler.files.image_config import ImageConfig
from labeler.files.images import ImageFile
from workflows.dataset.journal import Operation
from workflows.dataset.planning import Plan, Planner, Seen, one_file

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from labeler.records import ImageRecord


class Converter:
    """Plans the file of one converted image at a time.

    Args:
        root: the folder or URI of the originals.
        reading: how the originals were read when they were labeled.
    """

    def __init__(self, planner: Planner, root: AnyPath, reading: ImageConfig) -> None:
        self._planner = planner
        self._destination = planner.destination
        self._root = root
        self._reading = reading

    def existing(self, record: ImageRecord, name: str, others: list[str]) -> tuple[str, AnyPath, Plan] | None:
        """(name, path, plan) of the image where the dataset has it: to keep it there, or move it to ``name``.

        Args:
            others: its names in other splits.
        """
        for there in (name, *others):
            seen, path = self._planner.look(there), self._destination.path(there)
            if seen.row is not None and seen.stamp and not seen.is_ours and not self._planner.overwrite:
                return there, path, Plan(there, row=seen.row, edited=True)
            if not (seen.stamp and seen.is_ours and source_at(path) == record.digest):
                continue
            if there == name:
                return name, path, Plan(name, row=seen.row)
            with one_file():
                self._destination.check(name)
            if not self._destination.stamp(name):
                move = Operation("move", name, there, digest=seen.digest, image_id=record.image_id)
                return name, path, Plan(name, operation=move)
        return None

    def made(self, record: ImageRecord, name: str) -> tuple[AnyPath, Plan]:
        """Convert the original; (path, plan) of the PNG.

        Raises:
            ImageError: the original cannot be read or has changed, or another file has the name.
        """
        with one_file():
            self._destination.check(name)
            self._refuse_foreign(name, self._planner.look(name))
            image = ImageFile.of(self._root, record.image_id, self._reading).read()
            if image.digest != record.digest:
                raise ImageError("the image has changed since it was labeled; label it again")
            write_png(self._destination.building / name, image)
            plan = self._planner.plan_made(name, record.image_id)
        if plan.operation is None:
            return self._destination.path(name), plan
        return self._destination.building / name, plan

    def _refuse_foreign(self, name: str, seen: Seen) -> None:
        if seen.stamp and seen.row is None:
            raise ImageError(
                f"the dataset has another file with its name, {self._destination.path(name)}; rename one of them"
            )
