"""What a person decided on instances, kept apart from the records so that it outlives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from labeler.errors import FormatError
from labeler.masks import Rle, rle_runs

Verdict = Literal["accept", "reject", "none"]


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision on one instance; a later one on the same instance takes its place.

    Attributes:
        image_id: as in the records.
        verdict: ``none`` takes an earlier decision back.
        class_name, rle: of the instance, as it was shown; None both for an object that a person added.
        new_class, new_rle: what is accepted in their place; None leaves the class or mask as it is.
    """

    image_id: str
    verdict: Verdict
    class_name: str | None
    rle: Rle | None
    new_class: str | None = None
    new_rle: Rle | None = None

    def to_row(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "image_id": self.image_id,
            "verdict": self.verdict,
            "class": self.class_name,
            "mask": _to_json(self.rle),
            "new_class": self.new_class,
            "new_mask": _to_json(self.new_rle),
        }

    @classmethod
    def from_row(cls, row: Any) -> Decision:
        """Raises: FormatError: ``row`` is not what ``to_row`` makes."""
        try:
            if row["verdict"] not in ("accept", "reject", "none"):
                raise ValueError(f"verdict {row['verdict']!r} is none of accept, reject, none")
            texts = (row["image_id"], *(row.get(key) or "" for key in ("class", "new_class")))
            if not all(isinstance(text, str) for text in texts):
                raise ValueError("image_id, class and new_class must be text")
            decision = cls(
                row["image_id"],
                row["verdict"],
                row.get("class"),
                _from_json(row.get("mask")),
                row.get("new_class"),
                _from_json(row.get("new_mask")),
            )
            if (decision.class_name is None) != (decision.rle is None):
                raise ValueError("class and mask go together")
            if decision.rle is None and not (decision.new_class and decision.new_rle):
                raise ValueError("an object that was added needs new_class and new_mask")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            cause = f"{error} is missing" if isinstance(error, KeyError) else error
            raise FormatError(f"not a decision ({cause})") from error
        return decision


def _to_json(rle: Rle | None) -> dict[str, Any] | None:
    return None if rle is None else {"size": rle["size"], "counts": rle["counts"].decode("ascii")}


def _from_json(content: Any) -> Rle | None:
    if content is None:
        return None
    height, width = content["size"]
    rle: Rle = {"size": [int(height), int(width)], "counts": content["counts"].encode("ascii")}
    rle_runs(rle)
    return rle
