"""``labeler tune`` at the command line and in Python; ``tests/labeler/metrics/test_thresholds.py`` tests the sweep."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow as pa
import pytest
from PIL import Image
from rich.console import Console

from labeler.decisions import Decision
from labeler.errors import UsageError
from labeler.files.image_table import ImageTable
from labeler.files.images import read_image
from labeler.formats.ground_truth import read_ground_truth
from labeler.ground_truth import GroundTruth, GroundTruthImage, GroundTruthInstance, match_masks
from labeler.metrics.thresholds import Counts
from labeler.quality import effective_thresholds, judge, ranking_score, without_repeats
from labeler.quality_config import QualityConfig, Score
from labeler.record_files import write_records
from labeler.records import ImageRecord, Instance
from ontologies import ClassSpec, Ontology
from tests.support.command_line import linked_copy
from tests.support.random_truth import HEIGHT, WIDTH, Pair, counts_of_the_gate, random_pairs, rectangle
from tests.support.run_settings import run_settings
from workflows.commands.cli import main
from workflows.commands.tune import print_tuned
from workflows.dataset.decision_log import append_decisions
from workflows.dataset.labeled import Labeled, open_labeled
from workflows.evaluation.evaluate import evaluate
from workflows.evaluation.review_band import review_band
from workflows.evaluation.tune import TuneConfig, Tuned, TunedClass, tune
from workflows.run.folder import RunFolder
from workflows.settings.evaluation import EvaluationConfig
from workflows.settings.export import ExportConfig

NAMES = ("dog", "big cat", 'bird, "x=y"')
CLASSES = (ClassSpec("dog"), ClassSpec("big cat", min_score=0.95), ClassSpec(NAMES[2], ("bird",)))
POOR = QualityConfig(
    min_score=0.7, min_joint_score=0.6, accept_score=0.8, min_mask_score=0.9, min_stability=0.9, duplicate_iou=0.3
)


def write_run(
    folder: Path, pairs: list[Pair], quality: QualityConfig = POOR, floor: float = 0.05, different: int = 1000
) -> Labeled:
    """A labeled folder of ``pairs``, and ``truth.json`` beside it; so many of the images are ``different``."""
    (folder / "images").mkdir(parents=True)
    for number, (record, _) in enumerate(pairs):
        Image.new("RGB", (WIDTH, HEIGHT), (number % different, 0, 0)).save(folder / "images" / record.image_id)
    run = RunFolder(folder / "out")
    with run.locked():
        export = ExportConfig(quality=quality, val_share=0, formats=("coco",))
        run.begin(run_settings(folder / "images", Ontology(CLASSES), export, floor), restart=False)
        image_ids = pa.array([record.image_id for record, _ in pairs])
        run.plan(ImageTable.of(image_ids, pa.array([""] * len(pairs))), shard_size=len(pairs))
    seen = [replace(each, digest=read_image(folder / "images" / each.image_id).digest) for each, _ in pairs]
    write_records(run.records / "000000.parquet", seen)
    write_truth(folder / "truth.json", [truth for _, truth in pairs])
    return open_labeled(folder / "out")


def write_truth(path: Path, images: list[GroundTruthImage], names: tuple[str, ...] = NAMES) -> None:
    annotations = [
        {
            "id": number,
            "image_id": image_id,
            "category_id": item.class_id,
            "iscrowd": int(item.crowd),
            "segmentation": {"size": item.rle["size"], "counts": item.rle["counts"].decode()},
        }
        for number, (image_id, item) in enumerate(
            ((image_id, item) for image_id, image in enumerate(images) for item in image.instances), start=1
        )
    ]
    content = {
        "images": [
            {"id": image_id, "file_name": image.name, "width": image.width, "height": image.height}
            for image_id, image in enumerate(images)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
        "annotations": annotations,
    }
    path.write_text(json.dumps(content))


def truth_of(pairs: list[Pair]) -> GroundTruth:
    return GroundTruth(NAMES, tuple(truth for _, truth in pairs))


def pooled(counts: list[Counts]) -> Counts:
    return Counts(*(sum(getattr(each, name) for each in counts) for name in ("true_positives", "accepted", "objects")))


def test_what_it_claims_is_what_the_gate_does(tmp_path: Path) -> None:
    pairs = random_pairs(0, 80)
    tuned = tune(write_run(tmp_path, pairs), truth_of(pairs), TuneConfig(min_examples=5))
    now = counts_of_the_gate(pairs, POOR, list(CLASSES))
    then = counts_of_the_gate(pairs, tuned.quality, list(CLASSES))
    assert [each.before for each in tuned.classes] == now
    assert [each.fitted for each in tuned.classes] == then
    assert (tuned.total.before, tuned.total.fitted) == (pooled(now), pooled(then))
    assert [each.names for each in tuned.classes] == [(name,) for name in NAMES]
    assert all(not each.note for each in tuned.classes)
    before, expected = tuned.total.before.f1, tuned.total.expected.f1
    assert before < expected <= tuned.total.fitted.f1 + 0.02
    gain, low, high = tuned.gains["f1"]
    assert gain == pytest.approx(expected - before)
    assert 0 < low < gain < high
    assert tuned == tune(open_labeled(tmp_path / "out"), truth_of(pairs), TuneConfig(min_examples=5))


def test_agreement_is_tried_where_it_varies(tmp_path: Path) -> None:
    """What matches no object was found by one view of two, and its scores do not tell it apart."""
    pairs = []
    for record, truth in random_pairs(2, 40, crowds=False):
        agreements = []
        for class_id in range(len(NAMES)):
            items = [index for index, each in enumerate(record.instances) if each.class_id == class_id]
            true = [each for each in truth.instances if each.class_id == class_id]
            rles = [record.instances[index].rle for index in items]
            agreements += [
                (i, 1.0 if match >= 0 else 0.5) for i, match in zip(items, match_masks(rles, true), strict=True)
            ]
        made = tuple(replace(record.instances[i], score=0.5, agreement=share) for i, share in sorted(agreements))
        pairs.append((replace(record, instances=made), truth))
    tuned = tune(write_run(tmp_path, pairs), truth_of(pairs), TuneConfig(min_examples=5, score="mask"))
    assert tuned.quality.min_agreement == 1
    assert tuned.total.fitted.precision == 1
    assert tuned.total.fitted == pooled(counts_of_the_gate(pairs, tuned.quality, list(CLASSES)))


def test_copies_promise_no_more_than_one_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = random_pairs(0, 20)
    names = [f"copy of {record.image_id}" for record, _ in pairs]
    copies = [(replace(r, image_id=name), replace(t, name=name)) for (r, t), name in zip(pairs, names, strict=True)]
    once, twice = (
        tune(write_run(tmp_path / str(len(each)), each, different=20), truth_of(each), TuneConfig(min_examples=1))
        for each in (pairs, [*pairs, *copies])
    )
    assert (once.images, once.groups, twice.images, twice.groups) == (20, 20, 40, 20)
    assert twice.quality == once.quality
    for metric, gain in once.gains.items():
        assert twice.gains[metric] == pytest.approx(gain)
    options = ["--min-examples", "1", "-o", str(tmp_path / "tuned.toml")]
    assert main(["tune", str(tmp_path / "40" / "out"), "--truth", str(tmp_path / "40" / "truth.json"), *options]) == 0
    assert "40 images (20 different ones; " in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UsageError, match="the 20 images in common are copies of one image"):
        tune(write_run(tmp_path / "one", pairs, different=1), truth_of(pairs), TuneConfig(min_examples=1))


@pytest.mark.parametrize("seed", range(2))
def test_poor_thresholds_become_good(seed: int, tmp_path: Path) -> None:
    """Against the best of a grid over every threshold, the accept score of each class at each of its scores."""
    pairs = random_pairs(seed, 30)
    tuned = tune(write_run(tmp_path, pairs), truth_of(pairs), TuneConfig(min_examples=1))
    best = 0.0
    scores = np.unique([i.joint_score for record, _ in pairs for i in record.instances])[::8]
    for mask_score in (0, 0.7):
        for stability in (0, 0.8):
            for overlap in (0.4, 0.6, 0.8):
                shared = QualityConfig(min_mask_score=mask_score, min_stability=stability, duplicate_iou=overlap)
                at_scores = [
                    counts_of_the_gate(
                        pairs, replace(shared, class_accept_scores=dict.fromkeys(NAMES, score)), list(CLASSES)
                    )
                    for score in scores.tolist()
                ]
                # Accept scores of one class do not affect the others, so each class has its best by itself.
                per_class = [max((row[n] for row in at_scores), key=lambda counts: counts.f1) for n in range(3)]
                best = max(best, pooled(per_class).f1)
    assert tuned.total.fitted.f1 >= 0.95 * best
    assert tuned.total.before.f1 < 0.5 * best


def test_export_accepts_just_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From any working directory, with names of classes that need quoting."""
    pairs = random_pairs(1, 60)
    labeled = write_run(tmp_path, pairs)
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["tune", "../out", "--truth", "../truth.json", "-o", "tuned.toml", "--min-examples", "5"]) == 0
    tuned = tune(labeled, truth_of(pairs), TuneConfig(min_examples=5))
    content = tomllib.loads(Path("tuned.toml").read_text())
    for name, own in content["class"].items():
        assert own.keys() == {"accept-score"}
        assert own["accept-score"] != content["accept-score"] or name == "big cat", (
            "the common accept score is not repeated, except where a class's min_score would apply instead"
        )
    monkeypatch.chdir(tmp_path / "there")
    assert main(["export", "../out", "--config", "../here/tuned.toml"]) == 0
    expected = {
        (record.image_id, item.class_id, item.rle["counts"].decode())
        for record, _ in pairs
        for item, judgement in zip(record.instances, judge(record, tuned.quality, CLASSES), strict=True)
        if judgement.verdict == "accept"
    }
    coco = json.loads((tmp_path / "out" / "annotations" / "instances_train.json").read_text())
    file_names = {image["id"]: image["file_name"] for image in coco["images"]}
    first = min(category["id"] for category in coco["categories"])
    written = {
        (file_names[item["image_id"]], item["category_id"] - first, item["segmentation"]["counts"])
        for item in coco["annotations"]
    }
    assert written == expected
    assert len(coco["annotations"]) == tuned.total.fitted.accepted + _ignored(pairs, tuned)
    assert open_labeled(tmp_path / "out").export.quality == tuned.quality

    assert main(["export", "../out", "--accept-score", "0.99"]) == 0
    assert open_labeled(tmp_path / "out").export.quality.class_accept_scores == {}, "it applies to all"


def _ignored(pairs: list[Pair], tuned: Tuned) -> int:
    """Accepted instances that lie in crowds, and count as nothing."""
    accepted = [
        judgement
        for record, _ in pairs
        for judgement in judge(record, tuned.quality, CLASSES)
        if judgement.verdict == "accept"
    ]
    return len(accepted) - pooled(counts_of_the_gate(pairs, tuned.quality, list(CLASSES))).accepted


def test_classes_of_few_examples_inherit_and_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = []
    for number, (record, truth) in enumerate(random_pairs(2, 60)):
        # the last class is in three images only
        kept = tuple(item for item in truth.instances if item.class_id < 2 or number < 3)
        pairs.append((record, replace(truth, instances=kept)))
    labeled = write_run(tmp_path, pairs)
    tuned = tune(labeled, truth_of(pairs))
    assert [each.note for each in tuned.classes] == ["", "", "few examples"]
    assert tuned.classes[2].accept_score == tuned.quality.accept_score
    assert NAMES[2] not in tuned.quality.class_accept_scores
    assert tuned.classes[0].accept_score != tuned.quality.accept_score
    arguments = ["tune", str(tmp_path / "out"), "--truth", str(tmp_path / "truth.json"), "-o", str(tmp_path / "t.toml")]
    assert main(arguments) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "few examples: fewer than 20 objects" in shown
    assert "5-fold cross-validation" in shown
    assert "95 % interval" in shown


def test_a_precision_is_met(tmp_path: Path) -> None:
    pairs = random_pairs(3, 80)
    labeled = write_run(tmp_path, pairs)
    tuned = tune(labeled, truth_of(pairs), TuneConfig(precision=0.9))
    found = counts_of_the_gate(pairs, tuned.quality, list(CLASSES))
    assert [each.fitted for each in tuned.classes] == found
    assert all(counts.precision >= 0.9 and counts.true_positives for counts in found)
    assert pooled(found).recall < tune(labeled, truth_of(pairs), TuneConfig(precision=0.6)).total.fitted.recall


def test_a_precision_that_is_not_to_be_expected_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = random_pairs(3, 80)
    labeled = write_run(tmp_path, pairs)
    tuned = tune(labeled, truth_of(pairs), TuneConfig(precision=0.97))
    total = tuned.total
    assert total.expected.precision < 0.97 <= total.fitted.precision
    arguments = ["tune", str(tmp_path / "out"), "--truth", str(tmp_path / "truth.json"), "-o", str(tmp_path / "t.toml")]
    assert main([*arguments, "--target", "precision=0.97"]) == 0
    shown = capsys.readouterr().out
    assert f"expected precision {total.expected.precision:.3f} is below the wanted 0.97" in shown
    dog = tuned.classes[0]
    assert f"{dog.before.precision:.3f} → {dog.expected.precision:.3f}" in shown
    assert f"{dog.before.recall:.3f} → {dog.expected.recall:.3f}" in shown
    assert f"{total.fitted.recall:.3f} on these images" in shown


@pytest.mark.parametrize("score", ["detector", "mask"])
def test_another_score_is_tuned_exported_and_kept(score: Score, tmp_path: Path) -> None:
    pairs = random_pairs(9, 60)
    labeled = write_run(tmp_path, pairs)
    config = TuneConfig(min_examples=5, score=score)
    tuned = tune(labeled, truth_of(pairs), config)
    assert tuned.quality.score == score
    assert [each.before for each in tuned.classes] == counts_of_the_gate(pairs, POOR, list(CLASSES)), "of the joint one"
    assert [each.fitted for each in tuned.classes] == counts_of_the_gate(pairs, tuned.quality, list(CLASSES))
    path = tmp_path / "tuned.toml"
    out = str(tmp_path / "out")
    arguments = ["--truth", str(tmp_path / "truth.json"), "-o", str(path), "--min-examples", "5"]
    assert main(["tune", out, *arguments, "--score", score]) == 0
    assert main(["export", out, "--config", str(path)]) == 0
    exported = open_labeled(tmp_path / "out")
    assert exported.export.quality == tuned.quality
    again = tune(exported, truth_of(pairs), replace(config, score=None))
    assert again.quality.score == score
    assert again.total.before == tuned.total.fitted


def test_below_the_lowest_accept_score_there_is_something_to_review(tmp_path: Path) -> None:
    pairs = random_pairs(0, 80)
    for quality, share in ((QualityConfig(), 2 / 3), (replace(POOR, min_joint_score=0), 0), (POOR, 3 / 4)):
        folder = tmp_path / str(share)
        tuned = tune(write_run(folder, pairs, quality), truth_of(pairs)).quality
        lowest = min(tuned.accept_score, *tuned.class_accept_scores.values())
        assert tuned.min_joint_score == pytest.approx(share * lowest, abs=1e-4)
        verdicts = Counter(each.verdict for record, _ in pairs for each in judge(record, tuned, CLASSES))
        assert verdicts["review"] > 0


def test_what_is_under_review_counts_where_it_is_in_the_dataset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And is not in it any more with the thresholds found."""
    pairs = random_pairs(0, 80)
    gate = QualityConfig(min_score=0.1, min_joint_score=0.2, accept_score=0.5)
    labeled = write_run(tmp_path, pairs, gate)
    out, path = str(tmp_path / "out"), tmp_path / "tuned.toml"
    assert main(["export", out, "--include-review"]) == 0
    tuned = tune(open_labeled(tmp_path / "out"), truth_of(pairs))
    assert tuned.total.before == pooled(counts_of_the_gate(pairs, replace(gate, accept_score=0.2), list(CLASSES)))
    assert not tune(labeled, truth_of(pairs)).review_counted
    assert main(["tune", out, "--truth", str(tmp_path / "truth.json"), "-o", str(path)]) == 0
    assert "instances under review are in the dataset now" in capsys.readouterr().out
    assert main(["export", out, "--config", str(path)]) == 0
    assert not open_labeled(tmp_path / "out").export.include_review
    coco = json.loads((tmp_path / "out" / "annotations" / "instances_train.json").read_text())
    verdicts = pandas.read_parquet(tmp_path / "out" / "run" / "verdicts.parquet")["verdict"]
    assert len(coco["annotations"]) == (verdicts == "accept").sum()
    assert (verdicts == "review").any()


def test_nothing_is_recommended_without_a_gain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = random_pairs(0, 80)
    best = tune(write_run(tmp_path / "before", pairs), truth_of(pairs)).quality
    labeled = write_run(tmp_path, pairs, best)
    tuned = tune(labeled, truth_of(pairs))
    assert tuned.total.expected.f1 <= tuned.total.before.f1
    arguments = ["--truth", str(tmp_path / "truth.json"), "-o", str(tmp_path / "t.toml")]
    assert main(["tune", str(tmp_path / "out"), *arguments]) == 0
    shown = capsys.readouterr().out
    assert "no gain is expected on other images" in shown
    assert "labeler export" not in shown


@pytest.mark.parametrize(
    ("precision", "recall", "high", "expected"),
    [
        (0.89, 0.6, 0.01, True),  # within the interval of 0.9, and more is found
        (0.89, 0.4, 0.01, False),
        (0.8, 0.6, -0.1, False),  # out of reach, and further from it than now
        (0.97, 0.5, 0.05, False),  # as many are found
    ],
)
def test_a_gain_at_a_wanted_precision(
    precision: float, recall: float, high: float, expected: bool, tmp_path: Path
) -> None:
    pairs = random_pairs(0, 40)
    tuned = tune(write_run(tmp_path, pairs), truth_of(pairs), TuneConfig(precision=0.9, min_examples=5))
    now = Counts(475, 500, 950)  # precision 0.95, recall 0.5
    found = round(950 * recall / precision)
    then = Counts(round(found * precision), found, 950)
    total = replace(tuned.total, before=now, expected=then)
    tuned = replace(tuned, total=total, gains={"precision": (precision - 0.95, -0.2, high - 0.05)})
    assert tuned.gain_expected == expected
    total = replace(total, before=Counts(1, 500, 950))
    poor_now = replace(tuned, total=total, gains={"precision": (0.7, 0.6, 0.95)})
    assert poor_now.gain_expected


def test_few_objects_of_one_class_change_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = random_pairs(0, 20)
    write_run(tmp_path, pairs)
    few = [replace(truth, instances=truth.instances[:1] if n < 3 else ()) for n, (_, truth) in enumerate(pairs)]
    write_truth(tmp_path / "truth.json", few)
    arguments = ["--truth", str(tmp_path / "truth.json"), "-o", str(tmp_path / "t.toml")]
    assert main(["tune", str(tmp_path / "out"), *arguments]) == 2
    assert "2 objects of labeled classes in 20 images; tuning needs 20 at least" in capsys.readouterr().err
    assert not (tmp_path / "t.toml").exists()


def test_the_table_fits_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eighty columns, few examples, a class name with a line break, and a path that the shell would take apart."""
    monkeypatch.setenv("COLUMNS", "80")
    folder = tmp_path / "my folder"
    pairs = random_pairs(2, 60)
    truth = [
        replace(truth, instances=tuple(i for i in truth.instances if i.class_id < 2 or n < 3))
        for n, (_, truth) in enumerate(pairs)
    ]
    write_run(folder, pairs)
    write_truth(folder / "truth.json", truth, (*NAMES, "sea\nlion"))
    arguments = ["--truth", str(folder / "truth.json"), "-o", str(folder / "t.toml")]
    for target in ("f1", "precision=0.7"):
        assert main(["tune", str(folder / "out"), *arguments, "--target", target]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(len(line.rstrip()) for line in lines[:5]) <= 80
        assert [line.split()[0] for line in lines[:5]] == ["class", "dog", "big", "bird,", "all"]
        assert any(line.endswith("nothing was labeled with: sea lion") for line in lines)
        command = lines[-1].partition("now: ")[2]
        assert shlex.split(command) == ["labeler", "export", str(folder / "out"), "--config", str(folder / "t.toml")]


def test_of_many_classes_the_middle_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counts(3, 4, 5)
    pairs = random_pairs(0, 80)
    tuned = tune(write_run(tmp_path, pairs), truth_of(pairs))
    many = tuple(TunedClass((f"class {n}",), 0.3, "", counts, counts, counts) for n in range(100))
    print_tuned(Console(), replace(tuned, classes=many, without_truth=15))
    shown = capsys.readouterr().out
    assert "class 98" not in shown
    assert "… 61 more" in shown
    assert "15 classes without ground truth" in shown


def test_only_images_in_both_count(tmp_path: Path) -> None:
    pairs = random_pairs(4, 40)
    labeled = write_run(tmp_path, pairs)
    stranger = GroundTruthImage("stranger.png", WIDTH, HEIGHT)
    larger = [replace(truth, width=2 * WIDTH) for _, truth in pairs[20:22]]
    truth = GroundTruth((*NAMES, "cow"), (*(truth for _, truth in pairs[:20]), stranger, *larger))
    tuned = tune(labeled, truth)
    assert (tuned.images, tuned.only_labeled, tuned.only_true, tuned.other_size) == (20, 18, 1, 2)
    assert tuned.classes_only_true == ("cow",)
    assert tuned.total.before == pooled(counts_of_the_gate(pairs[:20], POOR, list(CLASSES)))


def test_a_class_without_ground_truth_takes_the_common_accept_score(tmp_path: Path) -> None:
    """Whatever was labeled with it is neither right nor wrong."""
    pairs = random_pairs(4, 60)
    labeled = write_run(tmp_path, pairs)
    known = [replace(each, instances=tuple(i for i in each.instances if i.class_id < 2)) for _, each in pairs]
    tuned = tune(labeled, GroundTruth(NAMES[:2], tuple(known)))
    assert [each.names for each in tuned.classes] == [(name,) for name in NAMES[:2]]
    assert tuned.without_truth == 1
    assert effective_thresholds(tuned.quality, CLASSES[2]).accept_score == tuned.quality.accept_score
    then = counts_of_the_gate(pairs, tuned.quality, list(CLASSES))
    assert [each.fitted for each in tuned.classes] == then[:2]
    assert tuned.total.fitted == pooled(then[:2])


def test_two_labeled_classes_may_be_one_in_the_truth(tmp_path: Path) -> None:
    pairs = random_pairs(5, 60)
    labeled = write_run(tmp_path, pairs)
    animal = tuple(
        replace(truth, instances=tuple(replace(item, class_id=min(item.class_id, 1)) for item in truth.instances))
        for _, truth in pairs
    )
    config = TuneConfig(class_map={"dog": "pet", "big cat": "wild", NAMES[2]: "wild"})
    tuned = tune(labeled, GroundTruth(("pet", "wild"), animal), config)
    assert [each.names for each in tuned.classes] == [("dog",), NAMES[1:]]
    for spec in CLASSES[1:]:
        assert effective_thresholds(tuned.quality, spec).accept_score == tuned.classes[1].accept_score
    tuned_folder = replace(labeled, export=replace(labeled.export, quality=tuned.quality))
    measured = evaluate(tuned_folder, GroundTruth(("pet", "wild"), animal), EvaluationConfig(config.class_map)).measured
    assert [(each.matched, each.accepted, each.objects) for each in measured.classes] == [
        (each.fitted.true_positives, each.fitted.accepted, each.fitted.objects) for each in tuned.classes
    ]


OWN_SCORES = QualityConfig(class_accept_scores=dict(zip(NAMES, (0.5, 0.2, 0.35), strict=True)))
SOME_OWN = QualityConfig(min_score=0, accept_score=0.4, class_accept_scores={NAMES[0]: 0.2, NAMES[1]: 0.6})
DETECTOR = QualityConfig(score="detector", accept_score=0.5)
ALL_ACCEPTED = QualityConfig(accept_score=0)


@pytest.mark.parametrize("quality", [QualityConfig(), OWN_SCORES, SOME_OWN, DETECTOR, ALL_ACCEPTED])
def test_a_review_band_of_a_wanted_size(quality: QualityConfig, tmp_path: Path) -> None:
    pairs = random_pairs(6, 100)
    labeled = write_run(tmp_path, pairs, quality)
    for wanted in (1, 30, 60):
        band = review_band(labeled, wanted)
        verdicts = [judgement.verdict for record, _ in pairs for judgement in judge(record, band.quality, CLASSES)]
        assert (band.reviewed, band.accepted) == (verdicts.count("review"), verdicts.count("accept"))
        limits = [effective_thresholds(quality, spec) for spec in CLASSES]
        scores = [
            (ranking_score(item, quality.score), limits[item.class_id].accept_score)
            for record, _ in pairs
            for item in record.instances
        ]
        equal = Counter(round(score, 9) for score, _ in scores) | Counter(round(s - limit, 9) for s, limit in scores)
        assert abs(band.reviewed - wanted) <= max(equal.values()) - 1, "no more than scores are equal"
        assert band.reviewed > 0
    everything = review_band(labeled, 10_000)
    sure = sum(ranking_score(i, quality.score) >= 1 for record, _ in pairs for i in record.instances)
    assert everything.accepted <= sure, "an instance with the highest possible score stays accepted"
    assert band.reviewed < everything.reviewed < 10_000


def test_the_most_uncertain_are_reviewed(tmp_path: Path) -> None:
    pairs = random_pairs(6, 100)
    labeled = write_run(tmp_path, pairs, QualityConfig())
    band = review_band(labeled, 40)
    far, near = [], []
    for record, _ in pairs:
        judged = zip(
            judge(record, replace(QualityConfig(), min_joint_score=0), CLASSES),
            judge(record, band.quality, CLASSES),
            record.instances,
            strict=True,
        )
        for before, after, item in judged:
            if before.verdict != "reject" and item.class_id != 1:
                (near if after.verdict == "review" else far).append(abs(item.joint_score - 0.3))
    assert near
    assert max(near) <= min(far) + 1e-9


def test_a_class_with_the_common_accept_score_is_reviewed_like_one_with_its_own(tmp_path: Path) -> None:
    scores = dict(zip(NAMES, (0.5, 0.45, 0.4), strict=True))
    whole = QualityConfig(min_score=0, accept_score=0.4, class_accept_scores=scores)
    lean = without_repeats(whole, CLASSES)
    assert NAMES[2] not in lean.class_accept_scores
    labeled = write_run(tmp_path, random_pairs(6, 30), whole)
    band = review_band(labeled, 40)
    assert band.reviewed
    assert band == review_band(replace(labeled, export=replace(labeled.export, quality=lean)), 40)


def test_what_is_decided_is_not_left_to_review(tmp_path: Path) -> None:
    """Of what lies nearest to acceptance a person decided all."""
    pairs = random_pairs(6, 100)
    labeled = write_run(tmp_path, pairs, QualityConfig())
    undecided = review_band(labeled, 40)
    decided = [
        Decision(record.image_id, "reject", NAMES[item.class_id], item.rle)
        for record, _ in pairs
        for item, judgement in zip(record.instances, judge(record, undecided.quality, CLASSES), strict=True)
        if judgement.verdict == "review"
    ]
    append_decisions(labeled.run, decided)
    band = review_band(labeled, 40)
    exported = replace(labeled, export=replace(labeled.export, quality=band.quality))
    judged = [judgement for _, judgements in exported.judged() for judgement in judgements]
    assert sum(each.by_hand for each in judged) >= len(decided) >= 30
    verdicts = Counter(each.verdict for each in judged)
    assert (band.reviewed, band.accepted) == (verdicts["review"], verdicts["accept"])
    assert abs(band.reviewed - 40) <= 8  # scores are equal in places
    assert band.quality.accept_score > undecided.quality.accept_score


def test_review_at_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, random_pairs(6, 100), QualityConfig())
    out, path = tmp_path / "out", tmp_path / "band.toml"
    assert main(["tune", str(out), "--target", "review=50", "-o", str(path)]) == 0
    said = capsys.readouterr().out
    assert main(["export", str(out), "--config", str(path)]) == 0
    verdicts = pandas.read_parquet(out / "run" / "verdicts.parquet")["verdict"]
    assert f"{(verdicts == 'review').sum()} instances to review (wanted: 50)" in said
    assert "class" not in tomllib.loads(path.read_text())


def _empty(truth: list[GroundTruthImage]) -> list[GroundTruthImage]:
    return [replace(image, instances=()) for image in truth]


def _renamed(truth: list[GroundTruthImage]) -> list[GroundTruthImage]:
    return [replace(image, name=f"other_{image.name}") for image in truth]


def _elsewhere(truth: list[GroundTruthImage]) -> list[GroundTruthImage]:
    """Objects where nothing was found."""
    return [replace(image, instances=(GroundTruthInstance(0, rectangle(0, 0, 2, 2)),)) for image in truth]


@pytest.mark.parametrize(
    ("change", "arguments", "said"),
    [
        (
            list,
            ["--target", "recall=0.9"],
            "--target recall=0.9: write f1, precision=0.9 (above 0, at most 1) or review=",
        ),
        (list, ["--target", "precision=90"], "--target precision=90: write f1"),
        (list, ["--target", "precision=nan"], "--target precision=nan: write f1"),
        (list, ["--target", "review=1.5"], "--target review=1.5: write f1"),
        (list, ["--target", "review=10"], "leave --ground-truth out"),
        (list, ["-o", "tuned.json"], "a name that ends in .toml"),
        (list, ["--min-examples", "0"], "--min-examples must be a whole number, 1 or more, not 0"),
        (list, ["--folds", "1"], "--folds must be a whole number, 2 or more, not 1"),
        (list, ["--map", "dog"], "write labeled=ground truth"),
        (list, ["--map", "dog=wolf"], "the ground truth has no class 'wolf'"),
        (list, ["--truth", "nowhere.json"], "nowhere.json: no such ground truth"),
        (_renamed, [], "0 of 6 images of the ground truth are labeled"),
        (list, ["--seed", "-1"], "--seed must be a whole number, 0 or more, not -1"),
        (_empty, [], "no object of a labeled class"),
        (
            _elsewhere,
            [],
            "6 objects of labeled classes in 6 images; tuning needs 20 at least (--min-examples)",
        ),
        (_elsewhere, ["--min-examples", "6"], "no candidate matches an object (mask IoU 0.5)"),
    ],
)
def test_what_cannot_be_tuned_is_told_in_one_line(
    change: Callable[[list[GroundTruthImage]], list[GroundTruthImage]],
    arguments: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pairs = random_pairs(7, 6)
    write_run(tmp_path, pairs)
    write_truth(tmp_path / "truth.json", change([truth for _, truth in pairs]))
    monkeypatch.chdir(tmp_path)
    assert main(["tune", "out", "--truth", "truth.json", "-o", "tuned.toml", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("*.toml"))


def test_a_precision_out_of_reach_says_what_is_in_reach(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In every image the surest of two finds is of nothing."""
    right, wrong = rectangle(2, 2, 20, 20), rectangle(30, 20, 20, 20)
    found = tuple(
        Instance(0, "p", (x, y, x + 20.0, y + 20.0), score, 0.9, 0.9, 400, rle)
        for x, y, score, rle in ((30.0, 20.0, 0.9, wrong), (2.0, 2.0, 0.5, right))
    )
    pairs = [
        (
            ImageRecord(f"{number}.png", WIDTH, HEIGHT, "d", instances=found),
            GroundTruthImage(f"{number}.png", WIDTH, HEIGHT, (GroundTruthInstance(0, right),)),
        )
        for number in range(20)
    ]
    write_run(tmp_path, pairs)
    arguments = ["tune", str(tmp_path / "out"), "--truth", str(tmp_path / "truth.json"), "-o", str(tmp_path / "t.toml")]
    assert main([*arguments, "--target", "precision=0.8"]) == 2
    error = capsys.readouterr().err
    assert "precision 0.8 is out of reach on these images; the best is 0.500" in error
    assert error.count("\n") == 1
    assert main([*arguments, "--target", "precision=0.5"]) == 0


def test_truth_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, random_pairs(7, 6))
    assert main(["tune", str(tmp_path / "out"), "-o", str(tmp_path / "t.toml")]) == 2
    assert "--ground-truth is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--class-accept-score", "cow=0.4"], "'cow' is not among the classes"),
        (["--class-accept-score", "dog"], "expected NAME=X"),
        (["--class-accept-score", "dog=4"], "--class-accept-score of 'dog' must be a number from 0 to 1"),
    ],
)
def test_wrong_scores_of_classes(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, random_pairs(7, 6))
    assert main(["export", str(tmp_path / "out"), *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_the_demo_becomes_good(demo: tuple[Path, str], tmp_path: Path, labeler: Callable[..., Any]) -> None:
    """Real records: deliberately poor thresholds, against the best of a grid with one accept score for all classes."""
    folder = linked_copy(demo[0], tmp_path / "demo")
    out, truth = folder / "dataset", folder / "truth.json"
    poor = ["--min-score", "0.8", "--accept-score", "0.9", "--min-mask-score", "0.99", "--min-stability", "0.97"]
    assert labeler("export", out, *poor).returncode == 0
    labeled, true = open_labeled(out), read_ground_truth(truth)
    total = tune(labeled, true).total

    def f1(quality: QualityConfig) -> float:
        measured = evaluate(replace(labeled, export=replace(labeled.export, quality=quality)), true).measured.total
        return measured.f1 or 0.0

    best = max(
        f1(QualityConfig("joint", 0, 0, accept, mask_score, stability, duplicate_iou=overlap))
        for accept in (0.05, 0.1, 0.2, 0.3)
        for mask_score, stability in ((0, 0), (0.5, 0.6))
        for overlap in (0.5, 0.8)
    )
    assert total.before.f1 < 0.3
    assert total.fitted.f1 >= 0.95 * best
    assert total.expected.f1 >= 0.9 * best
    assert f1(tune(labeled, true).quality) == pytest.approx(total.fitted.f1)
