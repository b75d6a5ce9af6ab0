"""``--compile`` against the same models without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from labeler.errors import UsageError
from labeler.geometry.masks import rle_to_mask
from labeler.models import compiling
from labeler.models.compiling import check_compile
from labeler.models.config import ModelConfig
from labeler.models.kinds.boxes import BoxesKind
from labeler.models.kinds.grounded_sam import GroundedSamKind
from labeler.models.kinds.kind import LabelerKind
from labeler.models.kinds.sam3 import Sam3Kind
from labeler.models.loading import load_detector, load_segmenter
from labeler.models.segmenters.segmenter import SegmentedMask, SegmentPrompts
from tests.support.command_line import run_in_process
from tests.support.tiny_models import make_boxes, make_image

Checkpoint = Callable[[str], Path]
SCORES, PIXELS, IOU = 1e-4, 0.01, 0.99  # what compiled code may differ by in fp32


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[tuple[int, ...]]]]:
    """The shapes of pixels that each graph was made for; the graphs run as torch runs them without a compiler."""
    torch._dynamo.reset()
    graphs: list[list[tuple[int, ...]]] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., object]:
        graphs.append([tuple(each.shape) for each in inputs if isinstance(each, torch.Tensor) and each.ndim == 4])
        return graph.forward

    monkeypatch.setattr(compiling, "BACKEND", backend)
    monkeypatch.setattr(compiling, "SAMPLE", (64, 64))
    monkeypatch.setattr(compiling, "SAMPLE_BOXES", ((4, 4, 40, 50),))
    monkeypatch.setattr(compiling, "GAINS", {})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as where a CPU labels images; else it is compiled anew
    yield graphs
    torch.set_num_threads(threads)


def agree(ours: list[SegmentedMask], theirs: list[SegmentedMask]) -> bool:
    masks = [(rle_to_mask(one.rle), rle_to_mask(other.rle)) for one, other in zip(ours, theirs, strict=True)]
    return all((one & other).sum() >= IOU * (one | other).sum() for one, other in masks)


def test_a_compiled_detector_finds_the_same(checkpoint: Checkpoint, traced: list[object]) -> None:
    config = ModelConfig(str(checkpoint("mm_grounding_dino")), "", device="cpu", floor=1e-12)
    plain, compiled = load_detector(config), load_detector(replace(config, compile=True))
    assert len(traced) == 1
    for image in (make_image(64, 64), make_image(64, 64, seed=1)):
        (expected,), (found,) = (each.detect([image], [("red cat", "dog")]) for each in (plain, compiled))
        np.testing.assert_allclose(found.scores, expected.scores, atol=SCORES)
        np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=PIXELS)
    assert len(traced) == 1
    gain = compiling.GAINS[f"detector {config.detector}"]
    assert min(gain.before_ms, gain.after_ms, gain.seconds) > 0


def test_a_compiled_segmenter_finds_the_same_in_batches_of_any_size(
    checkpoint: Checkpoint, traced: list[object]
) -> None:
    config = ModelConfig("", str(checkpoint("sam2")), device="cpu")
    plain, compiled = load_segmenter(config), load_segmenter(replace(config, compile=True))
    images = [make_image(60, 90, seed) for seed in range(4)]
    for batch in (1, 2, 3, 4):
        prompts = [SegmentPrompts.of_boxes(make_boxes(batch + number, 60, 90)) for number in range(batch)]
        both = (each.segment(images[:batch], prompts) for each in (plain, compiled))
        assert all(agree(*masks) for masks in zip(*both, strict=True))
    assert len(traced) == 2  # for one image, and for any larger number


def test_a_shape_that_cannot_be_compiled_for_runs_as_without(
    checkpoint: Checkpoint, traced: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ModelConfig("", str(checkpoint("sam2")), device="cpu")
    works = compiling.BACKEND

    def breaks(graph: object, inputs: object) -> object:
        if traced:
            raise RuntimeError("no kernel")
        return works(graph, inputs)  # type: ignore[operator]

    monkeypatch.setattr(compiling, "BACKEND", breaks)
    compiled = load_segmenter(replace(config, compile=True))
    images, prompts = [make_image(60, 90)] * 2, [SegmentPrompts.of_boxes(make_boxes(2, 60, 90))] * 2
    assert compiled.segment(images, prompts) == load_segmenter(config).segment(images, prompts)
    torch._dynamo.reset()  # else the second model would take the code of the first
    with pytest.raises(UsageError, match=r"^--compile: this machine cannot compile the model \(.*no kernel.*\); leave"):
        load_segmenter(replace(config, compile=True))


def test_a_machine_without_a_compiler_is_told(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UsageError, match=r"^--compile: this machine has no compiler \(no-such-compiler\), which torch"):
        load_segmenter(ModelConfig("", str(checkpoint("sam2")), device="cpu", compile=True))


@pytest.mark.parametrize(
    ("kind", "detector", "message"),
    [
        (Sam3Kind(), "owner/sam3", "--compile: the labeler sam3 is not compiled; leave it out"),
        (
            GroundedSamKind(),
            "yolo.pt",
            "--compile: a detector of type ultralytics is not compiled",
        ),
        (GroundedSamKind(), "embedded:detector", None),
        (BoxesKind("/boxes.json", ""), "", None),
    ],
)
def test_models_that_are_not_compiled_are_refused_early(kind: LabelerKind, detector: str, message: str | None) -> None:
    config = ModelConfig(detector, "embedded:segmenter", compile=True)
    if message is None:
        check_compile(kind, config)
    else:
        with pytest.raises(UsageError, match=f"^{message}"):
            check_compile(kind, config)
    check_compile(kind, replace(config, compile=False))


@pytest.mark.slow
def test_a_run_with_compiled_models_says_what_that_gained(tmp_path: Path) -> None:
    """With the real compiler; and the run goes on without ``--compile``."""
    (tmp_path / "images").mkdir()
    Image.fromarray(make_image(96, 120)).save(tmp_path / "images" / "0.png")
    command = ("label", tmp_path / "images", "-o", tmp_path / "out", "--model", "demo", "--classes", "red circle",
               "--device", "cpu", "--engine", "local")  # fmt: skip
    done = run_in_process(*command, "--compile")
    assert done.returncode == 0, done.stderr
    assert "--compile: detector embedded:detector takes" in done.stdout
    assert "--compile: segmenter embedded:segmenter takes" in done.stdout
    assert run_in_process(*command).returncode == 0
