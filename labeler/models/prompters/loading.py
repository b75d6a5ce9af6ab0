"""Loads the prompter of a run: the same classes for each image, tags as classes, or a tagger as a gate."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from labeler.errors import UsageError
from labeler.models.config import ModelConfig
from labeler.models.prompters.prompter import FixedPrompts, GatedPrompts, Prompter, TagPrompts
from labeler.models.taggers.config import DEFAULT_VOCABULARIES, TaggingConfig, no_detector
from labeler.models.taggers.loading import load_bare_tagger, load_tagger, with_long_captions
from labeler.models.taggers.on_device import tagger_on_device
from ontologies import Ontology
from ontologies.synonyms import same_words

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from labeler.models.detectors.detector import Detector


def load_prompter(
    tagging: TaggingConfig | None,
    ontology: Ontology | None,
    config: ModelConfig,
    detector: Detector | None,
    cache: AnyPath | None = None,
) -> Prompter:
    """What decides which prompts an image gets.

    Args:
        tagging: None gives each image the prompts of ``ontology``.
        ontology: the classes; None makes each image's tags its classes.
        detector: the detector that will get the prompts; None if any prompt fits.
        cache: see ``load_tagger``.

    Raises:
        UsageError: both ``tagging`` and ``ontology`` are None, the tagger cannot be a gate, it is the detector of a
            labeler without one, or a prompt is too long for the detector.
        ModelError, OntologyError: see ``load_tagger``.
    """
    if tagging and tagging.kind(config) == "detector" and detector is None:
        raise no_detector()
    if ontology is not None and detector is not None:
        detector.forward_passes(tuple(prompt for prompt, _ in ontology.prompts))  # raises before any image is read
    if tagging is None:
        if ontology is None:
            raise UsageError('say what to look for: --classes "dog, cat", --ontology FILE, or --tagger auto')
        return FixedPrompts(ontology)
    if ontology is not None:
        return _load_gate(tagging, ontology, config, detector, cache)

    def fits(tag: str) -> bool:
        try:
            return detector is None or detector.forward_passes((tag,)) > 0
        except UsageError:
            return False

    return TagPrompts(load_tagger(tagging, config, detector, cache), lru_cache(maxsize=100_000)(fits))


def _load_gate(
    tagging: TaggingConfig, ontology: Ontology, config: ModelConfig, detector: Detector | None, cache: AnyPath | None
) -> GatedPrompts:
    kind, threshold = tagging.kind(config), tagging.gate_below or 0.0
    if kind == "vlm" and threshold:
        raise UsageError("--gate-below: a vlm gives no scores; use --tagger vocabulary, detector or ram")
    prompts = tuple(prompt for spec in ontology.classes for prompt in spec.prompts)
    tagger = load_bare_tagger(replace(tagging, vocabulary=prompts, tag_score=0.0), config, detector, cache)
    tags_of = {prompt: [prompt] for prompt in prompts}
    if kind not in DEFAULT_VOCABULARIES:
        tags_of = same_words(prompts, getattr(tagger, "vocabulary", ()))
    forward_passes = detector.forward_passes if detector else lambda prompts: 1
    own_forward_passes = 0
    if kind == "detector" and detector:
        own_forward_passes = with_long_captions(detector).forward_passes(prompts)
    return GatedPrompts(
        tagger_on_device(tagger, config), ontology, threshold, tags_of, forward_passes, own_forward_passes
    )
