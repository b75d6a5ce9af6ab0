"""The settings of a run folder: the content of ``run.json``, typed and checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from labeler.errors import UsageError
from labeler.files.credentials import without_secrets
from labeler.files.image_config import INTENSITIES, MOST_MEGAPIXELS, ImageConfig
from labeler.migrations import VERSIONS
from labeler.sizes import finite_number
from ontologies import Ontology, OntologyError
from workflows.settings.class_ids import class_from_json, class_to_json
from workflows.settings.export import ExportConfig, table
from workflows.settings.passes import BEFORE, Pass, asked_ontology, without_warnings

Part = TypeVar("Part")


@dataclass(frozen=True)
class DatasetSettings:
    """Everything that decides what a dataset looks like, apart from the records and people's decisions.

    Attributes:
        min_scores: the classes' own detector score thresholds, by class name.
    """

    export: ExportConfig
    min_scores: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, content: object) -> DatasetSettings:
        """The inverse of ``dataclasses.asdict``.

        Raises:
            UsageError: a value is of the wrong type or out of its range.
        """
        given = table(content, "published")
        min_scores = table(given.get("min_scores", {}), "min_scores")
        if not all(type(score) in (int, float) for score in min_scores.values()):
            raise UsageError("min_scores must be numbers")
        return cls(ExportConfig.from_dict(given.get("export", {})), min_scores)


@dataclass(frozen=True)
class RunSettings:
    """What the labels and the dataset of a run folder were made with.

    Attributes:
        input: folder or URI of the images.
        labeling: what decides the records of the labeler that was named last, by name.
        ontology: the classes of the dataset by id, with the ``min_score`` values that hold; None where images proposed
            their own classes.
        model: the settings of the models, by name: to be compared and shown, never to load a model from.
        export: what the next command starts from. It is written before any work, so that the flags of a killed run are
            not lost.
        versions: of the packages that labeled.
        family: the family of the models, whose thresholds are the defaults, see ``labeler.models.families``; None in
            files of earlier versions.
        published: what the dataset on disk was last written with, to tell what changed since; None if it is not known.
        other: keys of the file that this version does not know, and damaged ones that nobody has replaced yet.
        faults: why a part of the file could not be read, by key; that part has its default.
        passes: the labeling passes that the records come from, by number. Files of earlier versions state none: then
            ``labeling`` and ``ontology`` are those of the only one.
    """

    input: str
    labeling: Mapping[str, Any]
    ontology: Ontology | None
    model: Mapping[str, Any]
    export: ExportConfig
    versions: Mapping[str, Any] = field(default_factory=dict)
    family: str | None = None
    published: DatasetSettings | None = None
    other: Mapping[str, Any] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict, compare=False)
    passes: tuple[Pass, ...] = ()

    def __post_init__(self) -> None:
        if not self.passes:
            object.__setattr__(self, "passes", (self.asked,))

    @property
    def asked(self) -> Pass:
        """The labeler that was named last, with all prompts of the dataset."""
        return Pass(self.labeling, asked_ontology(self.ontology))

    @property
    def floor(self) -> float:
        """The class score from which the records keep candidates; the lowest one if passes have different ones."""
        stated = (each.labeling.get("floor") for each in self.passes)
        return float(min((each for each in stated if isinstance(each, (int, float))), default=self.model["floor"]))

    @property
    def reading(self) -> ImageConfig:
        """How the images were read when they were labeled, whatever their size."""
        intensity = self.labeling.get("intensity", BEFORE["intensity"])
        return ImageConfig(intensity if intensity in INTENSITIES else None, max_megapixels=MOST_MEGAPIXELS)

    @property
    def tags_only(self) -> bool:
        """Whether the records hold tags alone, of ``labeler tag``."""
        return bool(self.labeling.get("tags_only"))

    @property
    def min_scores(self) -> dict[str, float]:
        """The classes' own ``min_score``, by class name; classes without one are left out."""
        return min_scores_of(self.ontology)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RunSettings:
        """``content`` of ``run.json``; unknown keys are kept.

        ``ontology``, ``export`` and ``published`` may be damaged: then ``faults`` says how.

        Raises:
            ValueError: something else is missing or of another type; the message names it.
        """
        encoded(content)  # commands write it back
        _check(content, "input", str)
        _check(content, "labeling", dict)
        if "tagging" in content["labeling"]:
            _check(content["labeling"], "tagging", dict, _NONE, of="labeling")
        _check(content, "model", dict)
        _check(content["model"], "floor", int, float, of="model")
        finite_number(content["model"]["floor"], "floor of model")
        _check(content, "ontology", dict, _NONE)
        if content["ontology"] is not None:
            _check_ontology(content["ontology"], "ontology")
        _check(content, "passes", list)
        if "export" not in content:
            raise ValueError("export is missing")
        if "family" in content:
            _check(content, "family", str)
        faults: dict[str, str] = {}

        def part(name: str, read: Callable[[Any], Part], default: Part) -> Part:
            try:
                return read(content[name]) if name in content else default
            except (UsageError, OntologyError) as error:
                faults[name] = str(error)
                return default

        published = part("published", DatasetSettings.from_dict, None)
        passes = tuple(_pass(each, f"pass {number}") for number, each in enumerate(content["passes"]))
        unknown = {name: value for name, value in content.items() if name not in _KEYS}
        return cls(
            input=without_secrets(content["input"]),  # earlier versions kept passwords of URIs
            labeling=content["labeling"],
            ontology=part("ontology", _ontology, None),
            model=content["model"],
            export=part("export", ExportConfig.from_dict, ExportConfig()),
            versions=content.get("versions", {}),
            family=content.get("family"),
            published=published,
            other=unknown | ({"published": content["published"]} if "published" in faults else {}),
            faults=faults,
            passes=passes,
        )

    def to_json(self) -> dict[str, Any]:
        """What ``run.json`` holds."""
        known: dict[str, Any] = {
            "version": VERSIONS["run.json"],
            "input": self.input,
            "labeling": self.labeling,
            "passes": [_pass_json(each) for each in self.passes],
            "ontology": _ontology_json(self.ontology),
            "model": self.model,
            "export": asdict(self.export),
        }
        if self.versions:
            known["versions"] = self.versions
        if self.family is not None:
            known["family"] = self.family
        if self.published is not None:
            known["published"] = asdict(self.published)
        return known | {name: value for name, value in self.other.items() if name not in known}


_NONE = type(None)
_KEYS = ("version", "input", "labeling", "passes", "ontology", "model", "export", "versions", "family", "published")


def encoded(content: Mapping[str, Any]) -> bytes:
    """``content`` as ``run.json`` holds it.

    Raises:
        ValueError: it holds text that is no Unicode, or is nested too deep.
    """
    try:
        return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
    except RecursionError:
        raise ValueError("nested too deep") from None


def min_scores_of(ontology: Ontology | None) -> dict[str, float]:
    """The classes' own ``min_score``, by class name; classes without one are left out."""
    classes = ontology.classes if ontology else ()
    return {spec.name: spec.min_score for spec in classes if spec.min_score is not None}


def _ontology(content: Mapping[str, Any] | None) -> Ontology | None:
    if content is None:
        return None
    classes = tuple(class_from_json(each) for each in content["classes"])
    return without_warnings(classes, tuple(content["distractors"]))


def _pass(content: object, of: str) -> Pass:
    """A pass as the file holds it.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{of} is {_kind(content)}")
    _check(content, "labeling", dict, of=of)
    _check(content, "ontology", dict, _NONE, of=of)
    if content["ontology"] is not None:
        _check_ontology(content["ontology"], f"the ontology of {of}")
    try:
        return Pass(content["labeling"], asked_ontology(_ontology(content["ontology"])))
    except OntologyError:  # as the fault of ``ontology`` tells
        return Pass(content["labeling"], None)


def _ontology_json(ontology: Ontology | None) -> dict[str, Any] | None:
    if ontology is None:
        return None
    classes = [{**class_to_json(spec), "min_score": spec.min_score} for spec in ontology.classes]
    return {"classes": classes, "distractors": ontology.distractors}


def _pass_json(made: Pass) -> dict[str, Any]:
    asked = made.ontology
    classes = [class_to_json(spec) for spec in asked.classes] if asked else []
    ontology = {"classes": classes, "distractors": asked.distractors} if asked else None
    return {"labeling": made.labeling, "ontology": ontology}


def _check_ontology(ontology: Mapping[str, Any], where: str) -> None:
    _check_texts(ontology, "distractors", of=where)
    _check(ontology, "classes", list, of=where)
    for number, spec in enumerate(ontology["classes"], start=1):
        of = f"class {number} of {where}"
        if type(spec) is not dict:
            raise ValueError(f"{of} is {_kind(spec)}")
        _check(spec, "name", str, of=of)
        _check_texts(spec, "prompts", of=of)
        if where == "ontology" or "min_score" in spec:
            _check(spec, "min_score", int, float, _NONE, of=of)
        if "removed" in spec:
            _check(spec, "removed", bool, of=of)
        if "former_names" in spec:
            _check_texts(spec, "former_names", of=of)


def _check(content: Mapping[str, Any], name: str, *types: type, of: str = "") -> None:
    what = f"{name} of {of}" if of else name
    if name not in content:
        raise ValueError(f"{what} is missing")
    if type(content[name]) not in types:
        raise ValueError(f"{what} is {_kind(content[name])}")


def _check_texts(content: Mapping[str, Any], name: str, of: str) -> None:
    _check(content, name, list, of=of)
    if not all(type(text) is str for text in content[name]):
        raise ValueError(f"{name} of {of} must be text")


def _kind(value: object) -> str:
    """What a JSON value of the wrong type is, shortly."""
    if isinstance(value, (dict, list)):
        return "a table" if isinstance(value, dict) else "a list"
    return f"{value!r:.40}"
