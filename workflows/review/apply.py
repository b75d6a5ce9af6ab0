"""``labeler review``: a person looks at what is uncertain, and the dataset heeds what was decided.

Decisions are kept in ``OUT/run/decisions.jsonl``; every export heeds them, see ``workflows.dataset.decision_log``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from labeler.decisions import Decision, latest
from labeler.errors import UsageError
from workflows.dataset.decision_log import append_decisions, read_decisions
from workflows.dataset.export import ExportSummary
from workflows.dataset.labeled import open_labeled
from workflows.dataset.reexport import export_again
from workflows.run.folder import RunFolder
from workflows.run.summary import RunSummary
from workflows.settings.resolved import Settled, last_published

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath


def _nobody(line: str) -> None: ...


def apply_decisions(
    output: AnyPath,
    decisions: Sequence[Decision],
    images: str | None = None,
    overwrite_edits: bool = False,
    summary: RunSummary | None = None,
    say: Callable[[str], None] = _nobody,
) -> ExportSummary:
    """Keep ``decisions`` with the labeled folder ``output``, and write its dataset anew.

    Applied again with nothing decided in between, they are not kept twice.

    Args:
        images: the input, if the user named it.
        overwrite_edits: replace files of the dataset that the user edited.
        summary: is filled in and written.
        say: gets the summary's line if the export fails.

    Raises:
        UsageError: a class is named that the dataset does not have; then nothing is kept.
        RunError: ``output`` is no labeled folder, or in use.
    """
    run = RunFolder(output)
    run.settings.read()  # a folder that holds no run is not to be locked, and so made
    with run.locked():
        labeled = open_labeled(output, images)
        known = labeled.ontology.class_names
        for decision in decisions:
            name = decision.new_class
            if name is not None and name not in known:
                raise UsageError(f"{decision.image_id}: class {name!r} is none of this dataset ({', '.join(known)})")
        run.record_paths()  # what cannot be exported is refused before a decision is kept
        new = latest(decisions)
        if new and read_decisions(run)[-len(new) :] != new:
            append_decisions(run, new)
        settings, config = labeled.settings, labeled.export
        settled = Settled(settings.ontology, config, config, last_published(run.settings, settings, run.has_dataset))
        return export_again(
            run,
            labeled.root,
            settled,
            settings,
            summary or RunSummary("review"),
            say,
            overwrite_edits,
            labeled.root_is_named,
        )
