"""Finish what an export that was killed had begun."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labeler.files.storage import as_local, remove
from workflows.dataset.folder_destination import FolderDestination
from workflows.dataset.journal import JOURNAL, after, read_journal
from workflows.dataset.ledger import LEDGER, read_ledger, to_table, write_ledger
from workflows.dataset.versions import remove_unfinished

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath


def recover(output: AnyPath) -> None:
    """Finish an export that was killed while it changed the dataset, and delete temporary files.

    Does nothing in a store, where the next export takes the journal into account. ``output`` must be locked.

    Raises:
        RunError: the journal or the ledger is unusable.
    """
    if (folder := as_local(output)) is None:
        return
    remove_unfinished(folder)
    destination = FolderDestination(folder)
    if operations := read_journal(output / JOURNAL):
        ledger = read_ledger(output / LEDGER)
        added = destination.carry_out([operations])
        table = after(ledger.table if ledger else to_table(()), operations, added)
        write_ledger(output / LEDGER, table, ledger.root if ledger else "")
        remove(output / JOURNAL)
    destination.clean_up()
