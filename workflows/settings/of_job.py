"""The settings that a job asks for, as the run folder keeps them."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from labeler.files.credentials import without_secrets
from labeler.models.config import ModelConfig
from labeler.models.identity import model_identity
from labeler.models.kinds.grounded_sam import detector_identity
from labeler.models.taggers.config import TaggingConfig
from workflows.settings.export import ExportConfig
from workflows.settings.job import LabelJob
from workflows.settings.resolved import resolved
from workflows.settings.run_settings import RunSettings

AROUND = ("tile", "tile_overlap", "views", "also")  # of what is wrapped around a labeler; none of it is a choice, too

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath


def settings_of(job: LabelJob, root: AnyPath | str) -> RunSettings:
    """What ``job`` asks for, with the images below ``root``, as the run folder keeps it."""
    if job.tags_only and job.tagging:
        sweeps = job.tagging.kind(job.model) == "detector"
        of_models = ["precision", "floor"] if sweeps else ["precision"]
        identity = detector_identity(job.model) if sweeps else {}
    else:
        of_models = ["precision", "floor", "max_instances", "clean_share"]
        identity = dict.fromkeys(AROUND) | job.labeler.identity(job.model)
    return RunSettings(
        input=without_secrets(str(root)),
        labeling={
            "ontology": job.ontology.prompt_digest if job.ontology else None,
            "tags_only": job.tags_only or None,
            "intensity": job.reading.intensity or "auto",
            "tagging": _identity(job.tagging, job.model) if job.tagging else None,
            **identity,
            **{name: getattr(job.model, name) for name in of_models},
        },
        ontology=job.ontology,
        model=asdict(job.model),
        export=resolved(job.export, ExportConfig(), job.ontology),
        versions={name: version(name) for name in ("autodistill-labeler", "torch", "transformers")},
    )


def _identity(tagging: TaggingConfig, model: ModelConfig) -> dict[str, Any]:
    """What decides the tags."""
    source = tagging.source(model)
    return {
        **asdict(tagging),
        "tagger": tagging.kind(model),
        "tagger_model": model_identity(source) if source else None,
        "vocabulary": hashlib.sha256("\n".join(tagging.vocabulary).encode()).hexdigest(),
    }
