"""The splits of one export: those that the images have, those that new ones get, and the groups that leak."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from labeler.files.storage import info
from labeler.formats.split_config import SplitRule
from labeler.formats.split_groups import Groups, group_images
from labeler.formats.splits import NO_SPLIT, SPLITS, Leak, Resplit, Splits, assign, find_leaks
from workflows.dataset.journal import SPLIT_TABLE, VERDICTS
from workflows.dataset.ledger import LEDGER, Ledger, read_ledger, to_table
from workflows.dataset.split_table import SplitTable, read_splits, split_rows, splits_of_files

if TYPE_CHECKING:
    from pathlib import Path

    from workflows.run.folder import RunFolder

LEAKS_NAMED = 20


@dataclass
class SplitSummary:
    """What came of the splits.

    Attributes:
        images: number of images in the dataset, by split; splits without images are left out.
        groups: of these images.
        leaks: number of groups that are in more than one split.
        leaking_images: number of images in these.
        first_leaks: the first of these groups.
        resplit: images were to be moved, if they had to be.
        moved: images that were moved to another split for that.
        kept: images that have kept the split of an earlier export.
        unmatched: images that the regular expression of ``split_by`` does not match.
    """

    split_by: str = "content"
    images: dict[str, int] = field(default_factory=dict)
    groups: int = 0
    leaks: int = 0
    leaking_images: int = 0
    first_leaks: list[Leak] = field(default_factory=list)
    resplit: bool = False
    moved: int = field(default=0, compare=False)  # what an export changed, not what the dataset is
    kept: int = field(default=0, compare=False)
    unmatched: int = 0


class Splitting:
    """Assigns a split to every labeled image, and notes which one it really is in.

    Images without a result are not assigned one, and the gate's verdicts make no difference.

    Args:
        contents: of ``RunFolder.contents``; rows are counted in its order.
        stored: the splits of the dataset as it is.
        rule: in force.
        resplit: move groups that are in several splits; or, if the rule changed, assign all images anew.
    """

    def __init__(self, contents: pa.Table, stored: SplitTable, rule: SplitRule, resplit: bool) -> None:
        self._ids = contents.column("image_id").combine_chunks()
        self._stored, self._rule, self._resplit = stored, rule, resplit
        self._before = stored.of(self._ids)
        self._rows, self._groups = _grouped(contents, rule)
        kind: Resplit = ("leaks" if stored.rule == rule else "all") if resplit else ""
        self._is_whole = kind == "all" or (self._before == NO_SPLIT).all()
        self._assigned = self._before.copy()
        self._assigned[self._rows] = assign(self._groups, self._before[self._rows], rule, kind)
        self._placed = np.full(len(self._ids), NO_SPLIT, np.int8)

    def __len__(self) -> int:
        return len(self._ids)

    def split(self, row: int) -> str:
        """The split that the image belongs to."""
        return SPLITS[max(self._assigned[row], 0)]

    def place(self, row: int, split: str) -> None:
        """Note that the image is in ``split``, which users may have chosen."""
        self._placed[row] = SPLITS.index(split)

    def write(self, path: Path, known: pa.ChunkedArray) -> None:
        """Write the splits to be stored.

        Args:
            known: ids of all images of the run. Those that are not labeled now keep their split.
        """
        splits = np.where(self._placed == NO_SPLIT, self._before, self._placed)
        old = self._stored.table
        is_known = pc.is_in(old.column("image_id"), known.combine_chunks())
        kept = old.filter(pc.and_not(is_known, pc.is_in(old.column("image_id"), self._ids)))
        rule = self._rule if self._is_whole else self._stored.rule
        SplitTable(pa.concat_tables([split_rows(self._ids, splits), kept]), rule).write(path)

    def summary(self) -> SplitSummary:
        summary = leaks_of(self._groups, self._placed[self._rows], self._ids.take(pa.array(self._rows)), self._rule)
        had_one = (self._before != NO_SPLIT) & (self._placed != NO_SPLIT)
        stayed = self._before == self._placed
        as_asked = self._assigned == self._placed
        summary.resplit = self._resplit
        summary.moved = int((had_one & ~stayed & as_asked).sum())
        summary.kept = int((had_one & stayed).sum())
        return summary


def open_splitting(
    run: RunFolder, ledger: Ledger, rule: SplitRule, before: SplitRule, resplit: bool = False
) -> Splitting:
    """The splits for an export of ``run``.

    Args:
        ledger: of the dataset.
        before: the rule that the dataset was last written with, if it was.
    """
    contents = run.current().contents()
    return Splitting(contents, stored_splits(run, ledger.table, contents, before), rule, resplit)


def stored_splits(run: RunFolder, ledger: pa.Table, contents: pa.Table, before: SplitRule) -> SplitTable:
    """The splits of the dataset as it is; arguments as in ``open_splitting``."""
    if (stored := read_splits(run.output / SPLIT_TABLE)) is not None:
        return stored
    verdicts = run.output / VERDICTS
    image_ids = contents.column("image_id").combine_chunks()
    return splits_of_files(ledger, verdicts, info(verdicts) is not None, image_ids, before)


def leaks_of(groups: Groups, splits: Splits, image_ids: pa.Array, rule: SplitRule) -> SplitSummary:
    """The groups, and those that are in more than one split."""
    leaks = find_leaks(groups, splits, image_ids)
    return SplitSummary(
        split_by=rule.split_by,
        images={SPLITS[split]: int((splits == split).sum()) for split in np.unique(splits) if split != NO_SPLIT},
        groups=len(np.unique(groups.of_image[splits != NO_SPLIT])),
        leaks=len(leaks),
        leaking_images=sum(sum(leak.images.values()) for leak in leaks),
        first_leaks=leaks[:LEAKS_NAMED],
        unmatched=groups.unmatched,
    )


def splits_of_run(run: RunFolder, rule: SplitRule) -> SplitSummary:
    """The splits of the dataset of ``run`` as it was last written, by ``rule``."""
    contents = run.current().contents()
    rows, groups = _grouped(contents, rule)
    ids = contents.column("image_id").combine_chunks()
    ledger = read_ledger(run.output / LEDGER)
    splits = stored_splits(run, ledger.table if ledger else to_table(()), contents, rule).of(ids)
    return leaks_of(groups, splits[rows], ids.take(pa.array(rows)), rule)


def _grouped(contents: pa.Table, rule: SplitRule) -> tuple[npt.NDArray[np.int64], Groups]:
    """The rows of the images that can be in a dataset, and their groups."""
    rows = np.flatnonzero(np.asarray(pc.not_equal(contents.column("status"), "error")))
    chosen = contents.take(pa.array(rows))
    ids, digests = (chosen.column(name).combine_chunks() for name in ("image_id", "digest"))
    return rows, group_images(ids, pc.if_else(pc.equal(digests, ""), ids, digests), rule.split_by)
