"""Every kind of labeler, on both engines, through everything that a run folder is used for.

A new kind is one line in ``KINDS``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from labeler.demo.scenes import class_name, make_scene, scene_rng
from labeler.errors import UsageError
from labeler.files.storage import locate
from labeler.formats.ground_truth import read_ground_truth
from labeler.geometry.masks import mask_to_rle, rle_area, rle_box_xyxy
from labeler.models.config import ModelConfig
from labeler.models.kinds.autodistill import AutodistillKind
from labeler.models.kinds.boxes import BoxesKind
from labeler.models.kinds.consensus import ConsensusKind
from labeler.models.kinds.everything import EverythingKind
from labeler.models.kinds.grounded_sam import GroundedSamKind
from labeler.models.kinds.kind import LabelerKind
from labeler.models.kinds.sam3 import Sam3Kind
from labeler.models.kinds.tiled import TiledKind
from labeler.models.labelers.labeler import LabelRequest
from labeler.models.taggers.config import TaggingConfig
from labeler.quality import VERDICTS
from labeler.quality_config import QualityConfig
from labeler.records import Instance
from ontologies import Ontology
from tests.support.command_line import write_scenes
from tests.support.stand_in import Silent, record_files
from tests.support.tiny_taggers import tiny_contrastive
from tests.support.tiny_ultralytics import write_yolo
from workflows.dataset.labeled import open_labeled
from workflows.evaluation.tune import tune
from workflows.label import label
from workflows.reporting.report import report
from workflows.review.queue import ReviewQueue
from workflows.settings.engine import EngineConfig
from workflows.settings.evaluation import TuneConfig
from workflows.settings.export import ExportConfig
from workflows.settings.job import LabelJob

SCENES = range(3)
DEMO = ModelConfig("embedded:detector", "embedded:segmenter", device="cpu", floor=0.05)


@dataclass(frozen=True)
class HalvesKind:
    """A kind of one's own: both halves of every image, and no detector anywhere."""

    kind: ClassVar[str] = "tests/halves"

    def models(self, config: ModelConfig) -> tuple[()]:
        return ()

    def identity(self, config: ModelConfig) -> dict[str, Any]:
        return {"labeler": self.kind}

    def load(self, config: ModelConfig) -> HalvesKind:
        return self

    def label(self, requests: Sequence[LabelRequest]) -> list[list[Instance]]:
        return [[_half(request, first) for first in (True, False)] for request in requests]


def _half(request: LabelRequest, first: bool) -> Instance:
    mask = np.zeros(request.pixels.shape[:2], bool)
    middle = mask.shape[1] // 2
    mask[:, slice(0, middle) if first else slice(middle, None)] = True
    rle, (prompt, class_id) = mask_to_rle(mask), request.ontology.prompts[0]
    return Instance(class_id, prompt, rle_box_xyxy(rle), 0.9 if first else 0.25, 0.9, 0.9, rle_area(rle), rle)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, and ``truth.json`` beside them with their masks and boxes."""
    root = tmp_path_factory.mktemp("kinds")
    write_scenes(root / "images", SCENES)
    made = [make_scene(scene_rng(99, index)) for index in SCENES]
    names = sorted({class_name(pair) for scene in made for pair in scene.pairs})
    content: dict[str, list[Any]] = {"images": [], "annotations": []}
    content["categories"] = [{"id": index, "name": name} for index, name in enumerate(names, start=1)]
    for index, scene in zip(SCENES, made, strict=True):
        height, width = scene.image.shape[:2]
        content["images"].append({"id": index, "file_name": f"scene_{index:03d}.png", "width": width, "height": height})
        for place, pair in enumerate(scene.pairs):
            rle = mask_to_rle(scene.mask(place))
            x1, y1, x2, y2 = rle_box_xyxy(rle)
            content["annotations"].append(
                {"id": len(content["annotations"]) + 1, "image_id": index, "bbox": [x1, y1, x2 - x1, y2 - y1],
                 "category_id": names.index(class_name(pair)) + 1, "area": rle_area(rle), "iscrowd": 0,
                 "segmentation": {"size": [height, width], "counts": rle["counts"].decode()}}
            )  # fmt: skip
    (root / "truth.json").write_text(json.dumps(content))
    return root


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, processor = tiny_contrastive("siglip")
    folder = tmp_path_factory.mktemp("siglip")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def names_in(scenes: Path) -> list[str]:
    return [each["name"] for each in json.loads((scenes / "truth.json").read_text())["categories"]]


Made = tuple[LabelerKind, ModelConfig]
KINDS: dict[str, Callable[[Path, Callable[[str], Path]], Made]] = {
    "grounded-sam": lambda scenes, checkpoint: (GroundedSamKind(), DEMO),
    "sam3": lambda scenes, checkpoint: (
        Sam3Kind(),
        ModelConfig(str(checkpoint("sam3")), "", device="cpu", floor=1e-12, max_instances=5),
    ),
    "boxes": lambda scenes, checkpoint: (
        BoxesKind.of(str(scenes / "truth.json")),
        ModelConfig("", "embedded:segmenter", device="cpu"),
    ),
    "everything": lambda scenes, checkpoint: (
        EverythingKind(points_per_side=3, point_mask_score=0, point_stability=0),
        ModelConfig("", "embedded:segmenter", device="cpu", max_instances=5),
    ),
    "autodistill": lambda scenes, checkpoint: (
        AutodistillKind("tests.support.autodistill_model:BrightMasks"),
        ModelConfig("", "", device="cpu"),
    ),
    "own": lambda scenes, checkpoint: (HalvesKind(), ModelConfig("", "", device="cpu")),
    "tiles": lambda scenes, checkpoint: (TiledKind(HalvesKind(), 64), ModelConfig("", "", device="cpu")),
    "consensus": lambda scenes, checkpoint: (ConsensusKind(GroundedSamKind(), mirror=True), DEMO),
    "ultralytics": lambda scenes, checkpoint: (
        GroundedSamKind(),
        replace(DEMO, detector=str(write_yolo(scenes / "best.pt", names_in(scenes))), max_instances=5),
    ),
}


# No label is right: random weights, one class for everything, and rough shapes.
MEANINGLESS = ("sam3", "everything", "autodistill", "own", "tiles", "ultralytics")


@dataclass(frozen=True)
class Case:
    name: str
    job: LabelJob
    truth: Path
    records: dict[str, bytes]


@pytest.fixture(scope="module", params=KINDS)
def case(
    request: pytest.FixtureRequest,
    scenes: Path,
    checkpoint: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Case:
    """A folder that one process has labeled."""
    kind, model = KINDS[request.param](scenes, checkpoint)
    truth = scenes / "truth.json"
    output = locate(str(tmp_path_factory.mktemp(request.param) / "out"))
    ontology = Ontology.from_text(", ".join(names_in(scenes)))
    job = LabelJob(
        str(scenes / "images"), output, ontology, model, shard_size=1, labeler=kind, engine=EngineConfig("local")
    )
    summary = label(job, Silent())
    assert (summary.found, summary.labeled.failures) == (len(SCENES), [])
    assert summary.labeled.objects
    return Case(request.param, job, truth, record_files(Path(str(output))))


def copied(case: Case, to: Path) -> LabelJob:
    shutil.copytree(Path(str(case.job.output)), to)
    return replace(case.job, output=locate(str(to)))


def test_a_run_is_resumed_with_the_same_bytes(case: Case, tmp_path: Path) -> None:
    job = copied(case, tmp_path / "out")
    lost, *_ = sorted((tmp_path / "out" / "run" / "records").glob("*.parquet"))
    lost.unlink()
    assert label(job, Silent()).labeled.images == 1
    assert record_files(tmp_path / "out") == case.records
    again = label(replace(job, labeler=_Unloadable(job.labeler)), Silent())
    assert again.labeled.images == 0


@dataclass(frozen=True)
class _Unloadable:
    """A kind that says what another says, but must not be loaded."""

    other: LabelerKind
    kind: ClassVar[str] = "unloadable"

    def models(self, config: ModelConfig) -> Any:
        return self.other.models(config)

    def identity(self, config: ModelConfig) -> dict[str, Any]:
        return self.other.identity(config)

    def load(self, config: ModelConfig) -> Any:
        raise AssertionError("nothing is new, so no model may be loaded")


def test_thresholds_change_without_a_model(case: Case, tmp_path: Path) -> None:
    job = replace(copied(case, tmp_path / "out"), labeler=_Unloadable(case.job.labeler))
    for accept_score in (1.0, 0.0):
        quality = QualityConfig(
            "detector", min_score=case.job.model.floor, min_joint_score=0, accept_score=accept_score, min_mask_score=0,
            min_stability=0, min_box_iou=0, max_area_share=0,
        )  # fmt: skip
        verdicts = label(replace(job, export=ExportConfig(quality)), Silent()).dataset.verdicts.values()
        accepted = sum(each["accept"] for each in verdicts)
        scores = [item.score for record in open_labeled(job.output).records() for item in record.instances]
        assert (accepted > 0) == any(score >= accept_score for score in scores)


def test_truth_report_and_review(case: Case, tmp_path: Path) -> None:
    labeled = open_labeled(copied(case, tmp_path / "out").output)
    truth, config = read_ground_truth(case.truth), TuneConfig(min_examples=1)
    if case.name in MEANINGLESS:
        with pytest.raises(UsageError, match="no candidate matches an object"):
            tune(labeled, truth, config)
    else:
        assert tune(labeled, truth, config).images == len(SCENES)
    report(labeled, tmp_path / "report.html", samples=2)
    assert "<svg" in (tmp_path / "report.html").read_text()
    queue = ReviewQueue(labeled, VERDICTS)
    assert 0 < len(queue) <= sum(len(record.instances) for record in labeled.records())  # equal masks are shown once
    assert queue.item(0)["class"] in labeled.ontology.class_names


def test_a_gate_of_tags(case: Case, tmp_path: Path, tagger: Path) -> None:
    """A tagger asks for fewer classes; what is found of the others stays as it is."""
    tagging = TaggingConfig("vocabulary", tagger_model=str(tagger), gate_below=0.0)
    job = replace(case.job, output=locate(str(tmp_path / "out")), tagging=tagging)
    summary = label(job, Silent())
    assert (summary.labeled.images, summary.labeled.failures) == (len(SCENES), [])
    assert summary.labeled.objects > 0


@pytest.mark.slow
def test_on_ray_the_same_bytes(case: Case, tmp_path: Path, cluster: Any) -> None:
    engine = EngineConfig("ray", workers=1, cpus_per_worker=1, gpus_per_worker=0)
    job = replace(case.job, output=locate(str(tmp_path / "ray")), engine=engine)
    assert label(job, Silent()).labeled.failures == []
    assert record_files(tmp_path / "ray") == case.records
