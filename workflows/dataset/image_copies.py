"""Plan the image files of formats that have the images beside their annotations: links to or copies of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labeler.files.frames import file_path
from labeler.files.storage import as_local, read_bytes
from workflows.dataset.images import PlacedImage
from workflows.dataset.journal import Operation
from workflows.dataset.ledger import Entry
from workflows.dataset.links import pair_of
from workflows.dataset.originals import Originals
from workflows.dataset.planning import Plan, Planner, one_file

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath


class ImageCopies:
    """Plans one more file of an image at a time.

    Args:
        link: as in ``ExportConfig``, other than ``none``.
    """

    def __init__(self, planner: Planner, originals: Originals, link: str) -> None:
        self._planner, self._originals, self._link = planner, originals, link
        self._destination = planner.destination

    def plan(self, placed: PlacedImage, name: str, image_id: str) -> Plan:
        """A plan for the file ``name``, which shows the image as it is below ``images``.

        Raises:
            ImageError: the file cannot be created, or the image can no longer be read.
        """
        assert placed.plan is not None
        digest = self._digest_of(placed.plan)

        def make() -> None:
            self._bring(placed.path, name, image_id)

        if (kept := self._planner.kept(name, digest)) is not None:
            if self._link != "copy" or not self._is_linked(name):
                return kept
            with one_file():
                make()
            stamp = self._destination.stamp(name)
            return Plan(name, operation=Operation("put", name, "", stamp, digest, digest, image_id))
        if self._is_one_file(name, placed.path):  # a change of the input is not an edit of the dataset
            return Plan(name, entry=Entry(name, self._destination.stamp(name), digest, image_id))
        return self._planner.plan(name, digest, image_id, make)

    def _digest_of(self, plan: Plan) -> str:
        """The digest of the image file below ``images``, once the plan is carried out."""
        if plan.operation is not None:
            return plan.operation.digest
        if plan.entry is not None:
            return plan.entry.digest
        assert plan.row is not None
        return self._destination.digest(plan.name) if plan.edited else self._planner.ledger.at(plan.row).digest

    def _bring(self, source: AnyPath, name: str, image_id: str) -> None:
        target = self._destination.building / name
        is_original = source == file_path(self._originals.root, image_id)
        if not is_original and as_local(self._destination.path(name)) is None:
            # In a store, the source may be gone before the copy is made.
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(read_bytes(source))
            return
        local = as_local(source)
        own = self._link == "symlink" and not is_original and local is not None and not local.is_symlink()
        self._destination.bring(source, name, "hard" if own else self._link)

    def _is_linked(self, name: str) -> bool:
        path = as_local(self._destination.path(name))
        return path is not None and (path.is_symlink() or path.stat().st_nlink > 1)

    def _is_one_file(self, name: str, image: AnyPath) -> bool:
        """Whether the file that an export wrote is a link to the image."""
        if self._planner.ledger.row(name) is None:
            return False
        pair = pair_of(self._destination.path(name), image)
        return pair is not None and pair.is_one_file
