from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labeler.demo.scenes import SHAPES, make_scene, scene_rng
from labeler.errors import DeviceError
from labeler.geometry.masks import mask_to_rle, rle_area
from labeler.models.config import ModelConfig
from labeler.models.detectors.detector import Detections, Detector, Image, Prompts
from labeler.models.labelers.grounded_sam import GroundedSamLabeler
from labeler.models.labelers.labeler import LabelRequest
from labeler.models.labelers.on_device import DeviceCheckedLabeler, labeler_on_device
from labeler.models.loading import load_grounded_sam
from labeler.models.prompters.prompter import tag_each
from labeler.models.segmenters.segmenter import SegmentedMask, Segmenter, SegmentPrompts
from labeler.models.taggers.on_device import DeviceCheckedTagger
from labeler.records import Instance
from ontologies import ClassSpec, Ontology
from ontologies.taggers import Tags
from tests.support.tiny_models import make_image

Box = tuple[float, float, float, float]
Candidate = tuple[int, str, Box, float]

LEFT: Box = (0, 0, 10, 10)
RIGHT: Box = (20, 0, 30, 10)
LEFT_AGAIN: Box = (0, 0, 10, 8)  # IoU 0.8 with LEFT
LEFT_LESS: Box = (0, 0, 10, 7.9)
PETS = Ontology((ClassSpec("dog", ("golden retriever", "puppy")), ClassSpec("cat")))
PETS_AND_STATUES = Ontology(PETS.classes, ("statue", "toy"))


class FixedDetector(Detector):
    """Returns given boxes and scores for each image."""

    def __init__(self, *answers: list[tuple[Box, tuple[float, ...]]]) -> None:
        self.answers = answers
        self.asked: list[Prompts] = []

    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        self.asked += prompts
        return [
            Detections(
                np.array([box for box, _ in answer], np.float32).reshape(-1, 4),
                np.array([scores for _, scores in answer], np.float32).reshape(-1, len(image_prompts)),
            )
            for answer, image_prompts in zip(self.answers, prompts, strict=True)
        ]


class BoxSegmenter(Segmenter):
    """Masks are filled boxes; the mask score tells the index of the box in the call."""

    def __init__(self, mask_score: Callable[[int], float] = lambda index: index / 100) -> None:
        self.mask_score = mask_score
        self.calls: list[list[list[Box]]] = []

    def segment(self, images: Sequence[Image], prompts: Sequence[SegmentPrompts]) -> list[list[SegmentedMask]]:
        boxes_xyxy = [image_prompts.boxes_xyxy for image_prompts in prompts]
        assert all(boxes is not None for boxes in boxes_xyxy)
        self.calls.append([[tuple(box) for box in boxes.tolist()] for boxes in boxes_xyxy])
        answers = []
        for image, boxes in zip(images, boxes_xyxy, strict=True):
            masks = []
            for index, (x1, y1, x2, y2) in enumerate(boxes.round().astype(int)):
                mask = np.zeros(image.shape[:2], bool)
                mask[y1:y2, x1:x2] = True
                masks.append(SegmentedMask(mask_to_rle(mask), int(mask.sum()), self.mask_score(index), 0.5))
            answers.append(masks)
        return answers


def label_one(answer: list[tuple[Box, tuple[float, ...]]], ontology: Ontology, **options: Any) -> list[Candidate]:
    segmenter = BoxSegmenter()
    (found,) = GroundedSamLabeler(FixedDetector(answer), segmenter, **options).label(
        [LabelRequest("", make_image(40, 40), ontology)]
    )
    for instance in found:
        index = segmenter.calls[0][0].index(instance.box_xyxy)
        assert instance.mask_score == pytest.approx(index / 100), "each instance has the mask of its own box"
        x1, y1, x2, y2 = (round(side) for side in instance.box_xyxy)
        assert instance.area == rle_area(instance.rle) == (x2 - x1) * (y2 - y1)
        assert instance.stability == 0.5
    return [(i.class_id, i.prompt, i.box_xyxy, round(i.score, 4)) for i in found]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param([], [], id="nothing found"),
        pytest.param(
            [(LEFT, (0.3, 0.6, 0.0))], [(0, "puppy", LEFT, 0.6)], id="the best prompt of a class speaks for it"
        ),
        pytest.param([(LEFT, (0.6, 0.6, 0.0))], [(0, "golden retriever", LEFT, 0.6)], id="of equal prompts, the first"),
        pytest.param(
            [(LEFT, (0.3, 0.6, 0.7))],
            [(1, "cat", LEFT, 0.7), (0, "puppy", LEFT, 0.6)],
            id="two classes may claim one box",
        ),
        pytest.param([(LEFT, (0.09, 0.0, 0.0999))], [], id="below the candidate floor"),
        pytest.param([(LEFT, (0.1, 0.05, 0.0))], [(0, "golden retriever", LEFT, 0.1)], id="on the candidate floor"),
        pytest.param(
            [(RIGHT, (0.2, 0.0, 0.0)), (LEFT, (0.0, 0.0, 0.9))],
            [(1, "cat", LEFT, 0.9), (0, "golden retriever", RIGHT, 0.2)],
            id="best first",
        ),
        pytest.param(
            [(RIGHT, (0.0, 0.5, 0.5)), (LEFT, (0.5, 0.0, 0.0))],
            [(0, "puppy", RIGHT, 0.5), (1, "cat", RIGHT, 0.5), (0, "golden retriever", LEFT, 0.5)],
            id="of equal scores, the order of boxes, then of prompts",
        ),
        pytest.param(
            [((5, 5, 5, 9), (0.9, 0, 0)), ((5, 5, 9, 5), (0.9, 0, 0)), ((9, 9, 5, 5), (0.9, 0, 0))],
            [],
            id="boxes without area",
        ),
        pytest.param(
            [((5, 5, 5, 9), (0.9, 0, 0)), (LEFT, (0.4, 0, 0))],
            [(0, "golden retriever", LEFT, 0.4)],
            id="a box without area among others",
        ),
    ],
)
def test_candidates(answer: list[tuple[Box, tuple[float, ...]]], expected: list[Candidate]) -> None:
    assert label_one(answer, PETS) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param([(LEFT, (0.5, 0, 0, 0.6, 0))], [], id="a better distractor takes the box"),
        pytest.param([(LEFT, (0.5, 0, 0, 0, 0.6))], [], id="any distractor does"),
        pytest.param([(LEFT, (0.5, 0, 0, 0.4, 0))], [(0, "golden retriever", LEFT, 0.5)], id="a worse one does not"),
        pytest.param([(LEFT, (0.5, 0, 0, 0.5, 0))], [(0, "golden retriever", LEFT, 0.5)], id="nor an equal one"),
        pytest.param(
            [(LEFT, (0.4, 0, 0.7, 0.5, 0))],
            [(1, "cat", LEFT, 0.7), (0, "golden retriever", LEFT, 0.4)],
            id="it must beat the best class of the box",
        ),
        pytest.param([(LEFT, (0, 0, 0, 0.9, 0.9))], [], id="a distractor is never written"),
        pytest.param(
            [(LEFT, (0.5, 0, 0, 0, 0)), (LEFT_AGAIN, (0, 0, 0, 0.6, 0))], [], id="on another box that overlaps by 0.8"
        ),
        pytest.param(
            [(LEFT, (0.5, 0, 0, 0, 0)), (LEFT_LESS, (0, 0, 0, 0.6, 0))],
            [(0, "golden retriever", LEFT, 0.5)],
            id="on a box that overlaps by less",
        ),
        pytest.param(
            [(LEFT, (0.5, 0, 0, 0, 0)), (LEFT_AGAIN, (0, 0, 0, 0.4, 0))],
            [(0, "golden retriever", LEFT, 0.5)],
            id="overlapping, but worse",
        ),
        pytest.param(
            [(LEFT, (0.5, 0, 0, 0, 0)), (RIGHT, (0, 0, 0, 0.9, 0)), (LEFT, (0, 0, 0.2, 0, 0.3))],
            [(0, "golden retriever", LEFT, 0.5)],
            id="each box for itself",
        ),
    ],
)
def test_distractors(answer: list[tuple[Box, tuple[float, ...]]], expected: list[Candidate]) -> None:
    assert label_one(answer, PETS_AND_STATUES) == expected


@pytest.mark.parametrize(("floor", "count"), [(0.05, 4), (0.3, 3), (0.31, 2), (0.95, 0)])
def test_candidate_floor(floor: float, count: int) -> None:
    answer = [((x, 0, x + 5, 5), (score, 0.0, 0.0)) for x, score in ((0, 0.9), (5, 0.1), (10, 0.6), (15, 0.3))]
    assert len(label_one(answer, PETS, candidate_floor=floor)) == count


@pytest.mark.parametrize("max_instances", [1, 3, 100])
def test_max_instances_keeps_the_best(max_instances: int) -> None:
    scores = np.random.default_rng(0).permutation(30) / 40 + 0.2
    answer = [((i, 0, i + 4, 4), (float(score), 0.0, 0.0)) for i, score in enumerate(scores)]
    found = label_one(answer, PETS, max_instances=max_instances)
    assert [score for *_, score in found] == np.round(np.sort(scores)[::-1][:max_instances], 4).tolist()


def test_only_what_is_kept_is_segmented_and_each_box_once() -> None:
    answer = [
        (RIGHT, (0.5, 0.6, 0.7, 0, 0)),  # claimed by both classes
        (LEFT, (0.01, 0, 0, 0, 0)),  # below the candidate floor
        ((5, 5, 5, 9), (0.9, 0, 0, 0, 0)),  # without area
        ((0, 20, 10, 30), (0.5, 0, 0, 0.9, 0)),  # a distractor's
        ((20, 20, 30, 30), (0.2, 0, 0, 0, 0)),  # past max_instances
        ((10, 10, 20, 20), (0.9, 0, 0, 0, 0)),
    ]
    segmenter = BoxSegmenter()
    (found,) = GroundedSamLabeler(FixedDetector(answer), segmenter, max_instances=3).label(
        [LabelRequest("", make_image(40, 40), PETS_AND_STATUES)]
    )
    assert segmenter.calls == [[[RIGHT, (10, 10, 20, 20)]]]
    assert [(i.class_id, i.box_xyxy) for i in found] == [(0, (10, 10, 20, 20)), (1, RIGHT), (0, RIGHT)]
    assert found[1].rle == found[2].rle


def test_images_with_their_own_ontologies() -> None:
    birds = Ontology((ClassSpec("bird"),))
    detector = FixedDetector([(LEFT, (0.2, 0, 0))], [], [(RIGHT, (0.8,)), (LEFT, (0.7,))])
    segmenter = BoxSegmenter()
    images = [make_image(40, 40), make_image(20, 30), make_image(12, 35)]
    requests = [LabelRequest("", *pair) for pair in zip(images, [PETS, PETS, birds], strict=True)]
    found = GroundedSamLabeler(detector, segmenter).label(requests)
    assert detector.asked == [("golden retriever", "puppy", "cat"), ("golden retriever", "puppy", "cat"), ("bird",)]
    assert segmenter.calls == [[[LEFT], [], [RIGHT, LEFT]]], "one call for all images"
    assert [[(i.prompt, i.rle["size"]) for i in instances] for instances in found] == [
        [("golden retriever", [40, 40])],
        [],
        [("bird", [12, 35])] * 2,
    ]


def test_no_images() -> None:
    assert GroundedSamLabeler(FixedDetector(), BoxSegmenter()).label([]) == []


@pytest.mark.parametrize(("estimate", "kept"), [(-0.5, 0.0), (0.0, 0.0), (0.7, 0.7), (1.0, 1.0), (1.02, 1.0)])
def test_mask_scores_are_clipped(estimate: float, kept: float) -> None:
    labeler = GroundedSamLabeler(FixedDetector([(LEFT, (0.5, 0, 0))]), BoxSegmenter(lambda _: estimate))
    assert labeler.label([LabelRequest("", make_image(40, 40), PETS)])[0][0].mask_score == kept


@pytest.mark.parametrize(
    ("detector", "segmenter"), [("mm_grounding_dino", "sam"), ("omdet_turbo", "sam2"), ("owlv2", "sam_hq")]
)
def test_with_real_models(detector: str, segmenter: str, checkpoint: Callable[[str], Path]) -> None:
    ontology = Ontology((ClassSpec("pet", ("red cat", "dog")), ClassSpec("car")), ("box",))
    config = ModelConfig(
        str(checkpoint(detector)), str(checkpoint(segmenter)), device="cpu", batch_size=2, floor=0.15, max_instances=9
    )
    labeler = load_grounded_sam(config)
    assert (labeler.candidate_floor, labeler.max_instances) == (0.15, 9)
    images = [make_image(60, 90, 1), make_image(90, 60, 2), make_image(60, 90, 3)]
    labeled = labeler.label([LabelRequest("", image, ontology) for image in images])
    assert 0 < sum(map(len, labeled)) <= 27
    prompts = ("red cat", "dog", "car", "box")
    detections = labeler.detector.detect(images, [prompts] * 3)
    for image, found, instances in zip(images, detections, labeled, strict=True):
        scores = [instance.score for instance in instances]
        assert scores == sorted(scores, reverse=True)
        boxes = np.array([instance.box_xyxy for instance in instances], np.float32).reshape(-1, 4)
        (masks,) = labeler.segmenter.segment([image], [SegmentPrompts.of_boxes(boxes)])
        for instance, mask in zip(instances, masks, strict=True):
            assert instance.score >= 0.15
            (row,) = np.flatnonzero((found.boxes_xyxy == np.array(instance.box_xyxy, np.float32)).all(1))
            columns = [0, 1] if instance.class_id == 0 else [2]
            assert instance.score == pytest.approx(found.scores[row, columns].max(), abs=1e-5)
            assert instance.score == pytest.approx(found.scores[row, prompts.index(instance.prompt)], abs=1e-5)
            assert found.scores[row, 3] <= found.scores[row, :3].max() + 1e-5
            assert tuple(instance.rle["size"]) == image.shape[:2]
            assert instance.area == rle_area(instance.rle)
            assert instance.area == pytest.approx(mask.area, abs=5)
            assert instance.mask_score == pytest.approx(np.clip(mask.mask_score, 0, 1), abs=1e-4)
            assert 0 <= instance.stability <= 1


@pytest.mark.parametrize(("batch_size", "passes"), [("auto", [9]), (4, [4, 4, 1])])
def test_with_auto_a_call_decides_the_batch(
    batch_size: int | str, passes: list[int], checkpoint: Callable[[str], Path]
) -> None:
    models = str(checkpoint("mm_grounding_dino")), str(checkpoint("sam2"))
    labeler: Any = load_grounded_sam(ModelConfig(*models, device="cpu", batch_size=batch_size, max_instances=1))
    seen: list[int] = []
    encode = labeler.segmenter.model.get_image_embeddings

    def counted(pixels: Any) -> Any:
        seen.append(len(pixels))
        return encode(pixels)

    labeler.segmenter.model.get_image_embeddings = counted
    labeler.detector.model.register_forward_pre_hook(
        lambda model, args, inputs: seen.append(len(inputs["pixel_values"])), with_kwargs=True
    )
    labeler.label([LabelRequest("", make_image(60, 90, index), Ontology.from_text("dog")) for index in range(9)])
    assert seen == passes + passes
    assert labeler.detector.runtime.images_per_pass(3) == (8 if batch_size == "auto" else 4)


def test_results_do_not_depend_on_batch_or_cores() -> None:
    import torch

    scenes = [make_scene(scene_rng(8, index)).image for index in range(5)]
    ontology = Ontology.from_text(", ".join(SHAPES))
    config = ModelConfig("embedded:detector", "embedded:segmenter", device="cpu", floor=0.05)
    answers = []
    cores = torch.get_num_threads()
    for threads, batch in ((1, 5), (1, 1), (2, 3), (3, 5)):
        torch.set_num_threads(threads)
        try:
            labeler = labeler_on_device(load_grounded_sam(config), config)
        finally:
            torch.set_num_threads(cores)
        labeled = []
        for start in range(0, len(scenes), batch):
            images = scenes[start : start + batch]
            labeled += labeler.label([LabelRequest("", image, ontology) for image in images])
        answers.append(labeled)
    assert sum(map(len, answers[0])) > 20
    assert answers[0] == answers[1] == answers[2] == answers[3]


class BrokenLabeler:
    def label(self, requests: Sequence[LabelRequest]) -> list[list[Instance]]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def tag(self, images: Sequence[Image]) -> list[Tags]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_a_failed_device_is_distinguished_from_a_bad_image() -> None:
    def lost() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be …")

    with pytest.raises(DeviceError, match=r"no longer responds \(CUDA error: an illegal memory access was enc.*\);"):
        DeviceCheckedLabeler(BrokenLabeler(), lost).label([LabelRequest("", make_image(9, 9), PETS)])
    with pytest.raises(DeviceError):
        DeviceCheckedLabeler(BrokenLabeler(), lost).begin([LabelRequest("", make_image(9, 9), PETS)])
    with pytest.raises(RuntimeError, match="illegal") as raised:
        DeviceCheckedLabeler(BrokenLabeler(), lambda: None).label([LabelRequest("", make_image(9, 9), PETS)])
    assert not isinstance(raised.value, DeviceError)
    assert DeviceCheckedLabeler(GroundedSamLabeler(FixedDetector(), BoxSegmenter()), lost).label([]) == []
    # If a tagger fails on an image, the image has no tags; if the device fails, no later image would have any.
    with pytest.raises(DeviceError, match="no longer responds"):
        tag_each(DeviceCheckedTagger(BrokenLabeler(), lost), [make_image(9, 9)] * 2)
    tagged = tag_each(DeviceCheckedTagger(BrokenLabeler(), lambda: None), [make_image(9, 9)] * 2)
    assert [note for _, note in tagged] == [
        "tagging failed: RuntimeError: CUDA error: an illegal memory access was encountered"
    ] * 2
