"""What to look for: classes, the prompts that find them, and the distractors that must not be labeled.

    >>> ontology = Ontology.from_text("golden retriever=dog, puppy=dog, cat")
    >>> ontology.class_names
    ('dog', 'cat')
    >>> ontology.prompts
    (('golden retriever', 0), ('puppy', 0), ('cat', 1))

Nothing here imports a model library, or any other package of this project.
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
"""The class id of a prompt that competes for boxes and is never written."""

SEPARATORS = ".?\n\r"
"""Grounding DINO ends a phrase at these, so that no prompt may hold one."""

# Whole words, where they negate: a notebook, a casino and a forget-me-not are things to be seen.
_NEGATION = re.compile(
    r"(?<![\w-])(?:without\b|(?<!\bme )not\b|non[-\u2010\u2011](?=\w))"
    r"|(?:^|\b(?:with|has|having|wearing|and|or|but) )no[- ](?=\w)",
    re.IGNORECASE,
)
# So is a "no parking sign".
_NEGATIVE_SIGN = re.compile(r"\b(?:signs?|symbols?|stickers?)\b", re.IGNORECASE)


class OntologyError(ValueError):
    """An ontology that cannot be meant, or a file that holds none. One line: what, where, what to do."""


class OntologyWarning(UserWarning):
    """An ontology that can be used, but hardly finds what its author has in mind."""


@dataclass(frozen=True, slots=True)
class ClassSpec:
    """One class of the dataset.

    Whitespace is stripped and collapsed in names and prompts; case is kept (the models lower-case by themselves).

    Attributes:
        name: as the dataset will spell it.
        prompts: what the detector is asked for, any of which finds the class; ``(name,)`` if none are given.
        min_score: this class's score threshold, in [0, 1]; None for the default of the job.

    Raises:
        OntologyError: a name or prompt is blank, not text or not printable, a prompt holds one of ``SEPARATORS``,
            or ``min_score`` is not a number in [0, 1].
    """

    name: str
    prompts: tuple[str, ...] = ()
    min_score: float | None = None

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
    """The classes to label, and what competes with them.

    Attributes:
        classes: at least one; a class's id is its position.
        distractors: prompts that compete for boxes and are never written, such as a look-alike of a class.

    Raises:
        OntologyError: there is no class, or two classes share a name, or a prompt appears twice, be it in one class,
            in two, or among the distractors. Case and spacing make no difference between names or between prompts.

    Warns:
        OntologyWarning: a prompt says what should not be there ("person without helmet"); detectors ignore that.
    """

    classes: tuple[ClassSpec, ...]
    distractors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        classes = _tuple(self.classes, "classes")
        if not classes:
            raise OntologyError("the ontology has no class; name at least one")
        for item in classes:
            if not isinstance(item, ClassSpec):
                raise OntologyError(f"classes must hold ClassSpec, not {type(item).__name__}; write ClassSpec('dog')")
        distractors = tuple(clean_prompt(text, "a distractor") for text in _tuple(self.distractors, "distractors"))
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "distractors", distractors)
        self._reject_repeats()
        for prompt, _ in self.prompts:
            words = prompt.replace("_", " ")
            if _NEGATION.search(words) and not _NEGATIVE_SIGN.search(words):
                warnings.warn(
                    f"prompt {prompt!r}: detectors ignore negation and look for all of its words; "
                    "name only what is to be seen, and list what must not be labeled as a distractor",
                    OntologyWarning,
                    stacklevel=3,  # whoever built the ontology: this method is called by the generated __init__
                )

    def _reject_repeats(self) -> None:
        names: dict[str, str] = {}
        for name in self.class_names:
            if (key := name.casefold()) in names:
                raise OntologyError(f"two classes are named {names[key]!r} and {name!r}; merge them, or rename one")
            names[key] = name
        places: dict[str, str] = {}
        for prompt, class_id in self.prompts:
            place = "the distractors" if class_id == DISTRACTOR else f"class {self.classes[class_id].name!r}"
            if (key := prompt.casefold()) in places:
                raise OntologyError(f"prompt {prompt!r} is given twice, in {places[key]} and in {place}; keep one")
            places[key] = place

    @classmethod
    def from_text(cls, text: str) -> Ontology:
        """The ontology of a list such as ``"dog, cat"`` or ``"golden retriever=dog, puppy=dog, cat"`` (prompt=class).

        Class ids follow the first appearance of each class. One trailing comma is allowed.

        Raises:
            OntologyError: an item is empty or malformed, or the whole is not a valid ontology.
        """
        items = text.split(",")
        if len(items) > 1 and not items[-1].strip():
            items.pop()
        return cls.from_items(items)

    @classmethod
    def from_items(cls, items: Iterable[str]) -> Ontology:
        """The ontology of items, each a ``class`` or a ``prompt=class``.

        Raises:
            OntologyError: an item is empty or malformed, or the whole is not a valid ontology.
        """
        return cls.from_pairs(_pair(number, item) for number, item in enumerate(items, start=1))

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[str, str]]) -> Ontology:
        """The ontology of (prompt, class name) pairs. Class ids follow the first appearance of each class.

        Raises:
            OntologyError: the pairs do not make a valid ontology.
        """
        prompts: dict[str, list[str]] = {}
        for prompt, name in pairs:
            prompts.setdefault(clean_text(name, "a class name"), []).append(prompt)
        return cls(tuple(ClassSpec(name, tuple(found)) for name, found in prompts.items()))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class, by class id."""
        return tuple(item.name for item in self.classes)

    @property
    def min_scores(self) -> tuple[float | None, ...]:
        """The score threshold of each class, by class id; None where the job's default holds."""
        return tuple(item.min_score for item in self.classes)

    @property
    def prompts(self) -> tuple[tuple[str, int], ...]:
        """Every (prompt, class id) that a detector is asked for: class by class, then distractors as ``DISTRACTOR``."""
        found = [(prompt, class_id) for class_id, item in enumerate(self.classes) for prompt in item.prompts]
        return (*found, *((prompt, DISTRACTOR) for prompt in self.distractors))

    @property
    def digest(self) -> str:
        """SHA-256 of the whole content, 64 hexadecimal digits; equal ontologies have equal digests, on any machine."""
        return _sha256([[[item.name, item.prompts, item.min_score] for item in self.classes], self.distractors])

    @property
    def prompt_digest(self) -> str:
        """SHA-256 of ``prompts`` alone: what models see. Renaming a class or moving a threshold does not change it."""
        return _sha256(self.prompts)


def clean_text(text: object, what: str) -> str:
    """``text`` with its whitespace stripped and collapsed.

    Raises:
        OntologyError: it is blank, no text or not printable; the text begins with ``what``.
    """
    if not isinstance(text, str):
        shown = " ".join(repr(text).split())
        raise OntologyError(f"{what} must be text, not {type(text).__name__} ({shown:.40}); put it in quotes")
    cleaned = " ".join(text.split())
    if not cleaned:
        raise OntologyError(f"{what} is blank; fill it in, or remove it")
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in cleaned):
        raise OntologyError(f"{what} holds a control character or half a surrogate pair ({text!r}); remove it")
    return cleaned


def clean_prompt(text: object, what: str) -> str:
    """As ``clean_text``, for what a detector is asked for.

    Raises:
        OntologyError: as there, or it holds one of ``SEPARATORS``.
    """
    cleaned = clean_text(text, what)
    if found := [letter for letter in SEPARATORS if letter in str(text).strip()]:
        raise OntologyError(f"{what} holds {found[0]!r}, where detectors cut it in two ({text!r}); write it without")
    return cleaned


def _tuple(items: object, what: str) -> tuple[object, ...]:
    # A lone string is a sequence too, of letters.
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
        raise OntologyError(f"item {number} of the class list, {item.strip()!r}, is neither class nor prompt=class")
    return prompt, name if equals else prompt


def _sha256(content: object) -> str:
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
