"""Labeling passes: which labeler was asked for which prompts, all of them together.

A dataset is the union of its passes. A pass is never changed: prompts that are new make another one, and so does
another labeler. The classes of the dataset are apart from that: an instance belongs to the class that has its prompt.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ontologies import ClassSpec, Ontology, OntologyWarning
from ontologies.ontology import DISTRACTOR

BEFORE: Mapping[str, Any] = {"intensity": "full", "labeler": "grounded-sam", "prompt_score": "mean"}
"""What versions did that did not state it in ``labeling``."""
PROMPTS_NAMED = 5


@dataclass(frozen=True)
class Pass:
    """One labeling of the images.

    Attributes:
        labeling: what decides the records apart from the prompts, by name.
        ontology: the prompts that were asked together, with the classes they had then; None if tags made them, or if a
            damaged file does not tell.
    """

    labeling: Mapping[str, Any]
    ontology: Ontology | None

    @property
    def prompts(self) -> frozenset[str]:
        """The prompts of its classes, for comparison."""
        return prompt_keys(self.ontology)

    @property
    def labeler(self) -> str:
        """Its kind of labeler and models, for messages."""
        kind = str(self.labeling.get("labeler", BEFORE["labeler"]))
        models = [str(self.labeling[name]) for name in ("detector", "segmenter") if self.labeling.get(name)]
        return f"{kind} ({', '.join(models)})" if models else kind

    def differs_from(self, other: Pass) -> list[str]:
        """The names of the settings of the labeler that differ, including nested ones."""
        names = list(_differing(_without_prompts(self.labeling), _without_prompts(other.labeling)))
        if self.ontology is None or other.ontology is None:
            return ["ontology", *names] if self.labeling.get("ontology") != other.labeling.get("ontology") else names
        return names if self.ontology.distractors == other.ontology.distractors else [*names, "list of distractors"]

    def is_active(self, ontology: Ontology | None) -> bool:
        """Whether ``ontology`` still has one of its prompts."""
        return self.ontology is None or ontology is None or not self.prompts.isdisjoint(prompt_keys(ontology))


def prompt_key(prompt: str) -> str:
    """What prompts are compared by."""
    return " ".join(prompt.split()).casefold()


def prompt_keys(ontology: Ontology | None) -> frozenset[str]:
    """The prompts of the classes of ``ontology``, for comparison."""
    pairs = ontology.prompts if ontology else ()
    return frozenset(prompt_key(prompt) for prompt, class_id in pairs if class_id != DISTRACTOR)


def without_warnings(classes: tuple[ClassSpec, ...], distractors: tuple[str, ...]) -> Ontology:
    """An ontology of prompts that the user was warned of when they were given.

    Raises:
        OntologyError: as ``Ontology`` does.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OntologyWarning)
        return Ontology(classes, distractors)


def asked_ontology(ontology: Ontology | None) -> Ontology | None:
    """``ontology`` as a labeler is asked for it: without thresholds and removed classes."""
    if ontology is None:
        return None
    classes = tuple(ClassSpec(spec.name, spec.prompts) for spec in ontology.classes if not spec.removed)
    return without_warnings(classes, ontology.distractors)


def passes_for(made: Sequence[Pass], asked: Pass, add: str | None) -> tuple[Pass, ...]:
    """The passes of a folder that is to have all that ``asked`` asks for: those ``made``, and a new one if needed.

    Args:
        asked: the labeler of this run, with all prompts of the dataset.
        add: ``all`` asks the labeler for all prompts that it was not asked for, any other value only for those that no
            labeler was asked for.
    """
    if asked.ontology is None:
        return tuple(made)
    made = [asked if each.ontology is None else each for each in made]  # a damaged file did not tell its prompts
    known = [each for each in made if add != "all" or not each.differs_from(asked)]
    old = frozenset[str]().union(*(each.prompts for each in known))
    classes = []
    for spec in asked.ontology.classes:
        if new := tuple(prompt for prompt in spec.prompts if prompt_key(prompt) not in old):
            classes.append(replace(spec, prompts=new))
    if not classes:
        return tuple(made)
    ontology = without_warnings(tuple(classes), asked.ontology.distractors)
    return (*made, Pass({**asked.labeling, "ontology": ontology.prompt_digest}, ontology))


def named(names: Iterable[str]) -> str:
    """The first few of ``names``, for messages."""
    every = list(names)
    more = len(every) - PROMPTS_NAMED
    return ", ".join(every[:PROMPTS_NAMED]) + (f" and {more} more" if more > 0 else "")


def _without_prompts(labeling: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in labeling.items() if name != "ontology"}


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """The names of the settings in ``new`` that differ from ``old``, including nested ones."""
    for name, value in new.items():
        before = old.get(name, BEFORE.get(name))
        if isinstance(before, dict) and isinstance(value, dict):
            yield from _differing(before, value)
        elif before != value:
            yield name
    yield from (name for name, value in old.items() if name not in new and value is not None)
