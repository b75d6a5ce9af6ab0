"""The local engine: labels one shard after another in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from workflows.engines.workers import WorkerConfig
from workflows.run.batch_size import BatchSize
from workflows.run.shard import Shards
from workflows.run.shard_report import ShardReport
from workflows.run.shards import label_shards
from workflows.settings.engine import EngineConfig

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath


@contextmanager
def local_engine(
    shards: Shards, config: WorkerConfig, engine: EngineConfig, output: AnyPath, say: Callable[[str], None]
) -> Iterator[Iterator[ShardReport]]:
    """Label ``shards`` in this process; yields one report per shard.

    ``engine``, ``output`` and ``say`` are not used; all engines have the same parameters.
    """
    stages, size = config.load_stages(), BatchSize.of(config.model)
    with closing(label_shards(shards, config.root, stages, size, config.reading)) as reports:
        yield reports
