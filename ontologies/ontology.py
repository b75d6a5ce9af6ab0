"""Ontologies: classes, the prompts that find them, and distractors, which must not be labeled.

    >>> ontology = Ontology.from_text("golden retriever=dog, puppy=dog, cat")
    >>> ontology.class_names
    ('dog', 'cat')
    >>> ontology.prompts
    (('golden retriever', 0), ('puppy', 0), ('cat', 1))

This module imports no model library, and no other package of this project.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

DISTRACTOR = -1
"""The class id of distractors."""

SEPARATORS = ".?\n\r"
"""Characters at which Grounding DINO ends a phrase. No prompt may contain one."""

# Words that negate. Not matched: notebook, casino, forget-me-not.
_NEGATION = re.compile(
    r"(?<![\w-])(?:without\b|(?<!\bme )not\b|non[-\u2010\u2011](?=\w))"
    r"|(?:^|\b(?:with|has|having|wearing|and|or|but) )no[- ](?=\w)",
    re.IGNORECASE,
)
# A "no parking sign" is not a negation.
_NEGATIVE_SIGN = re.compile(r"\b(?:signs?|symbols?|stickers?)\b", re.IGNORECASE)


class OntologyError(ValueError):
    """An ontology is not valid, or cannot be read. The message is one line: what is wrong, where, what to do."""


class OntologyWarning(UserWarning):
    """An ontology is valid, but will probably not find what its author intends."""


@dataclass(frozen=True, slots=True)
class ClassSpec:
    """One class of the dataset.

    Whitespace in names and prompts is stripped and collapsed. Case is kept; the models ignore it.

    Attributes:
        name: the class name in the dataset.
        prompts: texts for the detector, each of which finds the class; ``(name,)`` if none are given.
        min_score: minimum detector score for this class, in [0, 1]; None for the general ``min_score``.
        removed: the class was taken out of a dataset, where its id stays its own. Its prompts are not asked.
        former_names: what the class was called before it was renamed.

    Raises:
        OntologyError: a name or prompt is blank, is not text or contains control characters, a prompt contains one of
            ``SEPARATORS``, or ``min_score`` is not a number in [0, 1].
    """

    name: str
    prompts: tuple[str, ...] = ()
    min_score: float | None = None
    removed: bool = False
    former_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        name = clean_text(self.name, "a class name")
        given = _tuple(self.prompts, f"class {name!r}: prompts") or (self.name,)
        prompts = tuple(clean_prompt(prompt, f"class {name!r}: a prompt") for prompt in given)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "prompts", prompts)
        if self.min_score is not None:
            object.__setattr__(self, "min_score", _share(self.min_score, f"class {name!r}: min_score"))


@dataclass(frozen=True, slots=True)
class Ontology:
    """The classes to label, and the distractors.

    Attributes:
        classes: at least one. The id of a class is its index.
        distractors: prompts for objects that are similar to those of a class, but must not be labeled. A box that fits
            a distractor better than any class is dropped.

    Raises:
        OntologyError: there is no class, two classes have the same name, or a prompt is given twice (in one class, in
            two classes or as a distractor). Case and spacing are ignored in these comparisons.

    Warns:
        OntologyWarning: a prompt contains a negation ("person without helmet"), which detectors ignore.
    """

    classes: tuple[ClassSpec, ...]
    distractors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        classes = _tuple(self.classes, "classes")
        if not classes:
            raise OntologyError("the ontology has no class; name at least one")
        for item in classes:
            if not isinstance(item, ClassSpec):
                raise OntologyError(
                    f"classes must contain ClassSpec, not {type(item).__name__}; write ClassSpec('dog')"
                )
        distractors = tuple(clean_prompt(text, "a distractor") for text in _tuple(self.distractors, "distractors"))
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "distractors", distractors)
        self._reject_repeats()
        for prompt, _ in self.prompts:
            words = prompt.replace("_", " ")
            if _NEGATION.search(words) and not _NEGATIVE_SIGN.search(words):
                warnings.warn(
                    f"prompt {prompt!r}: detectors ignore negation and look for all of its words; "
                    "name only what is visible, and list what must not be labeled as a distractor",
                    OntologyWarning,
                    stacklevel=3,  # the caller of the generated __init__
                )

    def _reject_repeats(self) -> None:
        names: dict[str, str] = {}
        for name in self.class_names:
            if (key := name.casefold()) in names:
                raise OntologyError(f"two classes are named {names[key]!r} and {name!r}; merge them, or rename one")
            names[key] = name
        owners: dict[str, str] = {}
        for prompt, class_id in self.prompts:
            owner = "the distractors" if class_id == DISTRACTOR else f"class {self.classes[class_id].name!r}"
            if (key := prompt.casefold()) in owners:
                raise OntologyError(f"prompt {prompt!r} is given twice, in {owners[key]} and in {owner}; keep one")
            owners[key] = owner

    @classmethod
    def from_text(cls, text: str) -> Ontology:
        """Parse a list such as ``"dog, cat"`` or ``"golden retriever=dog, puppy=dog, cat"`` (prompt=class).

        Classes are numbered in the order in which they first appear. One trailing comma is allowed.

        Raises:
            OntologyError: an item is empty or malformed, or the result is not a valid ontology.
        """
        items = text.split(",")
        if len(items) > 1 and not items[-1].strip():
            items.pop()
        return cls.from_items(items)

    @classmethod
    def from_items(cls, items: Iterable[str]) -> Ontology:
        """Parse items of the form ``class`` or ``prompt=class``.

        Raises:
            OntologyError: an item is empty or malformed, or the result is not a valid ontology.
        """
        return cls.from_pairs(_pair(number, item) for number, item in enumerate(items, start=1))

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[str, str]]) -> Ontology:
        """Build an ontology from (prompt, class name) pairs.

        Classes are numbered in the order in which they first appear.

        Raises:
            OntologyError: the result is not a valid ontology.
        """
        prompts: dict[str, list[str]] = {}
        for prompt, name in pairs:
            prompts.setdefault(clean_text(name, "a class name"), []).append(prompt)
        return cls(tuple(ClassSpec(name, tuple(own_prompts)) for name, own_prompts in prompts.items()))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names, by class id."""
        return tuple(item.name for item in self.classes)

    @property
    def active_names(self) -> tuple[str, ...]:
        """The names of the classes that are not removed, in the order of their ids."""
        return tuple(item.name for item in self.classes if not item.removed)

    @property
    def removed_ids(self) -> frozenset[int]:
        """The ids of the classes that are removed."""
        return frozenset(class_id for class_id, item in enumerate(self.classes) if item.removed)

    @property
    def min_scores(self) -> tuple[float | None, ...]:
        """The minimum scores of the classes, by class id; None for the general one."""
        return tuple(item.min_score for item in self.classes)

    @property
    def prompts(self) -> tuple[tuple[str, int], ...]:
        """All prompts as (prompt, class id): those of the classes, then the distractors with id ``DISTRACTOR``."""
        active = [(class_id, item) for class_id, item in enumerate(self.classes) if not item.removed]
        of_classes = [(prompt, class_id) for class_id, item in active for prompt in item.prompts]
        return (*of_classes, *((prompt, DISTRACTOR) for prompt in self.distractors))

    @property
    def digest(self) -> str:
        """SHA-256 of the content, 64 hexadecimal digits. Equal ontologies have equal digests on any machine."""
        return _sha256([[[item.name, item.prompts, item.min_score] for item in self.classes], self.distractors])

    @property
    def prompt_digest(self) -> str:
        """SHA-256 of ``prompts``, which is all that models get; class names and thresholds do not change it."""
        return _sha256(self.prompts)


def clean_text(text: object, what: str) -> str:
    """``text`` with whitespace stripped and collapsed.

    Args:
        what: how the message refers to the text.

    Raises:
        OntologyError: it is blank, is not text, or contains control characters.
    """
    if not isinstance(text, str):
        shown = " ".join(repr(text).split())
        raise OntologyError(f"{what} must be text, not {type(text).__name__} ({shown:.40}); put it in quotes")
    cleaned = " ".join(text.split())
    if not cleaned:
        raise OntologyError(f"{what} is blank; fill it in, or remove it")
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in cleaned):
        raise OntologyError(f"{what} contains a control character or half a surrogate pair ({text!r}); remove it")
    return cleaned


def clean_prompt(text: object, what: str) -> str:
    """``clean_text`` for a prompt.

    Raises:
        OntologyError: see ``clean_text``; or it contains one of ``SEPARATORS``.
    """
    cleaned = clean_text(text, what)
    if separators := [letter for letter in SEPARATORS if letter in str(text).strip()]:
        raise OntologyError(
            f"{what} contains {separators[0]!r}, which splits it in two for detectors ({text!r}); remove it"
        )
    return cleaned


def _tuple(items: object, what: str) -> tuple[object, ...]:
    # Other sequences are refused, because a string is a sequence of letters.
    if not isinstance(items, (list, tuple)):
        raise OntologyError(f"{what} must be a list, not {type(items).__name__}; put it in brackets")
    return tuple(items)


def _share(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise OntologyError(f"{what} must be a number from 0 to 1, not {value!r}")
    return float(value)


def _pair(number: int, item: str) -> tuple[str, str]:
    if not item.strip():
        raise OntologyError(f"item {number} of the class list is empty; write class names, as in 'dog, cat'")
    prompt, equals, name = item.partition("=")
    if not prompt.strip() or (equals and not name.strip()) or "=" in name:
        raise OntologyError(f"item {number} of the class list, {item.strip()!r}, must be class or prompt=class")
    return prompt, name if equals else prompt


def _sha256(content: object) -> str:
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
