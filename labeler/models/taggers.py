"""Taggers by name, loaded, and what they are for in a run: automatic classes, or a gate before given ones."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labeler.errors import ModelError, UsageError
from labeler.files.storage import read_bytes, write_bytes
from labeler.models.checkpoints import load_checkpoint
from labeler.models.config import ModelConfig
from labeler.models.devices import cpu_threads, limit_threads, resolved_device, synchronizer
from labeler.models.identity import model_identity
from labeler.models.loading import load_detector
from labeler.models.prompters import FixedPrompts, GatedPrompts, Prompter, TagPrompts
from labeler.models.tagging import CONTRASTIVE, DEFAULT_VOCABULARIES, LANGUAGE_MODEL, TaggingConfig, vocabulary_model
from ontologies import Ontology
from ontologies.synonyms import same_words

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from labeler.models.detectors.detector import Detector
    from ontologies.taggers import Tagger


def load_prompter(
    tagging: TaggingConfig | None,
    ontology: Ontology | None,
    config: ModelConfig,
    detector: Detector | None,
    cache: AnyPath | None = None,
) -> Prompter:
    """What decides the prompts of an image.

    Args:
        tagging: None asks every image for ``ontology``.
        ontology: the classes; None lets every image propose its own.
        detector: what will be asked; None asks for anything.
        cache: a folder for what is computed once a vocabulary.

    Raises:
        ModelError: the tagger cannot be loaded.
        OntologyError: the vocabulary is empty, or a word is too long for the tagger.
    """
    if tagging is None:
        if ontology is None:
            raise UsageError('say what to look for: --classes "dog, cat", --ontology FILE, or --tagger auto')
        return FixedPrompts(ontology)
    if ontology is not None:
        return _gate(tagging, ontology, config, detector, cache)

    def fits(tag: str) -> bool:
        try:
            return detector is None or detector.forward_passes((tag,)) > 0
        except UsageError:
            return False

    return TagPrompts(load_tagger(tagging, config, detector, cache), lru_cache(maxsize=100_000)(fits))


def _gate(
    tagging: TaggingConfig, ontology: Ontology, config: ModelConfig, detector: Detector | None, cache: AnyPath | None
) -> GatedPrompts:
    kind, below = tagging.kind(config), tagging.gate_below or 0.0
    if kind == "vlm" and below:
        raise UsageError("--gate-below: a vlm gives no scores; take the tagger vocabulary, detector or ram")
    prompts = tuple(prompt for spec in ontology.classes for prompt in spec.prompts)
    tagger = _bare_tagger(replace(tagging, vocabulary=prompts, tag_score=0.0), config, detector, cache)
    tags_of = {prompt: [prompt] for prompt in prompts}
    if kind not in DEFAULT_VOCABULARIES:
        tags_of = same_words(prompts, getattr(tagger, "vocabulary", ()))
    forward_passes = detector.forward_passes if detector else lambda prompts: 1
    own_forward_passes = _sweeping(detector).forward_passes(prompts) if kind == "detector" and detector else 0
    return GatedPrompts(_guarded(tagger, config), ontology, below, tags_of, forward_passes, own_forward_passes)


def load_tagger(
    tagging: TaggingConfig, config: ModelConfig, detector: Detector | None, cache: AnyPath | None = None
) -> Tagger:
    """The tagger that ``tagging`` names; on a CPU it takes images one by one, so that its bits never change."""
    return _guarded(_bare_tagger(tagging, config, detector, cache), config)


def _guarded(tagger: Tagger, config: ModelConfig) -> Tagger:
    from labeler.models.labelers.devices import DeviceCheckedTagger, SingleImageTagger

    device = resolved_device(config.device)
    if device == "cpu":
        return SingleImageTagger(tagger, cpu_threads(config), limit_threads)
    return DeviceCheckedTagger(tagger, synchronizer(device)) if device.startswith("cuda") else tagger


def _bare_tagger(
    tagging: TaggingConfig, config: ModelConfig, detector: Detector | None, cache: AnyPath | None
) -> Tagger:
    kind = tagging.kind(config)
    if kind == "detector":
        from ontologies.taggers.detector import DetectorTagger

        if detector is None:
            detector = load_detector(config)
        return DetectorTagger(_sweeping(detector), tagging.vocabulary, tagging.least_score(config))
    if kind == "vocabulary":
        return _vocabulary_tagger(tagging, config, cache)
    if kind == "vlm":
        return _language_tagger(tagging, config)
    from ontologies.taggers.ram import load_ram

    if tagging.tagger_model is None:
        raise UsageError("--tagger ram needs --tagger-model FILE, one of its authors' checkpoints")
    return load_ram(
        tagging.tagger_model, ram_kind(tagging.tagger_model), resolved_device(config.device), config.batch_size
    )


def _sweeping(detector: Detector) -> Detector:
    """``detector`` with as many words in a forward as fit: who only tags looks for no single one closely."""
    from labeler.models.detectors.grounding_dino import GroundingDinoDetector

    if isinstance(detector, GroundingDinoDetector):
        return GroundingDinoDetector(detector.model, detector.processor, detector.runtime)
    return detector


def ram_kind(checkpoint: str) -> str:
    """RAM++, RAM or Tag2Text, by the name that the authors gave the file."""
    name = Path(checkpoint).name.casefold()
    return "tag2text" if "tag2text" in name else "ram_plus" if "plus" in name else "ram"


def _language_tagger(tagging: TaggingConfig, config: ModelConfig) -> Tagger:
    from ontologies.taggers.language import LanguageTagger

    source = tagging.tagger_model or LANGUAGE_MODEL
    model, processor, runtime = load_checkpoint(source, "tagger-model", "AutoModelForImageTextToText", None, config)
    return LanguageTagger(model, processor, batch_size=runtime.batch_size, autocast=runtime.autocast)


def _vocabulary_tagger(tagging: TaggingConfig, config: ModelConfig, cache: AnyPath | None) -> Tagger:
    from ontologies.taggers.vocabulary import TEMPLATE, VocabularyTagger, embed_texts

    source = tagging.tagger_model or vocabulary_model(config)
    try:
        model, processor, runtime = load_checkpoint(source, "tagger-model", "AutoModel", CONTRASTIVE, config)
    except ModelError as error:
        if tagging.tagger_model is None:
            raise ModelError(f"{error}; or take --tagger detector, which needs no model of its own") from error
        raise

    def embed() -> NDArray[np.float32]:
        with ThreadPoolExecutor(1, initializer=limit_threads) as alone:  # the same bits on any number of cores
            return alone.submit(embed_texts, model, processor, tagging.vocabulary).result()

    of_what = "\n".join((model_identity(source), TEMPLATE, *tagging.vocabulary))
    name = f"{hashlib.sha256(of_what.encode()).hexdigest()[:32]}.npy"
    embeddings = _kept(cache / name, embed, len(tagging.vocabulary)) if cache else embed()
    return VocabularyTagger(
        model,
        processor,
        tagging.vocabulary,
        embeddings,
        tagging.least_score(config),
        tagging.tag_tiles,
        runtime.batch_size,
        runtime.autocast,
    )


def _kept(path: AnyPath, compute: Callable[[], NDArray[np.float32]], rows: int) -> NDArray[np.float32]:
    """The array of ``rows`` rows in a file; computed and put there first if it is missing or damaged."""
    with suppress(FileNotFoundError, ValueError, EOFError, MemoryError):  # MemoryError: a header that lies
        found: NDArray[np.float32] = np.load(io.BytesIO(read_bytes(path)), allow_pickle=False)
        if found.dtype == np.float32 and found.ndim == 2 and len(found) == rows and np.isfinite(found).all():
            return found
    buffer = io.BytesIO()
    np.save(buffer, computed := compute())
    write_bytes(path, buffer.getvalue())
    return computed
