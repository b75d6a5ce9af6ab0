"""Review sets that were sent, as ``run/sent`` keeps them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from labeler.annotation_tools.corrections import SentImage, SentInstance
from labeler.decided import Decided
from labeler.errors import FormatError
from labeler.files.storage import scan
from labeler.migrations import read_json

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from workflows.dataset.labeled import Labeled

_SET_NAME = re.compile(r"([0-9]{6,})\.json")


def sent_instance(decided: Decided, index: int) -> SentInstance:
    return SentInstance("", decided.decision(index), decided.record.instances[index].joint_score)


def read_sent(path: AnyPath) -> tuple[str, list[SentImage]]:
    """A set's id and images, as ``export_review_set`` keeps them.

    Raises:
        FormatError: the file is damaged.
        RunError: it was written by a newer labeler.
    """
    content = read_json("review set", path)
    try:
        images = [SentImage.from_row(row) for row in content["images"]]
        if not isinstance(content["set"], str):
            raise TypeError("its id must be text")
        return content["set"], images
    except FormatError as error:
        raise FormatError(f"{path}: damaged, {error}; move it away to use the other sets") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{path}: damaged ({error!r}); move it away to use the other sets") from error


def sent_path(labeled: Labeled, number: int) -> AnyPath:
    return labeled.run.path / "sent" / f"{number:06d}.json"


def set_numbers(labeled: Labeled) -> list[int]:
    try:
        names = [file.name for file in scan(labeled.run.path / "sent")]
    except FileNotFoundError:
        return []
    return [int(match[1]) for match in map(_SET_NAME.fullmatch, names) if match]
