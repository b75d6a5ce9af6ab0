"""The dataset settings that a run folder remembers.

``run.json`` holds them twice. ``export`` is what the next command starts from; it is written before any work, so that
the flags of a killed run are not lost. ``published`` is what the dataset on disk was last written with; what changed
since the last run is told by comparing with it.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from labeler.errors import RunError, UsageError
from labeler.files.storage import info
from labeler.formats.cutouts import CutoutConfig
from labeler.quality import QualityConfig
from ontologies import ClassSpec, Ontology, OntologyError, OntologyWarning
from workflows.settings.export import ExportConfig

if TYPE_CHECKING:
    from workflows.settings.run_json import RunJson

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetSettings:
    """Everything that decides what a dataset looks like, apart from the records and people's decisions.

    Attributes:
        min_scores: the classes' own detector score thresholds, by class name.
    """

    export: ExportConfig
    min_scores: Mapping[str, float] = field(default_factory=dict)


def min_scores_of(ontology: Ontology | None) -> dict[str, float]:
    """The classes' own ``min_score``, by class name; classes without one are left out."""
    classes = ontology.classes if ontology else ()
    return {spec.name: spec.min_score for spec in classes if spec.min_score is not None}


def with_min_scores(ontology: Ontology | None, min_scores: Mapping[str, float]) -> Ontology | None:
    """``ontology`` with exactly these ``min_score`` values."""
    if ontology is None:
        return None
    classes = [ClassSpec(spec.name, spec.prompts, min_scores.get(spec.name)) for spec in ontology.classes]
    with _warned_before():
        return Ontology(tuple(classes), ontology.distractors)


@contextmanager
def _warned_before() -> Iterator[None]:
    """The user was warned of these prompts when they were given."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OntologyWarning)
        yield


# ---------------------------------------------------------------- from and to run.json


def saved_export(content: Any) -> ExportConfig:
    """The inverse of ``asdict``; what is left out keeps its default.

    Raises:
        UsageError: an unknown name, or a value of the wrong type or out of its range.
    """
    given = _table(content, "export")
    quality, cutouts = _table(given.get("quality", {}), "quality"), _table(given.get("cutouts", {}), "cutouts")
    for name, own in _table(quality.get("of_classes", {}), "of_classes").items():
        _table(own, name)
    simple = {name: value for name, value in given.items() if name not in ("quality", "cutouts")}
    tables: tuple[tuple[dict[str, Any], Any], ...] = ((simple, ExportConfig()), (cutouts, CutoutConfig()))
    for table, usual in tables:
        defaults = {each.name: getattr(usual, each.name) for each in fields(usual)}
        for name, value in table.items():
            if name not in defaults:
                raise UsageError(f"unknown setting {name!r}")
            if not _is_like(value, defaults[name]):
                raise UsageError(f"{name} cannot be {value!r}")
    if "formats" in simple:
        simple["formats"] = tuple(simple["formats"])
    return ExportConfig(**{**simple, "quality": QualityConfig.from_dict(quality), "cutouts": CutoutConfig(**cutouts)})


def _table(content: Any, name: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise UsageError(f"{name} cannot be {content!r}")
    return content


def _is_like(value: Any, default: Any) -> bool:
    if isinstance(default, float):
        return type(value) in (int, float)
    if isinstance(default, tuple):
        return isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value)
    if default is None:  # max_classes
        return value is None or type(value) is int
    return type(value) is type(default)


def read_saved(file: RunJson, restart: bool) -> dict[str, Any]:
    """``run.json``; empty if there is none.

    Args:
        restart: all is labeled again, so the file need not be readable; a warning says what is lost with it.
    """
    if info(file.path) is None:
        return {}
    try:
        return file.read()
    except RunError:
        if not restart:
            raise
        logger.warning("%s cannot be read; the dataset settings that it held are lost", file.path)
        return {}


def remembered_export(file: RunJson, saved: Mapping[str, Any], reset: bool = False) -> ExportConfig:
    """The settings that the next command starts from.

    Args:
        saved: ``run.json``.
        reset: all of them are about to be replaced, so damaged ones count as the defaults.

    Raises:
        RunError: they are damaged.
    """
    try:
        return saved_export(saved.get("export", {}))
    except UsageError as error:
        if reset:
            return ExportConfig()
        raise RunError(
            f"{file.path}: the dataset settings are damaged ({error}); reset them with "
            f"`labeler export {file.output} --defaults`"
        ) from None


def saved_floor(file: RunJson, saved: Mapping[str, Any]) -> float:
    """The score from which the records keep candidates.

    Raises:
        RunError: ``run.json`` does not tell.
    """
    try:
        return float(saved["model"]["floor"])
    except (KeyError, TypeError, ValueError):
        raise RunError(f"{file.path}: the model's floor is missing; label again with --restart") from None


def last_published(file: RunJson, saved: Mapping[str, Any], has_dataset: bool) -> DatasetSettings | None:
    """What the dataset on disk was written with; None if there is no dataset, or nobody knows.

    Args:
        saved: ``run.json``. If an older version wrote it, what it remembers is what it published.
        has_dataset: whether a dataset was written.
    """
    try:
        if "published" in saved:
            content = _table(saved["published"], "published")
            min_scores = _table(content.get("min_scores", {}), "min_scores")
            if not all(_is_like(score, 0.0) for score in min_scores.values()):
                raise UsageError("min_scores must be numbers")
            return DatasetSettings(saved_export(content.get("export", {})), min_scores)
        if not has_dataset:
            return None
        min_scores = min_scores_of(saved_ontology(saved.get("ontology")))
        return DatasetSettings(saved_export(saved.get("export", {})), min_scores)
    except UsageError as error:
        logger.warning(
            "%s: what the dataset was written with is damaged (%s); changes since then are not listed",
            file.path,
            error,
        )
        return None


def as_published(settings: DatasetSettings | None) -> dict[str, Any]:
    """The entry of ``run.json`` that ``last_published`` reads; empty without ``settings``."""
    if settings is None:
        return {}
    return {"published": {"export": asdict(settings.export), "min_scores": dict(settings.min_scores)}}


def saved_ontology(content: Any, where: object = "run.json") -> Ontology | None:
    """The ontology as ``run.json`` keeps it; None where images proposed their own classes.

    Raises:
        RunError: it is damaged; the text begins with ``where``.
    """
    if content is None:
        return None
    try:
        classes = tuple(ClassSpec(c["name"], tuple(c["prompts"]), c.get("min_score")) for c in content["classes"])
        with _warned_before():
            return Ontology(classes, tuple(content.get("distractors", ())))
    except (AttributeError, KeyError, TypeError, OntologyError) as error:
        raise RunError(f"{where}: the ontology is damaged ({error}); label again with --restart") from None
