"""Edited label and COCO files of a dataset, taken in as decisions: ``labeler review OUT --from OUT``.

Every edited file is compared with what the last export wrote into it. An image whose files cannot be taken as they are
gets no decision, and its files stay.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from labeler.decided import Decided, decide
from labeler.decisions import Decision
from labeler.errors import FormatError
from labeler.files.images import content_digest
from labeler.formats.label_edits import read_label_file
from labeler.formats.parts import group_of
from labeler.formats.yolo import yolo_labels
from labeler.geometry.polygon_rule import PolygonRule
from labeler.geometry.simplification import yolo_drawn
from labeler.instance_ids import InstanceId
from labeler.quality import judge
from labeler.records import ImageRecord, instance_ids
from workflows.dataset.decision_log import by_image, read_decisions
from workflows.dataset.journal import VERDICTS
from workflows.dataset.last_export import as_last_exported
from workflows.dataset.verdicts import SavedVerdict, read_verdicts
from workflows.review.edited_coco import EditedCocoFile
from workflows.review.edited_files import EditedFile, EditedFiles, find_edited
from workflows.review.edits import UNCHANGED, Change, Drawn, WrittenImage, change_of

if TYPE_CHECKING:
    from workflows.dataset.labeled import Labeled

logger = logging.getLogger(__name__)

_UNCERTAIN = (
    "the dataset was written with other thresholds, labels or decisions since, so nothing tells what was edited in it; "
    "decide on this image on the page of `labeler review`"
)


@dataclass
class DatasetEdits:
    """What was edited in a dataset.

    Attributes:
        files: number of edited files.
        taken: those whose content is in ``decisions`` now.
        faults: a line for each image and file that cannot be taken in.
    """

    files: int = 0
    decisions: list[Decision] = field(default_factory=list)
    taken: list[EditedFile] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def taken_in(self) -> dict[str, str]:
        """The digests of ``taken`` by name, as ``apply_decisions`` takes them."""
        return {file.name: file.digest for file in self.taken}


def dataset_edits(labeled: Labeled) -> DatasetEdits:
    """The edits in the dataset of ``labeled``.

    Raises:
        UsageError: what was edited cannot be told.
        RunError: the run folder cannot be used.
    """
    files = find_edited(labeled)
    edits = DatasetEdits(len(files.labels) + len(files.coco))
    if edits.files:
        with tempfile.TemporaryDirectory(prefix="labeler-") as folder, ExitStack() as stack:
            coco = [EditedCocoFile(group, file, labeled, Path(folder), stack) for group, file in files.coco.items()]
            _collect(labeled, files, coco, edits, stack)
    return edits


@dataclass(frozen=True)
class _Found:
    """The changes of one image, or faults, and where they are."""

    image_id: str
    label_file: EditedFile | None
    in_label_file: Change | str
    label_file_is_certain: bool  # it is known what it held when it was written
    coco: EditedCocoFile | None
    in_coco: Change | str
    by_hand: frozenset[InstanceId]  # the instances that people have decided on by now
    states: Sequence[WrittenImage]  # what the image was after each decision on it

    def files(self) -> list[str]:
        """The names of the edited files that say something about the image."""
        names = [self.label_file.name] if self.label_file else []
        return [*names, self.coco.file.name] if self.coco and _says_something(self.in_coco) else names


def _says_something(change: Change | str) -> bool:
    return isinstance(change, str) or bool(change.decisions)


def _collect(
    labeled: Labeled, files: EditedFiles, coco: Sequence[EditedCocoFile], edits: DatasetEdits, stack: ExitStack
) -> None:
    found = list(_find(labeled, files, coco))
    stack.close()  # which finishes the files of the writers
    certain = {each.group: not each.fault and each.is_as_exported() for each in coco}
    stuck = set[str]()  # names of files that stay
    for each in coco:
        faults = each.faults()
        edits.faults += (f"{each.file.name}: {fault}" for fault in faults)
        if each.absent:
            text = "%s: %d images are not in it, such as %r; they get no decision, and are written again"
            logger.warning(text, each.file.name, len(each.absent), each.absent[0])
        stuck.update([each.file.name] if faults else [])
    for image in found:
        outcome = _outcome(image, image.coco is not None and certain[image.coco.group], labeled.polygon_rules)
        if isinstance(outcome, str):
            edits.faults.append(outcome)
            stuck.update(image.files())
        else:
            edits.decisions += outcome
    known = {image.image_id for image in found}
    for image_id, file in files.labels.items():
        if image_id not in known:
            edits.faults.append(f"{file.name}: {image_id} is not labeled any more")
            stuck.add(file.name)
    edited = [*files.labels.values(), *(each.file for each in coco)]
    edits.taken = [file for file in edited if file.name not in stuck]


def _find(labeled: Labeled, files: EditedFiles, coco: Sequence[EditedCocoFile]) -> list[_Found]:
    """The images with an edited label file, and those with a change in a COCO file."""
    saved, decisions = (
        read_verdicts(labeled.run.output / VERDICTS),
        by_image(read_decisions(labeled.run, labeled.ontology)),
    )
    found = []
    for record in labeled.records():
        label_file = files.labels.get(record.image_id)
        name = _name(labeled, files, record)
        in_file = next((each for each in coco if _is_in(each, _group(labeled, files, record.image_id), name)), None)
        if record.status == "error" or (label_file is None and in_file is None):
            continue
        on_image = decisions.get(record.image_id, [])
        image = _written(labeled, record, name, saved.get(record.image_id, []), on_image)
        in_coco = UNCHANGED if in_file is None or in_file.fault else in_file.add(image)
        if label_file is None and not _says_something(in_coco):
            continue
        states = [_after(labeled, record, name, on_image[:count]) for count in range(len(on_image) + 1)]
        in_label_file, is_certain = _label_change(label_file, image, states, labeled.polygon_rules)
        now = decide(record, on_image, labeled.ontology.class_names)
        ids = instance_ids(now.record)
        by_hand = frozenset(ids[index] for index in now.verdicts)
        found.append(_Found(record.image_id, label_file, in_label_file, is_certain, in_file, in_coco, by_hand, states))
    return found


def _name(labeled: Labeled, files: EditedFiles, record: ImageRecord) -> str:
    """What COCO calls an image."""
    if labeled.export.link == "none":
        return str(labeled.root / record.image_id)
    return files.file_names.get(record.image_id, record.image_id)


def _group(labeled: Labeled, files: EditedFiles, image_id: str) -> str | None:
    """Which COCO file the image is in; None if that is not known."""
    split = files.splits.get(image_id)
    return None if split is None else group_of(split, image_id, labeled.export.dataset_shards)


def _is_in(coco: EditedCocoFile, group: str | None, name: str) -> bool:
    return coco.group == group if group is not None else name in coco.content.annotations


def _written(
    labeled: Labeled, record: ImageRecord, name: str, saved: Sequence[SavedVerdict], decisions: Sequence[Decision]
) -> WrittenImage:
    """The image as the last export wrote it, or as the next one would if it was labeled again since."""
    decided = as_last_exported(record, saved, decisions, labeled.ontology.class_names)
    if decided is None:
        return _after(labeled, record, name, decisions)
    verdicts = [each.verdict for each in saved]
    return WrittenImage(name, decided, _exported(decided, verdicts, labeled.export.include_review))


def _after(labeled: Labeled, record: ImageRecord, name: str, decisions: Sequence[Decision]) -> WrittenImage:
    """The image as an export writes it with today's settings and these decisions."""
    decided = decide(record, decisions, labeled.ontology.class_names)
    judgements = judge(decided.record, labeled.export.quality, labeled.ontology.classes, decided.verdicts)
    verdicts = [each.verdict for each in judgements]
    return WrittenImage(name, decided, _exported(decided, verdicts, labeled.export.include_review))


def _exported(decided: Decided, verdicts: Sequence[str], include_review: bool) -> tuple[int, ...]:
    wanted = ("accept", "review") if include_review else ("accept",)
    instances = decided.record.instances
    return tuple(n for n, verdict in enumerate(verdicts) if verdict in wanted and instances[n].area)


def _drawn_by(rules: Iterable[PolygonRule]) -> Drawn:
    """As ``change_of`` takes it, of label files: as Ultralytics reads them."""
    return lambda rle: {yolo_drawn(rle, rule)["counts"] for rule in rules}


def _label_change(
    file: EditedFile | None, image: WrittenImage, states: Sequence[WrittenImage], rules: Collection[PolygonRule]
) -> tuple[Change | str, bool]:
    """The change in a label file, and whether it is known what the file held when it was written."""
    if file is None:
        return UNCHANGED, True
    written = next(
        (
            state
            for state in (image, *reversed(states))
            if any(content_digest(yolo_labels(state.kept, rule).encode()) == file.written for rule in rules)
        ),
        None,
    )
    base = written or image
    record = base.decided.record
    try:
        labels = read_label_file(file.data, record.width, record.height, base.decided.class_names)
    except FormatError as error:
        return str(error), True
    return change_of(base, labels, _drawn_by(rules)), written is not None


def _outcome(image: _Found, coco_is_certain: bool, rules: Collection[PolygonRule]) -> list[Decision] | str:
    """The decisions on an image, or a line that says why there is none."""
    changes = []
    if image.coco is not None:
        in_coco = _settled(image.in_coco, image.states, coco_is_certain, image.coco.drawn)
        if isinstance(in_coco, str):
            return f"{image.coco.file.name}, {image.image_id}: {in_coco}"
        changes += [(image.coco.file.name, in_coco)] if in_coco.decisions else []
    if image.label_file is not None:
        in_label_file = _settled(image.in_label_file, image.states, image.label_file_is_certain, _drawn_by(rules))
        if isinstance(in_label_file, str):
            return f"{image.label_file.name}: {in_label_file}"
        changes += [(image.label_file.name, in_label_file)] if in_label_file.decisions else []
    if not changes:
        return []
    (name, change), *others = changes
    if any(not change.agrees(other) for _, other in others):
        return f"{image.image_id}: {name} and {others[0][0]} were edited differently; undo one of them"
    # What somebody has decided on since the file was written stays decided.
    left = [each for each in change.as_written if each.instance is None or each.instance not in image.by_hand]
    return change.decisions + left  # of two files COCO's, whose masks are exact


def _settled(change: Change | str, states: Sequence[WrittenImage], is_certain: bool, drawn: Drawn) -> Change | str:
    """The change if it is one, or why that cannot be told.

    Args:
        is_certain: the file was written as the change supposes. If not, it may still be as it was written before some
            of the decisions, and then they stand.
    """
    if isinstance(change, str) or not change.decisions or is_certain:
        return change
    if any(not change_of(state, change.labels, drawn).decisions for state in states):
        return UNCHANGED
    return change if change.holds_for_any(states) else _UNCERTAIN
