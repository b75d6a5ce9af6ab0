"""What each image is asked for: the same classes, its own tags, or those classes that a tagger does not rule out.

A prompter is anything with ``prompts_for``; it stands before a labeler.
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

TAGS_A_IMAGE = 100  # asked for and kept, the best ones


@dataclass(frozen=True)
class ImagePrompts:
    """What one image is asked for.

    Attributes:
        ontology: its classes; None if there is nothing to ask for.
        class_ids: what the classes of ``ontology`` are numbered in the record.
        tags: as the tagger gave them.
        note: one line on what went wrong with the tags; empty if nothing did.
        forward_passes: of the detector, with a gate before it; those that the gate itself takes are among them.
        ungated: forward passes that the image would take without.
    """

    ontology: Ontology | None
    class_ids: tuple[int, ...]
    tags: Tags = field(default_factory=list)
    note: str = ""
    forward_passes: int = 0
    ungated: int = 0


class Prompter(Protocol):
    def prompts_for(self, images: Sequence[Image]) -> list[ImagePrompts]:
        """What to ask of each image; uint8 ``(H, W, 3)``, RGB, of any sizes."""
        ...

    @property
    def unparsed(self) -> int:
        """Answers of a language model so far that no tag could be read from."""
        ...


@dataclass(frozen=True)
class FixedPrompts:
    """The same classes for every image."""

    ontology: Ontology

    def prompts_for(self, images: Sequence[Image]) -> list[ImagePrompts]:
        return [ImagePrompts(self.ontology, tuple(range(len(self.ontology.classes))))] * len(images)

    @property
    def unparsed(self) -> int:
        return 0


@dataclass(frozen=True)
class TagPrompts:
    """Every image is asked for its own tags; a class is numbered by its place among these.

    Attributes:
        fits: whether the detector can be asked for a tag; others are kept as tags and not asked for.
    """

    tagger: Tagger
    fits: Callable[[str], bool]

    def prompts_for(self, images: Sequence[Image]) -> list[ImagePrompts]:
        return [self._prompts(_cleaned(tags), note) for tags, note in tag_each(self.tagger, images)]

    @property
    def unparsed(self) -> int:
        return getattr(self.tagger, "unparsed", 0)

    def _prompts(self, tags: Tags, note: str) -> ImagePrompts:
        asked = [index for index, (tag, _) in enumerate(tags) if self.fits(tag)]
        ontology = Ontology(tuple(ClassSpec(tags[index][0]) for index in asked)) if asked else None
        return ImagePrompts(ontology, tuple(asked), tags, note)


@dataclass(frozen=True)
class GatedPrompts:
    """A class is asked for unless the tagger rules it out: unless all of its prompts score below ``below``.

    Where the tagger fails, everything is asked for.

    Attributes:
        tagger: what it can name and does not scores 0.
        tags_of: for each prompt, the tags that speak for it; none if the tagger cannot tell, so never rules it out.
        forward_passes: how many of the detector some prompts take.
        own_forward_passes: of the detector, that the tagger takes for an image.
    """

    tagger: Tagger
    ontology: Ontology
    below: float
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
            if note or any(self._may_be_there(prompt, scores) for prompt in spec.prompts)
        ]
        ontology = Ontology(tuple(self.ontology.classes[i] for i in kept), self.ontology.distractors) if kept else None
        forward_passes = self._forwards(ontology) + self.own_forward_passes
        return ImagePrompts(ontology, tuple(kept), tags, note, forward_passes, self._forwards(self.ontology))

    def _may_be_there(self, prompt: str, scores: Mapping[str, float]) -> bool:
        tags = self.tags_of.get(prompt, ())
        return not tags or max(scores.get(tag.casefold(), 0.0) for tag in tags) >= self.below

    def _forwards(self, ontology: Ontology | None) -> int:
        return self.forward_passes(tuple(prompt for prompt, _ in ontology.prompts)) if ontology else 0


def _cleaned(tags: Tags) -> Tags:
    """As prompts may spell them, each once, the best ``TAGS_A_IMAGE``."""
    kept: dict[str, tuple[str, float]] = {}
    for tag, score in tags:
        if spelling := spelling_of(tag):
            kept.setdefault(spelling.casefold(), (spelling, score))
    return list(kept.values())[:TAGS_A_IMAGE]


def tag_each(tagger: Tagger, images: Sequence[Image]) -> list[tuple[Tags, str]]:
    """Tags and note of each image; what a tagger raises on is narrowed down to the image that is to blame."""
    if not images:
        return []
    try:
        return [(tags, "") for tags in tagger.tag(images)]
    except (LabelerError, OntologyError):
        raise  # wrong settings: no image is to blame
    except Exception as error:
        if len(images) == 1:
            return [([], " ".join(f"tagging failed: {type(error).__name__}: {error}".split()))]
    middle = len(images) // 2
    return tag_each(tagger, images[:middle]) + tag_each(tagger, images[middle:])
