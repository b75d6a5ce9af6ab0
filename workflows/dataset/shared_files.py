"""The files of a dataset that are about all images: COCO files and verdicts. They are assembled only if they change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from labeler.files.documents import load_json
from labeler.files.storage import write_bytes
from labeler.formats.coco import HEAD, CocoWriter
from labeler.formats.splits import SPLITS
from workflows.dataset.dataset import Dataset
from workflows.dataset.images import PlacedImage
from workflows.dataset.journal import VERDICTS
from workflows.dataset.judged_shards import FOLDER, JudgedShard
from workflows.dataset.judging import JudgedImage
from workflows.dataset.verdicts import VerdictWriter

if TYPE_CHECKING:
    from workflows.settings.export import ExportConfig

ASSEMBLED = f"run/{FOLDER}/assembled.json"  # what the files were last made of, and their digests


class CocoFiles:
    """Writes the COCO files of a dataset, one image at a time; none if they are not asked for.

    Args:
        building: the folder to write them in, under their later names.
        class_names: by class id.
        more: splits with images, besides those that a dataset always has.

    Attributes:
        names: of the files, by split.
    """

    def __init__(
        self,
        building: Path,
        class_names: Sequence[str],
        config: ExportConfig,
        head: str = HEAD,
        more: Collection[str] = (),
    ) -> None:
        self.names = coco_names(config, more)
        self._writers: dict[str, CocoWriter] = {}
        self._stack = ExitStack()
        for split, name in self.names.items():
            path = building / name
            path.parent.mkdir(parents=True, exist_ok=True)
            writer = CocoWriter(path, class_names, config.segmentation, head)
            self._writers[split] = self._stack.enter_context(writer)

    def add(self, split: str, file_name: str, width: int, height: int, annotations: Sequence[str]) -> None:
        """Add an image with its ``coco_annotations``."""
        if split in self._writers:
            self._writers[split].add_made(file_name, width, height, annotations)

    def __enter__(self) -> CocoFiles:
        return self

    def __exit__(self, error: type[BaseException] | None, *details: object) -> None:
        self._stack.__exit__(error, *details)  # type: ignore[arg-type]


def coco_names(config: ExportConfig, more: Collection[str] = ()) -> dict[str, str]:
    """The COCO files of a dataset, by split; arguments as in ``CocoFiles``."""
    if "coco" not in config.formats:
        return {}
    wanted = {"train", "val", *(["test"] if config.test_share else []), *more}
    return {split: f"annotations/instances_{split}.json" for split in SPLITS if split in wanted}


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
        self._assembled: bytes | None = None
        self._content = hashlib.blake2b(
            repr((HEAD, tuple(class_names), tuple(coco_names(config)))).encode(), digest_size=16
        )

    def leave_out(self) -> None:
        """The next image is not in the dataset."""
        self.splits.append(0)

    def add(self, image: JudgedImage, placed: PlacedImage, file_name: str, split: str) -> None:
        """The next image is in ``split``."""
        name = file_name if self._config.link != "none" else str(placed.path)
        if name != image.record.image_id:
            self._names[len(self.splits)] = name
        self.splits.append(SPLITS.index(split) + 1)
        self._content.update(f"{image.content} {split} {name}\0".encode(errors="surrogateescape"))

    def plan(self, shards: Iterable[JudgedShard]) -> None:
        """Plan the files; ``shards`` are those of the images, in the same order."""
        if not self._keep():
            digests = self._assemble(shards)
            self._assembled = json.dumps({"content": self._content.hexdigest(), "digests": digests}).encode()

    def published(self) -> None:
        """Remember what the files were made of, once they are published."""
        if self._assembled:
            write_bytes(self._dataset.destination.path(ASSEMBLED), self._assembled)

    def _keep(self) -> bool:
        """Plan to keep the files if they are there, and are what would be assembled."""
        files, destination = self._dataset.files, self._dataset.destination
        names = coco_names(self._config, self._present()).values()
        try:
            last = load_json(destination.path(ASSEMBLED))
            digests: dict[str, str] = last["digests"]
            if last["content"] != self._content.hexdigest() or destination.digest(VERDICTS) != digests[VERDICTS]:
                return False
            plans = [files.kept(name, digests[name]) for name in names]
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return False
        kept = [plan for plan in plans if plan is not None]
        if len(kept) == len(plans):
            self._dataset.commit(kept)
        return len(kept) == len(plans)

    def _assemble(self, shards: Iterable[JudgedShard]) -> dict[str, str]:
        """Write the files; returns their digests by name."""
        building, files = self._dataset.destination.building, self._dataset.files
        coco = CocoFiles(building, self._class_names, self._config, more=self._present())
        row = 0
        with coco, VerdictWriter(building / VERDICTS) as verdicts:
            for shard in shards:
                splits = self.splits[row : row + len(shard.table)]
                verdicts.add(shard.table.filter(pa.array([split > 0 for split in splits])))
                columns = (
                    shard.table.column(each).to_pylist() for each in ("image_id", "width", "height", "annotations")
                )
                for split, image_id, width, height, annotations in zip(splits, *columns, strict=True):
                    if split:
                        lines = annotations.split("\n") if annotations else []
                        coco.add(SPLITS[split - 1], self._names.get(row, image_id), width, height, lines)
                    row += 1
        digests = {name: files.digest_made(name) for name in (*coco.names.values(), VERDICTS)}
        self._dataset.commit([files.plan_made(name, digest=digests[name]) for name in coco.names.values()])
        self._dataset.publish_beside(VERDICTS)
        return digests

    def _present(self) -> list[str]:
        return [SPLITS[number - 1] for number in sorted(set(self.splits)) if number]
