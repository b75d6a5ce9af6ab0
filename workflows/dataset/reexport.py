"""The dataset of a labeled folder written once more, with its failures told apart and ``run/summary.json`` written."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from workflows.dataset.export import export
from workflows.dataset.export_summary import ExportSummary
from workflows.dataset.pending_edits import refuse_other_polygons
from workflows.run.failures import FailureLedger
from workflows.run.folder import RunFolder
from workflows.run.summary import RunSummary
from workflows.settings.resolved import Settled, publishing
from workflows.settings.run_settings import RunSettings

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath


def export_again(
    run: RunFolder,
    root: AnyPath,
    settled: Settled,
    settings: RunSettings,
    summary: RunSummary,
    say: Callable[[str], None],
    overwrite_edits: bool = False,
    resplit: bool = False,
    root_is_named: bool = False,
    taken_in: Mapping[str, str] | None = None,
) -> ExportSummary:
    """``export`` for a command that labels nothing; ``run`` must be locked.

    Args:
        settled: the settings of the dataset; they are remembered.
        settings: what the folder remembers.
        summary: is filled in and written.
        say: gets the summary's line if the export fails.
        overwrite_edits, resplit, root_is_named, taken_in: as ``export`` takes them.

    Raises:
        UsageError: polygons would change while there are edited ones.
        RunError: as ``export``.
    """
    ledger = FailureLedger(run)
    summary.ask(settings, settled.export.quality, settled.ontology)
    previous = settled.published.export if settled.published else None
    with summary.of_errors(run, say):
        began = time.perf_counter()
        if not overwrite_edits:
            refuse_other_polygons(run.output, previous, settled.export)
        with publishing(run.settings, settled):
            dataset = export(
                run,
                root,
                settled.ontology,
                settled.export,
                previous=previous,
                overwrite_edits=overwrite_edits,
                resplit=resplit,
                root_is_named=root_is_named,
                taken_in=taken_in,
            )
        dataset.describe(settled)
        summary.seconds["export"] = time.perf_counter() - began
        # Of a labeling that was killed, and that nobody has resumed yet.
        unreported = {image_id for image_id, _ in ledger.unreported()}
        dataset.new = unreported | (dataset.found_failed - ledger.failed)
        left_out = {image_id for image_id, _ in dataset.failures}.union(dataset.missing)
        if ledger.retry or ledger.pending - run.labeled_shards():
            ledger.report(dataset.found_failed | unreported | (ledger.failed & left_out))
        else:
            ledger.close(dataset.found_failed | (ledger.failed & left_out))
        summary.images["found"] = sum(dataset.images.values()) + len(left_out)
        dataset.add_to(summary)
    summary.write(run)
    return dataset
