"""What a person is to look at, the most uncertain first, and what was decided on it.

An index of all instances is held, a few numbers each; records are read again when they are looked at.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from labeler.decisions import Decided, Decision, decide, distinct, latest
from labeler.errors import UsageError
from labeler.files.images import DecodedImage
from labeler.geometry.masks import rle_area, rle_box_xyxy
from labeler.geometry.polygons import mask_to_outlines
from labeler.quality import Judgement, effective_thresholds, judge, ranking_score
from labeler.records import ImageRecord, Instance
from workflows.dataset.decision_log import append_decisions, by_image, read_decisions
from workflows.dataset.labeled import Labeled

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

HumanVerdict = Literal["accept", "reject"]
_UNDECIDED, _ACCEPTED, _REJECTED = 0, 1, 2
_ITEM = np.dtype(
    [
        ("image", np.int32),
        ("place", np.int32),  # in the record
        ("in_review", np.bool_),
        ("doubt", np.float32),  # distance of the joint score to where its class is accepted
        ("decided", np.int8),
    ]
)
IMAGES_A_CHUNK = 4096


@dataclass(frozen=True)
class _Step:
    """A decision of this session: what was appended can be taken back by appending ``undo``."""

    number: int
    undo: tuple[Decision, ...]


class ReviewQueue:
    """Instances by number; a number once given stays, and what comes to light while reviewing gets the next ones.

    Args:
        verdicts: of the thresholds, that instances are taken of: ``accept``, ``review``, ``reject``.
        class_names: whose instances are taken; none for all.

    Raises:
        UsageError: one of ``class_names`` is not a class of the folder.
    """

    def __init__(
        self, labeled: Labeled, verdicts: Collection[str] = ("review",), class_names: Collection[str] = ()
    ) -> None:
        self.class_names: Sequence[str] = labeled.ontology.class_names
        for name in class_names:
            if name not in self.class_names:
                raise UsageError(f"--class {name}: no class of this dataset; those are {', '.join(self.class_names)}")
        self.labeled = labeled
        self._verdicts = frozenset(verdicts)
        self._classes = {id_ for id_, name in enumerate(self.class_names) if not class_names or name in class_names}
        self._decisions = by_image(read_decisions(labeled.run))
        self._lock = threading.Lock()
        self._steps: list[_Step] = []
        self._images: list[tuple[AnyPath, int]] = []  # by number: where its record is
        items = np.concatenate([np.zeros(0, _ITEM), *self._chunks()])
        order = np.lexsort((items["place"], items["image"], items["doubt"], ~items["in_review"]))
        self._items: NDArray[np.void] = items[order]

    def __len__(self) -> int:
        return len(self._items)

    def progress(self, after: int = -1) -> dict[str, Any]:
        """How many there are and were decided, and the first behind ``after``, or of all, that is undecided."""
        decided = self._items["decided"]
        undecided = np.flatnonzero(decided == _UNDECIDED)
        behind = undecided[undecided > after]
        return {
            "total": len(self._items),
            "accepted": int((decided == _ACCEPTED).sum()),
            "rejected": int((decided == _REJECTED).sum()),
            "next": int((behind if behind.size else undecided)[0]) if undecided.size else None,
        }

    def item(self, number: int) -> dict[str, Any]:
        """All that is to be shown of one instance, as JSON can hold it.

        Raises:
            IndexError: there is no such number.
            FormatError: the records are not what they were.
        """
        image, place, record = self._locate(number)
        decided = self._decide(record)
        raw, decision = record.instances[place], decided.matched.get(place)
        # What it was given is shown also if it was rejected then.
        class_name, rle = self.class_names[raw.class_id], raw.rle
        if decision is not None:
            class_name, rle = decision.names[1][0] or class_name, decision.new_rle or rle
        area = rle_area(rle)
        judgement = self._judge(record)[place]
        return {
            "number": number,
            "mark": _mark(raw),
            "image": image,
            "image_id": record.image_id,
            "width": record.width,
            "height": record.height,
            "class": class_name,
            "found_as": self.class_names[raw.class_id],
            "prompt": raw.prompt,
            "scores": {
                "joint": raw.joint_score,
                "detector": raw.score,
                "mask": raw.mask_score,
                "stability": raw.stability,
            },
            "verdict": judgement.verdict,
            "reason": judgement.reason,
            "decided": decision.verdict if decision else None,
            "box": rle_box_xyxy(rle) if area else raw.box_xyxy,
            "area": area,
            "outline": "".join(f"M{' '.join(map(str, line.ravel().tolist()))}Z" for line in mask_to_outlines(rle)),
        }

    def image(self, image: int) -> DecodedImage:
        """An image as it was labeled.

        Raises:
            IndexError: there is no such number.
            ImageError: the image is nowhere.
        """
        record = self._record(image)
        return self.labeled.image(record.image_id, record.digest)

    def decide(self, number: int, verdict: HumanVerdict, class_name: str | None = None, mark: str = "") -> None:
        """Keep a decision; when this returns it is on disk.

        Args:
            class_name: the class that is accepted; None for the one that is shown.
            mark: of the item as it was shown; empty for whatever there is.

        Raises:
            IndexError: there is no such number.
            UsageError: there is no such class, or another instance has taken the place of the one shown.
            OSError: it could not be written; then nothing has changed.
        """
        if class_name is not None and class_name not in self.class_names:
            raise UsageError(f"{class_name}: no class of this dataset")
        with self._lock:
            image, place, record = self._locate(number)
            item = record.instances[place]
            if mark not in ("", _mark(item)):
                raise UsageError("the images were labeled anew meanwhile; start the review again")
            now = Decision(record.image_id, verdict, self.class_names[item.class_id], item.rle)
            decided = self._decide(record)
            before, behind = decided.matched.get(place), decided.behind.get(place, [])
            if before is not None:
                class_name = class_name or before.names[1][0]
                if before.rle is None or any(self._is_on(before, each) for each in record.instances):
                    now = replace(before, verdict=verdict)
                else:  # it was made on another model's mask
                    now = replace(now, new_rle=before.new_rle)
            if class_name is not None:
                now = replace(now, new_class=None if class_name == now.class_name else class_name)
            # All others on this object are taken back, so that there is one word on it.
            stale = [replace(each, verdict="none") for each in behind if each.key != now.key]
            undo = (replace(now, verdict="none"), *behind)
            self._append(record, [*stale, now])
            self._steps.append(_Step(number, undo))
            self._refresh(image, record)

    def undo(self) -> int | None:
        """Take the last decision of this session back; its number, or None if there is none left."""
        with self._lock:
            if not self._steps:
                return None
            step = self._steps[-1]
            image, _, record = self._locate(step.number)
            self._append(record, list(step.undo))
            self._steps.pop()
            self._refresh(image, record)
            return step.number

    def _chunks(self) -> Iterator[NDArray[np.void]]:
        rows: list[tuple[int, int, bool, float, int]] = []
        for image, (path, row, record) in enumerate(self.labeled.placed()):
            self._images.append((path, row))
            rows += self._rows(image, record)
            if image % IMAGES_A_CHUNK == 0:
                yield np.array(rows, _ITEM)
                rows = []
        yield np.array(rows, _ITEM)

    def _rows(self, image: int, record: ImageRecord) -> Iterator[tuple[int, int, bool, float, int]]:
        """The items of one image."""
        config, classes = self.labeled.export.quality, self.labeled.ontology.classes
        judgements = self._judge(record)
        decided = self._decide(record)
        now = self._judge(decided.record, decided) if decided.verdicts else judgements
        for place in distinct(record.instances, [judgement.verdict for judgement in judgements]):
            item, judgement = record.instances[place], judgements[place]
            # What a person rejected may have hidden what the thresholds alone would take.
            wanted = judgement.verdict in self._verdicts or (
                now[place].verdict in self._verdicts and not now[place].by_hand
            )
            if wanted and item.class_id in self._classes:
                threshold = effective_thresholds(config, classes[item.class_id]).accept_score
                doubt = abs(ranking_score(item, config.score) - threshold)
                yield image, place, judgement.verdict == "review", doubt, _state(decided.matched.get(place))

    def _refresh(self, image: int, record: ImageRecord) -> None:
        """Bring the items of an image up to date; new ones come last."""
        where = np.flatnonzero(self._items["image"] == image)
        known = dict(zip(self._items["place"][where].tolist(), where.tolist(), strict=True))
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
        self._decisions[record.image_id] = latest([*self._decisions.get(record.image_id, ()), *decisions])

    def _locate(self, number: int) -> tuple[int, int, ImageRecord]:
        if not 0 <= number < len(self._items):
            raise IndexError(f"there is no item {number}")
        image, place = int(self._items["image"][number]), int(self._items["place"][number])
        return image, place, self._record(image)

    def _record(self, image: int) -> ImageRecord:
        if not 0 <= image < len(self._images):
            raise IndexError(f"there is no image {image}")
        return self.labeled.record_at(*self._images[image])

    def _decide(self, record: ImageRecord) -> Decided:
        return decide(record, self._decisions.get(record.image_id, ()), self.class_names)

    def _is_on(self, decision: Decision, item: Instance) -> bool:
        """Whether that instance, as it was found, is what was decided on."""
        return decision.names[0] == (self.class_names[item.class_id], item.rle["counts"])

    def _judge(self, record: ImageRecord, decided: Decided | None = None) -> list[Judgement]:
        by_hand = decided.verdicts if decided else None
        return judge(record, self.labeled.export.quality, self.labeled.ontology.classes, by_hand)


def _mark(item: Instance) -> str:
    """What tells an instance from another in its place."""
    return hashlib.blake2b(b"%d %s" % (item.class_id, item.rle["counts"]), digest_size=8).hexdigest()


def _state(decision: Decision | None) -> int:
    if decision is None:
        return _UNDECIDED
    return _ACCEPTED if decision.verdict == "accept" else _REJECTED
