"""Prompters decide which prompts an image gets: all classes, its own tags, or the classes that a tagger lets through.

A prompter is anything with ``prompts_for``. Its prompts go to a labeler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from labeler.errors import LabelerError
from ontologies import ClassSpec, Ontology, OntologyError
from ontologies.synonyms import spelling_of

if TYPE_CHECKING:
    from labeler.models.detectors.detector import Image
    from ontologies.taggers import Tagger, Tags

MAX_TAGS_PER_IMAGE = 100  # the best ones are kept


@dataclass(frozen=True)
class ImagePrompts:
    """The prompts of one image.

    Attributes:
        ontology: the classes to look for; None for none.
        class_ids: for each class of ``ontology``, its class id in the record.
        tags: the image's tags, if a tagger ran.
        note: why tagging failed, on one line; empty if it did not.
        forward_passes: of the detector for this image, including those that the gate takes; 0 without a gate.
        ungated: the forward passes that all classes would take; 0 without a gate.
    """

    ontology: Ontology | None
    class_ids: tuple[int, ...]
    tags: Tags = field(default_factory=list)
    note: str = ""
    forward_passes: int = 0
    ungated: int = 0


class Prompter(Protocol):
    """Decides which prompts an image gets."""

    def prompts_for(self, images: Sequence[Image]) -> list[ImagePrompts]:
        """The prompts of each image; images are uint8 ``(H, W, 3)``, RGB, of any sizes."""
        ...

    @property
    def unparsed(self) -> int:
        """How many answers of a language model contained no readable tag so far."""
        ...


@dataclass(frozen=True)
class FixedPrompts:
    """Gives every image the same classes."""

    ontology: Ontology

    def prompts_for(self, images: Sequence[Image]) -> list[ImagePrompts]:
        return [ImagePrompts(self.ontology, tuple(range(len(self.ontology.classes))))] * len(images)

    @property
    def unparsed(self) -> int:
        return 0


@dataclass(frozen=True)
class TagPrompts:
    """Makes each image's tags its classes; a class's id in the record is the index of its tag.

    Attributes:
        fits: whether the detector can take a tag as a prompt. Tags that do not fit are kept, but not looked for.
    """

    tagger: Tagger
    fits: Callable[[str], bool]

    def prompts_for(self, images: Sequence[Image]) -> list[ImagePrompts]:
        return [self._prompts(_as_prompts(tags), note) for tags, note in tag_each(self.tagger, images)]

    @property
    def unparsed(self) -> int:
        return getattr(self.tagger, "unparsed", 0)

    def _prompts(self, tags: Tags, note: str) -> ImagePrompts:
        fitting = [index for index, (tag, _) in enumerate(tags) if self.fits(tag)]
        ontology = Ontology(tuple(ClassSpec(tags[index][0]) for index in fitting)) if fitting else None
        return ImagePrompts(ontology, tuple(fitting), tags, note)


@dataclass(frozen=True)
class GatedPrompts:
    """Leaves out the classes that a tagger does not see in an image: all their prompts score below ``threshold``.

    An image that cannot be tagged gets all classes.

    Attributes:
        tagger: a tag that it does not return for an image counts as score 0.
        threshold: in [0, 1].
        tags_of: for each prompt, the tags that mean the same. A prompt without such a tag is always kept.
        forward_passes: the number of forward passes of the detector for some prompts.
        own_forward_passes: the forward passes of the detector that the tagger itself takes per image.
    """

    tagger: Tagger
    ontology: Ontology
    threshold: float
    tags_of: Mapping[str, Sequence[str]]
    forward_passes: Callable[[tuple[str, ...]], int]
    own_forward_passes: int = 0

    def prompts_for(self, images: Sequence[Image]) -> list[ImagePrompts]:
        return [self._prompts(tags, note) for tags, note in tag_each(self.tagger, images)]

    @property
    def unparsed(self) -> int:
        return getattr(self.tagger, "unparsed", 0)

    def _prompts(self, tags: Tags, note: str) -> ImagePrompts:
        scores = {tag.casefold(): score for tag, score in tags}
        kept = [
            class_id
            for class_id, spec in enumerate(self.ontology.classes)
            if note or any(self._is_kept(prompt, scores) for prompt in spec.prompts)
        ]
        ontology = Ontology(tuple(self.ontology.classes[i] for i in kept), self.ontology.distractors) if kept else None
        forward_passes = self._forward_passes(ontology) + self.own_forward_passes
        return ImagePrompts(ontology, tuple(kept), tags, note, forward_passes, self._forward_passes(self.ontology))

    def _is_kept(self, prompt: str, scores: Mapping[str, float]) -> bool:
        tags = self.tags_of.get(prompt, ())
        return not tags or max(scores.get(tag.casefold(), 0.0) for tag in tags) >= self.threshold

    def _forward_passes(self, ontology: Ontology | None) -> int:
        return self.forward_passes(tuple(prompt for prompt, _ in ontology.prompts)) if ontology else 0


def _as_prompts(tags: Tags) -> Tags:
    """The best ``MAX_TAGS_PER_IMAGE`` tags, spelled as prompts, without duplicates."""
    kept: dict[str, tuple[str, float]] = {}
    for tag, score in tags:
        if spelling := spelling_of(tag):
            kept.setdefault(spelling.casefold(), (spelling, score))
    return list(kept.values())[:MAX_TAGS_PER_IMAGE]


def tag_each(tagger: Tagger, images: Sequence[Image]) -> list[tuple[Tags, str]]:
    """Tags and note of each image.

    If the tagger fails on a batch, halves of it are tried, down to the single image that causes the failure. That image
    gets no tags, and the error as its note.
    """
    if not images:
        return []
    try:
        return [(tags, "") for tags in tagger.tag(images)]
    except (LabelerError, OntologyError):
        raise  # caused by the settings, not by an image
    except Exception as error:
        if len(images) == 1:
            return [([], " ".join(f"tagging failed: {type(error).__name__}: {error}".split()))]
    middle = len(images) // 2
    return tag_each(tagger, images[:middle]) + tag_each(tagger, images[middle:])
