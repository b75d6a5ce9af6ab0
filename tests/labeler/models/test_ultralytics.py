"""Ultralytics checkpoints as detectors, compared with ``predict`` of Ultralytics."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from labeler.errors import ModelError, UsageError
from labeler.models.availability import check_models
from labeler.models.config import ModelConfig
from labeler.models.kinds.grounded_sam import GroundedSamKind
from labeler.models.loading import load_detector
from tests.support.tiny_models import make_image
from tests.support.tiny_ultralytics import with_random_weights, write_yolo

FLOOR = 1e-4
NAMES = ("cat", "traffic light", "person")
IMAGES = [make_image(96, 128), make_image(120, 60, 1)]
OPTIONS = dict(conf=FLOOR, iou=0.7, max_det=50, device="cpu", verbose=False)


@pytest.fixture(scope="module")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """YOLOv8n with random weights."""
    pytest.importorskip("ultralytics")
    return write_yolo(tmp_path_factory.mktemp("yolo") / "best.pt", NAMES)


def config_for(file: Path) -> ModelConfig:
    return ModelConfig(str(file), "embedded:segmenter", device="cpu", floor=FLOOR, max_instances=50)


def predicted(yolo: Any, classes: Sequence[int], **options: Any) -> list[NDArray[np.float32]]:
    """Ultralytics' own boxes: x1, y1, x2, y2, score and class. It reads RGB from pictures of Pillow."""
    threads = torch.get_num_threads()
    options = OPTIONS | options
    yolo.predict(Image.new("RGB", (32, 32)), classes=classes, **options)
    torch.set_num_threads(threads)  # its first prediction changes that, which changes the last bits
    return [yolo.predict(Image.fromarray(image), classes=classes, **options)[0].boxes.data.numpy() for image in IMAGES]


def assert_same(found: Any, expected: NDArray[np.float32], columns: dict[int, int]) -> None:
    assert len(expected) > 5
    np.testing.assert_array_equal(found.boxes_xyxy, expected[:, :4])
    scores = np.zeros_like(found.scores)
    scores[np.arange(len(expected)), [columns[int(label)] for label in expected[:, 5]]] = expected[:, 4]
    np.testing.assert_array_equal(found.scores, scores)


def test_boxes_and_scores_are_those_of_ultralytics(checkpoint_file: Path) -> None:
    from ultralytics import YOLO

    threads = torch.get_num_threads()
    detector = load_detector(config_for(checkpoint_file))
    prompts = ("People", "cats", "traffic_light")
    found = detector.detect(IMAGES, [prompts] * 2)
    assert torch.get_num_threads() == threads
    for each, expected in zip(found, predicted(YOLO(checkpoint_file), [0, 1, 2]), strict=True):
        assert_same(each, expected, {2: 0, 0: 1, 1: 2})
    (alone,) = load_detector(config_for(checkpoint_file)).detect(IMAGES[1:], [prompts])
    np.testing.assert_array_equal(alone.boxes_xyxy, found[1].boxes_xyxy)


def test_image_size(checkpoint_file: Path) -> None:
    from ultralytics import YOLO

    config = replace(config_for(checkpoint_file), detector_image_size=320)
    found = load_detector(config).detect(IMAGES, [NAMES] * 2)
    for each, expected in zip(found, predicted(YOLO(checkpoint_file), [0, 1, 2], imgsz=320), strict=True):
        assert_same(each, expected, {0: 0, 1: 1, 2: 2})
    with pytest.raises(UsageError, match="--detector-image-size 100: this detector needs a multiple of 32, such as 96"):
        load_detector(replace(config, detector_image_size=100))


def test_the_network_gets_rgb(checkpoint_file: Path) -> None:
    detector: Any = load_detector(config_for(checkpoint_file))
    seen: list[torch.Tensor] = []
    detector._stored.model.model.model[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    detector.detect([np.full((64, 64, 3), (255, 128, 0), np.uint8)], [("cat",)])
    np.testing.assert_allclose(seen[-1][0, :, 320, 320], [1, 128 / 255, 0], atol=1e-3)


def test_unknown_classes_and_no_classes(checkpoint_file: Path) -> None:
    detector = load_detector(config_for(checkpoint_file))
    assert detector.detect([make_image(40, 40)], [()])[0].scores.shape == (0, 0)
    assert (detector.forward_passes(("cat",)), detector.forward_passes(())) == (1, 0)
    with pytest.raises(UsageError, match=r"'parson' is not a class of detector 'best\.pt'.*did you mean 'person'"):
        detector.detect([make_image(40, 40)], [("cat", "parson")])


class TextEncoder(torch.nn.Module):
    """Stands in for CLIP, whose weights would have to be downloaded: features that depend on the text alone."""

    def tokenize(self, texts: Sequence[str], truncate: bool = True) -> torch.Tensor:
        if not truncate and max(map(len, texts)) > 77:
            raise RuntimeError("too long for context length 77")
        return torch.tensor([sum(map(ord, text)) for text in texts])

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        drawn = [torch.randn(512, generator=torch.Generator().manual_seed(int(token))) for token in tokens]
        return torch.nn.functional.normalize(torch.stack(drawn), dim=-1)


def set_by_ultralytics(yolo: Any, names: list[str]) -> Any:
    """What ``set_classes`` does, with the stand-in as the text encoder."""
    yolo.model.clip_model = TextEncoder()
    if hasattr(yolo.model, "txt_feats"):  # YOLO-World
        yolo.model.set_classes(names, cache_clip_model=True)
        yolo.model.names = names
    else:
        yolo.set_classes(names, yolo.model.get_text_pe(names, cache_clip_model=True))
    yolo.model.clip_model = None
    return yolo


@pytest.fixture(scope="module", params=["yolov8n-worldv2.yaml", "yoloe-v8n.yaml"])
def open_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """YOLO-World and YOLOE with random weights, and two classes stored."""
    ultralytics = pytest.importorskip("ultralytics")
    file = tmp_path_factory.mktemp("open") / "open.pt"
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        patch.setitem(sys.modules, "clip", ModuleType("clip"))  # not on the package index; the stand-in needs nothing
        torch.manual_seed(5)
        yolo = with_random_weights(ultralytics.YOLO(request.param))
        set_by_ultralytics(yolo, ["lorry", "dog"]).save(file)
        yield file


def test_prompts_become_the_classes_of_an_open_vocabulary(open_file: Path) -> None:
    """All but the text encoder is Ultralytics' own."""
    from ultralytics import YOLO

    detector: Any = load_detector(config_for(open_file))
    detector._prompted._encoder = TextEncoder()
    prompts = ("blue traffic light", "cat")
    assert detector.forward_passes(prompts) == 1
    of_prompts = predicted(set_by_ultralytics(YOLO(open_file), list(prompts)), [0, 1])
    of_stored = predicted(YOLO(open_file), [1])
    for image, prompted, stored in zip(IMAGES, of_prompts, of_stored, strict=True):
        (found,) = detector.detect([image], [prompts])
        assert_same(found, prompted, {0: 0, 1: 1})
        (found,) = detector.detect([image], [("dogs",)])
        assert_same(found, stored, {1: 0})
    assert (np.abs(of_prompts[0][:5, 4] - of_stored[0][:5, 4]) > 1e-6).any()


def test_what_the_text_encoder_cannot_read(open_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector: Any = load_detector(config_for(open_file))
    monkeypatch.setitem(sys.modules, "clip", None)  # which makes its import fail
    monkeypatch.delitem(sys.modules, "ultralytics.nn.text_model", raising=False)
    assert detector.forward_passes(("dog",)) == 1
    with pytest.raises(ModelError, match=r"'open\.pt': not all prompts are classes .*pip install git\+") as caught:
        detector.forward_passes(("dog", "cat"))
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    detector._prompted._encoder = TextEncoder()
    with pytest.raises(UsageError, match="is too long for detector"):
        detector.forward_passes(("a" * 90,))


def test_files_that_are_no_detectors(tmp_path: Path) -> None:
    pytest.importorskip("ultralytics")
    with pytest.raises(ModelError, match="no such checkpoint file"):
        check_models(GroundedSamKind(), config_for(tmp_path / "none.pt"), None, tags_only=False, ask_hub=False)
    (tmp_path / "damaged.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match=r"damaged\.pt' cannot be loaded by ultralytics") as caught:
        load_detector(config_for(tmp_path / "damaged.pt"))
    assert "\n" not in str(caught.value)
