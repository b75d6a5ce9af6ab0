"""Edited label and COCO files that nobody has taken in yet (see ``labeler review --from``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labeler.errors import UsageError
from workflows.dataset.destination import destination_of
from workflows.dataset.ledger import LEDGER, read_ledger
from workflows.dataset.planning import Planner

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from workflows.settings.export import ExportConfig


def refuse_other_polygons(output: AnyPath, before: ExportConfig | None, now: ExportConfig) -> None:
    """Refuse to change how polygons are simplified while there are edited files.

    What somebody edited is what differs from the polygons that were written, and only those of the last export and
    exact ones are known.

    Args:
        before: what the dataset was last written with; None if it is not known.

    Raises:
        UsageError: there are edited files, whose polygons are neither exact nor as ``now`` makes them.
    """
    if before is None or before.polygons.is_exact or before.polygons == now.polygons:
        return
    destination = destination_of(output)
    if (ledger := read_ledger(destination.path(LEDGER))) is None:
        return
    planner = Planner(destination, ledger)
    names = (name for name in ledger.table.column("name").to_pylist() if name.startswith(("labels/", "annotations/")))
    if edited := [name for name in names if planner.is_edited(name)]:
        more = f" and {len(edited) - 1} more" if len(edited) > 1 else ""
        raise UsageError(
            f"{edited[0]}{more} was edited; run `labeler review {output} --from {output}` before you change --simplify "
            "or --min-part, since nothing tells afterwards what was edited (--overwrite-edits drops the edits)"
        )
