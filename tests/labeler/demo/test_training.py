"""The training script: which captions it uses, its losses, and that its checkpoints load."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import Sam2Model

from labeler.demo import tiny_detector, tiny_segmenter, train
from labeler.demo.losses import mask_loss, set_loss
from labeler.demo.scene_pool import ScenePool, scene_pool
from labeler.demo.scenes import HELD_OUT_PAIRS, PAIRS, SEEN_PAIRS, class_name
from labeler.models.config import ModelConfig
from labeler.models.loading import load_detector, load_segmenter
from labeler.models.segmenters.segmenter import SegmentPrompts


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> ScenePool:
    return scene_pool(tmp_path_factory.mktemp("pool"), 12, seed=3, pairs=SEEN_PAIRS)


def test_boxes_follow_the_rotation_of_the_batch(pool: ScenePool) -> None:
    batches = pool.batches(6, np.random.default_rng(0))
    for _ in range(6):  # six turns and flips
        batch = next(batches)
        for index_map, ids, boxes in zip(batch.index_maps, batch.pair_ids, batch.boxes_xyxy, strict=True):
            assert len(ids) == len(boxes)
            for position, box in enumerate((boxes * 320).round().int().tolist()):
                ys, xs = np.nonzero((index_map == position + 1).numpy())
                assert box == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def test_no_caption_names_a_held_out_pair(pool: ScenePool) -> None:
    rng = np.random.default_rng(0)
    held_out = {class_name(pair) for pair in HELD_OUT_PAIRS}
    batches = pool.batches(6, rng)
    for _ in range(20):
        batch = next(batches)
        names = [[class_name(PAIRS[i]) for i in ids] for ids in batch.pair_ids]
        caption = tiny_detector.caption_for(batch, names, rng)
        assert len(caption) == len(set(caption)) <= tiny_detector.PHRASES
        assert not held_out & set(caption)


def test_set_loss_is_lowest_for_the_ground_truth() -> None:
    boxes = torch.tensor([[0.2, 0.2, 0.1, 0.1], [0.7, 0.6, 0.2, 0.3]])
    token_map = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]])
    logits = torch.full((1, 3, 4), -9.0)
    logits[0, 2, :2] = 9  # query 2 is the first object, query 0 the second: order must not matter
    logits[0, 0, 2:] = 9
    predicted = torch.stack([boxes[1], torch.tensor([0.5, 0.5, 0.1, 0.1]), boxes[0]])[None]
    right = set_loss(logits, predicted, [token_map], [boxes])
    assert right == pytest.approx(0, abs=1e-3)
    swapped = set_loss(logits.flip(1), predicted, [token_map], [boxes])
    assert swapped > right + 1
    moved = set_loss(logits, predicted + 0.02, [token_map], [boxes])
    assert moved > right + 0.1
    # without objects only the class term is left, which is almost 0 if nothing is detected
    silent = set_loss(torch.full((1, 3, 4), -9.0), predicted, [torch.zeros(0, 4)], [torch.zeros(0, 4)])
    assert silent == pytest.approx(0, abs=1e-3)


def test_mask_loss_weighs_small_and_large_objects_equally() -> None:
    small, large = torch.zeros(64, 64), torch.zeros(64, 64)
    small[10:14, 10:14] = 1
    large[10:42, 10:42] = 1
    masks, areas = torch.stack([small, large]), torch.tensor([16.0, 1024.0])
    right = mask_loss((masks - 0.5) * 40, masks, areas)
    assert right.tolist() == pytest.approx([0, 0], abs=1e-3)
    half = masks.clone()
    half[:, :, 12] = 0  # a quarter of the small one
    half[1, :, 12:18] = 0  # as much of the large one, nearly
    wrong = mask_loss((half - 0.5) * 40, masks, areas)
    assert wrong[0] == pytest.approx(wrong[1].item(), rel=0.5)


def test_tokenizer_keeps_the_separators() -> None:
    tokenizer = tiny_detector.demo_tokenizer()
    ids = tokenizer("red circle . blue ring ?").input_ids
    assert [ids[0], ids[3], ids[6], ids[-1]] == [101, 1012, 1029, 102]
    assert len(tokenizer("crescent", add_special_tokens=False).input_ids) == 1
    assert tokenizer.unk_token_id not in tokenizer("walrus", add_special_tokens=False).input_ids


def test_a_short_run_ends_with_its_last_weights() -> None:
    """Weights that grow by 1 per step; the average lags by its span. In a long run it is that of PyTorch."""
    average, lags = torch.zeros(1), []
    for count in range(600):
        train.update_average([average], [torch.full((1,), float(count))], count)
        lags.append(count - float(average))
    assert lags[0] <= 1
    assert 5 < lags[100] < 15
    assert 40 < lags[599] < 80
    theirs, ours = torch.tensor([3.0]), torch.tensor([3.0])
    get_ema_multi_avg_fn(0.998)([theirs], [torch.tensor([7.0])], 10_000)  # type: ignore[no-untyped-call]
    train.update_average([ours], [torch.tensor([7.0])], 10_000)
    torch.testing.assert_close(ours, theirs)


def run_script(monkeypatch: pytest.MonkeyPatch, folder: Path, model: str, *more: str) -> ModelConfig:
    # A step or two: the time is over when the first one is done.
    arguments = [model, "--minutes", "0.001", "--scenes", "12", "--batch-size", "4", "--pool", str(folder / "pool")]
    monkeypatch.setattr(sys, "argv", ["train", *arguments, "--output", str(folder / model), *more])
    train.main()
    return ModelConfig(str(folder / model), str(folder / model), device="cpu", floor=0.0001)


@pytest.mark.slow
def test_a_trained_detector_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = run_script(monkeypatch, tmp_path, "detector")
    found = load_detector(config).detect([np.zeros((50, 70, 3), dtype=np.uint8)], [("red circle", "star")])[0]
    assert found.scores.shape == (len(found.boxes_xyxy), 2)
    assert np.isfinite(found.boxes_xyxy).all()


@pytest.mark.slow
def test_a_trained_segmenter_loads_and_resumes_at_another_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, boxes = np.zeros((50, 70, 3), dtype=np.uint8), np.array([[5, 5, 40, 40]], dtype=np.float32)
    for side, more in (("64", ()), ("96", ("--resume",))):
        config = run_script(monkeypatch, tmp_path, "segmenter", "--side", side, *more)
        masks = load_segmenter(config).segment([image], [SegmentPrompts.of_boxes(boxes)])
        assert masks[0][0].rle["size"] == [50, 70]
    small, large = (
        Sam2Model(tiny_segmenter.segmenter_config(side)).vision_encoder.state_dict()
        for side in (64, tiny_segmenter.SIDE)
    )
    assert {name: value.shape for name, value in small.items()} == {n: v.shape for n, v in large.items()}


def test_a_step_reaches_every_weight_that_is_used(pool: ScenePool) -> None:
    rng = np.random.default_rng(0)
    segmenter = tiny_segmenter.new_segmenter(64)
    tiny_segmenter.segmenter_step(pool, 64, 4, "cpu", rng)(segmenter).backward()
    assert not without_gradient(segmenter.vision_encoder)
    assert not without_gradient(segmenter.mask_decoder.transformer)
    tokenizer = tiny_detector.demo_tokenizer()
    detector = tiny_detector.new_detector(tokenizer)
    tiny_detector.detector_step((pool, pool), tokenizer, 4, "cpu", rng)(detector).backward()
    assert not without_gradient(detector)


def without_gradient(model: torch.nn.Module) -> list[str]:
    return [name for name, weights in model.named_parameters() if weights.grad is None]
