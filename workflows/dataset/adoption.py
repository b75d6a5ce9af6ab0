"""Find the files that the tool wrote in a dataset of an early version, which kept no ledger.

From ``run/verdicts.parquet``, which holds the decisions of the last export, and the records, the same files can be
written again. A file that differs from these was edited by the user.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from labeler.errors import ImageError
from labeler.files.frames import file_path
from labeler.files.storage import read_bytes
from labeler.formats.coco import HEAD, HEAD_WITHOUT_INFO
from labeler.formats.splits import SPLITS, in_validation
from labeler.quality import Judgement
from labeler.record_files import read_records
from labeler.records import ImageRecord
from ontologies import Ontology
from workflows.dataset.dataset import Dataset
from workflows.dataset.decision_log import by_image, read_decisions
from workflows.dataset.destination import Destination, Nowhere, destination_of
from workflows.dataset.files import ImageFiles, plan_class_files
from workflows.dataset.group_files import GroupFiles, GroupImage, Writing, group_files
from workflows.dataset.images import PlacedImage, label_name
from workflows.dataset.journal import VERDICTS, Operation
from workflows.dataset.judging import Judged, JudgedImage, Rules, annotations_of, chosen
from workflows.dataset.known_cutouts import KnownCutouts
from workflows.dataset.known_traits import KnownTraits
from workflows.dataset.last_export import as_last_exported
from workflows.dataset.ledger import Entry, Ledger, to_table
from workflows.dataset.originals import Originals
from workflows.dataset.planning import Plan, Planner
from workflows.dataset.verdicts import read_verdicts
from workflows.run.classes import numbered
from workflows.run.folder import RunFolder

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from workflows.settings.export import ExportConfig


def entries_of_last_export(
    run: RunFolder, root: AnyPath, ontology: Ontology, config: ExportConfig, tagged: bool
) -> list[Entry]:
    """The entries, without stamps, of the files that the last export wrote.

    Args:
        config: the settings of that export.
        tagged: the classes come from tags.
    """
    config = replace(config, simplify=0.0, min_part=0)  # no version without a ledger knew these
    saved = read_verdicts(run.output / VERDICTS)
    decisions = by_image(read_decisions(run, ontology))
    destination = destination_of(run.output)
    records = read_records(run.record_paths())  # including those of images that have changed since
    files: dict[str, str] = {}
    done: set[str] = set()
    imagined = Dataset(Planner(Nowhere(), Ledger(to_table(()))), Originals(root), config.link, layout="nested")
    rules = Rules(ontology, tagged, config)
    splits: set[str] = set()
    with imagined:
        writer = ImageFiles(imagined, ontology.class_names, config)
        cutouts = KnownCutouts(imagined.destination.building / "cutouts.json")
        traits = KnownTraits(imagined.destination.building / "traits.json")
        shared = group_files(config)
        writing = Writing(ontology.class_names, config, _coco_head(destination))
        with GroupFiles(imagined.destination.building, shared, writing) as coco:
            for record in numbered(records, ontology) if tagged else records:
                image_id = record.image_id
                if image_id not in files:
                    files[image_id] = imagined.names.give(image_id)
                if record.status == "error" or image_id in done:
                    continue
                verdicts = saved.get(image_id, [])
                used = as_last_exported(record, verdicts, decisions.get(image_id, []), ontology.class_names)
                split = SPLITS[in_validation(image_id, config.val_share, config.seed)]
                if (
                    used is None
                    or (placed := _placed(destination, root, record, files[image_id], split, config)) is None
                ):
                    continue
                done.add(image_id)
                judgements = [Judgement(each.verdict) for each in verdicts]
                with suppress(ImageError):
                    image = Judged(used, judgements, chosen(judgements, config))
                    writer.add(JudgedImage.of(image, rules, cutouts, traits), placed, files[image_id], split)
                    splits.add(split)
                    name = files[image_id] if config.link != "none" else str(placed.path)
                    annotations = annotations_of(image, rules)
                    coco.add([split], GroupImage(image_id, name, record.width, record.height, annotations))
        imagined.commit([imagined.files.plan_made(name) for name in shared])
        plan_class_files(imagined, ontology.class_names, splits, config)
    return imagined.planned()


def _coco_head(destination: Destination) -> str:
    """How the COCO files that the last export wrote begin."""
    for split in SPLITS:
        with suppress(FileNotFoundError):
            if read_bytes(destination.path(f"annotations/instances_{split}.json")).startswith(HEAD.encode()):
                return HEAD
    return HEAD_WITHOUT_INFO


def _placed(
    destination: Destination, root: AnyPath, record: ImageRecord, file_name: str, split: str, config: ExportConfig
) -> PlacedImage | None:
    """The image file in the dataset; None if there is none."""
    if config.link == "none":
        has_label = "yolo" not in config.formats or destination.stamp(label_name(split, file_name))
        return PlacedImage(file_path(root, record.image_id), None) if has_label else None
    name = f"images/{split}/{file_name}"
    if not destination.stamp(name):
        return None
    put = Operation("put", name, digest=record.digest, image_id=record.image_id)
    return PlacedImage(destination.path(name), Plan(name, operation=put))
