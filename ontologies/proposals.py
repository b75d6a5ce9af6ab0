"""Turns the tags of images into a proposed ontology, which the user edits.

    >>> counts = TagCounts()
    >>> counts.add("a.jpg", [("dog", 0.9), ("ball", 0.4)])
    >>> counts.add("b.jpg", [("dogs", 0.7)])
    >>> [(proposal.name, proposal.prompts, proposal.images) for proposal in propose(counts)]
    [('dog', ('dog', 'dogs'), 2), ('ball', ('ball',), 1)]

Tags are counted as they are spelled. ``propose`` groups them afterwards, so it can be called again with other synonyms.
"""

from __future__ import annotations

import heapq
import math
import os
import shlex
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import tomli_w

from ontologies.ontology import ClassSpec, Ontology, OntologyError
from ontologies.sources import write_toml
from ontologies.synonyms import classes_of, grouped, spelling_of

EXAMPLES = 3
"""The number of example images that a proposal names."""


class TagCounts:
    """Which images have which tags, with what score.

    Counts do not depend on the order of images, nor on how images were distributed over counters that are merged later.
    If an image is added again, only new tags count; of several scores of a tag, the highest counts. Memory: 12 bytes
    per tag and image, and each image id once.
    """

    def __init__(self) -> None:
        self._indices: dict[str, int] = {}
        self._image_ids: list[str] = []
        self._tags: dict[str, tuple[array[int], array[float]]] = {}  # tag -> indices of images, and their scores

    @property
    def images(self) -> int:
        """The number of images, including those without a tag."""
        return len(self._image_ids)

    def add(self, image_id: str, tags: Iterable[tuple[str, float]]) -> None:
        """Count the (tag, score) pairs of an image.

        Characters that are not allowed in prompts (``SEPARATORS``, control characters) and underscores become spaces.
        Tags that have no other characters are left out.

        Raises:
            OntologyError: a score is not a finite number.
        """
        index = self._index(image_id)
        for tag, score in tags:
            if not math.isfinite(score):
                raise OntologyError(f"{_printable(image_id)}: tag {tag!r} has the score {score}; expected a number")
            if spelling := spelling_of(tag):
                indices, scores = self._entry(spelling)
                indices.append(index)
                scores.append(score)

    def merge(self, other: TagCounts) -> None:
        """Add everything that ``other`` has counted."""
        new_index = [self._index(image_id) for image_id in other._image_ids]
        for spelling, (other_indices, other_scores) in list(other._tags.items()):
            indices, scores = self._entry(spelling)
            indices.extend([new_index[index] for index in other_indices])
            scores.extend(other_scores)

    def spellings(self) -> dict[str, int]:
        """For each tag, as it was spelled, the number of images that have it."""
        return {spelling: len(set(indices)) for spelling, (indices, _) in self._tags.items()}

    def scores(self, spellings: Iterable[str]) -> dict[str, float]:
        """Image id -> the highest score of any of these tags, for the images that have one."""
        best: dict[int, float] = {}
        for spelling in spellings:
            for index, score in zip(*self._tags[spelling], strict=True):
                best[index] = max(score, best.get(index, -math.inf))
        return {self._image_ids[index]: score for index, score in best.items()}

    def _index(self, image_id: str) -> int:
        index = self._indices.setdefault(image_id, len(self._image_ids))
        if index == len(self._image_ids):
            self._image_ids.append(image_id)
        return index

    def _entry(self, spelling: str) -> tuple[array[int], array[float]]:
        return self._tags.setdefault(spelling, (array("I"), array("d")))


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposed class.

    Attributes:
        name: the class name from the synonyms if there is one, otherwise the most frequent spelling.
        prompts: all spellings among the tags, the most frequent first.
        images: the number of images with any of these tags.
        mean_score: the mean over these images of the highest score of any of these tags.
        examples: ids of the ``EXAMPLES`` images with the highest scores.
    """

    name: str
    prompts: tuple[str, ...]
    images: int
    mean_score: float
    examples: tuple[str, ...]


def propose(
    counts: TagCounts,
    synonyms: Mapping[str, str] | None = None,
    min_tag_count: int = 1,
    max_classes: int | None = None,
) -> list[Proposal]:
    """Propose classes from tags, sorted by number of images, then mean score, then name.

    Tags that differ only in case, spaces, underscores or hyphens become one class. So do a singular and its English
    plural, if both occur among tags or synonyms.

    Args:
        counts: the tags.
        synonyms: word -> class, such as ``{"puppy": "dog"}``. A class may itself be a synonym of another class.
        min_tag_count: classes with fewer images are left out.
        max_classes: maximum number of classes; None for no limit.

    Raises:
        OntologyError: a limit is below 1, a synonym has two classes, or classes are synonyms of each other.
    """
    for limit, value in (("min_tag_count", min_tag_count), ("max_classes", max_classes)):
        if value is not None and value < 1:
            raise OntologyError(f"{limit} is {value}; it must be at least 1")
    frequency = counts.spellings()
    proposals = []
    for given_name, group in grouped(frequency, classes_of((synonyms or {}).items())):
        spellings = sorted(group, key=lambda spelling: (-frequency[spelling], spelling))
        scores = counts.scores(spellings)
        if len(scores) < min_tag_count:
            continue
        prompts: dict[str, str] = {}
        for spelling in spellings:
            prompts.setdefault(spelling.casefold(), spelling)
        best = heapq.nsmallest(EXAMPLES, scores.items(), key=lambda item: (-item[1], item[0]))
        proposals.append(
            Proposal(
                name=given_name or spellings[0],
                prompts=tuple(prompts.values()),
                images=len(scores),
                mean_score=math.fsum(scores.values()) / len(scores),  # fsum does not depend on the order
                examples=tuple(image_id for image_id, _ in best),
            )
        )
    proposals.sort(key=lambda proposal: (-proposal.images, -proposal.mean_score, proposal.name))
    return proposals[:max_classes]


def write_proposal(path: str | os.PathLike[str], proposals: Iterable[Proposal], images: int) -> None:
    """Write proposals as an ontology file, atomically, with the evidence for each class as a comment.

    ``read_ontology`` reads the file.

    Args:
        path: a name that ends in ``.toml``.
        proposals: the classes, in the order of their ids.
        images: the number of images that were tagged.

    Raises:
        OntologyError: there is no proposal, they are not a valid ontology, or the file cannot be written.
    """
    proposals = list(proposals)
    if not proposals:
        raise OntologyError(f"{path}: no class to propose from {images} images; tag more images, or lower the limits")
    Ontology(tuple(ClassSpec(proposal.name, proposal.prompts) for proposal in proposals))
    parts = [
        f"# Proposed from the tags of {images} images, the most frequent class first. Remove, rename, merge and add\n"
        "# classes and prompts as you like, then label:\n"
        f"#     labeler label IMAGES -o OUT --ontology {_printable(shlex.quote(os.fspath(path)))}\n"
    ]
    for proposal in proposals:
        examples = ", ".join(map(_printable, proposal.examples))
        table: dict[str, object] = {"name": proposal.name}
        if proposal.prompts != (proposal.name,):
            table["prompts"] = proposal.prompts
        parts.append(
            f"# in {proposal.images} of {images} images, mean score {proposal.mean_score:.2f}, e.g. {examples}\n"
            f"[[class]]\n{tomli_w.dumps(table)}"
        )
    write_toml(path, "\n".join(parts))


def _printable(text: str) -> str:
    """``text`` for a TOML comment, with characters that are not printable escaped."""
    return "".join(x if x.isprintable() else x.encode("unicode_escape").decode() for x in text)
