from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from workflows.engines import attendance
from workflows.engines.attendance import Attendance
from workflows.engines.handing_out import MOST_SHARDS, Queue, next_size
from workflows.engines.resources import Node, Pool
from workflows.run.shard import Shard


def shards(count: int) -> Iterator[Shard]:
    """One by one, and only once."""
    return (Shard(index, (f"{index}.png",), Path(f"{index}.parquet")) for index in range(count))


@pytest.mark.parametrize("workers", [1, 3, 32])
@pytest.mark.parametrize("count", [1, 2, 31, 1000])
@pytest.mark.parametrize("most", [1, 7, MOST_SHARDS])
def test_every_shard_is_handed_out_once_and_the_last_blocks_are_small(workers: int, count: int, most: int) -> None:
    queue, blocks = Queue(shards(count), count, workers), []
    while block := queue.take(most):
        blocks.append([shard.index for shard in block])
        assert len(queue) == count - sum(map(len, blocks))
    assert [index for block in blocks for index in block] == list(range(count))
    assert max(map(len, blocks)) <= most
    left = count
    for block in blocks:  # none is more than a quarter of a worker's share of what was left
        assert len(block) == 1 or 4 * workers * len(block) <= left
        left -= len(block)
    assert queue.take(most) == []


def test_shards_that_come_back_go_first() -> None:
    queue = Queue(shards(40), 40, 1)
    lost = queue.take(8)
    assert [shard.index for shard in lost] == list(range(8))
    queue.give_back(lost[3:])
    assert len(queue) == 37
    assert [shard.index for shard in queue.take(8)] == [3, 4, 5, 6, 7, 8, 9, 10]
    while queue.take(8):
        pass
    queue.give_back(lost[:1])
    assert [shard.index for shard in queue.take(8)] == [0]
    assert (queue.take(8), len(queue)) == ([], 0)


def test_blocks_grow_only_while_shards_are_quick() -> None:
    assert [next_size(4, seconds) for seconds in (0.1, 0.7, 3.0)] == [8, 4, 2]
    assert (next_size(1, 100.0), next_size(MOST_SHARDS, 0.0)) == (1, MOST_SHARDS)


def test_lost_room_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, said = [Node(2, 0), Node(2, 1), Node(2, 1)], list[str]()
    monkeypatch.setattr(attendance, "nodes_alive", lambda: nodes)
    watched = Attendance(Pool(2, 1, 1), said.append)
    assert watched.may_begin
    watched.note(2)
    del nodes[2]
    watched.note(1)
    watched.note(0)
    assert said == ["workers were lost; continuing with 1 worker of 1 GPU and 1 CPU"]
