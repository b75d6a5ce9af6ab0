"""Florence-2 as a detector, compared with the processor and the generation of transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from labeler.errors import UsageError
from labeler.models.detectors.florence2 import BEAMS, TASK, Florence2Detector
from labeler.models.runtime import Runtime
from tests.support import tiny_language
from tests.support.tiny_models import make_image


@pytest.fixture(scope="module")
def florence() -> tuple[Any, Any]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model, processor = tiny_language.florence()
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                torch.nn.init.normal_(parameter, std=0.5)
    return model.eval(), processor


@torch.no_grad()
def test_answers_are_those_of_transformers(florence: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers to prompts of one length are generated in one batch."""
    model, processor = florence
    monkeypatch.setattr("labeler.models.detectors.florence2.MAX_NEW_TOKENS", 24)
    detector = Florence2Detector(model, processor, Runtime(batch_size=4))
    images = [make_image(60, 90), make_image(50, 40, 1)]
    prompts = [("cat", "a dog"), ("dog",)]
    answers: dict[str, list[list[int]]] = {}
    generate = detector._generate

    def recorded(token_ids: torch.Tensor, features: torch.Tensor) -> list[list[int]]:
        found = generate(token_ids, features)
        for asked, answer in zip(processor.tokenizer.batch_decode(token_ids), found, strict=True):
            answers.setdefault(asked.replace("<image>", ""), []).append(answer)
        return found

    monkeypatch.setattr(detector, "_generate", recorded)
    detector.detect(images, prompts)
    assert len(answers) == 3
    for image, prompt in [(images[0], "cat"), (images[0], "a dog"), (images[1], "dog")]:
        inputs = processor(images=Image.fromarray(image), text=TASK + prompt, return_tensors="pt")
        expected = model.generate(**inputs, max_new_tokens=24, do_sample=False, num_beams=BEAMS)[0].tolist()
        ((answer,),) = [found for asked, found in answers.items() if f"Locate {prompt} in" in asked]
        padding = [processor.tokenizer.pad_token_id] * (len(answer) - len(expected))
        assert answer == expected + padding
        assert len(set(expected)) > 2


def read(florence: tuple[Any, Any], answer: str, column: int = 0, count: int = 1) -> Any:
    model, processor = florence
    tokens = processor.tokenizer(answer, add_special_tokens=False).input_ids
    return Florence2Detector(model, processor, Runtime())._read(tokens, make_image(500, 1000), column, count)


def test_boxes_of_an_answer(florence: tuple[Any, Any]) -> None:
    """Locations are the middles of a thousandth of the image's width or height, in whole pixels."""
    answer = "</s><s>red cat<loc_1><loc_2><loc_30><loc_31><loc_4><loc_6><loc_20><loc_10></s>"
    found = read(florence, answer, column=1, count=3)
    expected = florence[1].post_process_generation(text=answer, task=TASK, image_size=(1000, 500))[TASK]["bboxes"]
    assert expected == [[1, 1, 30, 15], [4, 3, 20, 5]]
    np.testing.assert_array_equal(found.boxes_xyxy, np.asarray(expected, np.float32))
    np.testing.assert_array_equal(found.scores, [[0, 1, 0], [0, 1, 0]])


def test_repeated_boxes_and_polygons(florence: tuple[Any, Any]) -> None:
    twice = read(florence, "cat<loc_1><loc_2><loc_30><loc_31><loc_1><loc_2><loc_30><loc_31>")
    assert len(twice.boxes_xyxy) == 1
    outlined = read(florence, "cat<poly><loc_5><loc_8><loc_20><loc_2><loc_9><loc_30></poly>")
    np.testing.assert_array_equal(outlined.boxes_xyxy, [[5, 1, 20, 15]])


@pytest.mark.parametrize("answer", ["", "</s><s></s>", "nothing here", "cat<loc_1><loc_2><loc_3>", "<loc_1>"])
def test_answers_without_boxes(answer: str, florence: tuple[Any, Any]) -> None:
    assert read(florence, answer, count=2).scores.shape == (0, 2)


def test_prompts_that_it_cannot_read(florence: tuple[Any, Any]) -> None:
    detector = Florence2Detector(*florence, Runtime())
    with pytest.raises(UsageError, match="contains '<' or '>'"):
        detector.forward_passes(("<loc_5>",))
    with pytest.raises(UsageError, match="the detector reads 256: shorten it"):
        detector.forward_passes(("cat " * 80,))
    assert detector.forward_passes(("cat", "dog")) == 2
    assert detector.detect([make_image(20, 20)], [()])[0].scores.shape == (0, 0)
