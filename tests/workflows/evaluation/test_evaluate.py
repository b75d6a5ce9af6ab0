"""Evaluating a labeled folder, with the function and with the command."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console

from labeler.decisions import Decision
from labeler.errors import UsageError
from labeler.files.image_table import ImageTable
from labeler.files.images import content_digest
from labeler.files.storage import locate
from labeler.formats.ground_truth import read_ground_truth
from labeler.geometry.masks import mask_to_rle, rle_area, rle_box_xyxy
from labeler.ground_truth import GroundTruth, GroundTruthImage, GroundTruthInstance
from labeler.metrics.measure_config import MeasureConfig
from labeler.quality_config import QualityConfig
from labeler.record_files import write_records
from labeler.records import ImageRecord, Instance
from ontologies import ClassSpec, Ontology
from tests.support.command_line import Run
from tests.support.object_store import Bucket
from tests.support.run_settings import run_settings
from workflows.commands.cli import main
from workflows.commands.evaluate import class_map_from
from workflows.dataset.decision_log import append_decisions
from workflows.dataset.labeled import Labeled, open_labeled
from workflows.evaluation.evaluate import evaluate, pair_classes
from workflows.evaluation.protocols import config_for
from workflows.evaluation.tables import markdown, print_rows
from workflows.run.folder import RunFolder
from workflows.settings.evaluation import EvaluationConfig

WIDTH, HEIGHT = 100, 40
Object = tuple[int, int]  # class id, left edge


def square(left: int, side: int = 20) -> np.ndarray[Any, np.dtype[np.bool_]]:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[5 : 5 + side, left : left + side] = True
    return mask


def instance(class_id: int, left: int, score: float = 0.9) -> Instance:
    rle = mask_to_rle(square(left))
    return Instance(class_id, "p", rle_box_xyxy(rle), score, 0.9, 0.95, rle_area(rle), rle)


def record(image_id: str, *instances: Instance) -> ImageRecord:
    return ImageRecord(image_id, WIDTH, HEIGHT, "d", instances=instances)


def labeled_folder(folder: Path, names: Sequence[str], records: Sequence[ImageRecord], output: Any = None) -> Any:
    """A run with ``records`` in ``output``, or below ``folder``, which contains its images."""
    images, output = folder / "images", output or folder / "out"
    for number, each in enumerate(records):
        (images / each.image_id).parent.mkdir(parents=True, exist_ok=True)
        colour = (90, 120 + 8 * (number % 16), 90)  # `tune` takes equal files for copies
        Image.new("RGB", (each.width or 9, each.height or 9), colour).save(images / each.image_id)
    run = RunFolder(output)
    ontology = Ontology(tuple(map(ClassSpec, names)))
    with run.locked():
        run.begin(run_settings(images, ontology), restart=False)
        ids = pa.array([each.image_id for each in records])
        run.plan(ImageTable.of(ids, pa.array(["s"] * len(records))), len(records))
    write_seen(run, images, records)
    return output


def write_seen(run: RunFolder, images: Path, records: Sequence[ImageRecord]) -> None:
    """Write records that match the images as they are now."""
    seen = [replace(each, digest=content_digest((images / each.image_id).read_bytes())) for each in records]
    write_records(run.shards()[0].records_path, seen)


def truth_of(names: Sequence[str], images: dict[str, Sequence[Object]], **more: Any) -> GroundTruth:
    made = []
    for name, objects in images.items():
        instances = tuple(GroundTruthInstance(class_id, mask_to_rle(square(left))) for class_id, left in objects)
        made.append(GroundTruthImage(name, WIDTH, HEIGHT, instances))
    return GroundTruth(tuple(names), tuple(made), **more)


def write_truth(path: Path, truth: GroundTruth) -> Path:
    annotations = []
    for image_id, image in enumerate(truth.images, start=1):
        for each in image.instances:
            rle = {"size": each.rle["size"], "counts": each.rle["counts"].decode()}
            x1, y1, x2, y2 = rle_box_xyxy(each.rle)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, "category_id": each.class_id + 1, "iscrowd": 0,
                 "segmentation": rle, "area": rle_area(each.rle), "bbox": [x1, y1, x2 - x1, y2 - y1]}
            )  # fmt: skip
    images = [
        {"id": image_id, "file_name": image.name, "width": image.width, "height": image.height}
        for image_id, image in enumerate(truth.images, start=1)
    ]
    categories = [{"id": class_id + 1, "name": name} for class_id, name in enumerate(truth.class_names)]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


@pytest.fixture
def labeled(tmp_path: Path) -> Labeled:
    records = [
        record("val/a.jpg", instance(0, 0), instance(1, 50), instance(0, 70, 0.1)),
        record("val/b.jpg", instance(0, 10)),
        record("val/only_here.jpg", instance(0, 0)),
        ImageRecord("val/broken.jpg", 0, 0, "", status="error", error="torn"),
    ]
    return open_labeled(labeled_folder(tmp_path, ["Dog", "kitten", "bird"], records))


TRUE: dict[str, Sequence[Object]] = {
    "a.jpg": [(1, 0), (0, 50), (1, 30)],
    "b.jpg": [(1, 10)],
    "broken.jpg": [(1, 0)],
    "only_there.jpg": [(1, 0)],
}
NAMES = ["cat", "dog", "horse"]


def test_images_and_classes_are_paired_and_others_are_listed(labeled: Labeled) -> None:
    found = evaluate(labeled, truth_of(NAMES, TRUE), EvaluationConfig({"kitten": "CAT"}))
    assert found.images == 3
    assert found.only_labeled == ["val/only_here.jpg"]
    assert found.only_in_ground_truth == ["only_there.jpg"]
    assert found.failed == ["val/broken.jpg"]
    assert (found.classes_only_labeled, found.classes_only_in_ground_truth) == (["bird"], ["horse"])
    cat, dog = found.measured.classes
    assert (cat.name, cat.objects, cat.matched, cat.precision) == ("cat", 1, 1, 1)
    assert (dog.objects, dog.accepted, dog.matched, dog.false_negatives) == (4, 2, 2, 2)  # one of a failed image
    assert dog.recall == 0.5
    # Per image: 2 matched and 1 missed; 1 matched; 1 missed.
    assert sorted(found.image_scores) == pytest.approx([0, 2 / 2.5, 1])
    assert [each.image_id for each in found.worst] == ["val/broken.jpg", "val/a.jpg", "val/b.jpg"]
    assert len(found.worst[1].accepted) == 2


def test_decisions_count_except_in_published_tables(labeled: Labeled) -> None:
    truth = truth_of(NAMES, TRUE)
    before = evaluate(labeled, truth).measured.total
    added = mask_to_rle(square(30))
    wrong = next(r for r in labeled.records() if r.image_id == "val/a.jpg").instances[0]  # as in the ground truth
    decisions = [
        Decision("val/a.jpg", "accept", None, None, "Dog", added),
        Decision("val/a.jpg", "reject", "Dog", wrong.rle),
    ]
    append_decisions(labeled.run, decisions)
    after = evaluate(labeled, truth)
    assert after.decided == 2
    (dog,) = (each for each in after.measured.classes if each.name == "dog")
    assert (dog.accepted, dog.matched) == (2, 2)  # one gone, one come
    assert evaluate(labeled, truth, config_for("coco")).decided == 0
    assert evaluate(labeled, truth, EvaluationConfig(by_hand=False)).measured.total == before


def test_instances_under_review_count_if_the_dataset_includes_them(labeled: Labeled) -> None:
    truth = truth_of(NAMES, TRUE)
    strict = replace(labeled, export=replace(labeled.export, quality=QualityConfig(accept_score=0.95)))
    assert evaluate(strict, truth).measured.total.accepted == 0
    both = replace(strict, export=replace(strict.export, include_review=True))
    assert evaluate(both, truth).measured.total.accepted == evaluate(labeled, truth).measured.total.accepted > 0


def test_every_class_counts_if_a_protocol_says_so(labeled: Labeled) -> None:
    truth = truth_of(NAMES, {**TRUE, "b.jpg": [(1, 10), (2, 50)]})
    mapped = {"kitten": "cat"}
    some = evaluate(labeled, truth, EvaluationConfig(mapped)).measured.total
    every = evaluate(labeled, truth, EvaluationConfig(mapped, every_class=True)).measured.total
    assert some.mask.ap50 is not None
    assert every.mask.ap50 == pytest.approx(some.mask.ap50 * 2 / 3)
    assert (some.objects, every.objects) == (5, 6)


def test_processes_measure_as_this_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images paired and not, of another size, failed, decided on, and more than the worst ones, in shards of four."""
    ids = [f"{number:02d}.png" for number in range(30)]
    records = [record(each, instance(0, number), instance(1, 50 + number // 2)) for number, each in enumerate(ids)]
    records[3] = replace(record(ids[3]), status="error", error="unreadable", width=0, height=0)
    output = labeled_folder(tmp_path, ["dog", "cat"], records[:1])
    run, images = RunFolder(output), tmp_path / "images"
    for each in ids[1:]:
        Image.new("RGB", (WIDTH, HEIGHT), (90, 90, 90)).save(images / each)
    with run.locked():
        run.plan(ImageTable.of(pa.array(ids), pa.array(["s"] * len(ids))), 4)
        for shard in run.waiting():
            write_records(shard.records_path, [records[ids.index(each)] for each in shard.image_ids])
    labeled = open_labeled(output)
    append_decisions(labeled.run, [Decision(ids[5], "reject", "dog", records[5].instances[0].rle)])
    truth = truth_of(["dog", "cat"], {each: [(0, 3), (1, 60)] for each in ids[:28]})
    resized = replace(truth.images[7], width=WIDTH + 1)
    truth = replace(truth, images=(*truth.images[:7], resized, *truth.images[8:]))
    here = evaluate(labeled, truth)
    assert (here.images, here.decided, here.failed) == (27, 1, [ids[3]])
    assert (here.other_size, here.only_labeled) == ([ids[7]], ids[28:])
    monkeypatch.setattr("workflows.evaluation.evaluate.WORTH_IT", 1)
    monkeypatch.setattr("labeler.files.processes.cores", lambda: 2)
    assert evaluate(labeled, truth) == here


def test_an_image_of_another_size_is_not_compared(labeled: Labeled) -> None:
    truth = truth_of(["dog"], {"a.jpg": [], "b.jpg": [(0, 10)]})
    turned = GroundTruthImage("a.jpg", HEIGHT, WIDTH)
    found = evaluate(labeled, GroundTruth(truth.class_names, (turned, truth.images[1])))
    assert (found.images, found.other_size) == (1, ["val/a.jpg"])
    with pytest.raises(UsageError, match=r"every image in common has another size in .*; these: val/a.jpg"):
        evaluate(labeled, GroundTruth(truth.class_names, (turned,)))


def test_metrics_equal_those_of_pycocotools_on_the_same_files(tmp_path: Path, labeled: Labeled) -> None:
    path = write_truth(tmp_path / "truth.json", truth_of(["kitten", "dog"], TRUE))
    total = evaluate(labeled, read_ground_truth(path)).measured.total
    coco = COCO(path)
    image_ids = {image["file_name"]: image_id for image_id, image in coco.imgs.items()}
    results = []
    for each in labeled.records():
        if (image_id := image_ids.get(Path(each.image_id).name)) is not None:
            results += [
                {"image_id": image_id, "category_id": 2 - i.class_id, "segmentation": i.rle, "score": i.joint_score}
                for i in each.instances
            ]
    evaluation = COCOeval(coco, coco.loadRes(results), "segm")
    evaluation.params.imgIds = [1, 2, 3]  # the last one is not labeled
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert [total.mask.ap, total.mask.ap50, total.mask.ar1] == pytest.approx(evaluation.stats[[0, 1, 6]].tolist())


def test_class_names() -> None:
    assert pair_classes(["Air Conditioner", "dog"], ["dog", "air_conditioner"], {}) == [1, 0]
    assert pair_classes(["puppy", "dog", "cat"], ["Dog"], {"puppy": "dog"}) == [0, 0, None]
    assert pair_classes(["dog"], ["cat", "dog"], {"dog": "cat"}) == [0]  # the map overrides equal names
    with pytest.raises(UsageError, match=r"no class in common: labeled: a; ground truth: b; say which is"):
        pair_classes(["a"], ["b"], {})
    with pytest.raises(UsageError, match="--map c=b: 'c' is not a labeled class; labeled: a"):
        pair_classes(["a"], ["b"], {"c": "b"})
    with pytest.raises(UsageError, match="--map a=c: the ground truth has no class 'c'; ground truth: b"):
        pair_classes(["a"], ["b"], {"a": "c"})


def test_a_map_as_text() -> None:
    assert class_map_from("puppy=dog, big cat = cat,") == {"puppy": "dog", "big cat": "cat"}
    for text in ("puppy", "puppy=", "a=b, a=c"):
        with pytest.raises(UsageError, match="write labeled=ground truth"):
            class_map_from(text)


@pytest.mark.parametrize(
    ("measures", "message"),
    [
        ({"rank_by": "stability"}, "--rank-by must be one of joint, detector, mask"),
        ({"iou": 0}, "--iou must be a number above 0 and at most 1, not 0"),
        ({"band_width": -1}, "--band-width must be a whole number, 0 or more, not -1"),
        ({"band_weight": 2}, "--band-weight must be a number from 0 to 1, not 2"),
    ],
)
def test_settings_that_cannot_be_meant(measures: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MeasureConfig(**measures)


def run_here(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    return lambda *arguments: run_here(capsys, "evaluate", *arguments)


def test_what_the_command_prints_and_writes(
    tmp_path: Path, labeled: Labeled, command: Callable[..., tuple[int, str, str]]
) -> None:
    output = labeled.run.output
    truth = write_truth(tmp_path / "truth.json", truth_of(NAMES, TRUE))
    code, said, _ = command(output, "--truth", truth, "--map", "kitten=cat", "--band-width", 2)
    assert code == 0
    assert re.search(r"^dog +4 +2 +1\.000 +0\.500 +0\.667 +2 +0$", said, re.M)
    assert re.search(r"^all +5 +3 +1\.000 +0\.600 +0\.750 +2 +0$", said, re.M)
    assert "3 images compared" in said
    assert "1 images without ground truth: val/only_here.jpg" in said
    assert "1 classes of the ground truth that were not labeled: horse" in said
    folder = output / "evaluation"
    content = json.loads((folder / "evaluation.json").read_text())
    assert content["all"]["f1"] == pytest.approx(0.75)
    assert content["all"]["overlap"]["tolerant_iou"] == 1
    assert [each["name"] for each in content["classes"]] == ["cat", "dog"]
    assert content["not_compared"]["only_true"] == ["only_there.jpg"]
    assert content["settings"] == {
        "rank_by": "joint", "iou": 0.5, "band_width": 2, "band_weight": 0.0, "image_limit": None,
        "class_map": {"kitten": "cat"}, "every_class": False,
            "by_hand": True, "include_review": False, "quality": QualityConfig().to_dict(),
    }  # fmt: skip
    assert sum(content["image_score"]["histogram"]["counts"]) == 3
    assert [each["image_id"] for each in content["worst"]] == ["val/broken.jpg", "val/a.jpg", "val/b.jpg"]
    # The failed image has 9 x 9 pixels, other than the ground truth: there is no picture of it.
    assert [each["picture"] for each in content["worst"]] == [None, "worst_02.jpg", "worst_03.jpg"]
    text = (folder / "evaluation.md").read_text()
    linked = re.findall(r"!\[[^]]*\]\(([^)]*)\)", text)
    assert linked == ["histogram.png", "worst_02.jpg", "worst_03.jpg"]
    assert {path.name for path in folder.iterdir()} == {*linked, "evaluation.md", "evaluation.json"}
    assert "(the image is no longer available)" in text
    with Image.open(folder / "histogram.png") as histogram:
        assert histogram.size == (720, 360)
    drawn = np.asarray(Image.open(folder / "worst_02.jpg")).astype(int)
    assert drawn.shape == (HEIGHT, WIDTH, 3)
    cyan, magenta = (np.abs(drawn - colour).sum(axis=2) < 120 for colour in ((0, 220, 255), (255, 60, 200)))
    assert cyan[:, 28:52].any()  # the one that was missed
    assert not magenta[:, 33:47].any()  # between the names of the accepted ones
    assert magenta[:, :22].any()


def test_what_is_not_read_as_it_stands_is_told(
    tmp_path: Path, command: Callable[..., tuple[int, str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """A box without a mask, an annotation without either, names that a tool changed, and one that fits two images."""
    names = ("a.jpg", "b.jpg", "x/c.jpg", "y/c.jpg")
    records = [record(name, instance(0, 0), instance(0, 40)) for name in names]
    output = labeled_folder(tmp_path, ["dog"], records)
    true: dict[str, Sequence[Object]] = {"a.jpg": [(0, 0), (0, 40)], "1f2e3d4c-b.jpg": [(0, 0), (0, 40)], "c.jpg": []}
    path = write_truth(tmp_path / "truth.json", truth_of(["dog"], true))
    content = json.loads(path.read_text())
    first, _, _, last = content["annotations"]
    first["segmentation"] = []
    del last["segmentation"], last["bbox"]
    path.write_text(json.dumps(content))
    notes = [
        "1 annotation without a mask: counted by the box, and left out of measures of masks (1)",
        "1 annotation that cannot be read: left out (4: it has neither a mask nor a box)",
        "1 image paired by a name that a tool changed (b.jpg = 1f2e3d4c-b.jpg)",
    ]
    code, said, _ = command(output, "--truth", path)
    assert code == 0
    for note in notes:
        assert f"ground truth: {note}" in " ".join(said.split())
    assert "2 images whose name fits several of the ground truth, or shares one, not compared: x/c.jpg, y/c.jpg" in said
    # Nothing is wrong: the box is matched, and what is found where the annotation was left out is no error.
    assert re.search(r"^dog +3 +3 +1\.000 +1\.000 +1\.000 +0 +0$", said, re.M)
    evaluation = json.loads((output / "evaluation" / "evaluation.json").read_text())
    assert evaluation["ground_truth_notes"] == notes
    assert evaluation["not_compared"]["ambiguous"] == ["x/c.jpg", "y/c.jpg"]
    assert f"Note: ground truth: {notes[0]}." in (output / "evaluation" / "evaluation.md").read_text()
    assert "the box counts as the mask (1)" in command(output, "--truth", path, "--boxes-as-masks")[1]
    tuned = tmp_path / "tuned.toml"
    assert main(["tune", str(output), "--truth", str(path), "-o", str(tuned), "--min-examples", "1"]) == 0
    said = capsys.readouterr().out
    assert all(note in said for note in notes)
    assert "2 images have a name that fits several" in said


def test_everything_may_be_in_a_store(
    tmp_path: Path, bucket: Bucket, command: Callable[..., tuple[int, str, str]]
) -> None:
    records = [record("a.jpg", instance(0, 0))]
    labeled_folder(tmp_path, ["dog"], records, locate(f"{bucket.uri}/out"))
    path = write_truth(tmp_path / "truth.json", truth_of(["dog"], {"a.jpg": [(0, 2)]}))
    bucket.put("truth/dogs.json", path.read_bytes())
    code, _, complained = command(f"{bucket.uri}/out", "--truth", f"{bucket.uri}/truth/dogs.json")
    assert (code, complained) == (0, "")
    written = bucket.contents("out/evaluation/")
    assert set(written) == {"evaluation.json", "evaluation.md", "histogram.png", "worst_01.jpg"}
    assert json.loads(written["evaluation.json"])["all"]["matched"] == 1
    code, _, complained = command(f"{bucket.uri}/out", "--truth", f"{bucket.uri}/truth/cats.json")
    assert code == 2
    assert "cats.json: no such ground truth" in complained


def test_an_earlier_evaluation_leaves_no_picture_behind(
    tmp_path: Path, labeled: Labeled, command: Callable[..., tuple[int, str, str]]
) -> None:
    all_images = write_truth(tmp_path / "all.json", truth_of(["dog"], {name: [(0, 0)] for name in TRUE}))
    one_image = write_truth(tmp_path / "one.json", truth_of(["dog"], {"b.jpg": [(0, 0)]}))
    command(labeled.run.output, "--truth", all_images)
    assert command(labeled.run.output, "--truth", one_image)[0] == 0
    assert [path.name for path in sorted((labeled.run.output / "evaluation").glob("*.jpg"))] == ["worst_01.jpg"]


def test_pictures_stay_small(tmp_path: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    rng = np.random.default_rng(0)
    records = [record(f"{index}.jpg", instance(0, 0)) for index in range(14)]
    output = labeled_folder(tmp_path, ["dog"], records)
    truth = truth_of(["dog"], {each.image_id: [(0, index)] for index, each in enumerate(records)})
    for each in records:
        noise = rng.integers(0, 256, size=(HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "images" / each.image_id)
    write_seen(RunFolder(output), tmp_path / "images", records)
    assert command(output, "--truth", write_truth(tmp_path / "truth.json", truth))[0] == 0
    pictures = list((output / "evaluation").glob("worst_*.jpg"))
    assert len(pictures) == 12
    assert sum(path.stat().st_size for path in pictures) < 5_000_000


def test_mask_images_without_instances(
    tmp_path: Path, labeled: Labeled, command: Callable[..., tuple[int, str, str]]
) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    for name, left in (("a", 0), ("b", 10)):
        Image.fromarray(square(left).astype(np.uint8) * 255).save(masks / f"{name}.png")
    code, said, _ = command(labeled.run.output, "--truth", masks, "--map", "Dog=object")
    assert code == 0
    assert "This ground truth does not separate the objects of a class" in said
    assert re.search(r"^one mask per image, by +images +IoU +boundary$", said, re.M)
    assert re.search(r"^joint score +2 +1\.000 +1\.000$", said, re.M)


def test_the_coco_table(tmp_path: Path, labeled: Labeled, command: Callable[..., tuple[int, str, str]]) -> None:
    """The lines that pycocotools prints, for masks and for boxes."""
    images = {name: TRUE[name] for name in ("a.jpg", "b.jpg")}
    path = write_truth(tmp_path / "truth.json", truth_of(["kitten", "dog"], images))
    code, said, _ = command(labeled.run.output, "--truth", path, "--protocol", "coco")
    assert code == 0
    coco = COCO(path)
    by_name = {Path(each.image_id).stem: each for each in labeled.records()}
    for kind, heading in (("segm", "masks"), ("bbox", "boxes")):
        results = []
        for image_id, name in enumerate("ab", start=1):
            for each in by_name[name].instances:
                x1, y1, x2, y2 = each.box_xyxy
                shape = {"segmentation": each.rle} if kind == "segm" else {"bbox": [x1, y1, x2 - x1, y2 - y1]}
                category = 2 - each.class_id
                results.append({"image_id": image_id, "category_id": category, "score": each.score, **shape})
        evaluation = COCOeval(coco, coco.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            evaluation.summarize()
        assert f"{heading}\n{printed.getvalue()}" in said


def test_the_lvis_table(tmp_path: Path, labeled: Labeled, command: Callable[..., tuple[int, str, str]]) -> None:
    path = write_truth(tmp_path / "truth.json", truth_of(["kitten", "dog"], TRUE))
    content = json.loads(path.read_text())
    for image in content["images"]:
        image |= {"coco_url": f"http://host/val/{image.pop('file_name')}", "neg_category_ids": [1, 2]}
    for category, frequency in zip(content["categories"], "rf", strict=True):
        category["frequency"] = frequency
    path.write_text(json.dumps(content))
    code, said, _ = command(labeled.run.output, "--truth", path, "--protocol", "lvis")
    assert code == 0
    header, mask, box = (line.split() for line in said.splitlines()[:3])
    assert header == ["AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf"]
    figures = json.loads((labeled.run.output / "evaluation" / "evaluation.json").read_text())["lvis"]
    assert mask == ["mask", *("–" if value is None else f"{value:.3f}" for value in figures["mask"].values())]
    assert (mask[7], mask[8], box[7]) == ("1.000", "–", "1.000")
    assert figures["mask"]["AP"] == pytest.approx((figures["mask"]["APr"] + figures["mask"]["APf"]) / 2)


def test_sginw(tmp_path: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    lines = []
    unlike = {"x.jpg": [(0, 0)]}  # not labeled
    for name, key, hits in (("Chicken", "ground_truth", 2), ("Cows", "truth", 1)):  # the latter in older files
        folder = tmp_path / name
        output = labeled_folder(folder, ["animal"], [record(f"{n}.jpg", instance(0, 0)) for n in range(2)])
        objects = {f"{n}.jpg": [(0, 0 if n < hits else 60)] for n in range(2)}
        truth = truth_of([name.lower()], objects | (unlike if name == "Cows" else {}))
        write_truth(folder / "truth.json", truth)
        lines.append(
            f'[[set]]\nname = "{name}"\noutput = "{name}/out"\n{key} = "{folder / "truth.json"}"\n'
            f'map = {{ animal = "{name.lower()}" }}\n'
        )
        assert output.is_dir()
    (tmp_path / "sets.toml").write_text("\n".join(lines))
    code, said, _ = command(tmp_path / "sets.toml", "--protocol", "sginw")
    assert code == 0
    rows = {line.split("  ")[0]: line.split() for line in said.splitlines()}
    assert rows["Chicken"][1:] == ["2", "0", "0", "0", "1.000", "1.000"]
    assert json.loads((tmp_path / "Cows" / "out" / "evaluation" / "evaluation.json").read_text())["images"] == 2
    assert rows["Cows"][1:5] == ["2", "1", "0", "0"]
    assert float(rows["mean of 2 sets"][-2]) == pytest.approx((1 + float(rows["Cows"][-2])) / 2, abs=1e-3)
    assert 0 < float(rows["Cows"][-2]) < 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"sets.toml: cannot be read \(No such file or directory\); give a TOML file that lists sets"),
        ("[[set", r"sets.toml: not valid TOML"),
        ("", r"sets.toml: no sets in it; list each as \[\[set\]\] with name, output and ground_truth"),
        ('[[set]]\nname = "a"', r"sets.toml: set 1 must have name, output and ground_truth; it may have map"),
        ('[[set]]\nname="a"\noutput="nowhere"\ntruth="t"', r"holds no run"),
    ],
)
def test_sets_that_cannot_be_read(
    tmp_path: Path, command: Callable[..., tuple[int, str, str]], content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "sets.toml").write_text(content)
    code, _, complained = command(tmp_path / "sets.toml", "--protocol", "sginw")
    assert code == 2
    assert re.search(message, complained)
    assert len(complained.splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--ground-truth is missing"),
        (("--truth", "nowhere.json"), "nowhere.json: no such ground truth"),
        (("--truth", "torn.json"), "torn.json: not a COCO file"),
        (("--truth", "others.json"), "no image in common: labeled: val/a.jpg, val/b.jpg, "),
        (
            ("--truth", "fish.json"),
            "no class in common: labeled: Dog, kitten, bird; ground truth: fish; ",
        ),
        (
            ("--truth", "fish.json", "--map", "Dog=cow"),
            "--map Dog=cow: the ground truth has no class 'cow'",
        ),
        (("--truth", "fish.json", "--map", "Dog"), "--map Dog: write labeled=ground truth"),
        (("--truth", "fish.json", "--iou", "2"), "--iou must be a number above 0 and at most 1, not 2.0"),
        (("--truth", "fish.json", "--protocol", "coco", "--iou", "0.7"), "--iou is set by --protocol coco"),
        (
            ("--truth", "fish.json", "--protocol", "sginw"),
            "--ground-truth: with --protocol sginw it stands in the TOML",
        ),
    ],
)
def test_bad_input_gives_one_line(
    tmp_path: Path,
    labeled: Labeled,
    command: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    flags: Sequence[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_truth(Path("others.json"), truth_of(["dog"], {"z.jpg": []}))
    write_truth(Path("fish.json"), truth_of(["fish"], {"a.jpg": []}))
    Path("torn.json").write_text(Path("fish.json").read_text()[:99])
    code, said, complained = command(labeled.run.output, *flags)
    assert (code, said) == (2, "")
    assert message in complained
    assert len(complained.splitlines()) == 1


def test_a_folder_without_a_run(tmp_path: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    code, _, complained = command(tmp_path, "--truth", "x.json")
    assert (code, len(complained.splitlines())) == (2, 1)
    assert "holds no run" in complained


def test_a_map_in_a_config_file(tmp_path: Path, labeled: Labeled, labeler: Run) -> None:
    """In a process, as a user runs it."""
    write_truth(tmp_path / "truth.json", truth_of(["hound"], {"a.jpg": [(0, 0)]}))
    (tmp_path / "evaluate.toml").write_text('map = "Dog=hound"\nrank_by = "mask"\n')
    done: subprocess.CompletedProcess[str] = labeler(
        "evaluate", labeled.run.output, "--truth", tmp_path / "truth.json", "--config", tmp_path / "evaluate.toml"
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^hound +1 +1 +1\.000", done.stdout, re.M)


def test_long_tables_are_cut_in_the_middle() -> None:
    console = Console(record=True, width=40, file=open("/dev/null", "w"))  # noqa: SIM115
    print_rows(console, [["class", "n"], *([f"class {n}", str(n)] for n in range(9)), ["all", "36"]], limit=4)
    lines = [line.split() for line in console.export_text().splitlines()]
    assert [line[-1] for line in lines] == ["n", "0", "1", "2", "more", "36"]
    assert lines[4] == ["…", "6", "more"]


def test_markdown_tables() -> None:
    assert markdown([["a", "b"], ["x|y", "1"]]) == "| a | b |\n| --- | ---: |\n| x\\|y | 1 |"
