"""An edited COCO file of a dataset, compared image by image with what the last export made."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from labeler.errors import FormatError
from labeler.files.images import content_digest
from labeler.formats.coco import HEAD, HEAD_WITHOUT_INFO, CocoWriter
from labeler.formats.label_edits import EditedCoco, read_edited_coco
from labeler.geometry.masks import Rle
from labeler.geometry.polygon_rule import EXACT, PolygonRule
from labeler.geometry.simplification import coco_outlines
from workflows.review.edited_files import EditedFile
from workflows.review.edits import UNCHANGED, Change, WrittenImage, change_of

if TYPE_CHECKING:
    from workflows.dataset.labeled import Labeled


class EditedCocoFile:
    """An edited COCO file, and that file as the last export's verdicts make it, in each way of writing masks.

    Args:
        folder: for those files.
        stack: closes them.

    Attributes:
        fault: why the file cannot be read; empty if it can.
        content: empty if it cannot be read.
        group: the split, or part of it, that the file is about.
        seen: names of the images of the group that are in it.
        absent: names of the others, which came later, or which somebody took out.
    """

    def __init__(self, group: str, file: EditedFile, labeled: Labeled, folder: Path, stack: ExitStack) -> None:
        self.group, self.file = group, file
        self.fault = ""
        self.content = EditedCoco({}, {})
        try:
            self.content = read_edited_coco(file.data)
        except FormatError as error:
            self.fault = str(error)
        self.seen: set[str] = set()
        self.absent: list[str] = []
        self._rules = labeled.polygon_rules
        self._paths: list[Path] = []
        self._writers: list[CocoWriter] = []
        for number, (segmentation, rule) in enumerate(_ways(labeled)):
            self._paths.append(folder / f"{group}.{number}.json")
            writer = CocoWriter(self._paths[-1], labeled.ontology.class_names, segmentation, rule=rule)
            self._writers.append(stack.enter_context(writer))

    def add(self, image: WrittenImage) -> Change | str:
        """The change of an image of this group, or why there is none to take."""
        record = image.decided.record
        if image.name not in self.content.annotations:
            self.absent.append(image.name)
            return UNCHANGED
        for writer in self._writers:
            writer.add(image.kept, image.name)
        self.seen.add(image.name)
        try:
            labels = self.content.labels(image.name, record.width, record.height, image.decided.class_names)
        except FormatError as error:
            return str(error)
        return change_of(image, labels, self.drawn)

    def drawn(self, rle: Rle) -> Collection[bytes]:
        """A mask as ``change_of`` takes it: exact, or as pycocotools reads it from polygons."""
        return {outline.drawn["counts"] for rule in self._rules for outline in coco_outlines([rle], rule)}

    def is_as_exported(self) -> bool:
        """Whether the tool wrote the file from the same verdicts. All images were added, and the writers are closed."""
        made = [path.read_bytes() for path in self._paths]
        before = [data.replace(HEAD.encode(), HEAD_WITHOUT_INFO.encode(), 1) for data in made]
        return self.file.written in map(content_digest, (*made, *before))

    def faults(self) -> list[str]:
        """Why the file cannot be replaced by what the decisions make of it."""
        if self.fault:
            return [self.fault]
        unknown = [name for name in self.content.annotations if name not in self.seen]
        images = [f"{len(unknown)} images that do not belong in it, such as {unknown[0]!r}"] if unknown else []
        return self.content.faults + images


def _ways(labeled: Labeled) -> list[tuple[Literal["rle", "polygon"], PolygonRule]]:
    """How the masks in an edited file may have been written, by an export before those that kept the file."""
    if labeled.polygon_rules == {EXACT}:
        return [(labeled.export.segmentation, EXACT)]
    return [("rle", EXACT), *(("polygon", rule) for rule in labeled.polygon_rules)]
