"""Options that ``label``, ``submit``, ``preview`` and ``tag`` share, and the job that they make."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from labeler.errors import UsageError
from labeler.models.config import GROUP as MODELS
from labeler.models.config import PRESETS, ModelConfig
from labeler.models.kinds.everything import GROUP as EVERYTHING
from labeler.models.kinds.everything import EverythingKind
from labeler.models.kinds.kind import LabelerKind
from labeler.models.kinds.kinds import KINDS
from labeler.models.taggers.config import FLAGS, TaggingConfig, vocabulary_for
from labeler.models.taggers.config import GROUP as TAGS
from labeler.quality_config import QualityConfig
from labeler.setting import setting
from ontologies import ClassSpec, Ontology, read_ontology
from ontologies.vocabularies import VOCABULARIES
from workflows.commands.options import changes
from workflows.settings.changes import Changes
from workflows.settings.export import GROUP as DATASET
from workflows.settings.export import ExportConfig
from workflows.settings.job import LabelJob
from workflows.settings.resolved import ExportChange, check_class_names, check_floor

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
class OntologyOptions:
    """What to look for."""

    classes: str | None = setting(
        None, 'class names, or prompt=class pairs: "dog, puppy=dog, cat"', metavar="TEXT", group="classes", unset="none"
    )
    ontology: str | None = setting(
        None,
        "file with classes, their prompts and min_score (TOML, YAML, JSON or .txt), or another tool's class list",
        metavar="FILE",
        group="classes",
        unset="none",
    )

    def read(self) -> Ontology | None:
        """The ontology, or None if none is named.

        Raises:
            UsageError, OntologyError: it is named twice, or cannot be read.
        """
        if self.classes is not None and self.ontology is not None:
            raise UsageError("--classes and --ontology both say what to look for; give one of them")
        if self.ontology is not None:
            return read_ontology(self.ontology)
        return None if self.classes is None else Ontology.from_text(self.classes)


@dataclass(frozen=True)
class ModelOptions:
    """Which models run, and how."""

    model: str = setting(
        "balanced", "preset of models; `labeler models` lists them", choices=tuple(PRESETS), group=MODELS
    )
    given: Changes[ModelConfig] = changes(ModelConfig)

    def config(self) -> ModelConfig:
        preset = PRESETS[self.model]
        return self.given.of(ModelConfig(preset.detector, preset.segmenter))


@dataclass(frozen=True)
class LabelerOptions:
    """What makes the labels."""

    labeler: str | None = setting(
        None, "kind of labeler", choices=tuple(KINDS), group=MODELS, unset="that of the preset"
    )
    everything: bool = setting(
        False, "segment all objects from a grid of points, as one class; no detector runs", group=MODELS
    )
    of_everything: Changes[EverythingKind] = changes(EverythingKind)

    def made(self, wanted: OntologyOptions, models: ModelOptions) -> tuple[LabelerKind, Ontology | None]:
        """The labeler that these options ask for, and what it looks for; None if tags are to say.

        Raises:
            UsageError, OntologyError: an option cannot be meant.
        """
        name = EverythingKind.kind if self.everything else self.labeler or PRESETS[models.model].labeler
        if self.labeler not in (None, name):
            raise UsageError(f"--everything is a labeler of its own; leave out --labeler {self.labeler}")
        if name == EverythingKind.kind:
            return self._everything(wanted.read(), models)
        if self.of_everything.values:
            raise UsageError(f"{_flag(min(self.of_everything.values))} is for --everything; add it")
        return KINDS[name](), wanted.read()

    def _everything(self, wanted: Ontology | None, models: ModelOptions) -> tuple[LabelerKind, Ontology]:
        if "detector" in models.given.values:
            raise UsageError("--everything runs no detector; leave out --detector")
        ontology = Ontology((ClassSpec("object"),)) if wanted is None else wanted
        if len(ontology.prompts) > 1:
            raise UsageError(
                f"--everything does not tell classes apart; name one class instead of {len(ontology.classes)}, or none"
                if len(ontology.classes) > 1
                else "--everything reads no prompts; name one class with no other prompt or distractor"
            )
        return self.of_everything.of(EverythingKind()), ontology


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
                raise UsageError(f"{_flag(min(given))} is for a tagger; add --tagger auto")
            return None
        tagging = self.given.of(TaggingConfig())
        kind = tagging.kind(model)
        for name in ("tagger_model", "vocabulary", "tag_score", "tag_tiles"):
            if name in given and name not in FLAGS[kind]:
                raise UsageError(f"{_flag(name)} is not for the tagger {kind}; leave it out")
        if ontology is not None:
            for name, way_out in (("vocabulary", "leave it out"), ("tag_score", "take --gate-below")):
                if name in given:
                    raise UsageError(f"{_flag(name)}: with classes given, a tagger scores just these; {way_out}")
            return tagging
        if "gate_below" in given:
            raise UsageError("--gate-below is for given classes; add --classes or --ontology")
        return replace(tagging, vocabulary=vocabulary_for(tagging, model, self.vocabulary))


@dataclass(frozen=True)
class DatasetOptions:
    """What the dataset is to be like, where the output folder remembers settings."""

    defaults: bool = setting(False, "reset the remembered settings; flags given with it still apply", group=DATASET)
    given: Changes[ExportConfig] = changes(ExportConfig)

    def export(self) -> ExportConfig | ExportChange:
        """The settings, or what makes them from those that the folder remembers."""
        return self.given.of(ExportConfig()) if self.defaults else self.given.of


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
        raise UsageError(f"--everything looks for no words; leave out {_flag(tagger.asked)}")
    model = models.config()
    made = LabelJob(
        images=images,
        output=output,
        ontology=ontology,
        model=model,
        labeler=labeler,
        export=dataset.export(),
        tagging=tagger.config(model, ontology),
        keep_min_scores=wanted.classes is not None and not dataset.defaults,
        tags_only=tags_only,
        sample=sample,
    )
    # What the output remembers is known where the job runs; until then, what is given can be checked by itself.
    given = dataset.given
    check_floor(model.floor, Changes[QualityConfig](given.values).of(QualityConfig(min_score=0)), ontology)
    check_class_names(given.of(ExportConfig()).quality, ontology)
    return made


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
