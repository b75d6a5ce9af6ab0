"""Decisions made elsewhere, added to a labeled folder and its dataset.

Decisions are kept in ``OUT/run/decisions.jsonl``, and every export follows them; see
``workflows.dataset.decision_log``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from labeler.decisions import Decision, latest
from labeler.errors import UsageError
from workflows.dataset.decision_log import append_decisions, read_decisions, with_current_names
from workflows.dataset.export_summary import ExportSummary
from workflows.dataset.labeled import open_labeled
from workflows.dataset.reexport import export_again
from workflows.run.folder import RunFolder
from workflows.run.summary import RunSummary
from workflows.settings.resolved import Settled, last_published

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath


def _silent(line: str) -> None: ...


def apply_decisions(
    output: AnyPath,
    decisions: Sequence[Decision],
    images: str | None = None,
    overwrite_edits: bool = False,
    summary: RunSummary | None = None,
    say: Callable[[str], None] = _silent,
    taken_in: Mapping[str, str] | None = None,
) -> ExportSummary:
    """Add ``decisions`` to the labeled folder ``output`` and write its dataset again.

    Applying the same decisions twice in a row adds them once.

    Args:
        images: the input, if the user named it.
        overwrite_edits: replace files of the dataset that the user edited.
        summary: filled in and written.
        say: called with the summary's line if the export fails.
        taken_in: digests, by name, of edited files of the dataset whose content is in ``decisions``.

    Raises:
        UsageError: a decision names a class that the dataset does not have; then none is added.
        RunError: ``output`` is not a labeled folder, or it is in use.
    """
    run = RunFolder(output)
    run.settings.read()  # refuses a folder without a run before locking would create one
    with run.locked():
        labeled = open_labeled(output, images)
        known = labeled.ontology.active_names
        decisions = with_current_names(decisions, labeled.ontology)
        for decision in decisions:
            name = decision.new_class
            if name is not None and name not in known:
                raise UsageError(f"{decision.image_id}: class {name!r} is not in this dataset ({', '.join(known)})")
        run.record_paths()  # refuses what cannot be exported before a decision is added
        new = latest(decisions)
        if read_decisions(run, labeled.ontology)[-len(new) :] != new:
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
            root_is_named=labeled.root_is_named,
            taken_in=taken_in,
        )
