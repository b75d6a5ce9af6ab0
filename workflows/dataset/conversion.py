"""Plan the files of images that trainers cannot read, such as HEIC, GIF and further frames: they become PNG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labeler.errors import ImageError
from labeler.files.conversion import Source, source_at, write_png
from labeler.files.images import ImageFile
from workflows.dataset.journal import Operation
from workflows.dataset.originals import Originals
from workflows.dataset.planning import Plan, Planner, Seen, one_file

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from labeler.records import ImageRecord


class Converter:
    """Plans the file of one converted image at a time.

    Args:
        originals: those that are converted, as they were read when they were labeled.
    """

    def __init__(self, planner: Planner, originals: Originals) -> None:
        self._planner = planner
        self._destination = planner.destination
        self._originals = originals

    def existing(self, record: ImageRecord, name: str, others: list[str]) -> tuple[str, AnyPath, Plan] | None:
        """(name, path, plan) of the image where the dataset has it: to keep it there, or move it to ``name``.

        Args:
            others: its names in other splits.
        """
        source = Source.of(record.digest, self._originals.reading)
        for there in (name, *others):
            seen, path = self._planner.look(there), self._destination.path(there)
            if seen.row is not None and seen.stamp and not seen.is_ours and not self._planner.overwrite:
                if self._originals.is_linked(record.image_id, path):  # a change of the input is not an edit
                    continue
                return there, path, Plan(there, row=seen.row, edited=True)
            if not (seen.stamp and seen.is_ours and source_at(path) == source):
                continue
            if there == name:
                return name, path, Plan(name, row=seen.row)
            with one_file():
                is_free = not self._destination.checked_stamp(name)
            if is_free:
                move = Operation("move", name, there, digest=seen.digest, image_id=record.image_id)
                return name, path, Plan(name, operation=move)
        return None

    def made(self, record: ImageRecord, name: str) -> tuple[AnyPath, Plan]:
        """Convert the original; (path, plan) of the PNG.

        Raises:
            ImageError: the original cannot be read or has changed, or another file has the name.
        """
        with one_file():
            seen = self._planner.look_where_a_file_can_be(name)
            self._refuse_foreign(name, seen)
            image = ImageFile.of(self._originals.root, record.image_id, self._originals.reading).read()
            if image.digest != record.digest:
                raise ImageError("the image has changed since it was labeled; label it again")
            write_png(self._destination.building / name, image, self._originals.reading)
            if self._originals.is_linked(record.image_id, self._destination.path(name)):
                digest, old = self._planner.digest_made(name), seen.digest if seen.is_ours else ""
                plan = Plan(name, operation=Operation("put", name, "", seen.stamp, old, digest, record.image_id))
            else:
                plan = self._planner.plan_made(name, record.image_id)
        if plan.operation is None:
            return self._destination.path(name), plan
        return self._destination.building / name, plan

    def _refuse_foreign(self, name: str, seen: Seen) -> None:
        if seen.stamp and seen.row is None:
            raise ImageError(
                f"the dataset has another file with its name, {self._destination.path(name)}; rename one of them"
            )
