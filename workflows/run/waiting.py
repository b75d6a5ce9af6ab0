"""The shards that wait to be labeled. Their images are read from the manifest while they are asked for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from labeler.files.image_table import ImageTable
from workflows.run.manifest import Indices, Manifest
from workflows.run.shard import Shard
from workflows.run.shard_files import ShardFiles, pass_of


class WaitingShards:
    """Shards of a manifest, in order; the manifest stays as it is meanwhile.

    Args:
        index: int32 ``(n,)``, of the shards, sorted.

    Attributes:
        images: the number of their images.
    """

    def __init__(self, manifest: Manifest, files: ShardFiles, index: Indices) -> None:
        self._manifest, self._files, self.index = manifest, files, index
        planned = manifest.shards()
        chosen = np.isin(planned.index, index, assume_unique=True)
        self.images = int(planned.images[chosen].sum())
        self._superseded = self.images - int(planned.current[chosen].sum())

    def __len__(self) -> int:
        return len(self.index)

    def __iter__(self) -> Iterator[Shard]:
        if not len(self):
            return
        for index, rows in self._manifest.by_shard(self.index):
            yield Shard(index, tuple(rows.column(0).to_pylist()), self._files.path(index))

    def by_pass(self) -> Iterator[tuple[int, WaitingShards]]:
        """The shards of each labeling pass, by its number."""
        passes = pass_of(self.index)
        for number in np.unique(passes).tolist():
            yield number, WaitingShards(self._manifest, self._files, self.index[passes == number])

    def count_images(self, images: ImageTable) -> int:
        """The number of different images, most of them among ``images``."""
        if not self._superseded and len(np.unique(pass_of(self.index))) <= 1:
            return self.images
        known, others = np.zeros(len(images), bool), set[str]()
        for rows in self._manifest.of_shards(self.index):
            positions, _ = images.look_up(rows.column(0))
            known[positions[positions >= 0]] = True
            others.update(rows.column(0).filter(pa.array(positions < 0)).to_pylist())
        return int(known.sum()) + len(others)
