"""Faults inside a shard, with a labeler that really raises; everything behind that seam is the real code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from labeler.errors import UsageError
from labeler.geometry.masks import mask_to_rle
from labeler.models.labelers.labeler import LabelRequest
from labeler.models.prompters.prompter import FixedPrompts, GatedPrompts, TagPrompts
from labeler.record_files import read_records
from labeler.records import ImageRecord, Instance
from ontologies import ClassSpec, Ontology
from ontologies.taggers import Tags
from workflows.run.attempts import Attempts
from workflows.run.labeling import Stages
from workflows.run.shard import Shard
from workflows.run.shard_report import ShardReport
from workflows.run.shards import label_shards, report_of

ONTOLOGY = Ontology((ClassSpec("thing"),))


class AreaLabeler:
    """One instance an image, the whole of it; raises on images of a chosen width, or on too many at once."""

    def __init__(self, poisoned_width: int = -1, most: int = 1000, error: type[Exception] = RuntimeError) -> None:
        self.poisoned_width, self.most, self.error = poisoned_width, most, error
        self.batches: list[list[tuple[int, ...]]] = []

    def label(self, requests: Sequence[LabelRequest]) -> list[list[Instance]]:
        images = [request.pixels for request in requests]
        self.batches.append([image.shape for image in images])
        if len(images) > self.most or any(image.shape[1] == self.poisoned_width for image in images):
            raise self.error("CUDA out of memory.\nTried to allocate")
        labeled = []
        for image in images:
            height, width = image.shape[:2]
            rle = mask_to_rle(np.ones((height, width), dtype=bool))
            labeled.append([Instance(0, "thing", (0, 0, width, height), 0.9, 0.9, 0.9, height * width, rle)])
        return labeled


def write_images(root: Path, widths: Sequence[int]) -> tuple[str, ...]:
    for index, width in enumerate(widths):
        Image.new("RGB", (width, 20)).save(root / f"{index}.png")
    return tuple(f"{index}.png" for index in range(len(widths)))


def run(
    root: Path, shards: Sequence[tuple[str, ...]], labeler: AreaLabeler, batch_size: int = 4
) -> tuple[ShardReport, list[ImageRecord]]:
    folder = root / "records"
    folder.mkdir()
    todo = [Shard(index, ids, folder / f"{index}.parquet") for index, ids in enumerate(shards)]
    total = ShardReport()
    for report in label_shards(todo, root, Stages(FixedPrompts(ONTOLOGY), labeler), batch_size):
        total.add(report)
    return total, list(read_records(sorted(folder.glob("*.parquet"))))


def test_images_of_one_size_go_together_and_records_keep_their_order(tmp_path: Path) -> None:
    ids = write_images(tmp_path, [30, 50, 30, 50, 30, 50, 30])
    labeler = AreaLabeler()
    _, records = run(tmp_path, [ids], labeler, batch_size=4)
    assert labeler.batches == [[(20, 30, 3)] * 4, [(20, 50, 3)] * 3]
    assert [record.image_id for record in records] == list(ids)
    assert [record.instances[0].area for record in records] == [600, 1000, 600, 1000, 600, 1000, 600]


def test_an_image_that_raises_is_one_error_record(tmp_path: Path) -> None:
    ids = write_images(tmp_path, [30, 31, 32, 33, 34])
    (tmp_path / "0.png").write_bytes(b"")
    report, records = run(tmp_path, [ids], AreaLabeler(poisoned_width=32), batch_size=8)
    assert [record.status for record in records] == ["error", "ok", "error", "ok", "ok"]
    assert records[2].error == "labeling failed: RuntimeError: CUDA out of memory. Tried to allocate"
    assert (records[2].width, records[2].height) == (32, 20)
    assert [image_id for image_id, _ in report.failures] == ["0.png", "2.png"]


def test_a_batch_too_large_is_halved(tmp_path: Path) -> None:
    ids = write_images(tmp_path, [30] * 8)
    labeler = AreaLabeler(most=2)
    report, records = run(tmp_path, [ids], labeler, batch_size=8)
    assert [len(batch) for batch in labeler.batches] == [8, 4, 2, 2, 4, 2, 2]
    assert report.splits == 3
    assert all(record.status == "ok" for record in records)


def test_wrong_settings_stop_the_run(tmp_path: Path) -> None:
    ids = write_images(tmp_path, [30] * 3)
    with pytest.raises(UsageError):
        run(tmp_path, [ids], AreaLabeler(most=0, error=UsageError))
    assert not list((tmp_path / "records").iterdir())


def test_reports_add_up_over_shards(tmp_path: Path) -> None:
    ids = write_images(tmp_path, [30] * 7)
    report, records = run(tmp_path, [ids[:3], ids[3:6], ids[6:]], AreaLabeler())
    assert (report.images, report.objects, report.failures) == (7, 7, [])
    assert len(records) == 7


def begin_and_die(attempts_path: Path, *image_ids: str) -> None:
    """As a process leaves it that was killed while it labeled the last of these images alone, or the shard at large."""
    attempts = Attempts(attempts_path)
    attempts.begin()
    for image_id in image_ids:
        attempts.image(image_id).__enter__()


@pytest.mark.parametrize(("deaths", "batches"), [(0, [4, 1]), (1, [4, 1]), (2, [1] * 5), (3, [1] * 5)])
def test_a_shard_that_processes_died_of_is_labeled_image_by_image(
    tmp_path: Path, deaths: int, batches: list[int]
) -> None:
    ids = write_images(tmp_path, [30] * 5)
    for _ in range(deaths):
        begin_and_die(tmp_path / "attempts" / "000000.json")
    labeler = AreaLabeler()
    report, records = run(tmp_path, [ids], labeler)
    assert [len(batch) for batch in labeler.batches] == batches
    assert [(record.image_id, record.status) for record in records] == [(image_id, "ok") for image_id in ids]
    assert report.failures == []
    assert not list((tmp_path / "attempts").iterdir())


@pytest.mark.parametrize(("deaths_alone", "blamed"), [(0, False), (1, False), (2, True), (5, True)])
def test_only_what_died_alone_again_and_again_is_blamed(tmp_path: Path, deaths_alone: int, blamed: bool) -> None:
    ids = write_images(tmp_path, [30] * 5)
    path = tmp_path / "attempts" / "000000.json"
    begin_and_die(path)
    begin_and_die(path)
    for _ in range(deaths_alone):
        begin_and_die(path, ids[2])
    labeler = AreaLabeler()
    _, records = run(tmp_path, [ids], labeler)
    assert [record.error for record in records] == ["", "", "crashed the worker" if blamed else "", "", ""]
    assert len(labeler.batches) == 5 - blamed


def test_images_done_before_a_death_are_not_blamed(tmp_path: Path) -> None:
    ids = write_images(tmp_path, [30] * 3)
    path = tmp_path / "attempts" / "000000.json"
    for _ in range(4):
        attempts = Attempts(path)
        attempts.begin()
        with attempts.image(ids[0]):
            pass
        attempts.image(ids[1]).__enter__()
    _, records = run(tmp_path, [ids], AreaLabeler())
    assert [record.error for record in records] == ["", "crashed the worker", ""]


def test_a_note_that_was_cut_short_counts_as_one_death(tmp_path: Path) -> None:
    ids = write_images(tmp_path, [30] * 3)
    (tmp_path / "attempts").mkdir()
    (tmp_path / "attempts" / "000000.json").write_text('{"unfin')
    labeler = AreaLabeler()
    run(tmp_path, [ids], labeler)
    assert [len(batch) for batch in labeler.batches] == [3]


def test_a_suspect_shard_has_the_process_to_itself(tmp_path: Path) -> None:
    """Else an image of its neighbour could be what kills the process, and one of its own be blamed."""
    ids = write_images(tmp_path, [30] * 12)
    for _ in range(2):
        begin_and_die(tmp_path / "attempts" / "000001.json")
    noted: list[set[str]] = []

    class Watching(AreaLabeler):
        def label(self, requests: Sequence[LabelRequest]) -> list[list[Instance]]:
            if len(requests) == 1:
                noted.append({path.name for path in (tmp_path / "attempts").iterdir()})
            return super().label(requests)

    _, records = run(tmp_path, [ids[:4], ids[4:8], ids[8:]], Watching())
    assert noted == [{"000001.json"}] * 4
    assert [record.image_id for record in records] == list(ids)


class WidthTagger:
    """Tags by width; raises on images of width 31."""

    def tag(self, images: Sequence[NDArray[np.uint8]]) -> list[Tags]:
        if any(image.shape[1] == 31 for image in images):
            raise RuntimeError("no such luck")
        return [[("thing", 0.9), ("other", 0.5)] if image.shape[1] == 30 else [] for image in images]


@pytest.mark.parametrize("gated", [False, True])
def test_an_image_that_the_tagger_fails_on(gated: bool, tmp_path: Path) -> None:
    ids = write_images(tmp_path, [30, 31, 32])
    (tmp_path / "records").mkdir()
    shard = Shard(0, ids, tmp_path / "records" / "0.parquet")
    prompter = (
        GatedPrompts(WidthTagger(), ONTOLOGY, 0.1, {"thing": ["thing"]}, len)
        if gated
        else TagPrompts(WidthTagger(), lambda tag: True)
    )
    (report,) = label_shards([shard], tmp_path, Stages(prompter, AreaLabeler()), 4)
    tagged, failed, empty = read_records([shard.records_path])
    assert (tagged.status, tagged.error, tagged.tags) == ("ok", "", (("thing", pytest.approx(0.9)), ("other", 0.5)))
    assert len(tagged.instances) == 1
    # Asked for given classes it is labeled all the same; without any it would pass for an image that holds nothing.
    assert failed.status == ("ok" if gated else "error")
    assert (failed.error, failed.tags) == ("tagging failed: RuntimeError: no such luck", ())
    assert len(failed.instances) == (1 if gated else 0)  # what is asked anyway is found anyway
    assert (empty.status, empty.error, empty.instances) == ("ok", "", ())
    assert (report.images, report.untagged, len(report.failures)) == ((3, 1, 0) if gated else (3, 0, 1))
    assert (report.forward_passes, report.ungated) == ((2, 3) if gated else (0, 0))


def test_what_was_begun_is_finished_before_one_waits_for_more(tmp_path: Path) -> None:
    ids = write_images(tmp_path, [30] * 6)
    (tmp_path / "records").mkdir()
    shards = [Shard(i, ids[3 * i : 3 * i + 3], tmp_path / "records" / f"{i}.parquet") for i in range(2)]
    seen: list[int] = []

    def one_at_a_time() -> Iterator[Shard | None]:
        for shard in shards:
            yield shard
            yield None
            seen.append(len(list((tmp_path / "records").iterdir())))

    reports = label_shards(one_at_a_time(), tmp_path, Stages(FixedPrompts(ONTOLOGY), AreaLabeler()), 2)
    assert next(reports).images == 3
    assert seen == []  # the report did not wait for the next shard to be asked for
    assert sum(report.images for report in reports) == 3
    assert seen == [1, 2]


def test_a_record_file_tells_the_report_that_got_lost(tmp_path: Path) -> None:
    ids = write_images(tmp_path, [30, 31, 32])
    report, _ = run(tmp_path, [ids], AreaLabeler(poisoned_width=31))
    found = report_of(Shard(0, ids, tmp_path / "records" / "0.parquet"))
    assert (found.images, found.objects, found.failures) == (report.images, report.objects, report.failures)
    assert (found.images, found.objects) == (3, 2)
