"""What the reliability benchmarks share: the table of results, and how outputs are compared."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from labeler.files.images import content_digest
from labeler.record_files import read_records
from tests.support.fault_child import Outcome

OF_A_RUN = {f"run/{name}" for name in ("ledger.parquet", "lock", "owner.json", "summary.json")}
"""What holds times, or the name of a process."""
OF_A_PLACE = {"run/run.json", "run/images.parquet"}
"""What names folders, or holds the times of images."""


@dataclass
class Tally:
    """One row of the table: what came of ``tries`` of one fault.

    Attributes:
        lost: images without a record, or that were in the dataset before and are not there after.
        duplicated: images with more than one record.
        differing: tries after which the output is not that of an undisturbed run, byte for byte.
        tracebacks, hangs: tries with a traceback, or that did not end in time.
    """

    fault: str
    tries: int = 0
    lost: int = 0
    duplicated: int = 0
    differing: int = 0
    tracebacks: int = 0
    hangs: int = 0

    def __str__(self) -> str:
        cells = (self.tries, self.lost, self.duplicated, self.differing, self.tracebacks, self.hangs)
        return f"| {self.fault} | " + " | ".join(f"{cell:,}" for cell in cells) + " |"


HEADER = (
    "| fault | tries | lost | duplicated | differing | tracebacks | hangs |\n"
    "|---|---:|---:|---:|---:|---:|---:|"
)  # fmt: skip


def count(outcome: Outcome, tally: Tally) -> None:
    """Count a traceback or a hang."""
    tally.tracebacks += "Traceback (most recent call last)" in outcome.said
    tally.hangs += outcome.hung


def digests(folder: Path) -> dict[str, str]:
    """The digest of every file below ``folder`` but those ``OF_A_RUN`` and ``OF_A_PLACE``, by POSIX path."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: content_digest(path.read_bytes()) for name, path in paths.items() if name not in OF_A_RUN | OF_A_PLACE
    }


def differences(output: Path, wanted: dict[str, str], where: str, tally: Tally) -> None:
    """Count ``output`` as differing if its files are not those ``wanted``, and name the first few on stderr."""
    found = digests(output)
    if found != wanted:
        tally.differing += 1
        names = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        print(f"{tally.fault}, {where}: {len(names)} files differ: {', '.join(names[:5])}", file=sys.stderr)


def count_records(output: Path, image_ids: list[str], tally: Tally) -> None:
    """Count images without a record or without a good one, and those with several."""
    records = list(read_records(sorted((output / "run" / "records").glob("*.parquet"))))
    good = [record.image_id for record in records if record.status == "ok"]
    tally.lost += len(set(image_ids) - set(good))
    tally.duplicated += len(records) - len({record.image_id for record in records})
