"""What a shard's records, people's decisions and the settings give, wherever the images will be placed.

It depends on nothing else, so it can be computed in any process, and kept: see ``workflows.dataset.judged_shards``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pyarrow as pa

from labeler.decided import Decided, decide
from labeler.decisions import Decision
from labeler.files.images import content_digest
from labeler.formats.coco import coco_annotations
from labeler.formats.voc import voc_xml
from labeler.quality import Judgement, Verdict, judge, ranking_score
from labeler.quality_config import Score
from labeler.records import ImageRecord, Instance
from ontologies import Ontology
from workflows.dataset.image_formats import contents_of
from workflows.dataset.known_cutouts import KnownCutouts
from workflows.dataset.known_traits import KnownTraits
from workflows.dataset.polygon_fit import EXACT_FIT, PolygonFit, fit_of
from workflows.run.classes import numbered, with_known_classes
from workflows.run.shard_records import ShardRecords
from workflows.settings.export import ExportConfig

STEPS = 1000  # of scores, in the figures of an export


@dataclass(frozen=True)
class Rules:
    """The settings that decide.

    Attributes:
        ontology: the classes of the dataset.
        tagged: the classes come from tags.
    """

    ontology: Ontology
    tagged: bool
    config: ExportConfig


class Outcome(NamedTuple):
    """What the figures of an export tell of one instance; ``step`` is the score that ranks it, in ``STEPS``."""

    class_id: int
    verdict: Verdict
    reason: str
    by_hand: bool
    step: int


SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("image_id", "digest", "status", "error")),
        *((name, pa.int32()) for name in ("width", "height", "written")),
        ("content", pa.string()),
        ("files", pa.list_(pa.string())),
        ("annotations", pa.string()),
        ("voc", pa.string()),
        ("coco_iou", pa.list_(pa.float64())),
        ("yolo_iou", pa.list_(pa.float64())),
        ("trimmed", pa.int32()),
        ("unmatched", pa.list_(pa.int32())),
        ("class_id", pa.list_(pa.int32())),
        ("verdict", pa.list_(pa.string())),
        ("reason", pa.list_(pa.string())),
        ("by_hand", pa.list_(pa.bool_())),
        ("step", pa.list_(pa.int32())),
        ("joint_score", pa.list_(pa.float32())),
    ]
)
"""A row for each image: fields of its record, and

written: the number of its instances in the dataset.
content: a digest of what COCO files and ``verdicts.parquet`` hold of it.
files: the digests of its files, see ``image_formats.contents_of``.
annotations: the lines of ``coco_annotations``.
voc: the XML of Pascal VOC, without the name of the image file; empty without that format.
coco_iou, yolo_iou, trimmed: the image's ``PolygonFit``.
unmatched: indices of the decisions on it that fit no instance.
the others: a value for each instance, also those that people added.
"""


class Judged(NamedTuple):
    """One image.

    Attributes:
        decided: its record after the decisions; unchanged for an image that failed.
        chosen: indices of the instances that are in the dataset.
    """

    decided: Decided
    judgements: Sequence[Judgement]
    chosen: Sequence[int]

    @property
    def kept(self) -> ImageRecord:
        """The record with the instances that are in the dataset."""
        record = self.decided.record
        return replace(record, instances=tuple(record.instances[index] for index in self.chosen))


class JudgedImage(NamedTuple):
    """One image, as far as an export needs it where little has changed.

    Attributes:
        record: without instances.
        written, content: as in ``SCHEMA``.
        unmatched: decisions on it that fit no instance.
        outcomes: one for each instance.
        digests, voc: ``files`` and ``voc`` of ``SCHEMA``.
        fit: of its polygons.
        contents: makes the contents of the files.
        judged: makes the whole result.
        cutouts, traits: those of its shard.
    """

    record: ImageRecord
    written: int
    content: str
    unmatched: tuple[Decision, ...]
    outcomes: Sequence[Outcome]
    digests: Sequence[str]
    voc: str
    fit: PolygonFit
    contents: Callable[[], list[bytes]]
    judged: Callable[[], Judged]
    cutouts: KnownCutouts
    traits: KnownTraits

    @classmethod
    def of(cls, image: Judged, rules: Rules, cutouts: KnownCutouts, traits: KnownTraits) -> JudgedImage:
        """An image that is judged already."""
        contents = contents_of_image(image, rules)
        written, digests, voc = len(image.chosen), list(map(content_digest, contents)), xml_of(image, rules)
        return cls(
            image.decided.record,
            written,
            "",
            (),
            (),
            digests,
            voc,
            EXACT_FIT,
            lambda: contents,
            lambda: image,
            cutouts,
            traits,
        )


def judged(source: ShardRecords, rules: Rules, decisions: Mapping[str, Sequence[Decision]]) -> Iterator[Judged]:
    """Apply ``decisions``, by image id, and the gate to every record."""
    ontology = rules.ontology
    records = (record for _, record in source.placed())
    for record in numbered(records, ontology) if rules.tagged else with_known_classes(records, ontology):
        if record.status == "error":
            yield Judged(Decided(record, replace(record, instances=()), ontology.class_names), (), ())
            continue
        decided = decide(record, decisions.get(record.image_id, ()), ontology.class_names)
        judgements = judge(decided.record, rules.config.quality, ontology.classes, decided.verdicts)
        yield Judged(decided, judgements, chosen(judgements, rules.config))


def chosen(judgements: Sequence[Judgement], config: ExportConfig) -> list[int]:
    """Indices of the instances that are in the dataset."""
    wanted = ("accept", "review") if config.include_review else ("accept",)
    return [index for index, judgement in enumerate(judgements) if judgement.verdict in wanted]


def judge_shard(
    rules: Rules, source: ShardRecords, decisions: Mapping[str, Sequence[Decision]]
) -> tuple[pa.Table, list[list[bytes]]]:
    """A row of ``SCHEMA`` for each image, and the contents of its files."""
    rows, contents = [], []
    for image in judged(source, rules, decisions):
        contents.append(contents_of_image(image, rules))
        rows.append(_row(image, contents[-1], rules, decisions.get(image.decided.record.image_id, ())))
    return pa.Table.from_pylist(rows, schema=SCHEMA), contents


def contents_of_image(image: Judged, rules: Rules) -> list[bytes]:
    """The contents of the image's files; none of an image that failed."""
    if image.decided.record.status == "error":
        return []
    return contents_of(rules.config.formats, image.kept, rules.ontology.class_names, rules.config.polygons)


def xml_of(image: Judged, rules: Rules) -> str:
    """The XML of Pascal VOC without the name of the image file; empty without that format."""
    wanted = "voc" in rules.config.formats and image.decided.record.status != "error"
    return voc_xml(image.kept, "", rules.ontology.class_names) if wanted else ""


def annotations_of(image: Judged, rules: Rules) -> list[str]:
    """The ``coco_annotations`` of the image; none without a format that has them."""
    config = rules.config
    if not (config.with_rle or config.with_coco_polygons):
        return []
    return coco_annotations(image.kept, len(rules.ontology.classes), config.segmentation, config.polygons)


def _row(image: Judged, contents: Sequence[bytes], rules: Rules, decisions: Sequence[Decision]) -> dict[str, Any]:
    record, config = image.decided.record, rules.config
    outcomes = [outcome(*each, config.quality.score) for each in zip(record.instances, image.judgements, strict=True)]
    columns: list[Sequence[Any]] = list(zip(*outcomes, strict=True)) or [()] * len(Outcome._fields)
    row = {
        "image_id": record.image_id,
        "digest": record.digest,
        "status": record.status,
        "error": record.error,
        "width": record.width,
        "height": record.height,
        "written": len(image.chosen),
        "files": list(map(content_digest, contents)),
        "annotations": "\n".join(annotations_of(image, rules)),
        "voc": xml_of(image, rules),
        **fit_of(image.kept, config)._asdict(),
        "unmatched": _places(image.decided.unmatched, decisions),
        "joint_score": [instance.joint_score for instance in record.instances],
        **dict(zip(Outcome._fields, columns, strict=True)),
    }
    row["content"] = hashlib.blake2b(repr(row).encode(errors="replace"), digest_size=16).hexdigest()
    return row


def outcome(instance: Instance, judgement: Judgement, score: Score) -> Outcome:
    """What the figures tell of an instance, ranked by ``score``."""
    step = int(ranking_score(instance, score) * STEPS)
    return Outcome(instance.class_id, judgement.verdict, judgement.reason, judgement.by_hand, step)


def _places(some: Sequence[Decision], decisions: Sequence[Decision]) -> list[int]:
    """The indices of ``some`` among ``decisions``."""
    indices = {id(each): index for index, each in enumerate(decisions)}
    return [indices[id(each)] for each in some]
