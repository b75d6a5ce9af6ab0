"""What labels are worth to a student: trained on true masks, on accepted labels, and with other accept scores.

    python benchmarks/closed_loop.py WORK [--jobs 2] [--round-two] [--picture FILE]

Draws scenes, labels them with the demo's weights (the teacher), and trains equal students from random weights on the
same images: on the true masks, on the labels as the gate accepts them by default, and on those of each accept score of
``--sweep``. All are measured on hidden scenes. Each is trained with ``--seeds`` seeds, which tells how much of a
difference is chance. Re-run the same command to resume.

The student is compared with its teacher by AP, and by recall where its precision is that of the teacher's accepted
labels. With ``--round-two``, the student on accepted labels labels the scenes too, as a second pass beside the teacher,
and another student learns from the labels of both.
``--picture`` draws what teacher and student find in the same hidden scenes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from loop_curves import curve
from loop_data import CLASSES, TEACHER, accepted_from, draw, labeled, labeler, snapshot, with_student, with_true_masks
from loop_picture import write_picture

from labeler.files.images import read_image
from labeler.formats.coco_file import read_coco
from labeler.geometry.masks import rle_area
from labeler.ground_truth import GroundTruth, GroundTruthInstance
from labeler.models.students.config import TrainConfig
from labeler.models.students.loading import student_for
from labeler.records import Instance
from workflows.dataset.labeled import open_labeled

SEEN, HIDDEN = 40_000, 50_000  # seeds of scenes, far from those of the demo's weights
DRAWN, OBJECTS = 4, (3, 5)  # scenes in the picture, and how many objects each has
MEASURED = "ground truth"  # as training.json names it
DRAWN_FROM = 0.25  # scores of the student; Ultralytics' own default
Found = dict[str, list[Instance]]  # by image name


@dataclass(frozen=True)
class Trained:
    """A student: what it learned from, and its metrics on the hidden scenes."""

    name: str
    dataset: Path
    seed: int
    metrics: dict[str, Any]

    @property
    def ap(self) -> float:
        return float(self.metrics["mask"]["ap"])


def trained(name: str, dataset: Path, seed: int, args: argparse.Namespace) -> Trained:
    flags: list[object] = ["--student", args.student, "--weights", "random", "--device", "cpu", "--seed", seed]
    flags += ["--epochs", args.epochs, "--batch-size", args.batch_size, "--image-size", args.image_size]
    hidden, model = args.work / "hidden", model_of(dataset, seed)
    flags += ["--ground-truth", hidden / "truth.json", "--images", hidden / "images"]
    if MEASURED not in results_of(model):
        labeler("train", dataset, "-o", model, *flags)
    return Trained(name, dataset, seed, results_of(model)[MEASURED]["metrics"]["all"])


def results_of(model: Path) -> dict[str, Any]:
    """What ``labeler train`` measured; nothing if it did not come so far."""
    state = model / "training" / "training.json"
    return dict(json.loads(state.read_text())["results"]) if state.exists() else {}


def model_of(dataset: Path, seed: int) -> Path:
    return dataset.with_name(f"student-{dataset.name}-{seed}")


def print_students(students: Sequence[Trained], truth: GroundTruth) -> None:
    """A line for each student, with precision and recall of its labels."""
    for each in students:
        labels = read_coco(each.dataset / "annotations" / "instances_train.json")
        by_name = {image.name: image for image in truth.images}
        precision, recall = curve(
            (by_name[image.name], [instance_of(label) for label in image.instances]) for image in labels.images
        ).of_all()
        count = sum(len(image.instances) for image in labels.images)
        mask = each.metrics["mask"]
        print(f"{each.name:22} {each.seed:4} {count:7} {precision:10.3f} {recall:7.3f} {mask['ap']:8.3f} "
              f"{mask['ap50']:6.3f} {mask['ap75']:6.3f}", flush=True)  # fmt: skip


def instance_of(label: GroundTruthInstance) -> Instance:
    return Instance(label.class_id, "", label.box, 1.0, 1.0, 1.0, rle_area(label.rle), label.rle)


def taught(work: Path) -> tuple[float, float, Found]:
    """AP and AP50 of the teacher on the hidden scenes, and what it accepts."""
    output = labeled(work / "hidden" / "images", work / "teacher", *TEACHER)
    labeler("evaluate", output, "--ground-truth", work / "hidden" / "truth.json")
    mask = json.loads((output / "evaluation" / "evaluation.json").read_text())["all"]["mask"]
    accepted = {
        record.image_id: [
            each for each, judged in zip(record.instances, judgements, strict=True) if judged.verdict == "accept"
        ]
        for record, judgements in open_labeled(output).judged()
    }
    return float(mask["ap"]), float(mask["ap50"]), accepted


def found_by(model: Path, truth: GroundTruth, args: argparse.Namespace) -> Found:
    """What a student finds in the hidden scenes, with all scores."""
    config = TrainConfig(args.student, weights="random", device="cpu")
    student = student_for(config).load(CLASSES, config, model)
    images = args.work / "hidden" / "images"
    return {image.name: student.find(read_image(images / image.name).pixels) for image in truth.images}


def compare(truth: GroundTruth, best: Trained, args: argparse.Namespace) -> None:
    """Print the student against its teacher, and draw both."""
    ap, ap50, accepted = taught(args.work)
    precision, recall = curve((image, accepted[image.name]) for image in truth.images).of_all()
    found = found_by(model_of(best.dataset, best.seed), truth, args)
    its_recall = curve((image, found[image.name]) for image in truth.images).at_precision(precision)
    print(f"teacher: mask AP {ap:.3f}, AP50 {ap50:.3f}; of its accepted labels, precision {precision:.3f}, recall "
          f"{recall:.3f}\nstudent: mask AP {best.ap:.3f}, AP50 {best.metrics['mask']['ap50']:.3f}; at that precision, "
          f"recall {its_recall:.3f}", flush=True)  # fmt: skip
    if args.picture:
        shown = [image for image in truth.images if OBJECTS[0] <= len(image.instances) <= OBJECTS[1]][:DRAWN]
        pixels = [(image, read_image(args.work / "hidden" / "images" / image.name).pixels) for image in shown]
        models = {
            "teacher": [accepted[image.name] for image in shown],
            "student": [[each for each in found[image.name] if each.joint_score >= DRAWN_FROM] for image in shown],
        }
        write_picture(args.picture, pixels, models, CLASSES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--hidden", type=int, default=200)
    parser.add_argument("--student", default="yolo")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--sweep", default="0.1,0.5,0.7", help="accept scores beside the default")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1, help="students trained at once, each on one core")
    parser.add_argument("--round-two", action="store_true")
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    work: Path = args.work
    seen = read_coco(draw(work / "seen", SEEN, args.scenes))
    hidden = read_coco(draw(work / "hidden", HIDDEN, args.hidden))
    labels = work / "labels"
    if not (work / "accepted").exists():
        labeled(work / "seen" / "images", labels, *TEACHER)
    accepted = snapshot(labels, work / "accepted")
    true = with_true_masks(accepted, work / "seen" / "truth.json", work / "true")
    datasets = {"true masks": true, "accepted labels": accepted}
    for score in filter(None, args.sweep.split(",")):
        datasets[f"accept score {score}"] = accepted_from(labels, float(score), work / f"accept-{score}")
    todo = [(name, dataset, seed) for seed in range(args.seeds) for name, dataset in datasets.items()]

    print(f"{args.scenes} scenes, {args.hidden} hidden, student {args.student}, {args.epochs} epochs, "
          f"{args.image_size} px\nstudent trained on     seed  labels  precision  recall  mask AP   AP50   AP75",
          flush=True)  # fmt: skip
    students = []
    with ThreadPoolExecutor(args.jobs) as pool:
        for each in pool.map(lambda job: trained(*job, args), todo):
            print_students([each], seen)
            students.append(each)
    means = {name: [each.ap for each in students if each.name == name] for name in datasets}
    for name, found in means.items():
        print(f"{name}: mask AP {fmean(found):.3f}, seeds {max(found) - min(found):.3f} apart", flush=True)
    share = fmean(means["accepted labels"]) / max(fmean(means["true masks"]), 1e-9)
    print(f"accepted labels / true masks: {share:.3f} (bar: 0.95)", flush=True)
    student = next(each for each in students if each.name == "accepted labels")
    compare(hidden, student, args)
    if args.round_two:
        detector = model_of(accepted, student.seed) / ("model.pt" if args.student == "yolo" else "")
        both = with_student(labels, work / "seen" / "images", detector, work / "both")
        print_students([trained("teacher and student", snapshot(both, work / "round-two"), 0, args)], seen)


if __name__ == "__main__":
    main()
