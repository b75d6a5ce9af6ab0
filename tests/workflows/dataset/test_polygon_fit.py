"""Datasets with simplified polygons: what readers see of them, and what the export tells of that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from labeler.decisions import Decision
from labeler.errors import UsageError
from labeler.files.image_table import ImageTable
from labeler.files.images import content_digest
from labeler.files.listing import stamps
from labeler.geometry.masks import mask_to_rle, rle_area, rle_box_xyxy, rle_to_mask
from labeler.record_files import write_records
from labeler.records import ImageRecord, Instance
from tests.support.command_line import run_in_process
from tests.support.hard_masks import iou
from tests.support.run_folders import ONTOLOGY
from tests.support.run_settings import run_settings
from workflows.dataset.decision_log import append_decisions
from workflows.dataset.export import export
from workflows.dataset.export_summary import ExportSummary
from workflows.run.folder import RunFolder
from workflows.settings.export import ExportConfig

WIDTH, HEIGHT = 160, 120
NAMES = ["a.png", "b.png", "c.png", "none.png"]
SIMPLE = {"simplify": 1.5, "min_part": 12, "val_share": 0.0}
EVERY = ExportConfig(formats=("coco", "yolo", "hf", "roboflow", "webdataset"), segmentation="polygon", **SIMPLE)
Mask = npt.NDArray[np.bool_]


def blob(seed: int) -> Mask:
    """An uneven outline with a hole, and a speck of nine pixels beside it."""
    noise = cv2.resize(np.random.default_rng(seed).random((7, 7)), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1.3 : 1.3 : WIDTH * 1j]
    mask = (1 - 2.2 * (x**2 + y**2) + noise - 0.5 > 0) & (x**2 + y**2 > 0.02)
    mask[2:5, 2 + 9 * seed : 5 + 9 * seed] = True
    return mask


MASKS = {name: [blob(2 * number), blob(2 * number + 1)] for number, name in enumerate(NAMES[:3])}


def instances(name: str) -> tuple[Instance, ...]:
    rles = [mask_to_rle(mask) for mask in MASKS.get(name, ())]
    return tuple(
        Instance(place, "p", rle_box_xyxy(rle), 0.9, 0.9, 0.9, rle_area(rle), rle) for place, rle in enumerate(rles)
    )


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run, root = RunFolder(tmp_path / "out"), tmp_path / "in"
    root.mkdir()
    for index, name in enumerate(NAMES):
        Image.new("RGB", (WIDTH, HEIGHT), (index, 0, 0)).save(root / name)
    with run.locked():
        run.begin(run_settings(root, ONTOLOGY), restart=False)
        run.plan(ImageTable.of(pa.array(NAMES), pa.array(stamps(root, NAMES), pa.string())), shard_size=1)
        for shard in run.waiting():
            (name,) = shard.image_ids
            digest = content_digest((root / name).read_bytes())
            write_records(shard.records_path, [ImageRecord(name, WIDTH, HEIGHT, digest, instances=instances(name))])
    return run


def written(run: RunFolder, config: ExportConfig) -> ExportSummary:
    return export(run, run.output.parent / "in", ONTOLOGY, config)


def cached(run: RunFolder) -> set[str]:
    return {path.name for path in (run.path / "export-cache").glob("*.parquet")}


def in_coco(path: Path) -> dict[str, list[tuple[dict[str, Any], Mask]]]:
    """Annotations by image, and their masks as pycocotools reads them."""
    coco = COCO(str(path))
    found = {}
    for image in coco.dataset["images"]:
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        found[image["file_name"]] = [(each, coco.annToMask(each) == 1) for each in annotations]
    return found


def in_labels(run: RunFolder, name: str) -> list[Mask]:
    """The masks of a label file, as Ultralytics' ``polygon2mask`` fills them."""
    found = []
    for line in (run.output / "labels" / "train" / name).with_suffix(".txt").read_text().splitlines():
        points = np.array(line.split()[1:], np.float32).reshape(-1, 2) * np.float32([WIDTH, HEIGHT])
        found.append(cv2.fillPoly(np.zeros((HEIGHT, WIDTH), np.uint8), [points.astype(np.int32)], 1) == 1)
    return found


def test_figures_are_those_of_what_readers_see(run: RunFolder) -> None:
    summary = written(run, EVERY)
    files = [run.output / "annotations/instances_train.json", run.output / "roboflow/train/_annotations.coco.json"]
    ious: dict[str, dict[str, list[float]]] = {"coco": {}, "yolo": {}}
    for name, objects in in_coco(files[0]).items():
        exact = MASKS.get(name, [])
        for (annotation, mask), whole in zip(objects, exact, strict=True):
            assert annotation["area"] == mask.sum()
            assert annotation["bbox"] == coco_mask.toBbox(coco_mask.encode(np.asfortranarray(mask, np.uint8))).tolist()
            assert not mask[:6].any()  # where the speck was
            ious["coco"].setdefault(name, []).append(iou(mask, whole))
        ious["yolo"][name] = [iou(mask, whole) for mask, whole in zip(in_labels(run, name), exact, strict=True)]
    for found, measured in ((summary.polygons.coco, ious["coco"]), (summary.polygons.yolo, ious["yolo"])):
        values = [value for each in measured.values() for value in each]
        assert found.objects == len(values) == 6
        assert found.total / 6 == pytest.approx(np.mean(values), abs=1e-9)
        assert found.lowest == pytest.approx(min(values), abs=1e-9)
        assert measured[found.image_id].count(pytest.approx(found.lowest)) == 1
        assert 0.9 < min(values) < max(values) < 1
    assert summary.polygons.trimmed == 6
    told = list(summary.polygons.lines())
    assert told[0].startswith("polygons of coco, hf, roboflow, webdataset with --simplify 1.5 --min-part 12: 6 objects")
    assert told[1].startswith("polygons of yolo with --simplify 1.5 --min-part 12: 6 objects, IoU with their masks 0.9")
    assert told[2] == "parts of fewer than 12 pixels are left out of the polygons of 6 objects"
    assert len(told) == 3
    # the other formats hold the same polygons
    plain = {name: [each["segmentation"] for each, _ in found] for name, found in in_coco(files[0]).items()}
    assert plain == {name: [each["segmentation"] for each, _ in found] for name, found in in_coco(files[1]).items()}
    rows = pq.read_table(run.output / "hf/train/metadata.parquet").to_pylist()
    assert plain == {row["file_name"]: row["objects"]["segmentation"] for row in rows}


def test_ultralytics_reads_the_labels(run: RunFolder) -> None:
    utils = pytest.importorskip("ultralytics.data.utils")
    written(run, EVERY)
    for name, masks in MASKS.items():
        image, label = run.output / "images/train" / name, (run.output / "labels/train" / name).with_suffix(".txt")
        found = utils.verify_image_label((str(image), str(label), "", False, 2, 0, 0, False))
        segments = [segment * np.float32([WIDTH, HEIGHT]) for segment in found[3]]
        assert found[-2:] == (0, "")
        read = utils.polygons2masks((HEIGHT, WIDTH), segments, 1) == 1
        assert all(iou(*pair) > 0.95 for pair in zip(read, masks, strict=True))
        np.testing.assert_array_equal(read, in_labels(run, name))


def test_polygons_of_hf_beside_exact_coco(run: RunFolder) -> None:
    """Box and area in each file are those of the masks in it."""
    summary = written(run, ExportConfig(formats=("coco", "hf"), **SIMPLE))
    for name, objects in in_coco(run.output / "annotations/instances_train.json").items():
        for (annotation, mask), whole in zip(objects, MASKS.get(name, []), strict=True):
            np.testing.assert_array_equal(mask, whole)
            assert annotation["area"] == whole.sum()
    ious = []
    for row in pq.read_table(run.output / "hf/train/metadata.parquet").to_pylist():
        objects = row["objects"]
        for polygons, area, box, whole in zip(
            objects["segmentation"], objects["area"], objects["bbox"], MASKS.get(row["file_name"], []), strict=True
        ):
            rle = coco_mask.merge(coco_mask.frPyObjects(polygons, HEIGHT, WIDTH))
            assert area == coco_mask.area(rle)
            assert box == coco_mask.toBbox(rle).tolist()
            ious.append(iou(rle_to_mask(rle), whole))
    assert summary.polygons.coco.total == pytest.approx(sum(ious))
    first, _, last = summary.polygons.lines()
    assert first.startswith("polygons of hf with --simplify 1.5 --min-part 12: 6 objects")
    assert last.startswith("masks of coco are exact RLE; with --segmentation polygon, --simplify 1.5 --min-part 12 app")
    # without a change of RLE, a change of the setting reaches the file
    before = (run.output / "hf/train/metadata.parquet").read_bytes()
    written(run, ExportConfig(formats=("coco", "hf"), val_share=0))
    assert (run.output / "hf/train/metadata.parquet").read_bytes() != before


def test_what_is_kept_keeps_its_figures(run: RunFolder) -> None:
    first = written(run, EVERY)
    shards = cached(run)
    assert len(shards) == 4
    assert written(run, EVERY).polygons == first.polygons
    assert cached(run) == shards
    # one object less, and one shard judged again
    gone = Decision("b.png", "reject", "cat", instances("b.png")[1].rle)
    append_decisions(run, [gone])
    summary = written(run, EVERY)
    assert len(cached(run) - shards) == 1
    assert summary.polygons.coco.objects == 5
    paths = [path for path in run.output.rglob("*") if path.is_file() and run.path not in path.parents]
    files = {path: path.read_bytes() for path in paths}
    for path in (run.path / "export-cache").iterdir():
        path.unlink()
    assert written(run, EVERY).polygons == summary.polygons
    assert {path: path.read_bytes() for path in files} == files
    # another bound: every shard is judged again
    shards = cached(run)
    coarse = written(run, ExportConfig(**{**vars(EVERY), "simplify": 4.0}))
    assert not cached(run) & shards
    assert coarse.polygons.yolo.total < summary.polygons.yolo.total
    exact = written(run, ExportConfig(**{**vars(EVERY), "simplify": 0.0, "min_part": 0}))
    assert list(exact.polygons.lines()) == []
    assert exact.polygons.figures() == {}
    masks = in_coco(run.output / "annotations/instances_train.json")["a.png"]
    assert [iou(mask, whole) for (_, mask), whole in zip(masks, MASKS["a.png"], strict=True)] == [1, 1]


def test_on_the_command_line(run: RunFolder) -> None:
    first = run_in_process("export", run.output, "--simplify", "1", "--min-part", "12")
    assert first.returncode == 0
    assert "polygons of yolo with --simplify 1 --min-part 12: 6 objects, IoU with their masks 0.9" in first.stdout
    assert "masks of coco are exact RLE" in first.stdout
    content = json.loads((run.path / "summary.json").read_text())["polygons"]
    assert content["objects_without_small_parts"] == 6
    assert content["yolo"]["objects"] == 6
    assert 0.9 < content["yolo"]["lowest_iou"] < content["yolo"]["mean_iou"] < 1
    assert content["yolo"]["lowest_in"] in MASKS
    again = run_in_process("export", run.output, "--formats", "yolo-detect,voc", "--simplify", "2")
    assert "--simplify 2 --min-part 12 has no effect: no polygons in yolo-detect, voc" in again.stdout
    assert "simplify 1.00 → 2.00" in again.stdout
    assert json.loads((run.path / "summary.json").read_text())["polygons"] is None
    wrong = run_in_process("export", run.output, "--simplify", "-1")
    assert wrong.returncode == 2
    assert "--simplify must be a number, 0 or more, not -1" in wrong.stderr


def test_a_change_waits_for_edits(run: RunFolder) -> None:
    """With other polygons, nothing would tell what was edited."""
    label = run.output / "labels/train/a.txt"
    assert run_in_process("export", run.output, "--simplify", "1", "--val-share", "0").returncode == 0
    label.write_text("".join(label.read_text().splitlines(keepends=True)[:1]))
    edited = label.read_bytes()
    refused = run_in_process("export", run.output, "--simplify", "2")
    assert refused.returncode == 2
    assert "labels/train/a.txt was edited; run `labeler review" in refused.stderr
    assert label.read_bytes() == edited
    assert run_in_process("review", run.output, "--from", run.output).returncode == 0
    assert run_in_process("export", run.output, "--simplify", "2").returncode == 0
    assert len(in_labels(run, "a.png")) == 1
    label.write_text("")
    assert run_in_process("export", run.output, "--simplify", "3", "--overwrite-edits").returncode == 0
    assert len(in_labels(run, "a.png")) == 1


def test_negative_and_fractional_sizes_are_refused() -> None:
    for wrong in ({"simplify": -0.5}, {"simplify": float("nan")}, {"min_part": -1}, {"min_part": 1.5}):
        with pytest.raises(UsageError, match=r"--simplify|--min-part"):
            ExportConfig(**wrong)
