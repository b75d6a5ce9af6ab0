"""The files of a dataset that are about many images: verdicts, and those of ``group_files``.

A file is assembled only if what it holds has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pyarrow as pa

from labeler.errors import RunError
from labeler.files.documents import load_json
from labeler.files.frames import file_of, split_frame
from labeler.files.storage import write_bytes
from labeler.formats.coco import HEAD
from labeler.formats.parts import group_of
from labeler.formats.splits import SPLITS
from workflows.dataset.dataset import Dataset
from workflows.dataset.file_names import dataset_suffix, is_converted
from workflows.dataset.group_files import GroupFile, GroupFiles, GroupImage, SampleImage, Writing, group_files
from workflows.dataset.images import PlacedImage
from workflows.dataset.journal import VERDICTS
from workflows.dataset.judged_shards import FOLDER, JudgedShard
from workflows.dataset.judging import JudgedImage
from workflows.dataset.verdicts import VerdictWriter

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from workflows.settings.export import ExportConfig

ASSEMBLED = f"run/{FOLDER}/assembled.json"  # what each file was last made of, and its digest
ALL = ""  # the group of all images
FILES_AT_ONCE = 200  # open while they are assembled
MOST_ANNOTATIONS = 5_000_000  # in a COCO file; pycocotools takes about 2 KB of memory for each


class SharedFiles:
    """Takes note of one image after the other, and then writes the files, or finds that they are up to date.

    Args:
        class_names: by class id.

    Attributes:
        splits: of each image of the shards, one more than its place in ``SPLITS``; 0 for one that is in no split.
    """

    def __init__(self, dataset: Dataset, class_names: Sequence[str], config: ExportConfig) -> None:
        self._dataset, self._class_names, self._config = dataset, class_names, config
        self.splits = bytearray()
        self._names: dict[int, str] = {}  # in COCO, where that is not the image's id
        self._at_original = bytearray()  # whether the image is taken from the input
        self._elsewhere: dict[int, AnyPath] = {}  # where it is, if neither there nor at its place in the dataset
        self._contents: dict[str, hashlib.blake2b] = {}  # by group
        self._annotations: dict[str, int] = {}  # how many, by group
        self._assembled: dict[str, list[str]] = {}

    def leave_out(self) -> None:
        """The next image is not in the dataset."""
        self.splits.append(0)
        self._at_original.append(0)

    def add(self, image: JudgedImage, placed: PlacedImage, file_name: str, split: str) -> None:
        """The next image is in ``split``."""
        row, image_id = len(self.splits), image.record.image_id
        name = file_name if self._config.link != "none" else str(placed.path)
        if name != image_id:
            self._names[row] = name
        self.splits.append(SPLITS.index(split) + 1)
        stamp = self._locate(row, image_id, placed, f"images/{split}/{file_name}")
        form = f"PNG {self._dataset.originals.reading.intensity}" if placed.converted else ""
        text = f"{image.content} {split} {name} {form} {stamp}\0".encode(errors="surrogateescape")
        for group in (ALL, *self._groups(split, image_id)):
            self._content_of(group).update(text)
            self._annotations[group] = self._annotations.get(group, 0) + image.written

    def _groups(self, split: str, image_id: str) -> set[str]:
        """The groups of an image: its split, and its part of that."""
        return {split, group_of(split, image_id, self._config.dataset_shards)}

    def _locate(self, row: int, image_id: str, placed: PlacedImage, name: str) -> str:
        """Note where the image is, and return what tells whether the user edited it again."""
        if "webdataset" not in self._config.formats:
            return ""
        is_original = placed.path == self._original(image_id)
        self._at_original.append(is_original)
        if not is_original and (placed.plan is None or placed.path != self._dataset.destination.path(name)):
            self._elsewhere[row] = placed.path
        return self._dataset.destination.stamp(name) if placed.plan is not None and placed.plan.edited else ""

    def _original(self, image_id: str) -> AnyPath:
        return self._dataset.originals.root / file_of(image_id)

    def _image(self, row: int, image_id: str, split: str) -> SampleImage:
        suffix = dataset_suffix(image_id)
        if self._at_original[row]:
            convert, reading = is_converted(image_id), self._dataset.originals.reading
            frame = split_frame(image_id)[1] if convert else 0
            return SampleImage(self._original(image_id), suffix, frame, convert, reading)
        path = self._elsewhere.get(row)
        if path is None:
            path = self._dataset.destination.path(f"images/{split}/{self._names.get(row, image_id)}")
        return SampleImage(path, PurePosixPath(path.name).suffix or suffix)

    def _content_of(self, group: str) -> hashlib.blake2b:
        if group not in self._contents:
            seed = repr((HEAD, tuple(self._class_names), group, self._config.polygons))
            self._contents[group] = hashlib.blake2b(seed.encode(), digest_size=16)
        return self._contents[group]

    def plan(self, shards: Iterable[JudgedShard]) -> None:
        """Plan the files; ``shards`` are those of the images, in the same order.

        Raises:
            RunError: a COCO file would be too large to read.
        """
        files = group_files(self._config, self._present())
        self._refuse_large(files.values())
        files[VERDICTS] = GroupFile("", ALL)
        last = self._last()
        made = {name: file for name, file in files.items() if not self._keep(name, file.group, last.get(name))}
        rest = iter(made.items())
        while some := dict(islice(rest, FILES_AT_ONCE)):
            self._assemble(shards, some)
        self._assembled |= {name: last[name] for name in files.keys() - made.keys()}
        if self._assembled == last:
            self._assembled = {}

    def published(self) -> None:
        """Remember what the files were made of, once they are published."""
        if self._assembled:
            write_bytes(self._dataset.destination.path(ASSEMBLED), json.dumps(self._assembled).encode())

    def _last(self) -> dict[str, list[str]]:
        """(content, digest) of the files that were last assembled, by name."""
        try:
            last = load_json(self._dataset.destination.path(ASSEMBLED))
            return {name: [str(content), str(digest)] for name, (content, digest) in last.items()}
        except (FileNotFoundError, ValueError, TypeError, AttributeError):
            return {}

    def _refuse_large(self, files: Iterable[GroupFile]) -> None:
        counts = {file: self._annotations.get(file.group, 0) for file in files if file.format in ("coco", "roboflow")}
        if (count := max(counts.values(), default=0)) > MOST_ANNOTATIONS:
            if not any(file.format == "coco" for file in counts if counts[file] == count):
                raise RunError(
                    f"the COCO file of roboflow would hold {count:,} annotations, more than readers can load; choose "
                    "other formats (the dataset is as it was)"
                )
            parts = count * (self._config.dataset_shards or 1) // MOST_ANNOTATIONS + 1
            raise RunError(
                f"a COCO file would hold {count:,} annotations, more than readers can load; add --dataset-shards "
                f"{parts} or more (the dataset is as it was)"
            )

    def _keep(self, name: str, group: str, last: list[str] | None) -> bool:
        """Plan to keep a file if it is there, and is what would be assembled."""
        if last is None or last[0] != self._content_of(group).hexdigest():
            return False
        if name == VERDICTS:
            return self._dataset.destination.digest(VERDICTS) == last[1]
        if (plan := self._dataset.files.kept(name, last[1])) is not None:
            self._dataset.commit([plan])
        return plan is not None

    def _assemble(self, shards: Iterable[JudgedShard], files: dict[str, GroupFile]) -> None:
        dataset, building = self._dataset, self._dataset.destination.building
        grouped = {name: file for name, file in files.items() if name != VERDICTS}
        verdicts = VerdictWriter(building / VERDICTS) if VERDICTS in files else None
        row = 0
        with (
            GroupFiles(building, grouped, Writing(self._class_names, self._config)) as writers,
            verdicts or nullcontext(),
        ):
            for shard in shards:
                splits = self.splits[row : row + len(shard.table)]
                if verdicts:
                    verdicts.add(shard.table.filter(pa.array([split > 0 for split in splits], pa.bool_())))
                if grouped:
                    self._add_to(writers, shard, splits, row)
                row += len(shard.table)
        digests = {name: dataset.files.digest_made(name) for name in files}
        contents = {name: self._content_of(file.group).hexdigest() for name, file in files.items()}
        self._assembled |= {name: [contents[name], digests[name]] for name in files}
        dataset.commit([dataset.files.plan_made(name, digest=digests[name]) for name in grouped])
        if verdicts:
            dataset.publish_beside(VERDICTS)

    def _add_to(self, writers: GroupFiles, shard: JudgedShard, splits: bytearray, first: int) -> None:
        columns = (shard.table.column(each).to_pylist() for each in ("image_id", "width", "height", "annotations"))
        for row, (number, image_id, width, height, text) in enumerate(zip(splits, *columns, strict=True), first):
            split = SPLITS[number - 1]
            if not number or not writers.writes(groups := self._groups(split, image_id)):
                continue
            annotations = text.split("\n") if text else []
            image = self._image(row, image_id, split) if writers.needs_images else None
            name = self._names.get(row, image_id)
            writers.add(groups, GroupImage(image_id, name, width, height, annotations, image))

    def _present(self) -> list[str]:
        return [SPLITS[number - 1] for number in sorted(set(self.splits)) if number]
