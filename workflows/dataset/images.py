"""Plan the image files of a dataset, which come from the input or from the existing dataset.

If the input is gone, the dataset may hold the last copy of an image.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from labeler.errors import ImageError
from labeler.files.conversion import source_at
from labeler.files.frames import split_frame
from labeler.files.images import digest_at
from labeler.formats.splits import SPLITS
from workflows.dataset.conversion import Converter
from workflows.dataset.file_names import ImageForm
from workflows.dataset.journal import Operation
from workflows.dataset.ledger import Entry
from workflows.dataset.links import Pair, pair_of
from workflows.dataset.originals import Originals
from workflows.dataset.planning import Plan, Planner, one_file

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from labeler.records import ImageRecord


class PlacedImage(NamedTuple):
    """An image and the plan for its file in the dataset.

    Attributes:
        path: where the image is now.
        plan: for its file; None if the dataset contains no image files.
        split: the split that the image must stay in; empty if it may move.
        frame: the number of a further frame in the file at ``path``.
        file_name: the one that the image must keep; empty if that of its form holds.
        converted: the file in the dataset was converted to PNG, unless somebody edited it.
    """

    path: AnyPath
    plan: Plan | None
    split: str = ""
    frame: int = 0
    file_name: str = ""
    converted: bool = False


class ImagePlanner:
    """Plans the file of one image at a time.

    Args:
        link: as in ``ExportConfig``.
    """

    def __init__(self, planner: Planner, originals: Originals, link: str) -> None:
        self.originals = originals
        self._planner = planner
        self._destination, self._ledger = planner.destination, planner.ledger
        self._link = link
        self._converter = Converter(planner, originals)

    def is_the_users(self, record: ImageRecord, file_name: str) -> bool:
        """Whether the user edited the image's file under this name, or moved it to another split."""
        names = [f"images/{split}/{file_name}" for split in SPLITS]
        if all(self._ledger.row(name) is None for name in names):
            return False
        if any(self._moved_from(name, record, file_name) is not None for name in names):
            return True
        edited = () if self._planner.overwrite else filter(self._planner.is_edited, names)
        return any(not self.originals.is_linked(record.image_id, self._destination.path(name)) for name in edited)

    def split_of(self, record: ImageRecord, file_name: str, split: str) -> str:
        """The split of an image: the one where the user edited its files or moved them to, else ``split``."""
        is_gone = self._gone(file_name) != []
        for other in SPLITS:
            name = f"images/{other}/{file_name}"
            if is_gone and self._moved_from(name, record, file_name) is not None:
                return other
            if other == split or self._planner.overwrite:
                continue
            if any(map(self._planner.is_edited, (name, label_name(other, file_name)))):
                return other
        return split

    def place_image(self, record: ImageRecord, form: ImageForm, split: str) -> PlacedImage | None:
        """The image of ``record`` with a plan for its file; None if it is neither in the input nor in the dataset.

        Raises:
            ImageError: the image cannot be read, or another file has its name.
        """
        file_name = form.file_name
        if self._link == "none":
            path = self.originals.find(record.image_id)
            if path is None:
                return self._last_copy(record, form)
            return PlacedImage(path, None, frame=split_frame(record.image_id)[1])
        name = f"images/{split}/{file_name}"
        if (row := self._moved_from(name, record, file_name)) is not None:
            # Keep the entry, so that the next export sees the move too.
            path, plan = self._destination.path(name), Plan(self._ledger.at(row).name, row=row)
            return PlacedImage(path, plan, converted=self._ledger.at(row).digest != record.digest)
        if form.convert:
            return self._converted(record, form, split)
        if (there := self._in_dataset(name, record)) and there.is_linked_well:
            return PlacedImage(there.path, there.plan)
        if there is None and (moved := self._moved(name, record, file_name)):
            return moved
        path = self.originals.find(record.image_id)
        if path is None:
            return self._last_copy(record, form)

        def make() -> None:
            self._destination.bring(path, name, self._link)
            if self.originals.verify and digest_at(path) != record.digest:
                raise ImageError("the image has changed since it was labeled; label it again")

        if there is not None:  # the right content, but not linked as requested
            with one_file():
                make()
                stamp = self._destination.stamp(name)
                put = Operation("put", name, "", stamp, record.digest, record.digest, record.image_id)
            return PlacedImage(path, Plan(name, operation=put))
        plan = self._planner.plan(name, record.digest, record.image_id, make)
        if plan.edited and plan.row is None:
            raise ImageError(
                f"the dataset has another file with its name, {self._destination.path(name)}; rename one of them"
            )
        return PlacedImage(path, plan)

    def _converted(self, record: ImageRecord, form: ImageForm, split: str) -> PlacedImage | None:
        name = f"images/{split}/{form.file_name}"
        others = [f"images/{other}/{form.file_name}" for other in SPLITS if other != split]
        if (found := self._converter.existing(record, name, others)) is not None:
            at, path, plan = found
            return PlacedImage(path, plan, "" if at == name else at.split("/")[1], converted=True)
        if self.originals.find(record.image_id) is None:
            return self._last_copy(record, form)
        try:
            path, plan = self._converter.made(record, name)
        except ImageError:
            if (there := self._last_copy(record, form)) is None:
                raise
            return there
        return PlacedImage(path, plan, converted=True)

    def _shows(self, name: str, record: ImageRecord) -> bool:
        """Whether a file of the dataset has the content of the image, or was converted from it."""
        return self._destination.digest(name) == record.digest or self._is_converted(name, record)

    def has_converted(self, record: ImageRecord, file_name: str) -> bool:
        """Whether the dataset has a PNG of the image under this name."""
        return any(self._is_converted(f"images/{split}/{file_name}", record) for split in SPLITS)

    def _is_converted(self, name: str, record: ImageRecord) -> bool:
        return source_at(self._destination.path(name)).digest == record.digest

    def _in_dataset(self, name: str, record: ImageRecord) -> _InDataset | None:
        """The image file ``name`` of the dataset, if it is as labeled or edited by the user."""
        row = self._ledger.row(name)
        if row is None or not (stamp := self._destination.stamp(name)):
            return None
        path, entry = self._destination.path(name), self._ledger.at(row)
        pair = pair_of(path, self.originals.root / record.image_id)
        if pair is not None and _is_original(pair, record, entry):  # a change of the input is no edit of the dataset
            plan = Plan(name, entry=Entry(name, stamp, record.digest, record.image_id))
            if entry.digest == record.digest:
                self._planner.stamps[row] = stamp
                plan = Plan(name, row=row)
        else:
            seen = self._planner.look(name)
            if not seen.is_ours and not self._planner.overwrite:
                return _InDataset(path, Plan(name, row=row, edited=True), is_linked_well=True)
            if not seen.digest == entry.digest == record.digest:
                return None
            plan = Plan(name, row=row)
        is_known = plan.row is None or entry.stamp != ""
        is_symlink = stamp.startswith("link:")
        is_linked_well = pair is None or pair.is_linked_well(self._link, is_symlink=is_symlink, is_known=is_known)
        return _InDataset(path, plan, is_linked_well)

    def _moved(self, name: str, record: ImageRecord, file_name: str) -> PlacedImage | None:
        """The image with a plan to move it here from another split of the dataset."""
        for split in SPLITS:
            source = f"images/{split}/{file_name}"
            if source == name or (there := self._in_dataset(source, record)) is None or not there.is_linked_well:
                continue
            with one_file():
                if self._destination.checked_stamp(name) or there.plan.edited:
                    continue
            move = Operation("move", name, source, digest=record.digest, image_id=record.image_id)
            return PlacedImage(there.path, Plan(name, operation=move))
        return None

    def _last_copy(self, record: ImageRecord, form: ImageForm) -> PlacedImage | None:
        """The image file in the dataset, in either form, edited or not, since there is no other copy."""
        for file_name, split in product(form.file_names, SPLITS):
            name = f"images/{split}/{file_name}"
            seen = self._planner.look(name)
            if not seen.stamp:
                continue
            path = self._destination.path(name)
            if seen.row is not None and not seen.is_ours:
                return PlacedImage(path, Plan(name, row=seen.row, edited=True), split, file_name=file_name)
            digest = seen.digest or self._destination.digest(name)
            if digest == record.digest or self._is_converted(name, record):
                plan = Plan(name, entry=Entry(name, seen.stamp, digest, record.image_id))
                converted = digest != record.digest
                return PlacedImage(path, plan, split, file_name=file_name, converted=converted)
        return None

    def _moved_from(self, name: str, record: ImageRecord, file_name: str) -> int | None:
        """The ledger row of the image, if the user moved its file to ``name``."""
        if self._ledger.row(name) is not None or not self._destination.stamp(name):
            return None
        gone = self._gone(file_name)
        return gone[0] if gone and self._shows(name, record) else None

    def _gone(self, file_name: str) -> list[int]:
        """The ledger rows of files that showed the image and are no longer there."""
        names = [f"images/{split}/{file_name}" for split in SPLITS]
        rows = [(name, row) for name in names if (row := self._ledger.row(name)) is not None]
        return [row for name, row in rows if not self._destination.stamp(name)]


class _InDataset(NamedTuple):
    """An image file of the dataset; ``is_linked_well`` if it is linked or copied as the settings say."""

    path: AnyPath
    plan: Plan
    is_linked_well: bool


def _is_original(pair: Pair, record: ImageRecord, entry: Entry) -> bool:
    """Whether a file is a link to the image in the input or, if its stamp is unknown, has its size and time."""
    return pair.is_one_file or (pair.is_alike and not entry.stamp and entry.digest == record.digest)


def label_name(split: str, file_name: str) -> str:
    """The label file of an image, both as paths in the dataset."""
    folder, _, name = f"images/{split}/{file_name}".rpartition("/")
    before, _, after = f"/{folder}/".rpartition("/images/")  # as ``labeler.formats.yolo.label_path``
    stem, _, suffix = name.rpartition(".")
    return f"{before}/labels/{after}".strip("/") + f"/{stem if stem and suffix else name}.txt"
