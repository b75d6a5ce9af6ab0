"""Options of what is looked for and what makes the labels: classes, models and the kind of labeler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from labeler.errors import UsageError
from labeler.models.config import DEFAULT_PRESET, PRESETS, ModelConfig
from labeler.models.config import GROUP as MODELS
from labeler.models.families import GENERAL, family_named
from labeler.models.kinds.autodistill import EXAMPLE, AutodistillKind
from labeler.models.kinds.boxes import BoxesKind
from labeler.models.kinds.everything import EverythingKind
from labeler.models.kinds.kind import LabelerKind, innermost
from labeler.models.kinds.kinds import KINDS, kind_named, preset_models
from labeler.models.kinds.sam3 import Sam3Kind
from labeler.setting import setting
from ontologies import Ontology, read_ontology
from workflows.commands.labeler_wrappers import WrapperOptions
from workflows.commands.options import changes, nested
from workflows.settings.changes import Changes
from workflows.settings.engine import installed

FLOOR_UNSET = f"{GENERAL.floor:g}; for OWLv2 {family_named('owlv2').floor:g}; in a labeled folder, as it was labeled"
NAMED = tuple(name for name in KINDS if name != AutodistillKind.kind)  # by themselves, without a class


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

    model: str | None = setting(
        None,
        "preset of models; `labeler models` lists them",
        choices=tuple(PRESETS),
        group=MODELS,
        unset=DEFAULT_PRESET,
    )
    given: Changes[ModelConfig] = changes(ModelConfig, unset={"floor": FLOOR_UNSET})

    @property
    def preset(self) -> str:
        return self.model or DEFAULT_PRESET

    def config(self, labeler: LabelerKind) -> ModelConfig:
        """The models for ``labeler``.

        Raises:
            UsageError: a flag is not for that labeler.
        """
        if isinstance(innermost(labeler), Sam3Kind):
            for name in ("segmenter", "prompts_per_caption"):
                if name in self.given.values:
                    raise UsageError(f"{flag_named(name)} is not for --labeler sam3, which is one model; leave it out")
            is_for_it = PRESETS[self.preset].labeler == Sam3Kind.kind or "detector" in self.given.values
            if self.model and not is_for_it:
                raise UsageError(
                    f"--model {self.model} is not for --labeler sam3; leave it out, or name another checkpoint of "
                    "SAM 3 with --detector"
                )
        detector, segmenter = preset_models(labeler, self.preset)
        return self.given.of(ModelConfig(detector, segmenter))


@dataclass(frozen=True)
class LabelerOptions:
    """What makes the labels."""

    labeler: str | None = setting(
        None,
        f"kind of labeler ({', '.join(NAMED)}), or the module and class of an autodistill model",
        metavar="KIND|MODULE:CLASS",
        group=MODELS,
        unset="that of the preset",
    )
    labeler_args: Mapping[str, str] = setting(
        {},
        "an argument of the autodistill model's class, as JSON or text; may be repeated",
        metavar="KEY=VALUE",
        group=MODELS,
        unset="none",
    )
    bgr_fix: bool = setting(
        True,
        "give the SAM of autodistill_grounded_sam RGB; --no-bgr-fix gives it BGR, as that package does by itself",
        group=MODELS,
        negatable=True,
    )
    boxes: str | None = setting(
        None,
        "boxes to make masks for, in place of a detector: a COCO .json, a YOLO data.yaml, or Pascal VOC XML",
        metavar="FILE",
        group=MODELS,
        unset="none",
    )
    everything: bool = setting(False, "segment all objects as one class, without words or a detector", group=MODELS)
    of_everything: Changes[EverythingKind] = changes(EverythingKind)
    wrappers: WrapperOptions = nested(WrapperOptions)
    environment: Mapping[str, Any] | None = None  # of Ray's workers

    def made(self, wanted: OntologyOptions, models: ModelOptions) -> tuple[LabelerKind, Ontology | None]:
        """The labeler that these options ask for, and the classes to look for; None where tags choose them.

        Raises:
            UsageError, OntologyError: an option cannot be meant.
        """
        kind, ontology = self._base(wanted, models)
        return self.wrappers.around(kind, models.config(kind)), ontology

    def _base(self, wanted: OntologyOptions, models: ModelOptions) -> tuple[LabelerKind, Ontology | None]:
        """As ``made``, without what is wrapped around the labeler."""
        name = self.labeler or PRESETS[models.preset].labeler
        is_path = ":" in name
        if not is_path:
            self._refuse_arguments()
        if self.everything or name == EverythingKind.kind:
            return self._everything(wanted.read(), models)
        if self.of_everything.values:
            raise UsageError(f"{flag_named(min(self.of_everything.values))} is for --everything; add it")
        if self.boxes is not None:
            return self._boxes(self.boxes, wanted, models)
        if is_path:
            ontology = wanted.read()
            return self._autodistill(name, models, ontology), ontology
        if name == AutodistillKind.kind:
            raise UsageError(f"--labeler {name}: name the class, such as {EXAMPLE}")
        if self.labeler == BoxesKind.kind:
            raise UsageError("--labeler boxes needs --boxes FILE")
        return kind_named(name)(), wanted.read()

    def _refuse_arguments(self) -> None:
        given = {"--labeler-args": bool(self.labeler_args), "--no-bgr-fix": not self.bgr_fix}
        given["--labeler-env"] = self.environment is not None
        for flag in (flag for flag, is_given in given.items() if is_given):
            raise UsageError(f"{flag} is for an autodistill model; add --labeler MODULE:CLASS")

    def _autodistill(self, path: str, models: ModelOptions, ontology: Ontology | None) -> AutodistillKind:
        for name in ("detector", "prompts_per_caption"):
            if name in models.given.values:
                raise UsageError(f"{flag_named(name)} is not for --labeler {path}; leave it out")
        kind = AutodistillKind(
            path,
            tuple(sorted(self.labeler_args.items())),
            bgr_fix=self.bgr_fix,
            names_segmenter="segmenter" in models.given.values,
            environment=installed(self.environment) if self.environment is not None else "",
        )
        return replace(kind, prompts=tuple(prompt for prompt, _ in ontology.prompts)) if ontology else kind

    def _boxes(self, file: str, wanted: OntologyOptions, models: ModelOptions) -> tuple[LabelerKind, Ontology]:
        if self.labeler not in (None, BoxesKind.kind):
            raise UsageError(f"--boxes {file}: the labeler is then boxes; leave out --labeler {self.labeler}")
        if "detector" in models.given.values:
            raise UsageError(f"--boxes {file}: no detector runs; leave out --detector")
        kind = BoxesKind.of(file)
        return kind, kind.classes(wanted.read())

    def _everything(self, wanted: Ontology | None, models: ModelOptions) -> tuple[LabelerKind, Ontology]:
        if self.labeler not in (None, EverythingKind.kind):
            raise UsageError(f"--everything is a labeler of its own; leave out --labeler {self.labeler}")
        if self.boxes is not None:
            raise UsageError("--everything and --boxes both say where masks come from; give one of them")
        if "detector" in models.given.values:
            raise UsageError("--everything runs no detector; leave out --detector")
        kind = self.of_everything.of(EverythingKind())
        return kind, kind.classes(wanted)


def flag_named(name: str) -> str:
    return f"--{name.replace('_', '-')}"
