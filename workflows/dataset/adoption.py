"""What is this tool's in a dataset that a version without a ledger wrote.

``run/verdicts.parquet`` says what the last export decided; with the records it gives the same files again. A file that
differs from them was edited by the user.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from labeler.decisions import Decision, decide
from labeler.errors import ImageError
from labeler.formats.splits import in_validation
from labeler.quality import Judgement
from labeler.records import ImageRecord, read_records
from ontologies import Ontology
from workflows.dataset.dataset import Dataset
from workflows.dataset.decision_log import by_image, read_log
from workflows.dataset.files import DatasetFiles
from workflows.dataset.images import SPLITS, Originals, PlacedImage, label_name
from workflows.dataset.journal import VERDICTS, Operation
from workflows.dataset.ledger import Entry, Ledger, to_table
from workflows.dataset.places import Nowhere, Place, place_of
from workflows.dataset.planning import Plan, Planner
from workflows.dataset.verdicts import SavedVerdict, read_verdicts
from workflows.run.classes import numbered
from workflows.run.folder import RunFolder

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from workflows.settings.export import ExportConfig


def entries_of_last_export(
    run: RunFolder, root: AnyPath, ontology: Ontology, config: ExportConfig, tagged: bool
) -> list[Entry]:
    """The files that the last export wrote, without stamps.

    Args:
        config: the settings of that export.
        tagged: images proposed their own classes.
    """
    saved = read_verdicts(run.output / VERDICTS)
    decisions = by_image(read_log(run))
    place = place_of(run.output)
    records = read_records(run.record_paths())  # also those of images that have changed since
    files: dict[str, str] = {}
    done: set[str] = set()
    imagined = Dataset(Planner(Nowhere(), Ledger(to_table(()))), Originals(root), config.link)
    with imagined, DatasetFiles(imagined, ontology.class_names, config) as writer:
        for record in numbered(records, ontology) if tagged else records:
            image_id = record.image_id
            if image_id not in files:
                files[image_id] = imagined.names.give(image_id)
            if record.status == "error" or image_id in done:
                continue
            found = _as_saved(record, saved.get(image_id, []), decisions.get(image_id, []), ontology.class_names)
            split = SPLITS[in_validation(image_id, config.val_share, config.seed)]
            if found is None or (placed := _placed(place, root, record, files[image_id], split, config)) is None:
                continue
            done.add(image_id)
            with suppress(ImageError):
                writer.add(*found, placed, files[image_id], split)
    return imagined.planned()


def _as_saved(
    record: ImageRecord, saved: Sequence[SavedVerdict], decisions: Sequence[Decision], class_names: Sequence[str]
) -> tuple[ImageRecord, list[Judgement]] | None:
    """The record as the last export had it, and its verdicts; None if that had another one.

    Decisions are only ever added: the last export saw the first few of them.
    """
    for count in range(len(decisions) + 1):
        left = decide(record, decisions[:count], class_names).record
        now = [(each.class_id, np.float32(each.joint_score)) for each in left.instances]
        if now == [(each.class_id, np.float32(each.joint_score)) for each in saved]:
            return left, [Judgement(each.verdict) for each in saved]
    return None


def _placed(
    place: Place, root: AnyPath, record: ImageRecord, file_name: str, split: str, config: ExportConfig
) -> PlacedImage | None:
    """The image as the dataset has it; None if it has not."""
    if config.link == "none":
        has_label = "yolo" not in config.formats or place.stamp(label_name(split, file_name))
        return PlacedImage(root / record.image_id, None) if has_label else None
    name = f"images/{split}/{file_name}"
    if not place.stamp(name):
        return None
    put = Operation("put", name, digest=record.digest, image_id=record.image_id)
    return PlacedImage(place.path(name), Plan(name, operation=put))
