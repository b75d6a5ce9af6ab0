"""The unit of work: a shard of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath


@dataclass(frozen=True)
class Shard:
    """Some images and the file for their records."""

    index: int
    image_ids: tuple[str, ...]
    records_path: AnyPath

    @property
    def attempts_path(self) -> AnyPath:
        return self.records_path.parent.parent / "attempts" / f"{self.index:06d}.json"
