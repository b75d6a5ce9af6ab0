"""Options that ``label``, ``submit``, ``preview`` and ``tag`` share, and the job that they make."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from labeler.errors import UsageError
from labeler.models.config import ModelConfig
from labeler.models.kinds.everything import GROUP as EVERYTHING
from labeler.models.kinds.everything import EverythingKind
from labeler.models.taggers.config import FLAGS, TaggingConfig, vocabulary_for
from labeler.models.taggers.config import GROUP as TAGS
from labeler.quality_config import QualityConfig
from labeler.setting import setting
from ontologies import Ontology
from ontologies.vocabularies import VOCABULARIES
from workflows.commands.labeler_options import LabelerOptions, ModelOptions, OntologyOptions, flag_named
from workflows.commands.options import changes
from workflows.settings.changes import Changes
from workflows.settings.export import GROUP as DATASET
from workflows.settings.export import ExportConfig
from workflows.settings.job import LabelJob
from workflows.settings.resolved import check_class_names, check_floor, check_formats

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

IMAGES = "a folder (searched recursively), a file, a glob, a .txt list of paths, or a URI"
NOTES = {
    TAGS: "Without --classes or --ontology, the tags become the classes. With them, see --gate-below.",
    DATASET: "The output folder remembers these settings and those of the quality gate and the cut-outs.",
    EVERYTHING: "For --everything; the defaults are those of segment-anything.",
    "quality gate": "0 switches a filter off.",
    "cut-outs": "For --formats cutouts.",
}


@dataclass(frozen=True)
class TaggerOptions:
    """Which tagger runs, if any."""

    given: Changes[TaggingConfig] = changes(TaggingConfig)
    vocabulary: str | None = setting(
        None,
        f"word list to choose tags from: {', '.join(VOCABULARIES)}, or a file with one word per line",
        metavar="LIST",
        group=TAGS,
        unset="lvis; coco with --tagger detector",
    )

    @property
    def asked(self) -> str | None:
        """An option that is given, if any is."""
        return min({*self.given.values, *(() if self.vocabulary is None else ("vocabulary",))}, default=None)

    def config(self, model: ModelConfig, ontology: Ontology | None) -> TaggingConfig | None:
        """The tagger that these options ask for; None if they ask for none.

        Raises:
            UsageError: an option does not suit the tagger or the classes.
            OntologyError: the vocabulary cannot be read.
        """
        given = {**self.given.values, **({} if self.vocabulary is None else {"vocabulary": self.vocabulary})}
        if not given.keys() & {"tagger", "gate_below"}:
            if given:
                raise UsageError(f"{flag_named(min(given))} is for a tagger; add --tagger auto")
            return None
        tagging = self.given.of(TaggingConfig())
        kind = tagging.kind(model)
        for name in ("tagger_model", "vocabulary", "tag_score", "tag_tiles"):
            if name in given and name not in FLAGS[kind]:
                raise UsageError(f"{flag_named(name)} is not for the tagger {kind}; leave it out")
        if ontology is not None:
            for name, way_out in (("vocabulary", "leave it out"), ("tag_score", "take --gate-below")):
                if name in given:
                    raise UsageError(f"{flag_named(name)}: with classes given, a tagger scores just these; {way_out}")
            return tagging
        if "gate_below" in given:
            raise UsageError("--gate-below is for given classes; add --classes or --ontology")
        return replace(tagging, vocabulary=vocabulary_for(tagging, model, self.vocabulary))


@dataclass(frozen=True)
class DatasetOptions:
    """What the dataset is to be like, where the output folder remembers settings."""

    defaults: bool = setting(False, "reset the remembered settings; flags given with it still apply", group=DATASET)
    given: Changes[ExportConfig] = changes(ExportConfig)


def job_of(
    images: str,
    output: AnyPath,
    wanted: OntologyOptions,
    labelers: LabelerOptions,
    models: ModelOptions,
    tagger: TaggerOptions,
    dataset: DatasetOptions,
    *,
    tags_only: bool = False,
    sample: int | None = None,
) -> LabelJob:
    """The job that the options ask for; the arguments are those of ``LabelJob``.

    Raises:
        UsageError, OntologyError: an option cannot be meant.
    """
    labeler, ontology = labelers.made(wanted, models)
    if isinstance(labeler, EverythingKind) and tagger.asked:
        raise UsageError(f"--everything looks for no words; leave out {flag_named(tagger.asked)}")
    model = models.config(labeler)
    made = LabelJob(
        images=images,
        output=output,
        ontology=ontology,
        model=model,
        labeler=labeler,
        export=dataset.given.of,
        defaults=dataset.defaults,
        tagging=tagger.config(model, ontology),
        keep_min_scores=wanted.classes is not None and not dataset.defaults,
        keep_floor="floor" not in models.given.values,
        tags_only=tags_only,
        sample=sample,
    )
    # What the output remembers is known where the job runs; until then, what is given can be checked by itself.
    given = dataset.given
    if not made.keep_floor:
        check_floor(model.floor, Changes[QualityConfig](given.values).of(QualityConfig(min_score=0)), ontology)
    check_class_names(given.of(ExportConfig()).quality, ontology)
    check_formats(given.of(ExportConfig()).formats, ontology)
    return made
