"""Taggers by name, loaded, and what they are for in a run: automatic classes, or a gate before given ones."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labeler.checkpoints import (
    CHECKPOINT_FILES,
    EMBEDDED,
    is_on_this_machine,
    load_checkpoint,
    may_fetch,
    model_identity,
    resolved_device,
)
from labeler.demo.scenes import PAIRS, class_name
from labeler.errors import ModelError, UsageError
from labeler.models import PRESETS, ModelConfig, cpu_threads, limit_threads, load_detector, synchronizer
from labeler.storage import read_bytes, write_bytes
from labeler.tagging import FixedPrompts, GatedPrompts, Prompter, TagPrompts
from ontologies import Ontology
from ontologies.synonyms import same_words
from ontologies.vocabularies import read_vocabulary

if TYPE_CHECKING:
    from labeler.detectors import Detector
    from labeler.storage import AnyPath
    from ontologies.taggers import Tagger

TAGGERS = ("auto", "vocabulary", "ram", "vlm", "detector")
# By the preset's detector; for any other that of ``balanced``.
VOCABULARY_MODELS = {
    PRESETS["fast"].detector: "google/siglip2-base-patch16-224",
    PRESETS["balanced"].detector: "google/siglip2-base-patch16-384",
    PRESETS["best"].detector: "google/siglip2-so400m-patch14-384",
}
LANGUAGE_MODEL = "florence-community/Florence-2-base"
CONTRASTIVE = ("siglip", "siglip2", "clip")
DEFAULT_VOCABULARIES = {"vocabulary": "lvis", "detector": "coco"}  # a detector pays for every word
TAG_SCORES = {"vocabulary": 0.1, "detector": 0.3}  # the others have thresholds of their own, or none
TAG_FLOORS = {"vocabulary": 0.01, "detector": 0.1}  # where tags are kept for a threshold to be chosen later
# What can be set of each kind, beside the kind.
FLAGS = {
    "vocabulary": ("tagger_model", "vocabulary", "tag_score", "tag_tiles"),
    "detector": ("vocabulary", "tag_score"),
    "ram": ("tagger_model",),
    "vlm": ("tagger_model",),
}


@dataclass(frozen=True)
class TaggingConfig:
    """Who tags, and what for.

    Attributes:
        tagger: one of ``TAGGERS``; ``auto`` is what ``tagger_model`` is, else ``vocabulary``, or the detector itself
            where that is embedded or nothing else can be had offline.
        tagger_model: hub id or folder; for ``ram`` the checkpoint file.
        vocabulary: words that ``vocabulary`` and ``detector`` choose from.
        tag_score: tags below are dropped; None for the kind's own threshold.
        tag_tiles: 2 lets ``vocabulary`` look at the quarters of an image too.
        gate_below: with classes given, one is asked for only in images where the tagger scores it so high.
    """

    tagger: str = "auto"
    tagger_model: str | None = None
    vocabulary: tuple[str, ...] = ()
    tag_score: float | None = None
    tag_tiles: int = 1
    gate_below: float | None = None

    def __post_init__(self) -> None:
        if self.tagger not in TAGGERS:
            raise UsageError(f"--tagger must be one of {', '.join(TAGGERS)}, not {self.tagger!r}")
        for flag, value in (("--tag-score", self.tag_score), ("--gate-below", self.gate_below)):
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"{flag} must be from 0 to 1, not {value}")
        if self.tag_tiles not in (1, 2, 3, 4):
            raise UsageError(f"--tag-tiles must be from 1 to 4, not {self.tag_tiles}")

    def source(self, model: ModelConfig) -> str | None:
        """Hub id, folder or file of the tagger's model; None if it is the detector."""
        defaults = {"vocabulary": _vocabulary_model(model), "vlm": LANGUAGE_MODEL}
        return self.tagger_model or defaults.get(self.kind(model))

    def kind(self, model: ModelConfig) -> str:
        """The tagger, where ``auto`` is what ``tagger_model`` is, else what suits the models and can be had."""
        if self.tagger != "auto":
            return self.tagger
        if self.tagger_model is not None:
            return _kind_of(self.tagger_model)
        if model.detector.startswith(EMBEDDED):
            return "detector"
        if not may_fetch() and not is_on_this_machine(_vocabulary_model(model)):
            return "detector"
        return "vocabulary"

    def least_score(self, model: ModelConfig) -> float:
        """The score that a tag must have."""
        return TAG_SCORES.get(self.kind(model), 0.0) if self.tag_score is None else self.tag_score


def _vocabulary_model(model: ModelConfig) -> str:
    return VOCABULARY_MODELS.get(model.detector, VOCABULARY_MODELS[PRESETS["balanced"].detector])


def _kind_of(tagger_model: str) -> str:
    """What a checkpoint is of: RAM's are single files, others tell in their configuration, if it is here."""
    if Path(tagger_model).suffix in CHECKPOINT_FILES:
        return "ram"
    try:
        content = json.loads((Path(tagger_model).expanduser() / "config.json").read_bytes())
    except (OSError, ValueError):
        return "vocabulary"
    is_contrastive = not isinstance(content, dict) or content.get("model_type", "siglip") in CONTRASTIVE
    return "vocabulary" if is_contrastive else "vlm"


def vocabulary_for(tagging: TaggingConfig, model: ModelConfig, source: str | None) -> tuple[str, ...]:
    """The words that the tagger chooses from; none for one that has words of its own.

    Args:
        source: a list of ``ontologies.vocabularies`` or a file; None for what suits the model.

    Raises:
        OntologyError: there is no such list, or it is empty.
    """
    kind = tagging.kind(model)
    if kind not in DEFAULT_VOCABULARIES:
        if source is not None:
            raise UsageError(f"--vocabulary: the tagger {kind} has words of its own; leave it out")
        return ()
    if source is None and model.detector.startswith(EMBEDDED):
        return tuple(class_name(pair) for pair in PAIRS)
    return read_vocabulary(source or DEFAULT_VOCABULARIES[kind])


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
            return detector is None or detector.forwards((tag,)) > 0
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
    forwards = detector.forwards if detector else lambda prompts: 1
    own_forwards = _sweeping(detector).forwards(prompts) if kind == "detector" and detector else 0
    return GatedPrompts(_guarded(tagger, config), ontology, below, tags_of, forwards, own_forwards)


def load_tagger(
    tagging: TaggingConfig, config: ModelConfig, detector: Detector | None, cache: AnyPath | None = None
) -> Tagger:
    """The tagger that ``tagging`` names; on a CPU it takes images one by one, so that its bits never change."""
    return _guarded(_bare_tagger(tagging, config, detector, cache), config)


def _guarded(tagger: Tagger, config: ModelConfig) -> Tagger:
    from labeler.labelers import DeviceCheckedTagger, SingleImageTagger

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
    from labeler.detectors import GroundingDinoDetector

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

    source = tagging.tagger_model or _vocabulary_model(config)
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
