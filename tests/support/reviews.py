"""Labeled folders to review, and queues and servers on them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from labeler.decisions import Decision, latest
from labeler.record_files import read_records
from labeler.records import Instance
from tests.support.run_folders import ONTOLOGY, instance, make_run
from tests.support.run_settings import run_settings
from workflows.dataset.decision_log import read_decisions
from workflows.dataset.labeled import open_labeled
from workflows.review.assistant import Assistant, PromptedSegmenter
from workflows.review.queue import ReviewQueue
from workflows.review.server import ReviewServer
from workflows.run.folder import RunFolder
from workflows.settings.review_sets import SELECTIONS

# Dogs are accepted from a joint score of 0.30 on and reviewed from a detector score of 0.30 on; mask scores are 0.9.
SURE, NEAR, FAR, POOR = (instance(0, score, left) for score, left in ((0.8, 0), (0.33, 15), (0.31, 30), (0.1, 44)))


def labeled(folder: Path, instances: tuple[Instance, ...], *image_ids: str) -> RunFolder:
    run, root = make_run(folder, list(image_ids or ("a.png",)), instances)
    run.settings.write(run_settings(root, ONTOLOGY))
    return run


def queue_of(run: RunFolder, verdict: str = "review", *class_names: str) -> ReviewQueue:
    return ReviewQueue(open_labeled(run.output), SELECTIONS[verdict], class_names)


def places(queue: ReviewQueue) -> list[tuple[str, int]]:
    """Image and left edge of what is shown, in order."""
    items = [queue.item(number) for number in range(len(queue))]
    return [(item["image_id"], item["box"][0]) for item in items]


def on(item: Instance, verdict: Any = "accept", image_id: str = "a.png", **values: Any) -> Decision:
    return Decision(image_id, verdict, ONTOLOGY.class_names[item.class_id], item.rle, **values)


def saved(run: RunFolder) -> list[Decision]:
    """The last decision on each object, as ``checked``."""
    return latest(checked(run, read_decisions(run)))


def checked(run: RunFolder, decisions: Sequence[Decision]) -> list[Decision]:
    """``decisions`` without their ids, after checking that each id names the instance of the record that it is on."""
    records = {record.image_id: record for record in read_records(run.record_paths())}
    for each in decisions:
        record = records.get(each.image_id)
        if record is not None and each.instance is not None and each.instance.index < len(record.instances):
            instance = record.instances[each.instance.index]
            assert (each.instance.digest, each.instance.labeling_pass) == (record.digest, 0)
            assert each.subject == (ONTOLOGY.class_names[instance.class_id], instance.rle["counts"])
    return [replace(each, instance=None) for each in decisions]


@contextlib.contextmanager
def serving(
    run: RunFolder, verdict: str = "review", load: Callable[[], PromptedSegmenter] | None = None
) -> Iterator[ReviewServer]:
    """The server of a page; with ``load`` it draws masks."""
    queue = queue_of(run, verdict)
    with ReviewServer(queue, assistant=None if load is None else Assistant(queue, load)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
