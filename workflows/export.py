"""Records to dataset: judge every instance, split the images, write COCO, YOLO and cut-outs. No model runs here.

The dataset takes the old one's place when it is whole, see ``workflows.datasets``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from labeler.decisions import Decision, decide
from labeler.errors import ImageError, RunError, UsageError
from labeler.formats.coco import CocoWriter
from labeler.formats.cutouts import CutoutConfig, write_cutouts
from labeler.formats.names import FlatNames
from labeler.formats.splits import in_validation
from labeler.formats.yolo import label_path, write_data_yaml, write_yolo_labels
from labeler.images import read_image
from labeler.quality import Judgement, QualityConfig, judge
from labeler.records import ImageRecord, Instance
from ontologies import Ontology
from workflows.classes import SavedClasses, classes_of_tags, numbered, with_known_classes
from workflows.datasets import SPLITS, Dataset, new_dataset
from workflows.decisions import by_image, read_decisions
from workflows.run_folder import RunFolder

if TYPE_CHECKING:
    from labeler.storage import AnyPath

LINKS = ("hard", "symlink", "copy", "none")
FORMATS = ("coco", "yolo", "cutouts")
SEGMENTATIONS = ("rle", "polygon")


@dataclass(frozen=True)
class ExportConfig:
    """What is made of the records.

    Attributes:
        quality: thresholds of the gate.
        include_review: write instances under review too, not only accepted ones.
        val_share: share of the images that goes to ``val``.
        seed: of the split.
        link: how images come into the dataset; ``none`` leaves them where they are and names them by their full path
            or URI. ``hard`` and ``symlink`` are copies where input or output is a URI.
        formats: ``coco``, ``yolo``, ``cutouts``.
        min_tag_count, max_classes: where images proposed their classes: images that a tag must be found in to become
            one, and how many there may be, the most frequent ones.
        segmentation: COCO masks as ``rle`` (exact at any scale, small) or ``polygon``.
        cutouts: what these look like.
    """

    quality: QualityConfig = field(default_factory=QualityConfig)
    include_review: bool = False
    val_share: float = 0.2
    seed: int = 0
    link: str = "hard"
    formats: tuple[str, ...] = ("coco", "yolo")
    segmentation: Literal["rle", "polygon"] = "rle"
    min_tag_count: int = 1
    max_classes: int | None = None
    cutouts: CutoutConfig = field(default_factory=CutoutConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.val_share <= 1:
            raise UsageError(f"val_share must be from 0 to 1, not {self.val_share!r}")
        for name, count in (
            ("min_tag_count", self.min_tag_count),
            ("max_classes", 1 if self.max_classes is None else self.max_classes),
        ):
            if count < 1:
                raise UsageError(f"{name} must be 1 or more, not {count}")
        for name, value, known in (
            ("link", self.link, LINKS),
            ("segmentation", self.segmentation, SEGMENTATIONS),
            *(("formats", name, FORMATS) for name in self.formats),
        ):
            if value not in known:
                raise UsageError(f"{name} must be one of {', '.join(known)}, not {value!r}")


@dataclass
class ExportSummary:
    """What an export wrote and left out.

    Attributes:
        decided: instances that a person decided on, by verdict; added ones are accepted.
        unmatched: decisions of people that no instance fits any more, those on images that are left out among them.
    """

    images: Counter[str] = field(default_factory=Counter)  # by split
    verdicts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # by class name
    reasons: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # labeled once, gone since from the input and the dataset
    without_objects: int = 0
    decided: Counter[str] = field(default_factory=Counter)
    unmatched: list[Decision] = field(default_factory=list)


def export(run: RunFolder, root: AnyPath, ontology: Ontology | None, config: ExportConfig) -> ExportSummary:
    """Write the dataset of ``run`` from its records and the images below ``root``, a folder or URI.

    An image that is gone from ``root`` but still in the dataset stays there. What people decided in ``run`` goes before
    scores and thresholds.

    Args:
        ontology: None makes classes of the images' tags, see ``workflows.classes``.

    Raises:
        RunError: none of the labeled images is there any more, or none has a tag where tags make the classes; the
            dataset stays as it is.
    """
    if ontology is None:
        classes = classes_of_tags(run.tags(), run.classes(), config.min_tag_count, config.max_classes)
        if classes is None:
            raise RunError(
                f"{run.output}: no image has a tag to make a class of; lower --tag-score or --min-tag-count, or name "
                "classes"
            )
        ontology, records = classes, numbered(run.labeled(), classes)
    else:
        records = with_known_classes(run.labeled(), ontology)
    with new_dataset(run, root, config.link) as dataset:
        summary = _build(records, by_image(read_decisions(run)), dataset, ontology, config)
        if summary.missing and not summary.images:
            raise RunError(
                f"none of the labeled images is below {root} any more; put them back (the dataset is as it was)"
            )
        if "yolo" in config.formats and config.link != "none":
            # Ultralytics refuses an empty split, and a small set may have one: it then shares the other's images.
            present = [split for split in SPLITS if summary.images[split]] or ["train"]
            folders = {split: split if split in present else present[0] for split in SPLITS}
            write_data_yaml(dataset.building / "data.yaml", ontology.class_names, folders)
        dataset.finish()
    run.write_classes(SavedClasses(ontology, config.min_tag_count, config.max_classes))
    return summary


def _build(
    records: Iterable[ImageRecord],
    decisions: dict[str, list[Decision]],
    dataset: Dataset,
    ontology: Ontology,
    config: ExportConfig,
) -> ExportSummary:
    summary = ExportSummary()
    building = dataset.building
    with ExitStack() as stack:
        coco = {
            split: stack.enter_context(
                CocoWriter(
                    building / "annotations" / f"instances_{split}.json",
                    ontology.class_names,
                    config.segmentation,
                )
            )
            for split in SPLITS
            if "coco" in config.formats
        }
        cutouts = _CutoutFolder(building / "cutouts", ontology.class_names, config.cutouts)
        verdicts = stack.enter_context(_VerdictWriter(building / "verdicts.parquet"))
        for record, file_name in _named(records):
            source = dataset.find_image(record.image_id, file_name)
            if source is None:
                summary.missing.append(record.image_id)
                continue
            if record.status == "error":
                summary.failures.append((record.image_id, record.error))
                continue
            decided = decide(record, decisions.pop(record.image_id, ()), ontology.class_names)
            record = decided.record
            summary.unmatched += decided.unmatched
            judgements = judge(record, config.quality, ontology.classes, decided.verdicts)
            verdicts.add(record, judgements)
            _count(summary, record, judgements, ontology.class_names)
            wanted = ("accept", "review") if config.include_review else ("accept",)
            chosen = tuple(i for i, j in zip(record.instances, judgements, strict=True) if j.verdict in wanted)
            kept = replace(record, instances=chosen)
            if "cutouts" in config.formats:
                try:
                    cutouts.write(record, chosen, source.path)
                except ImageError as error:
                    summary.failures.append((record.image_id, str(error)))
                    continue
            split = SPLITS[in_validation(record.image_id, config.val_share, config.seed)]
            summary.images[split] += 1
            summary.without_objects += not chosen
            if config.link != "none":
                dataset.add_image(source, f"images/{split}/{file_name}")
            if coco:
                coco[split].add(kept, file_name if config.link != "none" else str(source.path))
            if "yolo" in config.formats:
                write_yolo_labels(building / label_path(Path("images", split, file_name)), kept)
    summary.unmatched += (each for on_image in decisions.values() for each in on_image if each.verdict != "none")
    return summary


def _named(records: Iterable[ImageRecord]) -> Iterator[tuple[ImageRecord, str]]:
    """Each record with its name in the dataset: its own, unless YOLO's rules stand against it.

    YOLO has one label file a stem (``a.jpg``, ``a.png``), and looks for it where the last folder ``images`` is
    ``labels``. Records come old ones first, so a name once given stays.
    """
    taken: set[str] = set()
    for record in records:
        path = PurePosixPath(record.image_id)
        path = PurePosixPath(*("images_" if part == "images" else part for part in path.parent.parts), path.name)
        name, count = path, 1
        while (stem := str(name.with_suffix("")).casefold()) in taken:
            count += 1
            name = path.with_name(f"{path.stem}_{count}{path.suffix}")
        taken.add(stem)
        yield record, str(name)


def _count(
    summary: ExportSummary, record: ImageRecord, judgements: Sequence[Judgement], class_names: Sequence[str]
) -> None:
    for instance, judgement in zip(record.instances, judgements, strict=True):
        summary.verdicts[class_names[instance.class_id]][judgement.verdict] += 1
        if judgement.by_hand:
            summary.decided[judgement.verdict] += 1
        if judgement.reason:
            summary.reasons[judgement.reason] += 1


class _CutoutFolder:
    """The cut-outs of all images; each is numbered by its place in the record."""

    def __init__(self, folder: Path, class_names: Sequence[str], config: CutoutConfig) -> None:
        self._folder = folder
        self._class_names = class_names
        self._config = config
        self._names = FlatNames()

    def write(self, record: ImageRecord, chosen: Sequence[Instance], source: AnyPath) -> None:
        """Cut ``chosen`` of the record's instances out of its image.

        Raises:
            ImageError: the image cannot be read any more, or is another one.
        """
        name = self._names.give(record.image_id)
        if not chosen:
            return
        image = read_image(source)
        if image.digest != record.digest:
            raise ImageError("it is another image than was labeled; label it again")
        places = {id(instance): place for place, instance in enumerate(record.instances)}
        numbered = ((places[id(each)], each, self._class_names[each.class_id]) for each in chosen)
        write_cutouts(self._folder, name, image.pixels, numbered, self._config)


class _VerdictWriter:
    """``run/verdicts.parquet``: the verdict on every instance and who gave it, by image and position in its record.

    Objects that people added come behind those of the record.
    """

    SCHEMA = pa.schema(
        [
            ("image_id", pa.string()),
            ("instance", pa.int32()),
            ("class_id", pa.int32()),
            ("joint_score", pa.float32()),
            ("verdict", pa.string()),
            ("reason", pa.string()),
            ("decided_by", pa.string()),  # "person", else "gate"
        ]
    )
    ROWS = 10_000

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, self.SCHEMA, compression="zstd")
        self._rows: list[dict[str, object]] = []

    def add(self, record: ImageRecord, judgements: Sequence[Judgement]) -> None:
        for index, (instance, judgement) in enumerate(zip(record.instances, judgements, strict=True)):
            self._rows.append(
                {
                    "image_id": record.image_id,
                    "instance": index,
                    "class_id": instance.class_id,
                    "joint_score": instance.joint_score,
                    "verdict": judgement.verdict,
                    "reason": judgement.reason,
                    "decided_by": "person" if judgement.by_hand else "gate",
                }
            )
        if len(self._rows) >= self.ROWS:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self.SCHEMA))
        self._rows = []

    def __enter__(self) -> _VerdictWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()
