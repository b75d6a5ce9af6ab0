"""Label and COCO files that were edited in the dataset become decisions, and the dataset holds what was edited."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from labeler.decisions import Decision
from labeler.errors import UsageError
from labeler.geometry.masks import mask_to_rle, rle_area, rle_box_xyxy, rle_to_mask
from labeler.quality_config import QualityConfig
from labeler.record_files import write_records
from labeler.records import Instance
from tests.support.command_line import run_in_process
from tests.support.reviews import saved
from tests.support.run_folders import ONTOLOGY, instance, make_run, records_of
from tests.support.run_settings import run_settings
from workflows.dataset.decision_log import append_decisions
from workflows.dataset.export import export
from workflows.dataset.labeled import open_labeled
from workflows.review.apply import apply_decisions
from workflows.review.dataset_edits import DatasetEdits, dataset_edits
from workflows.run.folder import RunFolder
from workflows.settings.export import ExportConfig

WIDTH, HEIGHT = 60, 40
FIRST, SECOND, THIRD = (instance(0, 0.8, left) for left in (0, 16, 32))  # dogs, 15 x 20 pixels, accepted
POOR = instance(0, 0.1, 45)  # rejected by the gate
LABELS = "labels/train/a.txt"
TRIANGLE = [(4, 30), (20, 30), (12, 38)]  # pixels
Mask = npt.NDArray[np.bool_]


def published(
    folder: Path, *image_ids: str, instances: tuple[Instance, ...] = (FIRST, SECOND, THIRD, POOR)
) -> RunFolder:
    run, _ = make_run(folder, list(image_ids or ("a.png",)), instances)
    publish(run)
    return run


def publish(run: RunFolder, **config: Any) -> None:
    """Write the dataset, as ``labeler export`` with these settings."""
    root, settings = run.output.parent / "input", ExportConfig(val_share=0, **config)
    run.settings.write(run_settings(root, ONTOLOGY, settings))
    export(run, root, ONTOLOGY, settings)


def taken(run: RunFolder) -> DatasetEdits:
    edits = dataset_edits(open_labeled(run.output))
    apply_decisions(run.output, edits.decisions, taken_in=edits.taken_in)
    return edits


def edit_labels(run: RunFolder, change: Callable[[list[str]], Any], name: str = LABELS) -> None:
    path = run.output / name
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text("".join(f"{line}\n" for line in lines))


def edit_coco(run: RunFolder, change: Callable[[dict[str, Any]], Any]) -> None:
    path = run.output / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def line_of(class_id: int, points: list[tuple[int, int]]) -> str:
    return f"{class_id} " + " ".join(f"{(x + 0.5) / WIDTH:.5f} {(y + 0.5) / HEIGHT:.5f}" for x, y in points)


def filled(points: list[tuple[int, int]]) -> Mask:
    return cv2.fillPoly(np.zeros((HEIGHT, WIDTH), np.uint8), [np.array(points)], 1) == 1


def in_labels(run: RunFolder, name: str = LABELS) -> list[tuple[int, Mask]]:
    """Class ids and masks in a label file, as Ultralytics draws them."""
    found = []
    for line in (run.output / name).read_text().splitlines():
        class_id, *values = line.split()
        points = np.array(values, dtype=float).reshape(-1, 2) * (WIDTH, HEIGHT)
        found.append((int(class_id), filled(points.astype(int).tolist())))
    return found


def in_coco(run: RunFolder, image: int = 1) -> list[tuple[int, Mask]]:
    """The same of an image in COCO, as pycocotools reads it."""
    coco = COCO(str(run.output / "annotations" / "instances_train.json"))
    annotations = coco.loadAnns(coco.getAnnIds(image))
    return [(each["category_id"] - 1, coco.annToMask(each) == 1) for each in annotations]


def same(found: list[tuple[int, Mask]], *wanted: tuple[int, Mask]) -> bool:
    """In any order."""
    key = sorted((class_id, mask.tobytes()) for class_id, mask in found)
    return key == sorted((class_id, mask.tobytes()) for class_id, mask in wanted)


def mask_of(item: Instance) -> Mask:
    return rle_to_mask(item.rle)


def shape(item: Instance) -> dict[str, Any]:
    return {"segmentation": {"size": item.rle["size"], "counts": item.rle["counts"].decode()}}


def accepted(item: Instance, **changes: Any) -> Decision:
    return Decision("a.png", "accept", "dog", item.rle, **changes)


# ---------------------------------------------------------------- there and back


def test_edited_lines_are_decisions_and_the_dataset_holds_them(tmp_path: Path) -> None:
    run = published(tmp_path)

    def change(lines: list[str]) -> None:
        first, _, third = lines
        lines[:] = [line_of(1, TRIANGLE), third, f"1{first[1:]}"]

    edit_labels(run, change)
    mine = (run.output / LABELS).read_bytes()
    assert run_in_process("review", run.output, "--from", run.output).returncode == 0
    deleted, relabeled, added, untouched = saved(run)
    assert deleted == Decision("a.png", "reject", "dog", SECOND.rle)
    assert relabeled == accepted(FIRST, new_class="cat")
    assert untouched == accepted(THIRD)
    assert (added.rle, added.new_class) == (None, "cat")
    expected = [(1, mask_of(FIRST)), (0, mask_of(THIRD)), (1, filled(TRIANGLE))]
    assert same(in_labels(run), *expected)
    assert same(in_coco(run), *expected)
    assert (run.path / "set-aside" / LABELS).read_bytes() == mine
    again = run_in_process("review", run.output, "--from", run.output)
    assert (again.returncode, again.stdout.splitlines()[-1]) == (
        0,
        "no label or annotation file of the dataset was edited",
    )


@pytest.mark.parametrize("segmentation", ["rle", "polygon"])
def test_edited_annotations_are_decisions_and_the_dataset_holds_them(segmentation: str, tmp_path: Path) -> None:
    run = published(tmp_path)
    if segmentation == "polygon":
        publish(run, segmentation="polygon")
    smaller = mask_of(THIRD).copy()
    smaller[5:7] = False  # 90 % of it

    def change(content: dict[str, Any]) -> None:
        first, _, third = content["annotations"]
        first["category_id"] = 2
        encoded = coco_mask.encode(np.asfortranarray(smaller.astype(np.uint8)))
        third["segmentation"] = {"size": encoded["size"], "counts": encoded["counts"].decode()}
        new = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[4, 30, 20, 30, 20, 38, 4, 38]]}
        content["annotations"] = [new, {**third, "id": 2}, {**first, "id": 3}]  # numbered anew, as tools do

    edit_coco(run, change)
    assert taken(run).faults == []
    box = np.zeros((HEIGHT, WIDTH), dtype=bool)
    box[30:38, 4:20] = True
    deleted, relabeled, redrawn, added = saved(run)
    assert deleted == Decision("a.png", "reject", "dog", SECOND.rle)
    assert relabeled == accepted(FIRST, new_class="cat")
    assert (redrawn.rle, redrawn.new_class) == (THIRD.rle, None)
    assert added.rle is None
    expected = [(1, mask_of(FIRST)), (0, smaller), (0, box)]
    assert same(in_labels(run), *expected)
    assert same(in_coco(run), *expected)
    assert not dataset_edits(open_labeled(run.output)).files


def test_edits_in_a_part_of_a_coco_file(tmp_path: Path) -> None:
    run = published(tmp_path, "a.png", "b.png", "c.png")
    publish(run, dataset_shards=2)
    paths = sorted((run.output / "annotations").glob("instances_train-*"))
    whole = [json.loads(path.read_text()) for path in paths]
    number = next(number for number, each in enumerate(whole) if len(each["images"]) == 2)
    second = whole[number]["images"][1]
    whole[number]["annotations"] = [
        each for each in whole[number]["annotations"] if (each["image_id"], each["bbox"][0]) != (second["id"], 16)
    ]
    paths[number].write_text(json.dumps(whole[number]))
    assert taken(run).faults == []
    rejected = [each for each in saved(run) if each.verdict == "reject"]
    assert rejected == [Decision(second["file_name"], "reject", "dog", SECOND.rle)]
    assert {each.image_id for each in saved(run)} == {second["file_name"]}  # what was seen beside it is accepted
    assert not dataset_edits(open_labeled(run.output)).files


def test_a_small_change_of_an_outline_is_a_change(tmp_path: Path) -> None:
    run = published(tmp_path)
    points = [(0, 5), (0, 24), (14, 24), (14, 6), (13, 5)]  # without the pixel in the corner
    edit_labels(run, lambda lines: lines.__setitem__(0, line_of(0, points)))
    taken(run)
    assert same(in_labels(run), (0, filled(points)), (0, mask_of(SECOND)), (0, mask_of(THIRD)))
    assert filled(points).sum() == FIRST.area - 1


def test_other_numbers_for_the_same_masks_are_no_change(tmp_path: Path) -> None:
    """Order, digits, a byte order mark and other line ends."""
    run = published(tmp_path)
    lines = []
    for line in reversed((run.output / LABELS).read_text().splitlines()):
        class_id, *values = line.split()
        lines.append(" ".join([class_id, *(f"{float(value):.3f}" for value in values)]))
    (run.output / LABELS).write_text("\ufeff" + "\r\n".join(lines))
    edit_coco(run, lambda content: content["annotations"].reverse())
    edits = taken(run)
    assert (edits.files, edits.decisions, edits.faults) == (2, [], [])
    assert not dataset_edits(open_labeled(run.output)).files


def test_a_mask_in_several_parts_with_holes_is_known_again(tmp_path: Path) -> None:
    """The line of a YOLO file joins its parts, and so draws a few pixels more."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[2:20, 2:20], mask[25:38, 30:50], mask[6:12, 6:12] = True, True, False
    rle = mask_to_rle(mask)
    parts = replace(FIRST, rle=rle, area=rle_area(rle), box_xyxy=(2.0, 2.0, 50.0, 38.0))
    run = published(tmp_path, instances=(parts, instance(0, 0.8, 44)))
    edit_labels(run, lambda lines: lines.pop())
    taken(run)
    assert same(in_coco(run), (0, mask))


def test_all_lines_deleted(tmp_path: Path) -> None:
    run = published(tmp_path)
    (run.output / LABELS).write_text("")
    assert [each.verdict for each in taken(run).decisions] == ["reject"] * 3
    assert (in_labels(run), in_coco(run)) == ([], [])


def test_what_is_drawn_on_a_rejected_object_accepts_it(tmp_path: Path) -> None:
    run = published(tmp_path)
    (left, top, right, bottom) = map(int, POOR.box_xyxy)
    points = [(left, top), (left, bottom - 1), (right - 1, bottom - 1), (right - 1, top)]
    edit_labels(run, lambda lines: lines.append(line_of(0, points)))
    taken(run)
    assert accepted(POOR) in saved(run)
    assert same(in_labels(run), *((0, mask_of(item)) for item in (FIRST, SECOND, THIRD, POOR)))


# ---------------------------------------------------------------- simplified polygons


def disc(class_id: int, x: int, radius: int) -> Instance:
    mask = cv2.circle(np.zeros((HEIGHT, WIDTH), np.uint8), (x, 20), radius, 1, -1) == 1
    mask[1:3, x] = True  # a speck
    rle = mask_to_rle(mask)
    return replace(instance(class_id, 0.8, 0), rle=rle, area=rle_area(rle), box_xyxy=rle_box_xyxy(rle))


DISCS = disc(0, 13, 11), disc(1, 44, 14)
SIMPLE: dict[str, Any] = {"segmentation": "polygon", "simplify": 2.0, "min_part": 5}


def without_ids(decisions: list[Decision]) -> list[Decision]:
    return [replace(each, instance=None) for each in decisions]


def test_simplified_polygons_that_nobody_edited_are_known_again(tmp_path: Path) -> None:
    run = published(tmp_path, instances=DISCS)
    publish(run, **SIMPLE)
    assert not same(in_labels(run), *((item.class_id, mask_of(item)) for item in DISCS))
    edit_labels(run, lambda lines: lines.reverse())
    edit_coco(run, lambda content: content["annotations"].reverse())
    edits = taken(run)
    assert (edits.files, edits.decisions, edits.faults) == (2, [], [])
    # what is beside an edit keeps its exact mask
    edit_labels(run, lambda lines: lines.append(line_of(0, TRIANGLE)))
    edits = taken(run)
    assert edits.faults == []
    added, *others = sorted(edits.decisions, key=lambda each: each.class_name is not None)
    assert (added.new_class, added.rle) == ("dog", None)
    assert without_ids(others) == [accepted(DISCS[0]), Decision("a.png", "accept", "cat", DISCS[1].rle)]
    edit_coco(run, lambda content: content["annotations"][0].update(category_id=2))
    assert taken(run).faults == []
    assert accepted(DISCS[0], new_class="cat") in saved(run)
    publish(run)
    assert same(in_coco(run), *((1, mask_of(item)) for item in DISCS), (0, filled(TRIANGLE)))


@pytest.mark.parametrize("before", [{}, {"segmentation": "polygon"}], ids=["rle", "polygon"])
def test_edits_from_before_polygons_were_simplified(before: dict[str, Any], tmp_path: Path) -> None:
    run = published(tmp_path, instances=DISCS)
    publish(run, **before)
    edit_labels(run, lambda lines: lines.pop())
    edit_coco(run, lambda content: content["annotations"].pop())
    publish(run, **SIMPLE)
    edits = taken(run)
    assert edits.faults == []
    assert without_ids(edits.decisions) == [Decision("a.png", "reject", "cat", DISCS[1].rle), accepted(DISCS[0])]
    assert [class_id for class_id, _ in in_labels(run)] == [class_id for class_id, _ in in_coco(run)] == [0]


def test_both_files_edited_alike_though_their_polygons_differ(tmp_path: Path) -> None:
    run = published(tmp_path, instances=DISCS)
    publish(run, simplify=9.0)
    edit_labels(run, lambda lines: lines.__setitem__(0, f"1{lines[0][1:]}"))
    edit_coco(run, lambda content: content["annotations"][0].update(category_id=2))
    edits = taken(run)
    assert edits.faults == []
    assert without_ids(edits.decisions)[0] == accepted(DISCS[0], new_class="cat")


# ---------------------------------------------------------------- what is not taken in


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("0 0.5 0.5 0.2 0.2", "line 4: a box of 4 numbers; labels here are outlines of three or more points x y"),
        ("0 0.1 0.1 0.2 0.2 0.3", "line 4: 5 coordinates; an outline has three or more points x y"),
        ("2 0.1 0.1 0.2 0.2 0.3 0.1", "line 4: no class 2; the classes are 0 dog, 1 cat"),
        ("dog 0.1 0.1 0.2 0.2 0.3 0.1", "line 4: no class dog; the classes are 0 dog, 1 cat"),
        ("0 10 10 20 20 30 10", r"line 4: coordinates outside [0, 1]; divide them by the image's width and height"),
        ("0 nan 0.1 0.2 0.2 0.3 0.1", "line 4: coordinates outside [0, 1]"),
        ("0 a b 0.2 0.2 0.3 0.1", "line 4: could not convert string to float: 'a'"),
    ],
)
def test_a_line_that_is_none_stops_its_image_and_no_other(line: str, says: str, tmp_path: Path) -> None:
    run = published(tmp_path, "a.png", "b.png")
    edit_labels(run, lambda lines: (lines.pop(0), lines.extend(["", line])))
    mine = (run.output / LABELS).read_bytes()
    edit_labels(run, lambda lines: lines.pop(0), "labels/train/b.txt")
    edits = taken(run)
    (fault,) = edits.faults
    assert fault.startswith(f"{LABELS}: {says}")
    assert {each.image_id for each in edits.decisions} == {"b.png"}
    assert (run.output / LABELS).read_bytes() == mine
    assert same(in_labels(run, "labels/train/b.txt"), (0, mask_of(SECOND)), (0, mask_of(THIRD)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda first: first.pop("segmentation"), "a.png: annotation 1: no mask; outline the object"),
        (lambda first: first.update(iscrowd=1), "a.png: annotation 1: a crowd, which a dataset cannot hold"),
        (lambda first: first.update(category_id=3), "a.png: annotation 1: no category 3; the classes are dog, cat"),
        (lambda first: first.update(segmentation=[[1, 1, 2]]), "a.png: annotation 1: a polygon is not a list"),
        (lambda first: first.update(segmentation=5), "a.png: annotation 1: 'segmentation' is 5"),
        (lambda first: first.update(image_id=9), "is the annotation of no image in it"),
    ],
)
def test_an_annotation_that_is_none(change: Callable[[dict[str, Any]], Any], says: str, tmp_path: Path) -> None:
    run = published(tmp_path, "a.png", "b.png")

    def edit(content: dict[str, Any]) -> None:
        change(content["annotations"][0])
        del content["annotations"][3]  # the first of b.png

    edit_coco(run, edit)
    mine = (run.output / "annotations" / "instances_train.json").read_bytes()
    edits = taken(run)
    assert says in edits.faults[0]
    assert len([each for each in edits.decisions if each.image_id == "b.png"]) == 3
    assert (run.output / "annotations" / "instances_train.json").read_bytes() == mine
    assert len(in_labels(run, "labels/train/b.txt")) == 2


@pytest.mark.parametrize("content", ["", "[" * 100_000, "[]", '{"images": []}', "hello"])
def test_a_file_that_is_no_coco(content: str, tmp_path: Path) -> None:
    run = published(tmp_path)
    (run.output / "annotations" / "instances_train.json").write_text(content)
    edits = dataset_edits(open_labeled(run.output))
    assert (edits.decisions, edits.taken_in) == ([], {})
    (fault,) = edits.faults
    assert fault.startswith("annotations/instances_train.json: n")
    ended = run_in_process("review", run.output, "--from", run.output)
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[-1] == "nothing was taken in; the edited files stay as they are"


def test_images_that_came_after_the_edit_are_written_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = published(tmp_path)
    edit_coco(run, lambda content: content["annotations"].pop(0))
    shutil.copyfile(tmp_path / "input" / "a.png", tmp_path / "input" / "b.png")
    write_records(run.records / "000001.parquet", records_of(tmp_path / "input", ["b.png"], (FIRST,)))
    publish(run)
    with caplog.at_level(logging.WARNING):
        edits = taken(run)
    assert edits.faults == []
    assert "instances_train.json: 1 images are not in it, such as 'b.png'; they get no decision" in caplog.text
    assert same(in_coco(run), (0, mask_of(SECOND)), (0, mask_of(THIRD)))
    assert same(in_coco(run, 2), (0, mask_of(FIRST)))


def test_both_formats_of_an_image(tmp_path: Path) -> None:
    """Edited alike they are one edit; edited differently they are none."""
    run = published(tmp_path, "a.png", "b.png")
    edit_coco(run, lambda content: content["annotations"].pop(0))
    edit_labels(run, lambda lines: lines.pop(0))
    edits = dataset_edits(open_labeled(run.output))
    assert ([each.verdict for each in edits.decisions], edits.faults) == (["reject", "accept", "accept"], [])
    edit_labels(run, lambda lines: lines.pop(0))
    edit_labels(run, lambda lines: lines.pop(0), "labels/train/b.txt")
    edits = taken(run)
    assert edits.faults == [
        f"a.png: annotations/instances_train.json and {LABELS} were edited differently; undo one of them"
    ]
    assert list(edits.taken_in) == ["labels/train/b.txt"]
    assert {each.image_id for each in edits.decisions} == {"b.png"}
    assert len(in_labels(run)) == 1
    assert len(in_coco(run)) == 2
    # The COCO file stayed as it was, and now differs from the label file of b.png too, where nobody has edited it.
    edit_coco(run, lambda content: content["annotations"].insert(0, {**content["annotations"][0], **shape(FIRST)}))
    assert (taken(run).faults, dataset_edits(open_labeled(run.output)).files) == ([], 0)
    assert same(in_labels(run), (0, mask_of(THIRD)))
    assert same(in_coco(run), (0, mask_of(THIRD)))
    for found in (in_labels(run, "labels/train/b.txt"), in_coco(run, 2)):
        assert same(found, (0, mask_of(SECOND)), (0, mask_of(THIRD)))


def test_a_deleted_file_is_no_edit(tmp_path: Path) -> None:
    run = published(tmp_path)
    (run.output / LABELS).unlink()
    assert not dataset_edits(open_labeled(run.output)).files


def test_what_somebody_decided_on_since_stays_decided(tmp_path: Path) -> None:
    run = published(tmp_path)
    append_decisions(run, [Decision("a.png", "reject", "dog", THIRD.rle)])
    edit_labels(run, lambda lines: lines.pop(0))
    taken(run)
    assert same(in_labels(run), (0, mask_of(SECOND)))


def test_an_edit_from_before_other_decisions(tmp_path: Path) -> None:
    """What was decided on the page and exported since then stays, and so does what was edited."""
    run = published(tmp_path)
    edit_labels(run, lambda lines: lines.append(line_of(0, TRIANGLE)))
    append_decisions(run, [accepted(FIRST, new_class="cat"), Decision("a.png", "reject", "dog", SECOND.rle)])
    publish(run)
    assert taken(run).faults == []
    expected = [(1, mask_of(FIRST)), (0, mask_of(THIRD)), (0, filled(TRIANGLE))]
    assert same(in_labels(run), *expected)
    assert same(in_coco(run), *expected)


def test_a_deleted_line_is_not_confused_with_one_that_was_never_there(tmp_path: Path) -> None:
    """Between edit and review the dataset was written with a lower threshold, which the edited file did not see."""
    run = published(tmp_path, "a.png", "b.png", instances=(FIRST, instance(0, 0.4, 16)))
    publish(run, quality=QualityConfig(accept_score=0.6))
    assert len(in_labels(run)) == 1
    edit_labels(run, lambda lines: lines.append(line_of(1, TRIANGLE)))
    edit_labels(run, lambda lines: lines.__setitem__(0, f"1{lines[0][1:]}"), "labels/train/b.txt")
    publish(run)
    edits = taken(run)
    assert [each.verdict for each in edits.decisions if each.verdict == "reject"] == []
    assert all("nothing tells what was edited in it" in fault for fault in edits.faults)
    assert len(edits.faults) == 2
    publish(run, quality=QualityConfig(accept_score=0.6))
    assert taken(run).faults == []
    assert same(in_labels(run), (0, mask_of(FIRST)), (1, filled(TRIANGLE)))
    assert same(in_labels(run, "labels/train/b.txt"), (1, mask_of(FIRST)))


def test_after_labeling_again(tmp_path: Path) -> None:
    """Nothing tells what the file held, so a missing object is not rejected."""
    run = published(tmp_path)
    edit_labels(run, lambda lines: lines.pop(0))
    root = tmp_path / "input"
    write_records(run.records / "000000.parquet", records_of(root, ["a.png"], (instance(0, 0.7, 1), SECOND, THIRD)))
    assert "nothing tells what was edited in it" in dataset_edits(open_labeled(run.output)).faults[0]


def test_other_class_names_in_data_yaml(tmp_path: Path) -> None:
    run = published(tmp_path)
    edit_labels(run, lambda lines: lines.pop(0))
    edit_labels(run, lambda lines: lines.append("test: images/test"), "data.yaml")
    assert dataset_edits(open_labeled(run.output)).faults == []
    text = (run.output / "data.yaml").read_text()
    (run.output / "data.yaml").write_text(text.replace("0: dog", "0: cat").replace("1: cat", "1: dog"))
    with pytest.raises(UsageError, match=r"names other classes than the dataset has \(dog, cat\)"):
        dataset_edits(open_labeled(run.output))


def test_where_edits_cannot_be_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = published(tmp_path)
    edit_labels(run, lambda lines: lines.append("x"))
    ended = run_in_process("review", run.output, "--from", run.output / "labels")
    assert (ended.returncode, "part of the dataset; write --from" in ended.stderr) == (2, True)
    with caplog.at_level(logging.WARNING):
        ended = run_in_process("review", run.output, "--from", f"{run.output}/")
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (
        1,
        "nothing was taken in; the edited files stay as they are",
    )
    assert f"not taken in: {LABELS}: line 4" in ended.stderr + caplog.text
    (run.path / "ledger.parquet").unlink()
    ended = run_in_process("review", run.output, "--from", run.output)
    assert (ended.returncode, "it has no ledger; run `labeler export" in ended.stderr) == (2, True)
