"""The unit of work: a shard of images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

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


class Shards(Protocol):
    """Shards to be labeled, which may be read from disk only while they are asked for; they can be read repeatedly."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Shard]: ...
