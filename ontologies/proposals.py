"""From the tags of images to an ontology that a user edits.

    >>> counts = TagCounts()
    >>> counts.add("a.jpg", [("dog", 0.9), ("ball", 0.4)])
    >>> counts.add("b.jpg", [("dogs", 0.7)])
    >>> [(found.name, found.prompts, found.images) for found in propose(counts)]
    [('dog', ('dog', 'dogs'), 2), ('ball', ('ball',), 1)]

Tags are counted as they come; which of them mean the same is decided afterwards, as often as one likes.
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
"""How many images a proposal names."""


class TagCounts:
    """Which images have which tags, and how surely.

    Neither the order of images nor how they are spread over counters that are merged later changes a proposal. An image
    given again adds only what is new; of several scores for one tag the highest counts. A tag takes 12 bytes an image,
    an image as much as its id.
    """

    def __init__(self) -> None:
        self._positions: dict[str, int] = {}
        self._image_ids: list[str] = []
        self._tags: dict[str, tuple[array[int], array[float]]] = {}  # the images' positions, and the scores there

    @property
    def images(self) -> int:
        """The number of images, those without a tag among them."""
        return len(self._image_ids)

    def add(self, image_id: str, tags: Iterable[tuple[str, float]]) -> None:
        """Count the (tag, score) pairs of an image.

        What no prompt may hold (``SEPARATORS``, control characters) and underscores count as spaces; a tag of nothing
        else is left out.

        Raises:
            OntologyError: a score is not a finite number.
        """
        position = self._position(image_id)
        for tag, score in tags:
            if not math.isfinite(score):
                raise OntologyError(f"{_printable(image_id)}: tag {tag!r} has the score {score}; expected a number")
            if spelling := spelling_of(tag):
                positions, scores = self._entry(spelling)
                positions.append(position)
                scores.append(score)

    def merge(self, other: TagCounts) -> None:
        """Add all that ``other`` has counted."""
        moved = [self._position(image_id) for image_id in other._image_ids]
        for spelling, (theirs, their_scores) in list(other._tags.items()):
            positions, scores = self._entry(spelling)
            positions.extend([moved[position] for position in theirs])
            scores.extend(their_scores)

    def spellings(self) -> dict[str, int]:
        """The number of images that have each tag, as it was spelled."""
        return {spelling: len(set(positions)) for spelling, (positions, _) in self._tags.items()}

    def scores(self, spellings: Iterable[str]) -> dict[str, float]:
        """By image id, the highest score of any of these tags, for the images that have one."""
        best: dict[int, float] = {}
        for spelling in spellings:
            for position, score in zip(*self._tags[spelling], strict=True):
                best[position] = max(score, best.get(position, -math.inf))
        return {self._image_ids[position]: score for position, score in best.items()}

    def _position(self, image_id: str) -> int:
        position = self._positions.setdefault(image_id, len(self._image_ids))
        if position == len(self._image_ids):
            self._image_ids.append(image_id)
        return position

    def _entry(self, spelling: str) -> tuple[array[int], array[float]]:
        return self._tags.setdefault(spelling, (array("I"), array("d")))


@dataclass(frozen=True, slots=True)
class Proposal:
    """A class that the tags of images speak for.

    Attributes:
        name: the user's own word for it, where the synonyms have one, else the most frequent spelling.
        prompts: every spelling that was met, the most frequent first.
        images: how many images have any of them.
        mean_score: the mean of those images' scores, the highest spelling's in each.
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
    """The classes that tags speak for: most images first, then by mean score, then by name.

    Spellings that differ by case, spaces, underscores or hyphens are one class, and so are a singular and its English
    plural where both were met (or stand among the synonyms).

    Args:
        counts: the tags.
        synonyms: the class of a word, as ``{"puppy": "dog"}``; a class may be a synonym of another in turn.
        min_tag_count: leave out what fewer images have.
        max_classes: at most so many classes; None for all.

    Raises:
        OntologyError: a limit is below 1, a synonym has two classes, or classes are each other's synonyms.
    """
    for limit, value in (("min_tag_count", min_tag_count), ("max_classes", max_classes)):
        if value is not None and value < 1:
            raise OntologyError(f"{limit} is {value}; it must be at least 1")
    frequency = counts.spellings()
    proposals = []
    for given_name, found in grouped(frequency, classes_of((synonyms or {}).items())):
        spellings = sorted(found, key=lambda spelling: (-frequency[spelling], spelling))
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
                mean_score=math.fsum(scores.values()) / len(scores),  # exact, so that no order shows
                examples=tuple(image_id for image_id, _ in best),
            )
        )
    proposals.sort(key=lambda proposal: (-proposal.images, -proposal.mean_score, proposal.name))
    return proposals[:max_classes]


def write_proposal(path: str | os.PathLike[str], proposals: Iterable[Proposal], images: int) -> None:
    """Write an ontology file that ``read_ontology`` reads, with what speaks for each class as a comment.

    The file is there whole or not at all.

    Args:
        path: a name that ends in ``.toml``.
        proposals: the classes, in the order of their ids.
        images: how many images were tagged.

    Raises:
        OntologyError: there is no proposal, they make no valid ontology, or the file cannot be written.
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
    """``text`` in one line of TOML comment, whatever characters it has."""
    return "".join(x if x.isprintable() else x.encode("unicode_escape").decode() for x in text)
