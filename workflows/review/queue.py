"""What a person is to look at, the most uncertain instances first, and the decisions made in one session.

The queue holds an index of a few numbers per instance; records are read again when they are shown.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from labeler.decided import Decided, decide, distinct
from labeler.decisions import Decision
from labeler.errors import UsageError
from labeler.files.images import DecodedImage
from labeler.files.storage import info
from labeler.geometry.masks import Rle
from labeler.quality import Judgement, effective_thresholds, judge, ranking_score
from labeler.records import ImageRecord, instance_ids
from workflows.dataset.decision_log import append_decisions, by_image, read_decisions
from workflows.dataset.labeled import Labeled
from workflows.review.drawn import drawn_object
from workflows.review.shown import last_verdict, shown_item, shown_look, shown_objects
from workflows.run.shard_records import Place

if TYPE_CHECKING:
    from labeler.files.paths import FileInfo
    from labeler.files.storage import AnyPath

HumanVerdict = Literal["accept", "reject"]
_UNDECIDED, _ACCEPTED, _REJECTED = 0, 1, 2
_STATES: dict[str | None, int] = {None: _UNDECIDED, "accept": _ACCEPTED, "reject": _REJECTED}
LABELED_AGAIN = "the images were labeled again in the meantime; start the review again"
_ITEM = np.dtype(
    [
        ("image", np.int32),
        ("index", np.int32),  # in the record
        ("in_review", np.bool_),
        ("doubt", np.float32),  # distance of the ranking score from the class's accept score
        ("decided", np.int8),
    ]
)
IMAGES_PER_CHUNK = 4096
ADDED = -1  # in place of an item's number: an object that is no item


@dataclass(frozen=True)
class _Step:
    """A decision of this session; appending ``undo`` takes it back."""

    number: int
    image: int
    undo: tuple[Decision, ...]


class ReviewQueue:
    """Instances by number. A number stays the same for the whole session; new instances get the next ones.

    Args:
        verdicts: the gate's verdicts whose instances are shown: ``accept``, ``review``, ``reject``.
        class_names: show only instances of these classes; empty for all.

    Raises:
        UsageError: one of ``class_names`` is not a class of the folder.
    """

    def __init__(
        self, labeled: Labeled, verdicts: Collection[str] = ("review",), class_names: Collection[str] = ()
    ) -> None:
        self.class_names: Sequence[str] = labeled.ontology.class_names
        self.choices: Sequence[str] = labeled.ontology.active_names
        for name in class_names:
            if name not in self.choices:
                raise UsageError(f"--class {name}: not a class of this dataset ({', '.join(self.choices)})")
        self.labeled = labeled
        self._verdicts = frozenset(verdicts)
        self._classes = {id_ for id_, name in enumerate(self.class_names) if name in (class_names or self.choices)}
        self._decisions = by_image(read_decisions(labeled.run, labeled.ontology))
        self._lock = threading.Lock()
        self._steps: list[_Step] = []
        self._images: list[Place] = []  # of each record
        self._files: dict[AnyPath, FileInfo | None] = {}  # what the record files were like when they were read
        items = np.concatenate([np.zeros(0, _ITEM), *self._chunks()])
        order = np.lexsort((items["index"], items["image"], items["doubt"], ~items["in_review"]))
        self._items: NDArray[np.void] = items[order]

    def __len__(self) -> int:
        return len(self._items)

    def progress(self, after: int = -1) -> dict[str, Any]:
        """Counts, and the next undecided item after ``after``, or else the first one; None if all are decided."""
        decided = self._items["decided"]
        undecided = np.flatnonzero(decided == _UNDECIDED)
        following = undecided[undecided > after]
        return {
            "total": len(self._items),
            "accepted": int((decided == _ACCEPTED).sum()),
            "rejected": int((decided == _REJECTED).sum()),
            "next": int((following if following.size else undecided)[0]) if undecided.size else None,
        }

    def item(self, number: int) -> dict[str, Any]:
        """Everything the page shows of one instance, as JSON values.

        Raises:
            IndexError: there is no such number.
            UsageError: the records were written again since the queue was made.
        """
        image, index, record = self._locate(number)
        judgement = self._judge(record)[index]
        return {"number": number, "image": image, **shown_item(self._decide(record), index, judgement)}

    def objects(self, image: int) -> dict[str, Any]:
        """An image and the objects in it, as ``shown_objects``, as JSON values.

        Raises:
            IndexError, UsageError: as ``item``.
        """
        decided = self._decide(self._record(image))
        return {"image": image, **shown_objects(decided, self._judge(decided.record, decided))}

    def mask(self, number: int) -> tuple[int, Rle]:
        """An item's image and the mask that is shown; errors as ``item``."""
        image, index, record = self._locate(number)
        return image, shown_look(self._decide(record), index)[1]

    def digest(self, image: int) -> str:
        """The digest of an image as it was labeled; errors as ``item``."""
        return self._record(image).digest

    def check_digest(self, image: int, digest: str) -> None:
        """Check that an image's record is still that of this content.

        Raises:
            UsageError: the image was labeled again.
        """
        if self.digest(image) != digest:
            raise UsageError(LABELED_AGAIN)

    def image(self, image: int) -> DecodedImage:
        """The image as it was labeled.

        Raises:
            IndexError: there is no such number.
            ImageError: the image is gone.
        """
        record = self._record(image)
        return self.labeled.image(record.image_id, record.digest)

    @property
    def image_count(self) -> int:
        """The number of images, with those that have nothing to decide on."""
        return len(self._images)

    def decide(
        self,
        number: int,
        verdict: HumanVerdict,
        class_name: str | None = None,
        instance: str = "",
        rle: Rle | None = None,
    ) -> None:
        """Save a decision; when this returns it is on disk.

        Args:
            class_name: the class to accept; None for the one that is shown.
            instance: the id of the item as it was shown; empty skips the check.
            rle: the mask to accept, which the person drew; None for the one that is shown.

        Raises:
            IndexError: there is no such number.
            UsageError: there is no such class, or the image was labeled again since the item was shown.
            OSError: the decision could not be written; then nothing has changed.
        """
        self._check_class(class_name)
        with self._lock:
            image, index, record = self._locate(number)
            if instance not in ("", str(instance_ids(record)[index])):
                raise UsageError(LABELED_AGAIN)
            decided = self._decide(record)
            shown_class, shown_rle = decided.outcomes.get(index, (None, None))
            now = decided.decision(index, verdict, class_name or shown_class, rle or shown_rle)
            self._save(image, record, number, now, decided.decisions.get(index, []))

    def add(self, image: int, digest: str, class_name: str, rle: Rle) -> None:
        """Save an object that a person drew; when this returns it is on disk. See ``labeler.annotation_tools``.

        Args:
            digest: of the image that it was drawn on.

        Raises:
            IndexError, UsageError, OSError: as ``decide``.
        """
        self._check_class(class_name)
        with self._lock:
            self.check_digest(image, digest)
            record = self._record(image)
            decided = self._decide(record)
            now, index = drawn_object(decided, class_name, rle)
            before = [] if index is None else decided.decisions.get(index, [])
            self._save(image, record, ADDED, now, before)

    def undo(self) -> int | None:
        """Take back the last decision of this session.

        Returns:
            The item's number, or ``ADDED`` for an object that was drawn; None if there is no decision left.
        """
        with self._lock:
            if not self._steps:
                return None
            step = self._steps[-1]
            record = self._record(step.image)
            self._append(record, list(step.undo))
            self._steps.pop()
            self._refresh(step.image, record)
            return step.number

    def _check_class(self, class_name: str | None) -> None:
        if class_name is not None and class_name not in self.choices:
            raise UsageError(f"{class_name}: not a class of this dataset")

    def _save(self, image: int, record: ImageRecord, number: int, now: Decision, before: list[Decision]) -> None:
        # Earlier decisions on the object that this one does not replace, such as one on another model's mask.
        stale = [replace(each, verdict="none") for each in before if each.looks.isdisjoint(now.looks)]
        self._append(record, [*stale, now])
        self._steps.append(_Step(number, image, (replace(now, verdict="none"), *before)))
        self._refresh(image, record)

    def _chunks(self) -> Iterator[NDArray[np.void]]:
        rows: list[tuple[int, int, bool, float, int]] = []
        for image, (place, record) in enumerate(self.labeled.placed()):
            self._images.append(place)
            for _, path, _ in place:
                if path not in self._files:
                    self._files[path] = info(path)
            rows += self._rows(image, record)
            if image % IMAGES_PER_CHUNK == 0:
                yield np.array(rows, _ITEM)
                rows = []
        yield np.array(rows, _ITEM)

    def _rows(self, image: int, record: ImageRecord) -> Iterator[tuple[int, int, bool, float, int]]:
        """The items of one image."""
        config, classes = self.labeled.export.quality, self.labeled.ontology.classes
        judgements = self._judge(record)
        decided = self._decide(record)
        now = self._judge(decided.record, decided) if decided.verdicts else judgements
        for index in distinct(record.instances, [judgement.verdict for judgement in judgements]):
            instance, judgement = record.instances[index], judgements[index]
            # An instance that a person rejected may have suppressed one that the gate would take otherwise.
            wanted = judgement.verdict in self._verdicts or (
                now[index].verdict in self._verdicts and not now[index].by_hand
            )
            if wanted and instance.class_id in self._classes:
                threshold = effective_thresholds(config, classes[instance.class_id]).accept_score
                doubt = abs(ranking_score(instance, config.score) - threshold)
                yield image, index, judgement.verdict == "review", doubt, _STATES[last_verdict(decided, index)]

    def _refresh(self, image: int, record: ImageRecord) -> None:
        """Bring the items of an image up to date; new ones come last."""
        where = np.flatnonzero(self._items["image"] == image)
        known = dict(zip(self._items["index"][where].tolist(), where.tolist(), strict=True))
        new = []
        for row in self._rows(image, record):
            if row[1] in known:
                self._items["decided"][known[row[1]]] = row[4]
            else:
                new.append(row)
        if new:
            self._items = np.concatenate([self._items, np.array(new, _ITEM)])

    def _append(self, record: ImageRecord, decisions: list[Decision]) -> None:
        append_decisions(self.labeled.run, decisions)
        self._decisions.setdefault(record.image_id, []).extend(decisions)

    def _locate(self, number: int) -> tuple[int, int, ImageRecord]:
        if not 0 <= number < len(self._items):
            raise IndexError(f"there is no item {number}")
        image, index = int(self._items["image"][number]), int(self._items["index"][number])
        return image, index, self._record(image)

    def _record(self, image: int) -> ImageRecord:
        if not 0 <= image < len(self._images):
            raise IndexError(f"there is no image {image}")
        place = self._images[image]
        if any(info(path) != self._files[path] for _, path, _ in place):
            raise UsageError(LABELED_AGAIN)  # indices may mean other instances now
        return self.labeled.record_at(place)

    def _decide(self, record: ImageRecord) -> Decided:
        return decide(record, self._decisions.get(record.image_id, ()), self.class_names)

    def _judge(self, record: ImageRecord, decided: Decided | None = None) -> list[Judgement]:
        by_hand = decided.verdicts if decided else None
        return judge(record, self.labeled.export.quality, self.labeled.ontology.classes, by_hand)
