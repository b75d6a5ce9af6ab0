"""Decisions that people make on instances, kept apart from the records so that they outlive them.

A decision names its image and its instance. Labeling an image again can give the same id to another instance, so a
decision also holds the instance's class and mask as they were: the id counts only where both still agree, and where
they do not, class and mask find the object again, see ``labeler.decided``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from labeler.errors import FormatError
from labeler.files.image_ids import check_image_id
from labeler.geometry.masks import Rle, checked_rle
from labeler.instance_ids import InstanceId
from labeler.migrations import VERSIONS, migrate

Verdict = Literal["accept", "reject", "none"]
Appearance = tuple[str, bytes]  # class name and RLE counts: what instances of one image are compared by


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision on one instance; a later one on the same instance replaces it.

    Attributes:
        image_id: as in the records. Copies of an image are decided on separately, although their instances have the
            same ids.
        verdict: ``none`` takes an earlier decision back.
        class_name, rle: the instance's class and mask, as its record has them; both None for an object that a person
            added. A decision on an added object has the class and mask that it was given.
        new_class, new_rle: the class and mask to accept instead; None leaves them as they are.
        instance: None for an object that a person is adding, and in decisions of the first version.
    """

    image_id: str
    verdict: Verdict
    class_name: str | None
    rle: Rle | None
    new_class: str | None = None
    new_rle: Rle | None = None
    instance: InstanceId | None = None

    @property
    def outcome(self) -> tuple[str, Rle]:
        """Class and mask that the instance has after this decision is accepted."""
        class_name, rle = self.new_class or self.class_name, self.new_rle or self.rle
        assert class_name is not None  # an added object has both, see from_row
        assert rle is not None
        return class_name, rle

    @property
    def subject(self) -> Appearance:
        """What the decision was made on; of an added object, what was added."""
        if self.class_name is None or self.rle is None:
            class_name, rle = self.outcome
            return class_name, rle["counts"]
        return self.class_name, self.rle["counts"]

    @property
    def looks(self) -> set[Appearance]:
        """The subject, and what it looks like after the decision is accepted."""
        class_name, rle = self.outcome
        return {self.subject, (class_name, rle["counts"])}

    def to_row(self) -> dict[str, Any]:
        """The decision as JSON. Without an instance id it is a row of the first version, which stated no version."""
        row = {
            "image_id": self.image_id,
            "verdict": self.verdict,
            "class": self.class_name,
            "mask": _to_json(self.rle),
            "new_class": self.new_class,
            "new_mask": _to_json(self.new_rle),
        }
        if self.instance is None:
            return row
        return {"version": VERSIONS["decisions"], "instance": str(self.instance), **row}

    @classmethod
    def from_row(cls, row: Any) -> Decision:
        """The inverse of ``to_row``; rows of earlier versions are read too.

        Raises:
            FormatError: ``row`` is not what ``to_row`` makes.
            RunError: it is of a newer version.
        """
        if isinstance(row, dict):
            row = migrate("decisions", row, "a decision")
        try:
            if row["verdict"] not in ("accept", "reject", "none"):
                raise ValueError(f"verdict {row['verdict']!r} is none of accept, reject, none")
            texts = (row["image_id"], *(row.get(key) or "" for key in ("class", "new_class")))
            if not all(isinstance(text, str) for text in texts):
                raise ValueError("image_id, class and new_class must be text")
            check_image_id(row["image_id"])
            for text in texts:
                text.encode()  # half a surrogate pair is not text
            instance = row.get("instance")
            decision = cls(
                row["image_id"],
                row["verdict"],
                row.get("class"),
                _from_json(row.get("mask")),
                row.get("new_class"),
                _from_json(row.get("new_mask")),
                None if instance is None else InstanceId.from_text(instance),
            )
            if (decision.class_name is None) != (decision.rle is None):
                raise ValueError("class and mask go together")
            if decision.rle is None and not (decision.new_class and decision.new_rle):
                raise ValueError("an object that was added needs new_class and new_mask")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            cause = f"{error} is missing" if isinstance(error, KeyError) else error
            raise FormatError(f"not a decision ({cause})") from error
        return decision


def latest(decisions: Iterable[Decision]) -> list[Decision]:
    """The last decision on each class and mask of an image, in the order they were made."""
    last: dict[tuple[str, bool, Appearance], Decision] = {}
    for decision in decisions:
        key = decision.image_id, decision.rle is None, decision.subject
        last.pop(key, None)
        last[key] = decision
    return list(last.values())


def _to_json(rle: Rle | None) -> dict[str, Any] | None:
    return None if rle is None else {"size": rle["size"], "counts": rle["counts"].decode("ascii")}


def _from_json(content: Any) -> Rle | None:
    return None if content is None else checked_rle(content)
