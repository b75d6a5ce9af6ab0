"""The dataset of a labeled folder written once more, with its failures told apart and ``run/summary.json`` written."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ontologies import Ontology
from workflows.export import ExportConfig, ExportSummary, export
from workflows.failures import FailureLedger
from workflows.run_folder import RunFolder
from workflows.summary import RunSummary

if TYPE_CHECKING:
    from labeler.storage import AnyPath


def export_again(
    run: RunFolder,
    root: AnyPath,
    ontology: Ontology | None,
    config: ExportConfig,
    settings: dict[str, Any],
    summary: RunSummary,
    say: Callable[[str], None],
    *,
    previous: ExportConfig | None = None,
    overwrite_edits: bool = False,
    root_is_named: bool = False,
) -> ExportSummary:
    """``export`` for a command that labels nothing; ``run`` must be locked.

    Args:
        previous, overwrite_edits, root_is_named: as ``export`` takes them.
        settings: ``run.json``.
        summary: is filled in and written.
        say: gets the summary's line if the export fails.

    Raises:
        RunError: as ``export``.
    """
    ledger = FailureLedger(run)
    summary.ask(settings, config.quality, ontology)
    with summary.of_errors(run, say):
        began = time.perf_counter()
        dataset = export(
            run,
            root,
            ontology,
            config,
            previous=previous,
            overwrite_edits=overwrite_edits,
            root_is_named=root_is_named,
        )
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
        summary.exported(dataset)
    summary.write(run)
    return dataset
