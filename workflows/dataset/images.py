"""Plan the image files of a dataset, which come from the input or from the existing dataset.

If the input is gone, the dataset may hold the last copy of an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from labeler.errors import ImageError, RunError
from labeler.files.conversion import source_at
from labeler.files.frames import file_of, split_frame
from labeler.files.image_config import ImageConfig
from labeler.files.images import digest_at, image_digest
from labeler.files.paths import FileInfo
from labeler.files.storage import as_local, info, is_in_another_store, scan, storage_of
from labeler.formats.splits import SPLITS
from workflows.dataset.conversion import Converter
from workflows.dataset.file_names import is_converted
from workflows.dataset.journal import Operation
from workflows.dataset.ledger import Entry
from workflows.dataset.links import is_rewritten_by_trainers
from workflows.dataset.planning import Plan, Planner, one_file

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from labeler.records import ImageRecord


@dataclass(frozen=True, slots=True)
class PlacedImage:
    """An image and the plan for its file in the dataset.

    Attributes:
        path: where the image is now.
        plan: for its file; None if the dataset contains no image files.
        split: the split that the image must stay in; empty if it may move.
        frame: the number of a further frame in the file at ``path``.
    """

    path: AnyPath
    plan: Plan | None
    split: str = ""
    frame: int = 0


class Originals:
    """The images of the input.

    Args:
        root: the folder or URI of the input.
        verify: accept an image only if its content is what was labeled; used if the user did not name ``root``.
        refusal: why ``root`` must not be read; empty if it may.
        reading: how the images were read when they were labeled.
    """

    def __init__(
        self, root: AnyPath, verify: bool = False, refusal: str = "", reading: ImageConfig | None = None
    ) -> None:
        self.root = root
        self.reading = reading or ImageConfig()
        self.verify = verify
        self._refusal = refusal
        self._folder = lru_cache(maxsize=4)(self._list)

    def find(self, name: str) -> AnyPath | None:
        """The path of the image; None if it does not exist. A store is listed one folder at a time.

        Raises:
            RunError: ``root`` must not be read.
        """
        if self._refusal:
            raise RunError(self._refusal)
        name = file_of(name)
        folder, _, base = name.rpartition("/")
        path = self.root / name
        listed = self._folder(folder) if storage_of(self.root).is_remote else None
        file = info(path) if listed is None else listed.get(base)
        return None if file is None or file.is_folder else path

    def has(self, name: str, digest: str) -> bool:
        """Whether the input is known to hold the image with this content."""
        return not self._refusal and self.find(name) is not None and image_digest(self.root, name) == digest

    def may_hold(self, name: str) -> bool:
        """Whether the image exists; True if ``root`` must not be read."""
        return bool(self._refusal) or self.find(name) is not None

    def _list(self, folder: str) -> dict[str, FileInfo] | None:
        """The files of a folder by name; None if the store does not list all of them."""
        if str(self.root).startswith(("http://", "https://")):
            return None
        try:
            return {file.name: file for file in scan(self.root / folder if folder else self.root)}
        except FileNotFoundError:
            return {}
        except PermissionError:
            return None


def may_be_asked(root: AnyPath, output: AnyPath) -> bool:
    """Whether an input that only a run folder names may be read: if it is local or in the store of the output."""
    return not is_in_another_store(root, output)


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
        self._converter = Converter(planner, originals.root, originals.reading)

    def split_of(self, record: ImageRecord, file_name: str, split: str) -> str:
        """The split of an image: the one where the user edited its files or moved them to, else ``split``."""
        for other in SPLITS:
            names = (f"images/{other}/{file_name}", label_name(other, file_name))
            if self._moved_from(names[0], record, file_name) is not None:
                return other
            if other != split and not self._planner.overwrite and any(map(self._planner.is_edited, names)):
                return other
        return split

    def place_image(self, record: ImageRecord, file_name: str, split: str) -> PlacedImage | None:
        """The image of ``record`` with a plan for its file; None if it is neither in the input nor in the dataset.

        Raises:
            ImageError: the image cannot be read, or another file has its name.
        """
        if self._link == "none":
            path = self.originals.find(record.image_id)
            if path is None:
                return self._last_copy(record, file_name)
            return PlacedImage(path, None, frame=split_frame(record.image_id)[1])
        name = f"images/{split}/{file_name}"
        if (row := self._moved_from(name, record, file_name)) is not None:
            # Keep the entry, so that the next export sees the move too.
            return PlacedImage(self._destination.path(name), Plan(self._ledger.at(row).name, row=row))
        if is_converted(record.image_id):
            return self._converted(record, file_name, split)
        if (there := self._in_dataset(name, record)) and self._is_linked_well(name, record, there):
            return there
        if there is None and (moved := self._moved(name, record, file_name)):
            return moved
        path = self.originals.find(record.image_id)
        if path is None:
            return self._last_copy(record, file_name)

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

    def _converted(self, record: ImageRecord, file_name: str, split: str) -> PlacedImage | None:
        name = f"images/{split}/{file_name}"
        others = [f"images/{other}/{file_name}" for other in SPLITS if other != split]
        if (found := self._converter.existing(record, name, others)) is not None:
            at, path, plan = found
            return PlacedImage(path, plan, "" if at == name else at.split("/")[1])
        if self.originals.find(record.image_id) is None:
            return None
        return PlacedImage(*self._converter.made(record, name))

    def _shows(self, name: str, record: ImageRecord) -> bool:
        """Whether a file of the dataset has the content of the image, or was converted from it."""
        if self._destination.digest(name) == record.digest:
            return True
        return is_converted(record.image_id) and source_at(self._destination.path(name)) == record.digest

    def _in_dataset(self, name: str, record: ImageRecord) -> PlacedImage | None:
        """The image file ``name`` of the dataset, if it is as labeled or edited by the user."""
        row = self._ledger.row(name)
        if row is None or not (stamp := self._destination.stamp(name)):
            return None
        path, entry = self._destination.path(name), self._ledger.at(row)
        if self._is_original(path, record, entry):  # a change of the input is not an edit of the dataset
            if entry.digest == record.digest:
                self._planner.stamps[row] = stamp
                return PlacedImage(path, Plan(name, row=row))
            return PlacedImage(path, Plan(name, entry=Entry(name, stamp, record.digest, record.image_id)))
        seen = self._planner.look(name)
        if not seen.is_ours and not self._planner.overwrite:
            return PlacedImage(path, Plan(name, row=row, edited=True))
        return PlacedImage(path, Plan(name, row=row)) if seen.digest == entry.digest == record.digest else None

    def _is_original(self, path: AnyPath, record: ImageRecord, entry: Entry) -> bool:
        """Whether a file is a link to the image in the input or, if its stamp is unknown, has its size and time."""
        original, file = as_local(self.originals.root / record.image_id), as_local(path)
        if original is None or file is None:
            return False
        try:
            ours, theirs = file.stat(), original.stat()
        except (OSError, ValueError):
            return False
        is_alike = (ours.st_size, ours.st_mtime_ns) == (theirs.st_size, theirs.st_mtime_ns)
        is_same = (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)
        return is_same or (is_alike and not entry.stamp and entry.digest == record.digest)

    def _is_linked_well(self, name: str, record: ImageRecord, there: PlacedImage) -> bool:
        """Whether the file is linked or copied as ``link`` requests."""
        path, original = as_local(self._destination.path(name)), as_local(self.originals.root / record.image_id)
        if (there.plan and there.plan.edited) or path is None or original is None:
            return True
        if not original.is_file():
            return True
        is_same = path.samefile(original)
        if self._link == "copy":
            return not is_same
        if not is_same:  # a copy or a clone
            return self._link == "hard" or is_rewritten_by_trainers(original)
        row = there.plan.row if there.plan else None
        is_known = row is None or self._ledger.at(row).stamp != ""
        return path.is_symlink() == (self._link == "symlink") and (is_known or not is_rewritten_by_trainers(original))

    def _moved(self, name: str, record: ImageRecord, file_name: str) -> PlacedImage | None:
        """The image with a plan to move it here from another split of the dataset."""
        for split in SPLITS:
            source = f"images/{split}/{file_name}"
            if source == name or (there := self._in_dataset(source, record)) is None or there.plan is None:
                continue
            if not self._is_linked_well(source, record, there):
                continue
            with one_file():
                self._destination.check(name)
                if there.plan.edited or self._destination.stamp(name):
                    continue
            move = Operation("move", name, source, digest=record.digest, image_id=record.image_id)
            return PlacedImage(there.path, Plan(name, operation=move))
        return None

    def _last_copy(self, record: ImageRecord, file_name: str) -> PlacedImage | None:
        """The image file in the dataset, edited or not, since there is no other copy."""
        for split in SPLITS:
            name = f"images/{split}/{file_name}"
            seen = self._planner.look(name)
            if not seen.stamp:
                continue
            path = self._destination.path(name)
            if seen.row is not None and not seen.is_ours:
                return PlacedImage(path, Plan(name, row=seen.row, edited=True), split)
            if seen.digest == record.digest or self._shows(name, record):
                digest = seen.digest or self._destination.digest(name)
                entry = Entry(name, seen.stamp, digest, record.image_id)
                return PlacedImage(path, Plan(name, entry=entry), split)
        return None

    def _moved_from(self, name: str, record: ImageRecord, file_name: str) -> int | None:
        """The ledger row of the image, if the user moved its file to ``name``."""
        if self._ledger.row(name) is not None or not self._destination.stamp(name):
            return None
        for split in SPLITS:
            row = self._ledger.row(before := f"images/{split}/{file_name}")
            if row is not None and not self._destination.stamp(before) and self._shows(name, record):
                return row
        return None


def label_name(split: str, file_name: str) -> str:
    """The label file of an image, both as paths in the dataset."""
    folder, _, name = f"images/{split}/{file_name}".rpartition("/")
    before, _, after = f"/{folder}/".rpartition("/images/")  # as ``labeler.formats.yolo.label_path``
    stem, _, suffix = name.rpartition(".")
    return f"{before}/labels/{after}".strip("/") + f"/{stem if stem and suffix else name}.txt"
