"""What labels are worth to a student: trained on accepted labels, on true masks, and with other accept scores.

    python benchmarks/closed_loop.py WORK [--scenes 400] [--hidden 100] [--epochs 40] [--image-size 160]

Draws scenes, labels them with the demo's weights, and trains equal students from random weights on the same images:
one on the true masks, one on the labels as the gate accepts them by default, and one for each accept score of
``--sweep``. All are measured on hidden scenes. Re-run the same command to resume; what is done is only measured again.

The student is compared with its teacher by AP50, and by recall where its precision is that of the teacher's accepted
labels. With ``--round-two``, the student on accepted labels labels the scenes again, and another one learns from that.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from labeler.demo.scenes import SHAPES, Scene, coco_ground_truth, make_scene, scene_rng
from labeler.files.images import read_image
from labeler.formats.coco_file import read_coco
from labeler.geometry.masks import mask_iou
from labeler.ground_truth import GroundTruth, GroundTruthImage
from labeler.models.students.config import TrainConfig
from labeler.models.students.loading import student_for
from labeler.records import Instance
from workflows.dataset.labeled import open_labeled

CLASSES = list(SHAPES)
SEEN, HIDDEN = 40_000, 50_000  # seeds of scenes, far from those of the demo's weights
MODELS = ("--model", "demo", "--device", "cpu", "--floor", "0.05")


@dataclass(frozen=True)
class Curve:
    """Precision and recall at mask IoU 0.5 over all thresholds, the highest first."""

    scores: np.ndarray[Any, np.dtype[np.float64]]
    precision: np.ndarray[Any, np.dtype[np.float64]]
    recall: np.ndarray[Any, np.dtype[np.float64]]

    def at_score(self, score: float) -> tuple[float, float]:
        """Precision and recall of the candidates from ``score`` on."""
        last = int(np.count_nonzero(self.scores >= score)) - 1
        return (float(self.precision[last]), float(self.recall[last])) if last >= 0 else (1.0, 0.0)

    def at_precision(self, precision: float) -> float:
        """The highest recall with at least that precision."""
        good = self.recall[self.precision >= precision]
        return float(good.max()) if len(good) else 0.0


def curve(pairs: Iterable[tuple[GroundTruthImage, Sequence[Instance]]]) -> Curve:
    """The curve of all candidates, each matched with the best free object of its class, the best score first."""
    found: list[tuple[float, bool]] = []
    objects = 0
    for image, candidates in pairs:
        objects += len(image.instances)
        free = list(image.instances)
        for each in sorted(candidates, key=lambda each: -each.joint_score):
            alike = [other for other in free if other.class_id == each.class_id]
            ious = mask_iou([each.rle], [other.rle for other in alike])[0] if alike else np.zeros(0)
            is_match = bool(len(ious) and ious.max() >= 0.5)
            if is_match:
                free.remove(alike[int(ious.argmax())])
            found.append((each.joint_score, is_match))
    found.sort(key=lambda pair: -pair[0])
    right = np.cumsum([is_match for _, is_match in found])
    return Curve(np.array([score for score, _ in found]), right / np.arange(1, len(found) + 1), right / max(objects, 1))


def labeler(*arguments: object) -> None:
    command = [sys.executable, "-m", "labeler", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")


def draw(folder: Path, seed: int, count: int) -> list[Scene]:
    """Scenes as PNG files, unless they are there, with their ground truth beside them."""
    scenes = [make_scene(scene_rng(seed, index)) for index in range(count)]
    names = [name_of(index) for index in range(count)]
    if not (folder / "truth.json").exists():
        (folder / "images").mkdir(parents=True, exist_ok=True)
        for scene, name in zip(scenes, names, strict=True):
            Image.fromarray(scene.image).save(folder / "images" / name)
        (folder / "truth.json").write_text(json.dumps(coco_ground_truth(scenes, names, CLASSES)))
    return scenes


def name_of(index: int) -> str:
    return f"scene_{index:05d}.png"


def snapshot(dataset: Path, to: Path) -> Path:
    """Images and annotations as they are now, since the next export changes them."""
    if not to.exists():
        partial = to.with_name(f"{to.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        for name in ("images", "annotations"):
            shutil.copytree(dataset / name, partial / name, copy_function=os.link)
        partial.rename(to)
    return to


def with_true_masks(dataset: Path, scenes: Sequence[Scene]) -> None:
    """Replace the annotations of a snapshot by the true masks of the same images, split by split."""
    for file in (dataset / "annotations").iterdir():
        names = [image["file_name"] for image in json.loads(file.read_text())["images"]]
        shown = [scenes[int(Path(name).stem.partition("_")[2])] for name in names]
        file.unlink()  # a hard link
        file.write_text(json.dumps(coco_ground_truth(shown, names, CLASSES)))


def trained(dataset: Path, model: Path, hidden: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The metrics of a student on the hidden scenes."""
    flags = ("--student", args.student, "--weights", "random", "--epochs", args.epochs, "--batch-size", 8)
    flags += ("--image-size", args.image_size, "--seed", 0, "--device", "cpu")
    labeler(
        "train", dataset, "-o", model, *flags, "--ground-truth", hidden / "truth.json", "--images", hidden / "images"
    )
    results: dict[str, Any] = json.loads((model / "training" / "training.json").read_text())["results"]
    return dict(results["ground truth"]["metrics"]["all"])


def student_curve(model: Path, truth: GroundTruth, hidden: Path, args: argparse.Namespace) -> Curve:
    config = TrainConfig(args.student, weights="random", device="cpu")
    student = student_for(config).load(CLASSES, config, model)
    return curve((image, student.find(read_image(hidden / "images" / image.name).pixels)) for image in truth.images)


def teacher(hidden: Path, work: Path, truth: GroundTruth) -> tuple[float, Curve, float]:
    """AP50 of the demo's models on the hidden scenes, their curve, and the score from which they accept."""
    output = work / "teacher"
    labeler("label", hidden / "images", "-o", output, *MODELS, "--classes", ", ".join(CLASSES))
    labeler("evaluate", output, "--ground-truth", hidden / "truth.json")
    measures = json.loads((output / "evaluation" / "evaluation.json").read_text())
    labeled = open_labeled(output)
    by_name = {image.name: image for image in truth.images}
    found = curve((by_name[record.image_id], record.instances) for record in labeled.records())
    return float(measures["all"]["mask"]["ap50"]), found, labeled.export.quality.accept_score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--hidden", type=int, default=100)
    parser.add_argument("--student", default="rf-detr")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--sweep", default="0.1,0.2,0.3,0.4,0.5,0.6,0.7")
    parser.add_argument("--round-two", action="store_true")
    args = parser.parse_args()
    work: Path = args.work
    scenes = draw(work / "seen", SEEN, args.scenes)
    draw(work / "hidden", HIDDEN, args.hidden)
    truth = read_coco(work / "hidden" / "truth.json")
    labels = work / "labels"
    if not (work / "accepted").exists():
        labeler("label", work / "seen" / "images", "-o", labels, *MODELS, "--classes", ", ".join(CLASSES))
    accepted = snapshot(labels, work / "accepted")
    if not (work / "true").exists():
        with_true_masks(snapshot(accepted, work / "true.drawn"), scenes)
        (work / "true.drawn").rename(work / "true")

    print(f"{args.scenes} scenes, {args.hidden} hidden, student {args.student}, {args.epochs} epochs, "
          f"{args.image_size} px", flush=True)  # fmt: skip
    print("student trained on        labels  mask AP   AP50   AP75")

    def row(name: str, dataset: Path) -> float:
        result = trained(dataset, work / f"student-{dataset.name}", work / "hidden", args)
        count = len(json.loads((dataset / "annotations" / "instances_train.json").read_text())["annotations"])
        mask = result["mask"]
        print(f"{name:24} {count:7}  {mask['ap']:7.3f}  {mask['ap50']:5.3f}  {mask['ap75']:5.3f}", flush=True)
        return float(mask["ap"])

    best, ours = row("true masks", work / "true"), row("accepted labels", accepted)
    print(f"accepted labels / true masks: {ours / max(best, 1e-9):.3f} of the mask AP (bar: 0.95)", flush=True)
    ap50, found, accept_score = teacher(work / "hidden", work, truth)
    precision, recall = found.at_score(accept_score)
    student = student_curve(work / "student-accepted", truth, work / "hidden", args)
    print(f"teacher: AP50 {ap50:.3f}; accepted labels: precision {precision:.3f}, recall {recall:.3f}; the student's "
          f"recall at that precision: {student.at_precision(precision):.3f}", flush=True)  # fmt: skip
    for score in filter(None, args.sweep.split(",")):
        if float(score) == accept_score:
            print(f"accept score {score}: the default, see accepted labels", flush=True)
            continue
        dataset = work / f"accept-{score}"
        if not dataset.exists():
            labeler("export", labels, "--accept-score", score)
            snapshot(labels, dataset)
        row(f"accept score {score}", dataset)
    if args.round_two:
        second = work / "second"
        flags = ("--detector", work / "student-accepted", "--segmenter", "embedded:segmenter", "--device", "cpu")
        labeler("label", work / "seen" / "images", "-o", second, *flags, "--classes", ", ".join(CLASSES))
        row("labels of the student", snapshot(second, work / "round-two"))


if __name__ == "__main__":
    main()
