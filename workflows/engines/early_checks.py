"""Checks of a job that need neither its images nor a loaded model, so that a mistake is told at once."""

from __future__ import annotations

from labeler.models.availability import check_classes, check_device, check_models
from workflows.engines.ray_cluster import check_address
from workflows.settings.job import LabelJob


def check_job(job: LabelJob, may_be_done: bool) -> dict[str, str]:
    """Check the device, the models and the cluster of ``job``.

    Args:
        may_be_done: there are records already, so perhaps no model will run: nobody is asked for them.

    Returns:
        The model types that the hub told, by source.

    Raises:
        UsageError, ModelError, OntologyError: something is missing or cannot be used.
    """
    address = None if job.engine.engine == "local" else job.engine.cluster_address
    if address:
        check_address(address, connect=not may_be_done)
    elif not may_be_done:  # to know the devices, torch is imported, which takes seconds
        check_device(job.model.device)  # a cluster may have other devices and models than this machine
    if job.ontology is not None and not job.tags_only:
        check_classes(job.labeler, job.model, [prompt for prompt, _ in job.ontology.prompts])
    ask_hub = not address and not may_be_done
    return check_models(job.labeler, job.model, job.tagging, job.tags_only, ask_hub)
