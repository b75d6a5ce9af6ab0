"""How images come into a dataset: from the input, or from where the dataset has them already.

The dataset may hold the last copy of an image, once the input is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from labeler.errors import ImageError, RunError
from labeler.files.images import digest_at
from labeler.files.storage import FileInfo, info, scan, store_of
from labeler.formats.yolo import label_path
from workflows.dataset.journal import Operation
from workflows.dataset.ledger import Entry
from workflows.dataset.links import is_rewritten_by_trainers
from workflows.dataset.planning import Plan, Planner, one_file

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from labeler.records import ImageRecord

SPLITS = ("train", "val")


@dataclass(frozen=True, slots=True)
class PlacedImage:
    """An image with a place in the dataset.

    Attributes:
        path: where its content is now.
        plan: of its file; None where images stay where they are.
        split: where the dataset has it, if it must stay there.
    """

    path: AnyPath
    plan: Plan | None
    split: str = ""


class Originals:
    """The images of the input.

    Args:
        root: the input's folder or URI.
        verify: take an image only if its content is the labeled one; for a ``root`` that nobody named in this run.
        refusal: why ``root`` must not be asked; empty if it may.
    """

    def __init__(self, root: AnyPath, verify: bool = False, refusal: str = "") -> None:
        self.root = root
        self.verify = verify
        self._refusal = refusal
        self._folder = lru_cache(maxsize=4)(self._list)

    def find(self, name: str) -> AnyPath | None:
        """The image, if it is there; a store is asked for a folder at a time.

        Raises:
            RunError: ``root`` must not be asked.
        """
        if self._refusal:
            raise RunError(self._refusal)
        folder, _, base = name.rpartition("/")
        path = self.root / name
        listed = None if isinstance(path, Path) else self._folder(folder)
        found = info(path) if listed is None else listed.get(base)
        return None if found is None or found.is_folder else path

    def has(self, name: str, digest: str) -> bool:
        """Whether it is known to hold the image with that content."""
        return not self._refusal and (path := self.find(name)) is not None and digest_at(path) == digest

    def may_hold(self, name: str) -> bool:
        """Whether the image is there, as far as ``root`` may be asked."""
        return bool(self._refusal) or self.find(name) is not None

    def _list(self, folder: str) -> dict[str, FileInfo] | None:
        """By name; None if the store does not tell all that it holds."""
        if not isinstance(self.root, Path) and self.root.protocol in ("http", "https"):
            return None
        try:
            return {found.name: found for found in scan(self.root / folder if folder else self.root)}
        except FileNotFoundError:
            return {}
        except PermissionError:
            return None


def may_be_asked(root: AnyPath, output: AnyPath) -> bool:
    """Whether an input that only a run folder names may be read: a folder here may, and the output's own store."""
    return isinstance(root, Path) or (not isinstance(output, Path) and store_of(root) == store_of(output))


class ImagePlanner:
    """Makes a plan for the file of one image at a time.

    Args:
        link: as in ``ExportConfig``.
    """

    def __init__(self, planner: Planner, originals: Originals, link: str) -> None:
        self.originals = originals
        self._planner = planner
        self._place, self._ledger = planner.place, planner.ledger
        self._link = link

    def split_of(self, record: ImageRecord, file_name: str, split: str) -> str:
        """The split that an image belongs to: where the user edited its label or image, or moved it, else ``split``."""
        for other in SPLITS:
            names = (f"images/{other}/{file_name}", label_name(other, file_name))
            if self._moved_from(names[0], record, file_name) is not None:
                return other
            if other != split and not self._planner.overwrite and any(map(self._planner.is_edited, names)):
                return other
        return split

    def place_image(self, record: ImageRecord, file_name: str, split: str) -> PlacedImage | None:
        """The image of ``record``, with a plan for its file; None if it is neither in the input nor in the dataset.

        Raises:
            ImageError: it cannot be read, or its place is taken.
        """
        if self._link == "none":
            path = self.originals.find(record.image_id)
            return PlacedImage(path, None) if path is not None else self._last_copy(record, file_name)
        name = f"images/{split}/{file_name}"
        if (row := self._moved_from(name, record, file_name)) is not None:  # the entry stays, and tells it next time
            return PlacedImage(self._place.path(name), Plan(self._ledger.at(row).name, row=row))
        if (there := self._in_dataset(name, record)) and self._is_linked_well(name, record, there):
            return there
        if there is None and (moved := self._moved(name, record, file_name)):
            return moved
        path = self.originals.find(record.image_id)
        if path is None:
            return self._last_copy(record, file_name)

        def make() -> None:
            self._place.bring(path, name, self._link)
            if self.originals.verify and digest_at(path) != record.digest:
                raise ImageError("it is another image than was labeled; label it again")

        if there is not None:  # the right content, but linked in another way than asked for
            with one_file():
                make()
                stamp = self._place.stamp(name)
                put = Operation("put", name, "", stamp, record.digest, record.digest, record.image_id)
            return PlacedImage(path, Plan(name, operation=put))
        plan = self._planner.plan(name, record.digest, record.image_id, make)
        if plan.edited and plan.row is None:
            raise ImageError(f"another file has its place in the dataset, {self._place.path(name)}; rename one of them")
        return PlacedImage(path, plan)

    def _in_dataset(self, name: str, record: ImageRecord) -> PlacedImage | None:
        """The image where the dataset has it under ``name``, as it was labeled or as the user edited it."""
        row = self._ledger.row(name)
        if row is None or not (stamp := self._place.stamp(name)):
            return None
        path, entry = self._place.path(name), self._ledger.at(row)
        if self._is_original(path, record, entry):  # a change of the input is no edit of the dataset
            if entry.digest == record.digest:
                self._planner.stamps[row] = stamp
                return PlacedImage(path, Plan(name, row=row))
            return PlacedImage(path, Plan(name, entry=Entry(name, stamp, record.digest, record.image_id)))
        seen = self._planner.look(name)
        if not seen.is_ours and not self._planner.overwrite:
            return PlacedImage(path, Plan(name, row=row, edited=True))
        return PlacedImage(path, Plan(name, row=row)) if seen.digest == entry.digest == record.digest else None

    def _is_original(self, path: AnyPath, record: ImageRecord, entry: Entry) -> bool:
        """Whether a file is a link to the image in the input; of unknown stamp, also a copy of its size and time."""
        original = self.originals.root / record.image_id
        if not isinstance(original, Path) or not isinstance(path, Path):
            return False
        try:
            ours, theirs = path.stat(), original.stat()
        except (OSError, ValueError):
            return False
        is_alike = (ours.st_size, ours.st_mtime_ns) == (theirs.st_size, theirs.st_mtime_ns)
        is_same = (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)
        return is_same or (is_alike and not entry.stamp and entry.digest == record.digest)

    def _is_linked_well(self, name: str, record: ImageRecord, there: PlacedImage) -> bool:
        """Whether the file came into the dataset in the way that ``link`` asks for."""
        path, original = self._place.path(name), self.originals.root / record.image_id
        if (there.plan and there.plan.edited) or not isinstance(path, Path) or not isinstance(original, Path):
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
        """The image with a plan to move it here from the split where the dataset has it."""
        for split in SPLITS:
            source = f"images/{split}/{file_name}"
            if source == name or (there := self._in_dataset(source, record)) is None or there.plan is None:
                continue
            if not self._is_linked_well(source, record, there):
                continue
            with one_file():
                self._place.check(name)
                if there.plan.edited or self._place.stamp(name):
                    continue
            move = Operation("move", name, source, digest=record.digest, image_id=record.image_id)
            return PlacedImage(there.path, Plan(name, operation=move))
        return None

    def _last_copy(self, record: ImageRecord, file_name: str) -> PlacedImage | None:
        """The image where the dataset has it, whatever was done to it: there is no other."""
        for split in SPLITS:
            name = f"images/{split}/{file_name}"
            seen = self._planner.look(name)
            if not seen.stamp:
                continue
            path = self._place.path(name)
            if seen.row is not None and not seen.is_ours:
                return PlacedImage(path, Plan(name, row=seen.row, edited=True), split)
            if (seen.digest or self._place.digest(name)) == record.digest:
                entry = Entry(name, seen.stamp, record.digest, record.image_id)
                return PlacedImage(path, Plan(name, entry=entry), split)
        return None

    def _moved_from(self, name: str, record: ImageRecord, file_name: str) -> int | None:
        """The entry of the image where this tool had put it, if the user moved it from there to ``name``."""
        if self._ledger.row(name) is not None or not self._place.stamp(name):
            return None
        for split in SPLITS:
            row = self._ledger.row(before := f"images/{split}/{file_name}")
            if row is not None and not self._place.stamp(before) and self._place.digest(name) == record.digest:
                return row
        return None


def label_name(split: str, file_name: str) -> str:
    """The label file of an image, by its name in the dataset."""
    return label_path(Path("images", split, file_name)).as_posix()
