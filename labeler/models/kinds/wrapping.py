"""What is common to the kinds that are wrapped around another one: tiles and consensus."""

from __future__ import annotations

from labeler.errors import UsageError
from labeler.models.kinds.kind import LabelerKind, innermost

NOT_WRAPPABLE = {
    "boxes": "--boxes: the boxes are those of whole images, as they are",
    "everything": "--everything: it has crops of its own, and no words to agree on",
}


def check_wrappable(inner: LabelerKind, flag: str) -> None:
    """Refuse what ``flag`` asks for where it means nothing.

    Raises:
        UsageError: ``inner`` labels whole images only.
    """
    if reason := NOT_WRAPPABLE.get(innermost(inner).kind):
        raise UsageError(f"{flag} is not for {reason}; leave it out")
