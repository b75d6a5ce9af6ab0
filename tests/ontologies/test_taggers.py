"""Taggers, compared with a plain forward pass of ``transformers``, with tiny random checkpoints."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
import pytest
import torch

from labeler.models.config import ModelConfig
from labeler.models.loading import load_detector
from ontologies import OntologyError
from ontologies.taggers.detector import DetectorTagger
from ontologies.taggers.vocabulary import NEUTRAL, TEMPLATE, VocabularyTagger, embed_texts
from tests.support.tiny_models import make_image, write_checkpoint
from tests.support.tiny_taggers import IMAGE_KINDS, tiny_contrastive

WORDS = ("cat", "dog", "red car", "tree", "box", "boat")


IMAGES = [make_image(40, 60, 0), make_image(64, 64, 1), make_image(31, 90, 2)]


def plain_logits(model: Any, processor: Any, image: Any, texts: list[str]) -> torch.Tensor:
    inputs = processor.image_processor(images=image, input_data_format="channels_last", return_tensors="pt")
    tokens = processor.tokenizer(texts, padding="max_length", max_length=48, return_tensors="pt")
    tokens.pop("token_type_ids", None)
    with torch.no_grad():
        return model(**inputs, **tokens).logits_per_image[0]


@pytest.mark.parametrize("kind", IMAGE_KINDS)
def test_scores_are_those_of_a_plain_forward(kind: str) -> None:
    model, processor = tiny_contrastive(kind)
    scores = VocabularyTagger(model, processor, WORDS).scores(IMAGES)
    assert scores.shape == (3, len(WORDS))
    assert scores.dtype == np.float32
    texts = [TEMPLATE.format(word) for word in WORDS]
    for image, row in zip(IMAGES, scores, strict=True):
        if kind == "clip":
            expected = [plain_logits(model, processor, image, [text, *NEUTRAL]).softmax(0)[0].item() for text in texts]
        else:
            expected = plain_logits(model, processor, image, texts).sigmoid().tolist()
        assert row == pytest.approx(expected, abs=1e-4)
    assert np.ptp(scores) > 0.01  # the model distinguishes words and images


@pytest.mark.parametrize("kind", IMAGE_KINDS)
def test_scores_do_not_depend_on_batch_or_other_words(kind: str) -> None:
    model, processor = tiny_contrastive(kind)
    together = VocabularyTagger(model, processor, WORDS, batch_size=3).scores(IMAGES)
    for index, image in enumerate(IMAGES):
        alone = VocabularyTagger(model, processor, WORDS[2:4], batch_size=1).scores([image])[0]
        assert alone == pytest.approx(together[index, 2:4], abs=1e-5)


@pytest.mark.parametrize("kind", IMAGE_KINDS)
def test_tags_are_the_words_above_the_threshold_best_first(kind: str) -> None:
    model, processor = tiny_contrastive(kind)
    scores = VocabularyTagger(model, processor, WORDS).scores(IMAGES)
    threshold = float(np.median(scores))
    tagged = VocabularyTagger(model, processor, WORDS, threshold=threshold).tag(IMAGES)
    for tags, row in zip(tagged, scores, strict=True):
        assert {tag for tag, _ in tags} == {word for word, score in zip(WORDS, row, strict=True) if score >= threshold}
        assert [score for _, score in tags] == sorted((score for _, score in tags), reverse=True)
        assert dict(tags) == pytest.approx({word: s for word, s in zip(WORDS, row, strict=True) if s >= threshold})


def test_tiles_take_the_best_of_all_views() -> None:
    model, processor = tiny_contrastive("siglip")
    image = IMAGES[0]
    tiled = VocabularyTagger(model, processor, WORDS, tiles=2).scores([image, IMAGES[1]])
    plain = VocabularyTagger(model, processor, WORDS)
    quarters = [image[top : top + 20, left : left + 30] for top in (0, 20) for left in (0, 30)]
    assert tiled[0] == pytest.approx(plain.scores([image, *quarters]).max(axis=0), abs=1e-5)
    speck = make_image(1, 1)
    assert VocabularyTagger(model, processor, WORDS, tiles=2).scores([speck])[0] == pytest.approx(
        plain.scores([speck])[0], abs=1e-5
    )


def test_given_embeddings_are_used() -> None:
    model, processor = tiny_contrastive("siglip")
    embeddings = embed_texts(model, processor, WORDS)
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(np.ones(len(WORDS)), abs=1e-5)
    turned = VocabularyTagger(model, processor, WORDS, embeddings[::-1].copy()).scores(IMAGES)
    assert turned == pytest.approx(VocabularyTagger(model, processor, WORDS).scores(IMAGES)[:, ::-1], abs=1e-6)


def test_many_words_are_embedded_in_parts() -> None:
    model, processor = tiny_contrastive("clip")
    words = [f"{first}{second}" for first in string.ascii_lowercase for second in string.ascii_lowercase][:150]
    whole = embed_texts(model, processor, words)
    assert whole.shape == (150, 24)
    assert whole[100] == pytest.approx(embed_texts(model, processor, words[100:101])[0], abs=1e-5)


@pytest.mark.parametrize("kind", IMAGE_KINDS)
def test_bad_vocabularies_are_one_line(kind: str) -> None:
    model, processor = tiny_contrastive(kind)
    with pytest.raises(OntologyError, match="vocabulary is empty"):
        VocabularyTagger(model, processor, ())
    with pytest.raises(OntologyError, match=r"aaa.*more tokens than the tagger reads \(48\)"):
        VocabularyTagger(model, processor, ("cat", "a" * 90))
    assert VocabularyTagger(model, processor, WORDS).tag([]) == []


def test_a_detector_names_what_it_finds(tmp_path: Any) -> None:
    write_checkpoint("mm_grounding_dino", tmp_path)
    detector = load_detector(ModelConfig(str(tmp_path), "", device="cpu", floor=0.01))
    words = ("red box", "blue car", "cat", "dog", "van", "tree", "bird", "boat")  # more than one caption
    tagged = DetectorTagger(detector, words, threshold=0.05).tag(IMAGES)
    assert any(tagged)
    for image, tags in zip(IMAGES, tagged, strict=True):
        best = detector.detect([image], [words])[0].scores.max(axis=0, initial=0.0)
        assert dict(tags) == pytest.approx({w: s for w, s in zip(words, best, strict=True) if s >= 0.05}, abs=1e-5)
        assert [score for _, score in tags] == sorted((score for _, score in tags), reverse=True)
    with pytest.raises(OntologyError, match="vocabulary is empty"):
        DetectorTagger(detector, ())
