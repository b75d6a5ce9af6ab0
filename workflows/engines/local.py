"""The local engine: labels shards one after another in this process."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from workflows.engines.workers import WorkerConfig
from workflows.run.folder import Shard
from workflows.run.shards import ShardReport, Stages, label_shards


def run_local(shards: Sequence[Shard], config: WorkerConfig, stages: Stages) -> Generator[ShardReport, None, None]:
    """Label in this process, one shard after the other."""
    return label_shards(shards, config.root, stages, config.model.batch_size)
