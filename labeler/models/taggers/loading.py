"""Loads the tagger that a ``TaggingConfig`` describes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from labeler.errors import UsageError
from labeler.models.checkpoints import load_checkpoint
from labeler.models.config import ModelConfig
from labeler.models.devices import resolved_device
from labeler.models.loading import load_detector
from labeler.models.taggers.config import LANGUAGE_MODEL, TaggingConfig
from labeler.models.taggers.on_device import tagger_on_device
from labeler.models.taggers.vocabulary import load_vocabulary_tagger

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from labeler.models.detectors.detector import Detector
    from ontologies.taggers import Tagger


def load_tagger(
    tagging: TaggingConfig, config: ModelConfig, detector: Detector | None, cache: AnyPath | None = None
) -> Tagger:
    """The tagger that ``tagging`` describes, wrapped for its device.

    Args:
        detector: the run's detector, which the tagger ``detector`` uses; None to load it if needed.
        cache: a folder for text embeddings, computed once per vocabulary; None computes them each time.

    Raises:
        ModelError: the tagger's model cannot be loaded.
        OntologyError: the vocabulary is empty, or one of its words has too many tokens for the tagger.
    """
    return tagger_on_device(load_bare_tagger(tagging, config, detector, cache), config)


def load_bare_tagger(
    tagging: TaggingConfig, config: ModelConfig, detector: Detector | None, cache: AnyPath | None
) -> Tagger:
    """As ``load_tagger``, but not wrapped."""
    kind = tagging.kind(config)
    if kind == "detector":
        from ontologies.taggers.detector import DetectorTagger

        detector = with_long_captions(detector or load_detector(config))
        return DetectorTagger(detector, tagging.vocabulary, tagging.threshold(config))
    if kind == "vocabulary":
        return load_vocabulary_tagger(tagging, config, cache)
    if kind == "vlm":
        return _load_language_tagger(tagging, config)
    from ontologies.taggers.ram import load_ram

    checkpoint = tagging.tagger_model
    if checkpoint is None:
        raise UsageError("--tagger ram needs --tagger-model FILE, a checkpoint published by RAM's authors")
    return load_ram(checkpoint, ram_kind(checkpoint), resolved_device(config.device), config.images_per_pass)


def with_long_captions(detector: Detector) -> Detector:
    """``detector`` with as many prompts per forward pass as it reads.

    Fewer prompts per pass find more objects, but tagging needs only one box per word.
    """
    from labeler.models.detectors.grounding_dino import GroundingDinoDetector

    if isinstance(detector, GroundingDinoDetector):
        model, score = detector.model, detector.prompt_score
        return GroundingDinoDetector(model, detector.processor, detector.runtime, prompt_score=score)
    return detector


def ram_kind(checkpoint: str) -> str:
    """``ram_plus``, ``ram`` or ``tag2text``, by the file name that the authors gave to the checkpoint."""
    name = Path(checkpoint).name.casefold()
    return "tag2text" if "tag2text" in name else "ram_plus" if "plus" in name else "ram"


def _load_language_tagger(tagging: TaggingConfig, config: ModelConfig) -> Tagger:
    from ontologies.taggers.language import LanguageTagger

    source = tagging.tagger_model or LANGUAGE_MODEL
    model, processor, runtime = load_checkpoint(source, "tagger-model", "AutoModelForImageTextToText", None, config)
    return LanguageTagger(model, processor, batch_size=runtime.batch_size, autocast=runtime.autocast)
