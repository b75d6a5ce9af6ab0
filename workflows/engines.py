"""Engines: who labels the shards. An engine takes shards and yields one report a shard, whatever the order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from labeler.labelers import Labeler
from ontologies import Ontology
from workflows.run_folder import Shard
from workflows.shards import ShardReport, label_shards

if TYPE_CHECKING:
    from labeler.storage import AnyPath


def run_local(
    shards: Sequence[Shard], root: AnyPath, labeler: Labeler, ontology: Ontology, batch_size: int
) -> Iterator[ShardReport]:
    """Label in this process, one shard after the other."""
    return label_shards(shards, root, labeler, ontology, batch_size)
