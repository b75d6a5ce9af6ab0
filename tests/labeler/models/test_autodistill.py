"""The package autodistill_grounded_sam as it is, on random weights, beside the adapter that repairs it."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labeler.geometry.masks import rle_to_mask
from labeler.models.config import ModelConfig
from labeler.models.kinds.autodistill import AutodistillKind, argument_value
from labeler.models.labelers.autodistill_repairs import repair_grounding_dino
from labeler.models.labelers.labeler import LabelRequest
from ontologies import Ontology
from tests.support.tiny_models import bert_tokenizer, make_image

PROMPTS = ("red cat", "dog")
QUERIES = 4
SMALLER = {
    "enc_layers = 6": "enc_layers = 1", "dec_layers = 6": "dec_layers = 1",
    "num_queries = 900": f"num_queries = {QUERIES}", "dim_feedforward = 2048": "dim_feedforward = 64",
}  # fmt: skip


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, which finds small random weights where it keeps its own; its SAM ViT-H is a small SAM.

    It loads them with its own code: only the builder of ViT-H, which takes 2.5 GB, is another one.
    """
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CUBLAS_WORKSPACE_CONFIG", "TOKENIZERS_PARALLELISM"):  # the package sets them when it is imported
        monkeypatch.setenv(name, os.environ.get(name, ""))
    import autodistill_grounded_sam
    from autodistill_grounded_sam import helpers
    from groundingdino import config as configs
    from groundingdino.models import build_model
    from groundingdino.util.slconfig import SLConfig
    from segment_anything.build_sam import _build_sam
    from transformers import BertConfig, BertModel

    cache, bert, tokenizer = tmp_path / ".cache" / "autodistill", tmp_path / "bert", bert_tokenizer()
    (cache / "groundingdino").mkdir(parents=True)
    (cache / "segment_anything").mkdir()
    config = (Path(configs.__path__[0]) / "GroundingDINO_SwinT_OGC.py").read_text()
    for old, new in {**SMALLER, '"bert-base-uncased"': repr(str(bert))}.items():
        assert old in config
        config = config.replace(old, new)
    (path := cache / "groundingdino" / "GroundingDINO_SwinT_OGC.py").write_text(config)
    repair_grounding_dino()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
        BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(bert)
        tokenizer.save_pretrained(bert)
        arguments = SLConfig.fromfile(str(path))
        arguments.device = "cpu"
        detector = build_model(arguments)
        torch.save({"model": detector.state_dict()}, cache / "groundingdino" / "groundingdino_swint_ogc.pth")
        small = partial(_build_sam, 32, 1, 2, [])
        torch.save(small().state_dict(), cache / "segment_anything" / "sam_vit_h_4b8939.pth")
    monkeypatch.setitem(helpers.sam_model_registry, "vit_h", small)
    return autodistill_grounded_sam


def test_grounded_sam_is_what_the_package_predicts(package: Any) -> None:
    from autodistill.detection import CaptionOntology

    image = make_image(12, 240, seed=2)
    bgr = np.ascontiguousarray(image[:, :, ::-1])
    thresholds = {"box_threshold": 0.0, "text_threshold": 0.0}
    own = package.GroundedSAM(ontology=CaptionOntology({prompt: prompt for prompt in PROMPTS}), **thresholds)
    expected = own.predict(bgr)
    assert len(expected) == 2 * QUERIES
    boxes = expected.xyxy.astype(np.float32).clip(0, np.array([240, 12] * 2, np.float32))
    visible = [row for row in range(len(boxes)) if (boxes[row, 2:] > boxes[row, :2]).all()]
    own.sam_predictor.set_image(image)  # RGB, as SAM was trained
    mended = [own.sam_predictor.predict(box=box, multimask_output=False) for box in expected.xyxy]
    masks = {True: [found[0] for found, _, _ in mended], False: expected.mask}
    assert any((masks[True][row] != masks[False][row]).any() for row in visible), "the order of colours matters"
    # The package searches for one prompt after the other, so fewer prompts find the same.
    for bgr_fix, prompts in ((True, PROMPTS), (False, PROMPTS[:1])):
        arguments = tuple((name, str(value)) for name, value in thresholds.items())
        kind = AutodistillKind("autodistill_grounded_sam:GroundedSAM", arguments, prompts, bgr_fix=bgr_fix)
        config = ModelConfig("", "", device="cpu", floor=1e-6, clean_share=0.0)
        (found,) = kind.load(config).label([LabelRequest("", image, Ontology.from_text(", ".join(prompts)))])
        rows = [row for row in visible if expected.class_id[row] < len(prompts)]
        assert len(found) == len(rows) > 1
        assert "autodistill-grounded-sam 0.1.2" in kind.identity(config)["labeler_package"]
        for instance in found:
            (row,) = (
                row
                for row in rows
                if PROMPTS[expected.class_id[row]] == instance.prompt
                and np.allclose(boxes[row], instance.box_xyxy, atol=1e-3)
            )
            assert instance.score == pytest.approx(expected.confidence[row], abs=1e-5)
            assert instance.class_id == expected.class_id[row]
            assert (rle_to_mask(instance.rle) == masks[bgr_fix][row]).all()
            if bgr_fix:
                assert instance.mask_score == pytest.approx(np.clip(mended[row][1].item(), 0, 1), abs=1e-5)


def test_arguments_are_json_or_text_and_paths_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker runs in another folder than the one where the paths were written down."""
    (tmp_path / "weights.pt").touch()
    monkeypatch.chdir(tmp_path)
    texts = {"0.5": 0.5, "[1, 2]": [1, 2], "None": None, "true": True, '"3"': "3", "base": "base", "no.pt": "no.pt"}
    paths = {"weights.pt": str(tmp_path / "weights.pt"), "./new": str(tmp_path / "new")}
    for text, value in (texts | paths).items():
        ((_, kept),) = AutodistillKind("some_package:Model", (("name", text),)).arguments
        monkeypatch.chdir("/")
        assert argument_value(kept) == value
        monkeypatch.chdir(tmp_path)


def test_the_text_encoder_sees_each_phrase_by_itself(package: Any) -> None:
    """Grounding DINO hides the other phrases from each; so each has the features that it has alone."""
    from groundingdino.models.GroundingDINO import groundingdino
    from transformers import BertConfig, BertModel

    with torch.random.fork_rng():
        torch.manual_seed(1)
        sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
        plain = BertModel(BertConfig(vocab_size=50, initializer_range=0.5, **sizes)).eval()
    ids, positions = torch.tensor([[7, 8, 9, 20, 21]]), torch.tensor([[0, 1, 2, 0, 1]])
    seen = torch.block_diag(torch.ones(3, 3), torch.ones(2, 2)).bool()[None]
    with torch.no_grad():
        alone = [plain(part, position_ids=torch.arange(part.shape[1])[None])[0] for part in ids.split([3, 2], dim=1)]
        names = list(plain.state_dict())
        repaired = groundingdino.BertModelWarper(bert_model=plain)
        together = repaired(input_ids=ids, attention_mask=seen, position_ids=positions)["last_hidden_state"]
    assert torch.allclose(together, torch.cat(alone, dim=1), atol=1e-5)
    assert list(repaired.state_dict()) == names
