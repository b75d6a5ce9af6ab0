"""Review sets to Label Studio, CVAT and FiftyOne, and what comes back, edited in the file as the tool would."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import uuid
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from labeler.annotation_tools.cvat import rle_to_cvat
from labeler.annotation_tools.label_studio import rle_to_brush
from labeler.decisions import Decision
from labeler.errors import FormatError, UsageError
from labeler.files.images import content_digest
from labeler.files.storage import locate, write_bytes
from labeler.geometry.masks import Rle, mask_to_rle, rle_area
from labeler.quality_config import QualityConfig
from labeler.record_files import write_records
from labeler.records import ImageRecord, Instance
from tests.support.reviews import checked, saved
from tests.support.run_folders import ONTOLOGY, coco
from tests.support.run_settings import run_settings
from workflows.commands.cli import main
from workflows.commands.exchange import ExchangeOptions, print_decisions, send
from workflows.dataset.decision_log import append_decisions
from workflows.dataset.export import export
from workflows.dataset.labeled import Labeled, open_labeled
from workflows.review.corrections import corrections
from workflows.review.exchange import export_review_set
from workflows.run.folder import RunFolder
from workflows.settings.export import ExportConfig
from workflows.settings.review_sets import TOOLS

WIDTH, HEIGHT = 100, 60
Edit = Callable[[Path, str], Path]


def box(left: int, top: int = 5, width: int = 15, height: int = 20) -> Rle:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask_to_rle(mask)


def instance(class_id: int, score: float, rle: Rle) -> Instance:
    x = (0.0, 0.0, 1.0, 1.0)
    return Instance(class_id, "p", x, score, 0.9, 0.95, rle_area(rle), rle)


def labeled_folder(root: Any, output: Any, images: dict[str, list[Instance]], gone: tuple[str, ...] = ()) -> Labeled:
    for image_id in images:
        if image_id not in gone:
            if isinstance(root, Path):
                (root / image_id).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(root / image_id, png())
    run = RunFolder(output)
    config = ExportConfig(quality=LENIENT)
    with run.locked():
        run.begin(run_settings(root, ONTOLOGY, config), restart=False)
    records = [
        ImageRecord(i, WIDTH, HEIGHT, content_digest(png()), instances=tuple(found)) for i, found in images.items()
    ]
    write_records(run.records / "000000.parquet", records)
    return open_labeled(output)


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), (9, 9, 9)).save(stream, "PNG")
    return stream.getvalue()


LENIENT = QualityConfig(min_box_iou=0)
SURE, FAIR, UNSURE, DOUBTFUL, POOR = 0.9, 0.5, 0.33, 0.31, 0.1  # the last is rejected, the two before it under review
KEPT, RELABELED, REDRAWN, DELETED = (box(left) for left in (0, 20, 40, 60))
DRAWN, NEW = box(40, 5, 19), box(80, 35)
ONE = {"sub/a b.png": [instance(0, FAIR, rle) for rle in (KEPT, RELABELED, REDRAWN, DELETED)]}


@pytest.fixture
def labeled(tmp_path: Path) -> Labeled:
    return labeled_folder(tmp_path / "input", tmp_path / "out", ONE)


# ---------------------------------------------------------------- the tools


def submitted(folder: Path, tool: str) -> Path:
    """What a tool exports when everything was left as it came."""
    if tool == "cvat":
        return folder / "annotations.xml"
    if tool == "fiftyone":
        return folder / "labels.json"
    tasks = json.loads((folder / "tasks.json").read_text())
    for number, task in enumerate(tasks, start=1):
        (prediction,) = task.pop("predictions")
        task["id"] = number
        task["annotations"] = [
            {"id": number, "result": prediction["result"], "updated_at": "2026", "was_cancelled": False}
        ]
    path = folder / "export.json"
    path.write_text(json.dumps(tasks))
    return path


def edited(folder: Path, tool: str) -> Path:
    """The second object has another class, the third another mask, the fourth is gone, and there is a new one."""
    path = submitted(folder, tool)
    if tool == "cvat":
        tree = ElementTree.parse(path)
        (image,) = tree.iter("image")
        _, relabeled, redrawn, deleted = image.findall("mask")
        relabeled.set("label", "cat")
        redrawn.attrib.update(rle_to_cvat(DRAWN))
        image.remove(deleted)
        ElementTree.SubElement(image, "mask", {"label": "cat", "source": "manual", **rle_to_cvat(NEW)})
        tree.write(path)
        return path
    content = json.loads(path.read_text())
    if tool == "fiftyone":
        annotations = content["annotations"]
        annotations[1]["category_id"] = 2
        annotations[2]["segmentation"] = as_json(DRAWN)
        annotations[3] = {"id": 9, "image_id": 1, "category_id": 2, "iscrowd": 0, "segmentation": as_json(NEW)}
    else:
        result = content[0]["annotations"][0]["result"]
        result[1]["value"]["brushlabels"] = ["cat"]
        result[2]["value"]["rle"] = rle_to_brush(DRAWN)
        new = {**result[3], "id": "xY_9-abcde", "origin": "manual"}
        result[3] = new | {"value": {"format": "rle", "rle": rle_to_brush(NEW), "brushlabels": ["cat"]}}
    path.write_text(json.dumps(content))
    return path


def as_json(rle: Rle) -> dict[str, Any]:
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def without_ids(path: Path) -> Path:
    """As what other programs make of an export."""
    path.write_text(re.sub(r"[0-9a-f]{8}-[0-9a-f]{32}-0-[0-9]+", "other", path.read_text()))
    return path


EXPECTED = [
    Decision("sub/a b.png", "reject", "dog", DELETED),
    Decision("sub/a b.png", "accept", "dog", KEPT),
    Decision("sub/a b.png", "accept", "dog", RELABELED, "cat"),
    Decision("sub/a b.png", "accept", "dog", REDRAWN, None, DRAWN),
    Decision("sub/a b.png", "accept", None, None, "cat", NEW),
]


# ---------------------------------------------------------------- there and back


@pytest.mark.parametrize("tool", TOOLS)
def test_untouched_all_is_accepted(tool: str, labeled: Labeled, tmp_path: Path) -> None:
    review_set = export_review_set(labeled, tool, tmp_path / "set", "all")
    assert (review_set.images, review_set.instances, review_set.missing) == (1, 4, ())
    decisions = corrections(labeled, submitted(tmp_path / "set", tool))
    expected = [Decision("sub/a b.png", "accept", "dog", each.rle) for each in ONE["sub/a b.png"]]
    assert checked(labeled.run, decisions) == expected
    assert [decision.instance.index for decision in decisions if decision.instance] == [0, 1, 2, 3]


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("ids", [True, False])
def test_edits_become_decisions(tool: str, ids: bool, labeled: Labeled, tmp_path: Path) -> None:
    export_review_set(labeled, tool, tmp_path / "set", "not-rejected")
    path = edited(tmp_path / "set", tool)
    decisions = corrections(labeled, path if ids else without_ids(path))
    assert checked(labeled.run, decisions) == EXPECTED
    assert [decision.instance is None for decision in decisions] == [False] * 4 + [True]

    append_decisions(labeled.run, decisions)
    export(labeled.run, labeled.root, ONTOLOGY, ExportConfig(quality=LENIENT))
    written = {(each["category_id"], each["segmentation"]["counts"]) for each in coco(labeled.run)["annotations"]}  # type: ignore[index]
    wanted = [(1, KEPT), (2, RELABELED), (1, DRAWN), (2, NEW)]
    assert written == {(category, rle["counts"].decode()) for category, rle in wanted}
    # What was decided can be sent again, and comes back as it is.
    again = open_labeled(labeled.run.output)
    export_review_set(again, tool, tmp_path / "again", "not-rejected")
    append_decisions(again.run, corrections(again, submitted(tmp_path / "again", tool)))
    summary = export(again.run, again.root, ONTOLOGY, ExportConfig(quality=LENIENT))
    assert written == {(each["category_id"], each["segmentation"]["counts"]) for each in coco(again.run)["annotations"]}  # type: ignore[index]
    assert summary.unmatched == []


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_wherever_it_lies(kind: str, tmp_path: Path) -> None:
    name = uuid.uuid4().hex
    places = {"folder": tmp_path / name, "memory": locate(f"memory://{name}")}
    labeled = labeled_folder(places[kind] / "in", places[kind] / "out", ONE)
    export_review_set(labeled, "cvat", tmp_path / "set", "all")
    assert (tmp_path / "set" / "images" / "sub_a_b.png").read_bytes() == png()
    assert checked(labeled.run, corrections(labeled, edited(tmp_path / "set", "cvat"))) == EXPECTED


MANY = {
    "sure.png": [instance(0, SURE, KEPT)],
    "doubtful.png": [instance(0, DOUBTFUL, KEPT), instance(0, SURE, DELETED), instance(0, POOR, REDRAWN)],
    "sub/unsure.png": [instance(0, UNSURE, KEPT)],
    "sub_unsure.png": [instance(0, UNSURE, RELABELED)],
    "none.png": [],
}


def written(folder: Path) -> list[tuple[str, list[float]]]:
    root = ElementTree.parse(folder / "annotations.xml").getroot()
    return [
        (
            image.get("name", ""),
            [float(each.text or 0) for each in image.iter("attribute") if each.get("name") == "score"],
        )
        for image in root.iter("image")
    ]


@pytest.mark.parametrize(
    ("verdict", "limit", "expected"),
    [
        ("review", None, [("sub_unsure.png", [0.297]), ("sub_unsure_2.png", [0.297]), ("doubtful.png", [0.279])]),
        ("review", 1, [("sub_unsure.png", [0.297])]),
        ("accept", None, [("doubtful.png", [0.81]), ("sure.png", [0.81])]),
        (
            "not-rejected",
            3,
            [("sub_unsure.png", [0.297]), ("sub_unsure_2.png", [0.297]), ("doubtful.png", [0.279, 0.81])],
        ),
        ("all", 3, [("sub_unsure.png", [0.297]), ("sub_unsure_2.png", [0.297]), ("doubtful.png", [0.279, 0.81, 0.09])]),
        ("reject", None, [("doubtful.png", [0.09])]),
    ],
)
def test_the_most_uncertain_come_first(verdict: str, limit: int | None, expected: Any, tmp_path: Path) -> None:
    labeled = labeled_folder(tmp_path / "input", tmp_path / "out", MANY)
    export_review_set(labeled, "cvat", tmp_path / "set", verdict, limit)
    assert written(tmp_path / "set") == [(name, pytest.approx(scores)) for name, scores in expected]
    images = {path.name for path in (tmp_path / "set" / "images").iterdir()}
    assert images == {name for name, _ in expected}
    source = tmp_path / "input" / ("sub/unsure.png" if "sub_unsure.png" in images else "doubtful.png")
    copied = tmp_path / "set" / "images" / ("sub_unsure.png" if "sub_unsure.png" in images else "doubtful.png")
    assert os.stat(copied).st_ino == os.stat(source).st_ino


def test_images_that_did_not_come_back_have_no_decisions(tmp_path: Path) -> None:
    labeled = labeled_folder(tmp_path / "input", tmp_path / "out", MANY)
    export_review_set(labeled, "label-studio", tmp_path / "set", "not-rejected")
    path = submitted(tmp_path / "set", "label-studio")
    tasks = json.loads(path.read_text())
    tasks[1]["annotations"] = []  # not looked at yet
    tasks[2]["annotations"][0]["result"] = []  # all deleted
    path.write_text(json.dumps(tasks[:3]))
    decisions = corrections(labeled, path)
    assert [(decision.image_id, decision.verdict) for decision in decisions] == [
        ("sub/unsure.png", "accept"),
        ("doubtful.png", "reject"),
        ("doubtful.png", "reject"),
    ]


def test_an_instance_that_was_not_sent_and_is_drawn_anew_is_no_new_object(tmp_path: Path) -> None:
    labeled = labeled_folder(tmp_path / "input", tmp_path / "out", MANY)
    export_review_set(labeled, "cvat", tmp_path / "set")
    path = tmp_path / "set" / "annotations.xml"
    tree = ElementTree.parse(path)
    image = next(each for each in tree.iter("image") if each.get("name") == "doubtful.png")
    ElementTree.SubElement(image, "mask", {"label": "cat", **rle_to_cvat(box(61))})  # near DELETED, which is accepted
    tree.write(path)
    decisions = checked(labeled.run, corrections(labeled, path))
    assert [each for each in decisions if each.image_id == "doubtful.png"] == [
        Decision("doubtful.png", "accept", "dog", KEPT),
        Decision("doubtful.png", "accept", "dog", DELETED, "cat", box(61)),
    ]


# One mask found under both classes, and cats may be as unsure as dogs.
TWINS = {"a.png": [instance(0, SURE, KEPT), instance(1, FAIR, KEPT)]}
CAT = Decision("a.png", "accept", "dog", KEPT, "cat")


@pytest.mark.parametrize("cats_first", [False, True])
def test_what_was_relabeled_and_then_deleted_is_gone(cats_first: bool, tmp_path: Path) -> None:
    images = {"a.png": TWINS["a.png"][::-1]} if cats_first else TWINS
    labeled = labeled_folder(tmp_path / "input", tmp_path / "out", images)
    append_decisions(labeled.run, [CAT])
    # The twin counts as rejected, but it is the same object now and is not sent a second time.
    with pytest.raises(UsageError, match="no instance to send"):
        export_review_set(labeled, "cvat", tmp_path / "reject", "reject")
    assert export_review_set(labeled, "cvat", tmp_path / "all", "all").instances == 1
    path = submitted(tmp_path / "all", "cvat")
    tree = ElementTree.parse(path)
    (image,) = tree.iter("image")
    (mask,) = image.findall("mask")
    assert mask.get("label") == "cat"
    image.remove(mask)
    tree.write(path)
    decisions = corrections(labeled, path)
    sent = ("cat", KEPT) if cats_first else ("dog", KEPT, "cat")
    assert checked(labeled.run, decisions) == [Decision("a.png", "reject", *sent)]
    append_decisions(labeled.run, decisions)
    summary = export(labeled.run, labeled.root, ONTOLOGY, ExportConfig(quality=LENIENT))
    assert (coco(labeled.run)["annotations"], summary.unmatched) == ([], [])
    assert summary.decided == {"reject": 2}


def test_of_two_on_one_mask_one_is_relabeled_and_the_other_deleted(tmp_path: Path) -> None:
    labeled = labeled_folder(tmp_path / "input", tmp_path / "out", TWINS)
    settings = labeled.run.settings.read()
    both = ExportConfig(quality=replace(LENIENT, cross_class_iou=0), include_review=True)
    labeled.run.settings.write(replace(settings, export=both))
    labeled = open_labeled(labeled.run.output)
    assert export_review_set(labeled, "cvat", tmp_path / "set", "not-rejected").instances == 1
    append_decisions(labeled.run, [Decision("a.png", "accept", "cat", KEPT)])
    labeled = open_labeled(labeled.run.output)
    assert export_review_set(labeled, "cvat", tmp_path / "both", "not-rejected").instances == 2
    path = submitted(tmp_path / "both", "cvat")
    tree = ElementTree.parse(path)
    (image,) = tree.iter("image")
    dog, cat = image.findall("mask")
    assert (dog.get("label"), cat.get("label")) == ("dog", "cat")
    dog.set("label", "cat")
    image.remove(cat)
    tree.write(path)
    append_decisions(labeled.run, corrections(labeled, path))
    summary = export(labeled.run, labeled.root, ONTOLOGY, both)
    assert [each["category_id"] for each in coco(labeled.run)["annotations"]] == [2]
    assert summary.unmatched == []


def test_images_gone_from_the_input_are_taken_from_the_dataset_or_named(tmp_path: Path) -> None:
    labeled = labeled_folder(tmp_path / "input", tmp_path / "out", MANY, gone=("sub_unsure.png",))
    export(labeled.run, labeled.root, ONTOLOGY, ExportConfig(layout="nested"))
    (tmp_path / "input" / "doubtful.png").unlink()
    review_set = export_review_set(labeled, "fiftyone", tmp_path / "set", "review")
    assert review_set.missing == ("sub_unsure.png",)
    assert {path.name for path in (tmp_path / "set" / "data").iterdir()} == {"sub_unsure.png", "doubtful.png"}


# ---------------------------------------------------------------- ids


@pytest.mark.parametrize("tool", TOOLS)
def test_copies_of_an_image_are_decided_on_separately(tool: str, tmp_path: Path) -> None:
    """Their bytes, and so the ids of their instances, are the same."""
    images = {name: [instance(0, FAIR, KEPT), instance(0, FAIR, DELETED)] for name in ("a.png", "b.png")}
    labeled = labeled_folder(tmp_path / "input", tmp_path / "out", images)
    export_review_set(labeled, tool, tmp_path / "set", "accept")
    path = submitted(tmp_path / "set", tool)
    if tool == "cvat":
        tree = ElementTree.parse(path)
        first, second = tree.iter("image")
        first.remove(first.findall("mask")[0])
        second.remove(second.findall("mask")[1])
        tree.write(path)
    else:
        content = json.loads(path.read_text())
        if tool == "fiftyone":
            content["annotations"] = content["annotations"][1:3]
        else:
            del content[0]["annotations"][0]["result"][0], content[1]["annotations"][0]["result"][1]
        path.write_text(json.dumps(content))
    decisions = corrections(labeled, path)
    of_image = {
        image_id: [(str(each.instance)[-2:], each.verdict) for each in decisions if each.image_id == image_id]
        for image_id in images
    }
    assert of_image == {"a.png": [("-0", "reject"), ("-1", "accept")], "b.png": [("-1", "reject"), ("-0", "accept")]}
    append_decisions(labeled.run, decisions)
    by_image = {decided.record.image_id: decided.verdicts for decided, _ in open_labeled(labeled.run.output).decided()}
    assert by_image == {"a.png": {0: "reject", 1: "accept"}, "b.png": {0: "accept", 1: "reject"}}


def test_what_came_back_is_applied_after_the_image_was_labeled_again(labeled: Labeled, tmp_path: Path) -> None:
    """Other masks at the same indices: each decision goes to the instance that its mask overlaps."""
    export_review_set(labeled, "cvat", tmp_path / "set", "accept")
    again = [instance(0, FAIR, box(left + 1)) for left in (60, 40, 20, 0)]
    record = ImageRecord("sub/a b.png", WIDTH, HEIGHT, content_digest(png()), instances=tuple(again))
    write_records(labeled.run.records / "000000.parquet", [record])
    labeled = open_labeled(labeled.run.output)
    append_decisions(labeled.run, corrections(labeled, edited(tmp_path / "set", "cvat")))
    ((decided, _),) = labeled.decided()
    assert decided.verdicts == {0: "reject", 1: "accept", 2: "accept", 3: "accept", 4: "accept"}
    masks = [(each.class_id, each.rle) for each in decided.record.instances]
    assert masks == [(0, box(61)), (0, DRAWN), (1, box(21)), (0, box(1)), (1, NEW)]


def test_an_added_object_that_was_sent_again_is_changed_or_deleted(labeled: Labeled, tmp_path: Path) -> None:
    added = Decision("sub/a b.png", "accept", None, None, "cat", NEW)
    append_decisions(labeled.run, [added])
    export_review_set(labeled, "cvat", tmp_path / "set", "accept")
    path = tmp_path / "set" / "annotations.xml"
    for change in ("label", "gone"):
        tree = ElementTree.parse(path)
        (image,) = tree.iter("image")
        last = image.findall("mask")[-1]
        if change == "label":
            last.set("label", "dog")
        else:
            image.remove(last)
        tree.write(path)
        append_decisions(labeled.run, corrections(labeled, path))
        ((decided, _),) = open_labeled(labeled.run.output).decided()
        new = [(each.class_id, each.rle) for each in decided.record.instances[4:]]
        assert new == ([(0, NEW)] if change == "label" else [])
        assert decided.unmatched == []


# ---------------------------------------------------------------- which set, which file


def test_of_several_sets_the_one_that_the_ids_name(labeled: Labeled, tmp_path: Path) -> None:
    export_review_set(labeled, "cvat", tmp_path / "all", "all")
    append_decisions(labeled.run, [Decision("sub/a b.png", "reject", "dog", rle) for rle in (KEPT, RELABELED)])
    export_review_set(labeled, "cvat", tmp_path / "two", "not-rejected")
    assert len(corrections(labeled, tmp_path / "all" / "annotations.xml")) == 4
    assert len(corrections(labeled, tmp_path / "two" / "annotations.xml")) == 2
    for name, count in (("all", 4), ("two", 2)):  # of the last set two came back, and two more are drawn anew
        assert len(corrections(labeled, without_ids(tmp_path / name / "annotations.xml"))) == count


def test_objects_of_two_sets_are_told(labeled: Labeled, tmp_path: Path) -> None:
    export_review_set(labeled, "fiftyone", tmp_path / "set", "all")
    content = json.loads((tmp_path / "set" / "labels.json").read_text())
    content["annotations"][0]["labeler_id"] = "sent-00000000-1"
    (tmp_path / "two.json").write_text(json.dumps(content))
    with pytest.raises(FormatError, match="holds objects of 2 review sets"):
        corrections(labeled, tmp_path / "two.json")
    for annotation in content["annotations"]:
        annotation["labeler_id"] = "00000000-ab-0-1"
    (tmp_path / "two.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="none of its images is in a review set"):
        corrections(labeled, tmp_path / "two.json")


def test_archives_and_folders(labeled: Labeled, tmp_path: Path) -> None:
    export_review_set(labeled, "fiftyone", tmp_path / "set", "all")
    assert len(corrections(labeled, tmp_path / "set")) == 4
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as archive:
        archive.write(tmp_path / "set" / "labels.json", "annotations/instances_default.json")
        archive.write(tmp_path / "set" / "data" / "sub_a_b.png", "images/sub_a_b.png")
    assert len(corrections(labeled, tmp_path / "task.zip")) == 4
    with zipfile.ZipFile(tmp_path / "task.zip", "a") as archive:
        archive.writestr("more.json", "[]")
    with pytest.raises(FormatError, match="2 XML or JSON files"):
        corrections(labeled, tmp_path / "task.zip")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not an export"),
        ("hello", "not an export"),
        ('{"a": 1}', "not an export"),
        ("<html/>", "CVAT for images"),
        ("[1]", "task 0"),
        ("[]", "nobody has reviewed"),
        (
            '{"images": [{"id": 1, "file_name": "x.png"}], "annotations": [], "categories": []}',
            "without a single object",
        ),
        ('{"images": [], "annotations": [], "categories": []}', "nobody has reviewed"),
        ('<annotations><image name="x.png" width="9" height="9"/></annotations>', "none of its images"),
    ],
)
def test_files_that_are_no_export(content: str, message: str, labeled: Labeled, tmp_path: Path) -> None:
    export_review_set(labeled, "cvat", tmp_path / "set", "all")
    path = tmp_path / "file"
    path.write_text(content)
    with pytest.raises((FormatError, UsageError), match=message) as error:
        corrections(labeled, path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_not_there(labeled: Labeled, tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.xml", tmp_path):
        with pytest.raises(FormatError, match=f"{path}: no"):
            corrections(labeled, path)


def test_a_class_that_is_none_is_told_with_the_image(labeled: Labeled, tmp_path: Path) -> None:
    export_review_set(labeled, "cvat", tmp_path / "set", "all")
    path = tmp_path / "set" / "annotations.xml"
    path.write_text(path.read_text().replace('label="dog"', 'label="lion"', 1))
    with pytest.raises(FormatError, match=r"annotations.xml: sub_a_b.png: an object of class 'lion'.*dog, cat"):
        corrections(labeled, path)


def test_what_is_left_out_is_said(labeled: Labeled, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    export_review_set(labeled, "cvat", tmp_path / "set", "all")
    path = tmp_path / "set" / "annotations.xml"
    more = '<box label="dog"/></image><image id="5" name="else.png" width="5" height="5"/>'
    path.write_text(path.read_text().replace("</image>", more))
    with caplog.at_level(logging.WARNING):
        assert len(corrections(labeled, path)) == 4
    said = [record.getMessage() for record in caplog.records]
    assert [text.removeprefix(f"{path}: ")[:8] for text in said] == ["1 images", "1 shape "]


# ---------------------------------------------------------------- to and fro by command


def test_what_cannot_be_sent(labeled: Labeled, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for folder, options, message in (
        (tmp_path / "full", {}, "not an empty folder"),
        (tmp_path / "set", {"limit": 0}, "--limit"),
        (tmp_path / "set", {"verdict": "review"}, "no instance to send"),
    ):
        with pytest.raises(UsageError, match=message):
            export_review_set(labeled, "cvat", folder, **{"verdict": "all", **options})  # type: ignore[arg-type]
    assert not (tmp_path / "set").exists()
    with pytest.raises(UsageError, match="needs -o DIR"):
        send(labeled, ExchangeOptions("cvat"), "review", Console())


@pytest.mark.parametrize("tool", TOOLS)
def test_rejected_instances_in_a_set_are_pointed_out(
    tool: str, labeled: Labeled, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tool does not show verdicts, and what is left in it is accepted."""
    append_decisions(labeled.run, [Decision("sub/a b.png", "reject", "dog", KEPT)])
    for verdict, is_said in (("all", True), ("accept", False)):
        labeled = open_labeled(labeled.run.output)
        send(labeled, ExchangeOptions(tool, tmp_path / verdict), verdict, Console(soft_wrap=True))
        assert ("1 of them is rejected: delete" in capsys.readouterr().out) == is_said


@pytest.mark.parametrize("tool", TOOLS)
def test_how_to_go_on_is_said(tool: str, labeled: Labeled, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(soft_wrap=True)
    folder = tmp_path / "my [set]"
    assert send(labeled, ExchangeOptions(tool, folder), "all", console) == f"4 instances in 1 images: {folder}"
    said = capsys.readouterr().out
    print_decisions(console, corrections(labeled, edited(folder, tool)))
    wanted = "1 images: 1 accepted as sent, 1 with another class, 1 with another mask, 1 added, 1 rejected"
    assert wanted in capsys.readouterr().out
    for name in ("tasks.json", "labeling_config.xml", "annotations.xml", "labels.json"):
        assert (folder / name).exists() or name not in said
    if tool == "label-studio":
        task = json.loads((folder / "tasks.json").read_text())[0]
        assert task["data"]["image"] == "/data/local-files/?d=my%20%5Bset%5D/images/sub_a_b.png"


def test_the_command(labeled: Labeled, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, folder = str(labeled.run.output), tmp_path / "set"
    assert main(["review", out, "--to", "cvat", "-o", str(folder), "--verdict", "not-rejected", "--limit", "5"]) == 0
    assert main(["review", out, "--from", str(edited(folder, "cvat"))]) == 0
    assert "1 accepted as sent, 1 with another class" in capsys.readouterr().out
    assert len(coco(labeled.run)["annotations"]) == 4
    assert saved(labeled.run) == EXPECTED
    for flags, message in (
        (["--to", "cvat"], "--to cvat needs -o DIR"),
        (["--limit", "3"], "--limit goes with --to"),
        (["--from", "x.xml", "--port", "1"], "--from opens no page: leave out --port"),
        (["--from", "x.xml"], "no such file"),
    ):
        assert main(["review", out, *flags]) == 2
        assert message in capsys.readouterr().err
