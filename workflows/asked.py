"""What a job asks for, settled with what its output folder remembers and with what suits its models."""

from __future__ import annotations

from dataclasses import replace

from labeler.files.writable import check_writable
from labeler.models.compiling import check_compile
from labeler.models.families import Family, check_prompt_score, check_verify, family_of
from labeler.models.image_sizes import check_image_sizes
from ontologies import Ontology
from workflows.dataset.versions import check_versions
from workflows.engines.early_checks import check_job
from workflows.run.folder import RunFolder
from workflows.run.same_settings import refuse_other
from workflows.settings.class_ids import with_ids
from workflows.settings.export import ExportConfig
from workflows.settings.job import LabelJob
from workflows.settings.of_job import AROUND, settings_of
from workflows.settings.passes import BEFORE
from workflows.settings.resolved import Settled, settle
from workflows.settings.run_settings import RunSettings


def checked(job: LabelJob, run: RunFolder) -> tuple[RunSettings, Family]:
    """What ``job`` asks for and the family of its models, checked without listing images or loading a model.

    Raises:
        UsageError, RunError, ModelError, OntologyError: it cannot be done.
    """
    check_writable(job.output)
    saved = saved_settings(job, run)
    family = family_of(job.labeler, job.model)
    check_verify(job.labeler, job.model, family)
    check_image_sizes(job.labeler, job.model)
    check_compile(job.labeler, job.model)
    # Mistakes are told before the hub is asked.
    if settled_for(as_labeled(job, saved, family), run, saved, family).export.version_datasets:
        check_versions(job.output)
    has_records = not job.restart and bool(run.record_paths())
    told = check_job(job, may_be_done=has_records)
    family = family_of(job.labeler, job.model, told)
    check_prompt_score(job.labeler, job.model, family)
    check_verify(job.labeler, job.model, family)
    job = as_labeled(job, saved, family)
    settled = settled_for(job, run, saved, family)
    job = replace(job, ontology=settled.ontology, export=settled.export)
    asked = settings_of(job, saved.input if saved else "")
    if saved and has_records:
        refuse_other(run.output, saved, asked, adding=job.add_pass is not None)
    return asked, family


def _floor(job: LabelJob, saved: RunSettings, family: Family) -> float:
    """The candidate floor that the folder remembers for the labeler of ``job``; that of its family if it is added."""
    if job.add_pass is None and len(saved.passes) == 1:
        return saved.floor
    named = dict.fromkeys(AROUND) | job.labeler.identity(job.model)
    for made in saved.passes:
        stated = {**BEFORE, **made.labeling}
        if "floor" in stated and all(stated.get(name) == value for name, value in named.items()):
            return float(stated["floor"])
    return saved.floor if job.add_pass is None else family.floor


def saved_settings(job: LabelJob, run: RunFolder) -> RunSettings | None:
    """What the output folder remembers; None in a new one."""
    return run.settings.read_before_labeling(job.restart, reset=job.defaults or isinstance(job.export, ExportConfig))


def classes_before(job: LabelJob, run: RunFolder, saved: RunSettings | None) -> Ontology | None:
    """The classes of the dataset that is there, by id; None if there is none, or all is to be labeled anew."""
    if saved is None or job.restart or not run.record_paths():
        return None
    if (classes := run.classes()) is not None:
        return classes.ontology
    return saved.ontology if saved.published else None


def settled_for(job: LabelJob, run: RunFolder, saved: RunSettings | None, family: Family) -> Settled:
    """The settings of the dataset, from what ``job`` changes of ``saved``. Its classes keep their ids."""
    return settle(
        run.settings,
        saved,
        job.export,
        with_ids(job.ontology, classes_before(job, run, saved)),
        job.model.floor,
        family,
        keep_min_scores=job.keep_min_scores,
        reset=job.defaults,
    )


def as_labeled(job: LabelJob, saved: RunSettings | None, family: Family) -> LabelJob:
    """``job`` with what it leaves open as the folder was labeled, or else as it suits the models.

    That is how more than 8 bits become 8, and the candidate floor.
    """
    of_folder = saved if saved and not job.restart else None
    intensity = job.reading.intensity or (of_folder.reading.intensity if of_folder else None) or "auto"
    job = replace(job, reading=replace(job.reading, intensity=intensity))
    if not job.keep_floor:
        return job
    floor = _floor(job, of_folder, family) if of_folder else family.floor
    return replace(job, model=replace(job.model, floor=floor))
