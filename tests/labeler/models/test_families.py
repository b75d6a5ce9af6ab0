"""The family of a model, and the thresholds that a run starts from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from labeler.errors import UsageError
from labeler.models.config import PRESETS, ModelConfig
from labeler.models.families import FAMILIES, GENERAL, check_prompt_score, family_of
from labeler.models.kinds.grounded_sam import GroundedSamKind
from labeler.models.kinds.kinds import KINDS, kind_named
from labeler.models.published import PUBLISHED
from labeler.quality_config import QualityConfig
from tests.support import ROOT

KIND = GroundedSamKind()


def config(detector: str, prompt_score: str = "mean") -> ModelConfig:
    return ModelConfig(detector, "embedded:segmenter", device="cpu", prompt_score=prompt_score)


@pytest.mark.parametrize(
    ("detector", "name"),
    [
        ("IDEA-Research/grounding-dino-tiny", "grounding-dino"),
        ("iSEE-Laboratory/llmdet_large@abc", "mm-grounding-dino"),
        ("google/owlv2-base-patch16-ensemble", "owlv2"),
        ("embedded:detector", "mm-grounding-dino"),
        ("someone/something", "general"),
    ],
)
def test_the_family_of_a_source(detector: str, name: str) -> None:
    assert family_of(KIND, config(detector)).name == name


def test_the_checkpoint_and_the_hub_know_better_than_the_id(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "owlv2"}))
    assert family_of(KIND, config(str(tmp_path)), {str(tmp_path): "sam3"}).name == "owlv2"
    assert family_of(KIND, config("someone/something"), {"someone/something": "owlv2"}).name == "owlv2"
    assert family_of(KIND, config("google/owlv2-x"), {"google/owlv2-x": "grounding-dino"}).name == "grounding-dino"


def test_presets_keep_their_thresholds() -> None:
    for preset in PRESETS.values():
        if preset.labeler == KIND.kind:
            family = family_of(KIND, config(preset.detector))
            assert (family.quality, family.floor) == (QualityConfig(), 0.1)


def test_no_threshold_is_below_the_floor_of_its_family() -> None:
    for family in FAMILIES:
        assert family.quality.min_score == 0 or family.quality.min_score >= family.floor


def test_prompt_score_needs_tokens(checkpoint: Callable[[str], Path]) -> None:
    for detector in ("embedded:detector", "someone/something"):
        asked = config(detector, "max")
        check_prompt_score(KIND, asked, family_of(KIND, asked))
    asked = config(str(checkpoint("owlv2")), "max")
    with pytest.raises(UsageError, match="--prompt-score max: OWLv2 does not score the tokens"):
        check_prompt_score(KIND, asked, family_of(KIND, asked))


def test_an_unknown_kind_is_answered_with_one_that_comes_near() -> None:
    with pytest.raises(UsageError, match="did you mean grounded-sam"):
        kind_named("grounded-sma")


def test_the_docs_have_the_tables_of_the_code() -> None:
    page = (ROOT / "docs" / "labelers.md").read_text(encoding="utf-8")
    for family in (*FAMILIES, GENERAL):
        gate = family.quality
        numbers = f"{gate.min_score:.2f} | {gate.min_joint_score:.2f} | {gate.accept_score:.2f} | {gate.score}"
        assert f"| {family.title} | {family.floor:g} | {numbers} | {family.source} |" in page
    for source, told in PUBLISHED.items():
        gated = ", gated" if told.gated else ""
        assert f"| `{source}` | {told.size} | {told.licence}{gated} | {told.size_from} |" in page
    for name, kind in KINDS.items():
        assert f"| `{name}` | {kind.about} | {', '.join(f'`{flag}`' for flag in kind.flags)} |" in page
    assert {source for preset in PRESETS.values() for source in preset.models.values()} <= PUBLISHED.keys()
