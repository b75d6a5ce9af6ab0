"""Ultralytics checkpoints as detectors, compared with ``predict`` of Ultralytics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from labeler.errors import ModelError, UsageError
from labeler.models.availability import check_models
from labeler.models.config import ModelConfig
from labeler.models.kinds.grounded_sam import GroundedSamKind
from labeler.models.loading import load_detector
from tests.support.tiny_models import make_image

FLOOR = 1e-4
NAMES = {0: "cat", 1: "traffic light", 2: "person"}


@pytest.fixture(scope="module")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """YOLOv8n with random weights."""
    ultralytics = pytest.importorskip("ultralytics")
    file = tmp_path_factory.mktemp("yolo") / "best.pt"
    with torch.random.fork_rng():
        torch.manual_seed(5)
        yolo = ultralytics.YOLO("yolov8n.yaml")
        for branch in yolo.model.model[-1].cv3:  # scores of classes, of which the first three are likely
            torch.nn.init.normal_(branch[-1].weight, std=0.3)
            torch.nn.init.constant_(branch[-1].bias, -4.0)
            torch.nn.init.zeros_(branch[-1].bias[:3])
        for module in yolo.model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.normal_(module.running_mean, std=0.1)
    yolo.model.names = {index: NAMES.get(index, f"thing {index}") for index in range(80)}
    yolo.save(file)
    return file


def config_for(file: Path) -> ModelConfig:
    return ModelConfig(str(file), "embedded:segmenter", device="cpu", floor=FLOOR, max_instances=50)


def predicted(file: Path, image: Any) -> Any:
    """Ultralytics' own boxes. It reads RGB from pictures of Pillow."""
    from ultralytics import YOLO

    (result,) = YOLO(file).predict(
        Image.fromarray(image), classes=[0, 1, 2], conf=FLOOR, iou=0.7, max_det=50, device="cpu", verbose=False
    )
    return result.boxes


def test_boxes_and_scores_are_those_of_ultralytics(checkpoint_file: Path) -> None:
    images = [make_image(96, 128), make_image(120, 60, 1)]
    threads = torch.get_num_threads()
    found = load_detector(config_for(checkpoint_file)).detect(images, [("People", "cats", "traffic_light")] * 2)
    assert torch.get_num_threads() == threads
    columns = {2: 0, 0: 1, 1: 2}
    for image, detections in zip(images, found, strict=True):
        expected = predicted(checkpoint_file, image)
        assert len(expected) > 5
        np.testing.assert_allclose(detections.boxes_xyxy, expected.xyxy.numpy(), rtol=0, atol=1e-3)
        scores = np.zeros((len(expected), 3), np.float32)
        for row, (label, score) in enumerate(zip(expected.cls.tolist(), expected.conf.tolist(), strict=True)):
            scores[row, columns[int(label)]] = score
        np.testing.assert_allclose(detections.scores, scores, rtol=0, atol=1e-5)


def test_the_network_gets_rgb(checkpoint_file: Path) -> None:
    detector: Any = load_detector(config_for(checkpoint_file))
    seen: list[torch.Tensor] = []
    detector._yolo.model.model[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    detector.detect([np.full((64, 64, 3), (255, 128, 0), np.uint8)], [("cat",)])
    np.testing.assert_allclose(seen[-1][0, :, 320, 320], [1, 128 / 255, 0], atol=1e-3)


def test_unknown_classes_and_no_classes(checkpoint_file: Path) -> None:
    detector = load_detector(config_for(checkpoint_file))
    assert detector.detect([make_image(40, 40)], [()])[0].scores.shape == (0, 0)
    assert detector.forward_passes(("cat",)) == 1
    with pytest.raises(UsageError, match=r"'parson' is not a class of detector 'best\.pt'.*did you mean 'person'"):
        detector.detect([make_image(40, 40)], [("cat", "parson")])


def test_files_that_are_no_detectors(tmp_path: Path) -> None:
    pytest.importorskip("ultralytics")
    with pytest.raises(ModelError, match="no such checkpoint file"):
        check_models(GroundedSamKind(), config_for(tmp_path / "none.pt"), None, tags_only=False, ask_hub=False)
    (tmp_path / "damaged.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match=r"damaged\.pt' cannot be loaded by ultralytics") as caught:
        load_detector(config_for(tmp_path / "damaged.pt"))
    assert "\n" not in str(caught.value)
