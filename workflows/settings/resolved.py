"""Which dataset settings hold for a run: those that its folder remembers, with what the user changes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from labeler.errors import LabelerError, RunError, UsageError
from labeler.quality import ClassThresholds, QualityConfig
from ontologies import Ontology
from workflows.settings.dataset import (
    DatasetSettings,
    as_published,
    min_scores_of,
    remembered_export,
    saved_ontology,
    with_min_scores,
)
from workflows.settings.export import ExportConfig

if TYPE_CHECKING:
    from workflows.settings.run_json import RunJson

logger = logging.getLogger(__name__)

ExportChange = Callable[[ExportConfig], ExportConfig]
"""Makes the settings of a run from those that its folder remembers, or in a new folder from the defaults."""


@dataclass(frozen=True)
class Settled:
    """The settings of one run, and those before it.

    Attributes:
        ontology: with the ``min_score`` values that hold; None where tags make the classes.
        export: the settings that hold.
        remembered: those that the folder remembered when the run began.
        published: what the dataset on disk was written with; None if there is none, or nobody knows.
    """

    ontology: Ontology | None
    export: ExportConfig
    remembered: ExportConfig
    published: DatasetSettings | None = None

    @property
    def in_force(self) -> DatasetSettings:
        return DatasetSettings(self.export, min_scores_of(self.ontology))


def settle(
    file: RunJson,
    saved: dict[str, Any],
    change: ExportConfig | ExportChange | None,
    ontology: Ontology | None,
    floor: float,
    keep_min_scores: bool = False,
) -> Settled:
    """The settings that hold; ``published`` is left out.

    Args:
        saved: ``run.json``; empty in a new folder.
        change: the settings, or what makes them from the remembered ones; None leaves these as they are.
        floor: score from which the records keep candidates.
        keep_min_scores: give the classes of ``ontology`` the remembered ``min_score`` values.

    Raises:
        UsageError: they do not suit the classes or the floor, or the remembered ones are damaged.
    """
    if keep_min_scores:
        try:
            ontology = with_min_scores(ontology, min_scores_of(saved_ontology(saved.get("ontology"))))
        except RunError:
            logger.warning("%s: the classes are damaged; their min_score values are lost", file.path)
    remembered = remembered_export(file, saved, reset=isinstance(change, ExportConfig))
    config = resolved(change, remembered, ontology)
    check_floor(floor, config.quality, ontology)
    check_class_names(config.quality, ontology)
    return Settled(ontology, config, remembered)


def resolved(
    change: ExportConfig | ExportChange | None, remembered: ExportConfig, ontology: Ontology | None
) -> ExportConfig:
    """What holds: ``change`` itself, or what it makes of ``remembered``; None leaves that as it is.

    Own thresholds of classes that are gone are dropped from ``remembered``.
    """
    if isinstance(change, ExportConfig):
        return change
    if ontology is not None:
        kept = {name: own for name, own in remembered.quality.of_classes.items() if name in ontology.class_names}
        remembered = replace(remembered, quality=replace(remembered.quality, of_classes=kept))
    return change(remembered) if change else remembered


def check_class_names(quality: QualityConfig, ontology: Ontology | None) -> None:
    """Refuse thresholds of classes that ``ontology`` does not have; tags may make any class.

    Raises:
        UsageError: a class is unknown.
    """
    for name, own in quality.of_classes.items():
        if ontology is not None and name not in ontology.class_names:
            known = ", ".join(ontology.class_names[:10])
            flag = next(each.name for each in fields(ClassThresholds) if getattr(own, each.name) is not None)
            raise UsageError(
                f"class-{flag.replace('_', '-')}: {name!r} is not among the classes ({known}); spell it as there"
            )


def check_floor(floor: float, quality: QualityConfig, ontology: Ontology | None) -> None:
    """Refuse thresholds that no record can meet.

    Raises:
        UsageError: one lies below ``floor``.
    """
    of_classes = ontology.min_scores if ontology else ()
    least = min(score for score in (quality.min_score, *of_classes, 1.0) if score)  # 0 and None: no threshold
    if least < floor:
        raise UsageError(
            f"min_score {least} is below the records' floor of {floor}; raise it, or label with --floor {least}"
        )


@contextmanager
def publishing(file: RunJson, settled: Settled) -> Iterator[None]:
    """Keep the settings of the dataset that is written in the block.

    They are remembered first, so that they survive a kill. If no dataset can be written with them, those before are
    remembered again: otherwise one mistake would fail every later run, too.
    """
    saved, ontology = file.read(), settled.ontology
    now = {**saved, "ontology": asdict(ontology) if ontology else None, "export": asdict(settled.export)}
    file.write({**now, **as_published(settled.published)})
    try:
        yield
    except LabelerError:
        file.write({**saved, "export": asdict(settled.remembered), **as_published(settled.published)})
        raise
    file.write({**now, **as_published(settled.in_force)})
