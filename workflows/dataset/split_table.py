"""Which split each image of a dataset is in, stored once it is decided.

    OUT/run/splits.parquet     image_id, split; the footer states the rule that the images were divided by

Without that file, as in a dataset of an earlier version, an image is in the split in which its files are.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labeler.errors import FormatError, RunError, UsageError
from labeler.files.storage import read_bytes
from labeler.formats.split_config import SplitRule, check_split
from labeler.formats.splits import NO_SPLIT, SPLITS, Splits, in_validation
from labeler.migrations import VERSIONS, check_version, footer_version
from labeler.record_checks import check_extent
from ontologies.documents import parse_json
from workflows.dataset.verdicts import images_with_verdicts

if TYPE_CHECKING:
    from pathlib import Path

    from labeler.files.storage import AnyPath

SCHEMA = pa.schema(
    [("image_id", pa.string()), ("split", pa.string())],
    metadata={"labeler.schema_version": str(VERSIONS["splits.parquet"])},
)
_RULE = b"labeler.split_rule"
_PLACES = r"^(?P<kind>images|labels)/(?P<split>train|val|test)/"


@dataclass(frozen=True)
class SplitTable:
    """The splits of images.

    Attributes:
        table: with the columns of ``SCHEMA``.
        rule: what divided all images at once; later ones may have been added by another rule.
    """

    table: pa.Table
    rule: SplitRule

    def of(self, image_ids: pa.Array) -> Splits:
        """The split of each image; ``NO_SPLIT`` if it has none."""
        rows = pc.index_in(image_ids, self.table.column("image_id").combine_chunks())
        splits = pc.index_in(pc.take(self.table.column("split"), rows), pa.array(SPLITS, pa.string()))
        return np.asarray(pc.fill_null(splits, NO_SPLIT)).astype(np.int8)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {**SCHEMA.metadata, _RULE: json.dumps(asdict(self.rule)).encode()}
        rows = self.table.sort_by("image_id").replace_schema_metadata(metadata)
        pq.write_table(rows, path, compression="zstd")


def split_rows(image_ids: pa.Array, splits: Splits) -> pa.Table:
    """The rows of the images that have a split."""
    names = pa.array(SPLITS, pa.string()).take(pa.array(np.maximum(splits, 0)))
    return pa.table({"image_id": image_ids, "split": names}).filter(pa.array(splits != NO_SPLIT))


def read_splits(path: AnyPath) -> SplitTable | None:
    """The splits stored at ``path``; None if there are none.

    Raises:
        RunError: the file is damaged, or was written by a newer labeler.
    """
    try:
        data = read_bytes(path)
        with pq.ParquetFile(io.BytesIO(data)) as file:
            check_extent(file.metadata, len(data))
            metadata = file.metadata.metadata
            check_version("splits.parquet", footer_version(metadata), path)
            table = pa.table(file.read(columns=SCHEMA.names).select(SCHEMA.names).columns, names=SCHEMA.names)
        if table.schema.types != SCHEMA.types or any(column.null_count for column in table.columns):
            raise FormatError("a column is of another type, or a value is missing")
        table.validate(full=True)  # also that text is UTF-8
        if not pc.all(pc.is_in(table.column("split"), pa.array(SPLITS, pa.string())), min_count=0).as_py():
            raise FormatError("it names an unknown split")
        return SplitTable(table, _stored_rule((metadata or {})[_RULE]))
    except FileNotFoundError:
        return None
    except (FormatError, pa.ArrowException, OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        cause = (str(error).splitlines() or [""])[0].removeprefix(f"{path}: ")
        raise RunError(
            f"{path} is damaged ({cause}); delete it; the next export then takes the split of each image from where "
            "its files are in the dataset"
        ) from None


def _stored_rule(text: bytes) -> SplitRule:
    """The rule in a footer.

    Raises:
        FormatError, TypeError: it is none that ``export`` would take.
    """
    values = parse_json(text)
    if not isinstance(values, dict):
        raise FormatError("its split rule is no mapping")
    rule = SplitRule(**values)
    shares = (rule.val_share, rule.test_share)
    if not isinstance(rule.split_by, str) or type(rule.seed) is not int:
        raise FormatError("its split rule has a value of another type")
    if not all(type(share) in (int, float) and 0 <= share <= 1 for share in shares):
        raise FormatError("a share in its split rule is no number from 0 to 1")
    try:
        check_split(rule)
    except UsageError as error:
        raise FormatError(f"its split rule is impossible: {error}") from None
    return rule


def splits_of_files(
    ledger: pa.Table, verdicts: AnyPath, is_published: bool, image_ids: pa.Array, rule: SplitRule
) -> SplitTable:
    """The splits of a dataset that stores none.

    Args:
        ledger: of the dataset, see ``workflows.dataset.ledger``.
        verdicts: the file of verdicts, which tells some images that are in a dataset without files for each.
        is_published: there is a dataset.
        image_ids: all labeled images.
        rule: the shares and the seed of the dataset, where a hash of each image's id decided the split.
    """
    if not is_published:
        return SplitTable(split_rows(pa.array([], pa.string()), np.zeros(0, np.int8)), rule)
    found = pc.struct_field(pc.extract_regex(ledger.column("name"), _PLACES), "split")
    placed = pa.table({"image_id": ledger.column("image_id"), "split": found})
    placed = placed.filter(pc.and_(pc.is_valid(found), pc.not_equal(placed.column("image_id"), "")))
    known = placed.column("image_id").combine_chunks().unique()
    first = placed.take(pc.index_in(known, placed.column("image_id").combine_chunks()))
    # Only COCO files list the images of a dataset without images and labels. Reading these takes much memory.
    others = images_with_verdicts(verdicts) if len(known) else image_ids
    others = others.filter(pc.invert(pc.is_in(others, known)))
    hashed = [in_validation(image_id, rule.val_share, rule.seed) for image_id in others.to_pylist()]
    return SplitTable(pa.concat_tables([first, split_rows(others, np.array(hashed, np.int8))]), rule)
