"""Taggers from checkpoints on disk."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoProcessor

from labeler.errors import ModelError, UsageError
from labeler.models.config import PRESETS, ModelConfig
from labeler.models.loading import load_detector
from labeler.models.prompters.loading import load_prompter
from labeler.models.prompters.prompter import FixedPrompts, GatedPrompts, TagPrompts
from labeler.models.taggers.config import TaggingConfig, vocabulary_for
from labeler.models.taggers.loading import load_tagger, ram_kind
from ontologies import Ontology, OntologyError
from ontologies.taggers.language import LanguageTagger
from ontologies.taggers.vocabulary import VocabularyTagger
from tests.support.tiny_language import Speaker, florence, qwen
from tests.support.tiny_models import make_image, write_checkpoint
from tests.support.tiny_taggers import IMAGE_KINDS, tiny_contrastive

WORDS = ("cat", "dog", "red car", "tree")
IMAGES = [make_image(40, 60, 0), make_image(64, 64, 1)]
MODEL = ModelConfig("some/detector", "some/segmenter", device="cpu")


@pytest.fixture(params=IMAGE_KINDS)
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    model, processor = tiny_contrastive(request.param)
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_checkpoint_tags_as_the_model_it_was_saved_from(checkpoint: Path, request: pytest.FixtureRequest) -> None:
    model, _ = tiny_contrastive(request.node.callspec.params["checkpoint"])
    processor = AutoProcessor.from_pretrained(checkpoint)  # SigLIP 2 always has the same tokenizer class
    tagging = TaggingConfig("vocabulary", str(checkpoint), WORDS, tag_score=0.0)
    expected = VocabularyTagger(model, processor, WORDS, threshold=0.0).tag(IMAGES)
    found = load_tagger(tagging, MODEL, None).tag(IMAGES)
    assert [dict(tags) for tags in found] == [pytest.approx(dict(tags), abs=1e-4) for tags in expected]


def test_texts_are_embedded_once(checkpoint: Path, tmp_path: Path) -> None:
    tagging = TaggingConfig("vocabulary", str(checkpoint), WORDS, tag_score=0.0)
    first = load_tagger(tagging, MODEL, None, tmp_path / "cache").tag(IMAGES)
    (path,) = (tmp_path / "cache").iterdir()
    kept = path.read_bytes()
    embeddings = np.load(path)
    np.save(path, embeddings[::-1].copy())
    turned = load_tagger(tagging, MODEL, None, tmp_path / "cache").tag(IMAGES)
    for tags, other in zip(first, turned, strict=True):  # the file is used
        assert dict(other) == {word: dict(tags)[WORDS[-1 - n]] for n, word in enumerate(WORDS)}
    path.write_bytes(kept[:50])
    assert load_tagger(tagging, MODEL, None, tmp_path / "cache").tag(IMAGES) == first
    assert path.read_bytes() == kept
    for wrong in (embeddings[:2], embeddings[0], embeddings.astype(object), embeddings * np.nan):
        np.save(path, wrong)
        assert load_tagger(tagging, MODEL, None, tmp_path / "cache").tag(IMAGES) == first
        assert path.read_bytes() == kept
    for damaged in (b"PK\3\4" + bytes(99), pickle.dumps([1])):  # numpy would take these for other kinds of file
        path.write_bytes(damaged)
        assert load_tagger(tagging, MODEL, None, tmp_path / "cache").tag(IMAGES) == first
        assert path.read_bytes() == kept
    load_tagger(TaggingConfig("vocabulary", str(checkpoint), WORDS[:2]), MODEL, None, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize("build", [florence, lambda: qwen("Qwen2VL")], ids=["florence2", "qwen2_vl"])
def test_a_language_model_loads_and_answers(build: Callable[[], Speaker], tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, processor = build()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    tagger = load_tagger(TaggingConfig("vlm", str(tmp_path)), MODEL, None)
    expected = LanguageTagger(model, AutoProcessor.from_pretrained(tmp_path))
    assert tagger.tag(IMAGES) == [expected.tag([image])[0] for image in IMAGES]
    prompter = TagPrompts(tagger, lambda tag: True)
    assert prompter.unparsed == expected.unparsed  # answers of random weights


def test_kinds_of_prompters(checkpoint: Path) -> None:
    pets = Ontology.from_text("cat, puppy=dog")
    tagging = TaggingConfig("vocabulary", str(checkpoint), WORDS)
    assert isinstance(load_prompter(None, pets, MODEL, None), FixedPrompts)
    assert isinstance(load_prompter(tagging, None, MODEL, None), TagPrompts)
    gated = load_prompter(tagging, pets, MODEL, None)
    assert isinstance(gated, GatedPrompts)
    assert {tag for tag, _ in gated.prompts_for(IMAGES[:1])[0].tags} == {"cat", "puppy"}
    with pytest.raises(UsageError, match="say what to look for"):
        load_prompter(None, None, MODEL, None)


def test_a_tag_too_long_for_the_detector_is_no_prompt(checkpoint: Path, tmp_path: Path) -> None:
    write_checkpoint("mm_grounding_dino", tmp_path / "detector")
    detector = load_detector(ModelConfig(str(tmp_path / "detector"), "", device="cpu"))
    words = ("cat", "z" * 26, "dog")  # the second has too many tokens for a caption
    tagging = TaggingConfig("vocabulary", str(checkpoint), words, tag_score=0.0)
    (asked,) = load_prompter(tagging, None, MODEL, detector).prompts_for(IMAGES[:1])
    assert {tag for tag, _ in asked.tags} == set(words)
    assert asked.ontology is not None
    assert set(asked.ontology.class_names) == {"cat", "dog"}
    assert [asked.tags[index][0] for index in asked.class_ids] == list(asked.ontology.class_names)


def test_what_a_tagger_chooses_from() -> None:
    demo = ModelConfig("embedded:detector", "embedded:segmenter")
    assert len(vocabulary_for(TaggingConfig(), MODEL, None)) == 1203
    assert len(vocabulary_for(TaggingConfig("detector"), MODEL, None)) == 80
    assert "red circle" in vocabulary_for(TaggingConfig(), demo, None)
    assert len(vocabulary_for(TaggingConfig(), demo, "objects365")) == 365
    assert vocabulary_for(TaggingConfig("vlm"), MODEL, None) == ()
    with pytest.raises(UsageError, match="built-in vocabulary"):
        vocabulary_for(TaggingConfig("ram"), MODEL, "coco")


def test_auto_picks_an_available_tagger(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = florence()
    model.save_pretrained(tmp_path / "speaker")
    processor.save_pretrained(tmp_path / "speaker")
    assert TaggingConfig(tagger_model=str(checkpoint)).kind(MODEL) == "vocabulary"
    assert TaggingConfig(tagger_model=str(tmp_path / "speaker")).kind(MODEL) == "vlm"
    assert TaggingConfig(tagger_model="models/ram_plus_swin_large_14m.pth").kind(MODEL) == "ram"
    assert TaggingConfig(tagger_model="someone/siglip").kind(MODEL) == "vocabulary"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    models = {name: ModelConfig(preset.detector, preset.segmenter) for name, preset in PRESETS.items()}
    assert {TaggingConfig().kind(model) for name, model in models.items() if name != "demo"} == {"vocabulary"}
    assert len({TaggingConfig().source(models[name]) for name in ("fast", "balanced", "best")}) == 3
    assert TaggingConfig().source(MODEL) == TaggingConfig().source(models["balanced"])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    assert TaggingConfig().kind(models["balanced"]) == "detector"  # needs no other weights
    assert TaggingConfig().source(models["balanced"]) is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ram_plus_swin_large_14m.pth", "ram_plus"),
        ("ram_swin_large_14m.pth", "ram"),
        ("tag2text_swin_14m.pth", "tag2text"),
    ],
)
def test_the_authors_names_tell_the_kind(name: str, kind: str) -> None:
    assert ram_kind(f"/models/plus/{name}") == kind


@pytest.mark.parametrize(
    ("tagging", "error", "said"),
    [
        (
            TaggingConfig("vocabulary", "none/such", WORDS),
            ModelError,
            "tagger-model 'none/such' is not on this machine",
        ),
        (TaggingConfig("vocabulary", "./nowhere", WORDS), ModelError, "no such folder"),
        (TaggingConfig("ram"), UsageError, "needs --tagger-model FILE"),
        (TaggingConfig("ram", "/nowhere/ram.pth"), OntologyError, "/nowhere/ram.pth: no such file"),
    ],
)
def test_loading_errors_are_one_line(tagging: TaggingConfig, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said) as raised:
        load_tagger(tagging, MODEL, None)
    assert "\n" not in str(raised.value)


def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path) -> None:
    write_checkpoint("sam", tmp_path)
    with pytest.raises(ModelError, match="is of type 'sam'; known types: siglip, siglip2, clip"):
        load_tagger(TaggingConfig("vocabulary", str(tmp_path), WORDS), MODEL, None)
