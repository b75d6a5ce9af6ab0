"""The whole job: find images, label what is not labeled yet, write the dataset.

find ──► plan shards ──► label each (decode ► detect ► segment ► records) ──► judge ──► COCO + YOLO
"""

from __future__ import annotations

from dataclasses import dataclass

from workflows.dataset.export import export
from workflows.dataset.export_summary import ExportSummary
from workflows.recording import Progress, clock, recorded
from workflows.run.exit_codes import TOO_MANY_FAILURES
from workflows.run.shard_report import ShardReport
from workflows.run.summary import RunSummary
from workflows.settings.job import LabelJob
from workflows.settings.resolved import publishing
from workflows.settings.text import dropped_formats


@dataclass
class LabelSummary:
    """What one call of ``label`` did.

    Attributes:
        found: images in the input.
        labeled: figures of the images labeled by this call; earlier ones are not in it.
        seconds: wall clock of ``load`` (models; with Ray, its start), ``label`` and ``export``.
        first_image: seconds until the first image was labeled; None if none was.
        run: what ``run/summary.json`` tells, the exit code among it.
    """

    found: int
    labeled: ShardReport
    dataset: ExportSummary
    seconds: dict[str, float]
    first_image: float | None
    run: RunSummary


def label(job: LabelJob, progress: Progress) -> LabelSummary:
    """Run ``job``; the same call resumes it after an interruption.

    Raises:
        UsageError: nothing is at ``job.images``.
        RunError: the output folder is in use, was labeled with other settings, or no image was found.
        OSError: a store or folder cannot be reached, read or written.
        ModelError: a model cannot be loaded.
    """
    summary = RunSummary("label", job.max_failures, job.allow_failures)
    with recorded(job, progress, summary) as records:
        progress.stage("writing the dataset")
        with clock(records.seconds, "export"):
            settled = records.settled
            if hint := dropped_formats(settled):
                progress.say(hint)
            with publishing(records.run.settings, settled):
                dataset = export(
                    records.run,
                    records.root,
                    settled.ontology,
                    settled.export,
                    previous=settled.published.export if settled.published else None,
                    overwrite_edits=job.overwrite_edits,
                    prune=job.prune,
                    resplit=job.resplit,
                    spread=records.spread,
                )
        dataset.describe(settled)
        # An image that the input names but does not hold, as a list file may, is a failure and not merely gone.
        listed = set(records.images.held(dataset.missing))
        dataset.failures += [(name, "no such file") for name in dataset.missing if name in listed]
        dataset.found_failed.update(listed)
        dataset.missing = [name for name in dataset.missing if name not in listed]
        dataset.new = records.failed.keys() | (dataset.found_failed - records.ledger.failed)
        dataset.add_to(summary)
        if records.limit.is_exceeded(len(dataset.new_failures)):  # as failures of writing the dataset may make it
            summary.exit_code = TOO_MANY_FAILURES
        else:
            records.ledger.close(dataset.found_failed)
        summary.write(records.run)
    return LabelSummary(len(records.images), records.done, dataset, records.seconds, records.first_image, summary)
