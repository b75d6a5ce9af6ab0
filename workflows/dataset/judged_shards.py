"""What every shard gives, judged only where something changed since the last export.

    OUT/run/export-cache/000012-DIGEST.parquet         see ``judging.SCHEMA``
    OUT/run/export-cache/000012-DIGEST.cutouts.json    see ``known_cutouts``
    OUT/run/export-cache/000012.traits.json            see ``known_traits``

DIGEST stands for all that the content depends on: record files, decisions, settings and the code of labeler. So a file
is right or it is not looked for, in whatever state an export was killed, and it may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

import labeler
from labeler.decisions import Decision
from labeler.errors import RunError
from labeler.files.image_ids import check_image_ids
from labeler.files.images import content_digest, file_digest
from labeler.files.parallel import REQUESTS, in_order
from labeler.files.processes import Spread, on_all_cores
from labeler.files.storage import read_bytes, remove, scan, storage_of, write_bytes
from labeler.record_checks import read_table
from labeler.records import ImageRecord
from ontologies import ontology
from workflows.dataset import image_formats, judging, polygon_fit
from workflows.dataset.image_formats import file_names_of
from workflows.dataset.judging import (
    SCHEMA,
    Judged,
    JudgedImage,
    Outcome,
    Rules,
    contents_of_image,
    judge_shard,
    judged,
)
from workflows.dataset.known_cutouts import KnownCutouts
from workflows.dataset.known_traits import KnownTraits
from workflows.dataset.polygon_fit import PolygonFit
from workflows.run import classes, shard_records, united
from workflows.run.folder import RunFolder
from workflows.run.shard_records import ShardRecords

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

logger = logging.getLogger(__name__)

FOLDER = "export-cache"
FILES_AHEAD = 4  # of a local folder; more would fill memory where shards are large
_NAME = re.compile(r"[0-9]{6,}-[0-9a-f]{32}\.(parquet|cutouts\.json)|[0-9]{6,}\.traits\.json")
WORTH_IT = 256  # images to judge; with fewer, starting processes takes longer than judging
Decisions = Mapping[str, Sequence[Decision]]
Judge = Callable[[ShardRecords, Decisions], tuple[pa.Table, list[list[bytes]]]]


class JudgedShard:
    """What one shard gives.

    Attributes:
        table: a row of ``SCHEMA`` for each image.
    """

    def __init__(
        self,
        path: AnyPath,
        source: ShardRecords,
        rules: Rules,
        decisions: Decisions,
        table: pa.Table,
        contents: list[list[bytes]] | None = None,
    ) -> None:
        self.table = table
        self._path, self._source, self._rules, self._decisions = path, source, rules, decisions
        self._contents = contents
        self._cutouts = KnownCutouts(_cutouts_of(path))
        self._traits = KnownTraits(_traits_of(path))

    def images(self) -> Iterator[JudgedImage]:
        """The images, without their instances, which are judged again if they are asked for."""
        columns = self.table.select(["written", "content", "files", "voc", "unmatched"]).to_pydict()
        fits = self.table.select(PolygonFit._fields).to_pydict()
        fields = self.table.select(["image_id", "width", "height", "digest", "status", "error"]).to_pydict()
        records = (ImageRecord(*values) for values in zip(*fields.values(), strict=True))
        polygons = map(PolygonFit, *fits.values())
        rows = enumerate(zip(records, *columns.values(), polygons, self._outcomes(), strict=True))
        for row, (record, written, content, digests, voc, unmatched, fit, outcomes) in rows:
            on_image = self._decisions.get(record.image_id, ())
            yield JudgedImage(
                record,
                written,
                content,
                tuple(on_image[index] for index in unmatched if index < len(on_image)),
                outcomes,
                digests,
                voc,
                fit,
                lambda row=row: self._contents_of(row),  # type: ignore[misc]
                lambda row=row: self._judged[row],  # type: ignore[misc]
                self._cutouts,
                self._traits,
            )

    def _outcomes(self) -> Iterator[list[Outcome]]:
        columns = (self.table.column(name).combine_chunks().flatten().to_pylist() for name in Outcome._fields)
        every = map(Outcome._make, zip(*columns, strict=True))
        for count in self.table.column("class_id").combine_chunks().value_lengths().to_pylist():
            yield list(islice(every, count))

    @cached_property
    def _judged(self) -> list[Judged]:
        return list(judged(self._source, self._rules, self._decisions))

    def _contents_of(self, row: int) -> list[bytes]:
        if self._contents is None:
            self._contents = [contents_of_image(image, self._rules) for image in self._judged]
        contents = self._contents[row]
        if list(map(content_digest, contents)) != self.table.column("files")[row].as_py():
            raise RunError(f"{self._path} does not hold what its records give; delete its folder and export again")
        return contents


class JudgedShards:
    """Every shard of a run, judged by ``rules``; can be iterated over several times.

    Args:
        decisions: all of them, by image id.
        spread: where shards are judged.

    Attributes:
        digest: of what the labels are made of: records, decisions, classes and gate. ``evaluate`` saves it, so that an
            export can tell whether what was measured are the labels of now.
    """

    def __init__(self, run: RunFolder, rules: Rules, decisions: Decisions, spread: Spread = on_all_cores) -> None:
        self._folder = run.path / FOLDER
        self._records, self._rules, self._decisions = run.current(), rules, decisions
        self._spread = spread
        self._there = self._files()
        self._names: list[str] = []
        self._new = 0  # images to judge
        digests = _Digests(self._records.files, rules)
        every = [_digest_of((labeler.__version__, rules.ontology, rules.tagged, rules.config.quality))]
        for source in self._records.shards():
            inputs = digests.inputs(source, self._on(source))
            every.append(_digest_of(inputs))
            self._names.append(f"{source.index:06d}-{digests.of(inputs)}.parquet")
            self._new += 0 if self._names[-1] in self._there else len(source.image_ids or [""])
        self.digest = _digest_of((every, rules.config.include_review))

    def __iter__(self) -> Iterator[JudgedShard]:
        ahead = REQUESTS if storage_of(self._folder).is_remote else FILES_AHEAD
        with self._spread(partial(judge_shard, self._rules), self._new >= WORTH_IT) as (judge, at_once):

            def shard(named: tuple[str, ShardRecords]) -> JudgedShard:
                return self._shard(*named, judge)

            yield from in_order(shard, zip(self._names, self._records.shards(), strict=True), max(ahead, at_once))
        self._new = 0

    def again(self) -> Iterator[Judged]:
        """Every image with its instances, judged again."""
        return (image for source in self._records.shards() for image in judged(source, self._rules, self._on(source)))

    def _shard(self, name: str, source: ShardRecords, judge: Judge) -> JudgedShard:
        path, decisions = self._folder / name, self._on(source)
        table = _read(path, source, self._rules) if name in self._there else None
        contents = None
        if table is None:
            table, contents = judge(source, decisions)
            data = io.BytesIO()
            pq.write_table(table, data, compression="zstd")
            write_bytes(path, data.getvalue())
            self._there.add(name)
        return JudgedShard(path, source, self._rules, decisions, table, contents)

    def _on(self, source: ShardRecords) -> Decisions:
        """The decisions on the images of a shard."""
        if source.image_ids is None or not self._decisions:
            return self._decisions
        return {image_id: self._decisions[image_id] for image_id in source.image_ids if image_id in self._decisions}

    def forget_others(self) -> None:
        """Delete what earlier exports kept and this one does not need."""
        paths = [self._folder / name for name in self._names]
        kept = {*self._names, *(each(path).name for path in paths for each in (_cutouts_of, _traits_of))}
        for name in self._files() - kept:
            remove(self._folder / name)

    def _files(self) -> set[str]:
        try:
            return {entry.name for entry in scan(self._folder) if _NAME.fullmatch(entry.name)}
        except FileNotFoundError:
            return set()


class _Digests:
    """Digests of all that the result of judging a shard depends on."""

    def __init__(self, files: Mapping[int, AnyPath], rules: Rules) -> None:
        self._files = dict(zip(files, in_order(file_digest, files.values()), strict=True))
        config = rules.config
        masks = (config.segmentation, config.polygons)
        settings = (config.quality, config.include_review, config.formats, masks, config.cutouts)
        self._rules = repr((labeler.__version__, _code(), rules.ontology, rules.tagged, settings))

    def inputs(self, source: ShardRecords, decisions: Decisions) -> tuple[object, ...]:
        """Records and decisions of a shard, in a form whose ``repr`` changes with them."""
        asked = [made.ontology for made in source.class_ids.passes]
        files = [(shard, self._files[shard]) for shard in source.files]
        records = (source.index, files, source.rows, source.later, source.class_ids.ontology, asked)
        return records, sorted((image_id, list(each)) for image_id, each in decisions.items())

    def of(self, inputs: tuple[object, ...]) -> str:
        return _digest_of((self._rules, *inputs))


def _digest_of(values: object) -> str:
    return hashlib.blake2b(repr(values).encode(errors="backslashreplace"), digest_size=16).hexdigest()


@lru_cache(maxsize=1)
def _code() -> str:
    """A digest of the code that judges and writes, so that no version keeps what another one made."""
    package = Path(labeler.__file__).parent
    files = [path for folder in ("", "formats", "geometry") for path in sorted((package / folder).glob("*.py"))]
    modules = (image_formats, judging, polygon_fit, classes, shard_records, united, ontology)
    files += [Path(str(module.__file__)) for module in modules]
    return content_digest(b"".join(path.read_bytes() for path in files))


def _read(path: AnyPath, source: ShardRecords, rules: Rules) -> pa.Table | None:
    """The table at ``path``; None if it is not what ``judge_shard`` makes of ``source``."""
    try:
        table = read_table(read_bytes(path))
        if not table.schema.equals(SCHEMA):
            raise ValueError("it has other columns")
        table.validate(full=True)
        ids = table.column("image_id")
        check_image_ids(ids)
        files = len(file_names_of(rules.config.formats, "train", "a.jpg"))
        lists = [table.column(name).combine_chunks() for name in Outcome._fields]
        is_whole = not any(column.null_count or column.flatten().null_count for column in lists)
        is_whole &= not any(column.null_count for column in table.columns)
        is_whole &= not any(
            table.column(name).combine_chunks().flatten().null_count for name in ("coco_iou", "yolo_iou")
        )
        is_whole &= _digests_each(table, files)
        is_whole &= all(column.value_lengths().equals(lists[0].value_lengths()) for column in lists)
        is_whole &= all(
            0 <= class_id < len(rules.ontology.classes) for class_id in lists[0].flatten().unique().to_pylist()
        )
        if not is_whole or (source.image_ids is not None and ids.to_pylist() != source.image_ids):
            raise ValueError("it holds something else")
        return table
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        logger.debug("%s: %s; judged again", path, str(error).splitlines()[0])
        return None


def _digests_each(table: pa.Table, files: int) -> bool:
    """Whether each image has a digest for every one of its files, and an image that failed has none."""
    digests = table.column("files").combine_chunks()
    counts = zip(digests.value_lengths().to_pylist(), table.column("status").to_pylist(), strict=True)
    return not digests.flatten().null_count and all(
        count == (0 if status == "error" else files) for count, status in counts
    )


def _cutouts_of(path: AnyPath) -> AnyPath:
    return path.with_name(path.name.removesuffix(".parquet") + ".cutouts.json")


def _traits_of(path: AnyPath) -> AnyPath:
    return path.with_name(f"{path.name.partition('-')[0]}.traits.json")
