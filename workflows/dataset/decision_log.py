"""What people decided on a labeled folder: ``OUT/run/decisions.jsonl``, one decision a line, never rewritten.

Later lines win, and ``none`` takes a decision back. The file stays when images are labeled anew.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from labeler.decisions import Decision
from labeler.errors import FormatError, RunError
from labeler.files.documents import read_limited
from labeler.files.storage import is_link, storage_of
from ontologies import Ontology
from ontologies.documents import DocumentError, parse_json
from workflows.run.folder import RunFolder

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

logger = logging.getLogger(__name__)


def decisions_path(run: RunFolder) -> AnyPath:
    return run.path / "decisions.jsonl"


def by_image(decisions: Iterable[Decision]) -> dict[str, list[Decision]]:
    """Decisions by image id, each image's in the order they were made."""
    images: dict[str, list[Decision]] = {}
    for decision in decisions:
        images.setdefault(decision.image_id, []).append(decision)
    return images


def with_current_names(decisions: Iterable[Decision], ontology: Ontology) -> list[Decision]:
    """``decisions`` with the names that classes have by now, where they were renamed since."""
    now: dict[str | None, str] = {former: spec.name for spec in ontology.classes for former in spec.former_names}
    now = {former: name for former, name in now.items() if former not in ontology.class_names}
    if not now:
        return list(decisions)
    return [
        replace(
            each,
            class_name=now.get(each.class_name, each.class_name),
            new_class=now.get(each.new_class, each.new_class),
        )
        for each in decisions
    ]


def read_decisions(run: RunFolder, ontology: Ontology | None = None) -> list[Decision]:
    """Every decision, in the order they were made.

    Args:
        ontology: the classes of the dataset, under whose names renamed ones are returned; None for those as written.

    A line that is cut short, because the process that wrote it was killed, is skipped with a warning.

    Raises:
        RunError: a line was written by a newer labeler; people's decisions are never skipped.
    """
    path = decisions_path(run)
    try:
        lines = read_limited(path).split(b"\n")
    except FileNotFoundError:
        return []
    decisions = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                decisions.append(_decision(line))
            except FormatError as error:
                logger.warning("%s, line %d: %s; left out", path, number, error)
            except RunError as error:
                raise RunError(f"{path}, line {number}: {error}") from None
    return with_current_names(decisions, ontology) if ontology else decisions


def append_decisions(run: RunFolder, decisions: Sequence[Decision]) -> None:
    """Add ``decisions``; when this returns they outlive a killed process and a power cut.

    Of a folder of this machine, several processes may do so at once.

    Raises:
        RunError: the file is a link.
        OSError: they could not be written.
    """
    if not decisions:
        return
    path = decisions_path(run)
    if is_link(path):
        raise RunError(f"{path} is a link, and decisions are not written elsewhere; put the file itself there")
    data = b"".join(json.dumps(d.to_row(), ensure_ascii=False).encode() + b"\n" for d in decisions)
    storage_of(path).append_lines(path, data)


def read_decision_file(path: AnyPath) -> list[Decision]:
    """The decisions in a file of rows as ``Decision.to_row`` makes them: a JSON list, or one a line.

    Raises:
        FormatError: it is none, or one of the rows is no decision.
        OSError: it cannot be read.
    """
    data = read_limited(path)
    if data.lstrip()[:1] != b"[":
        lines = [(f"line {n}", line) for n, line in enumerate(data.split(b"\n"), start=1) if line.strip()]
        return [_decision(line, f"{path}, {where}: ") for where, line in lines]
    try:
        rows = parse_json(data)
    except DocumentError as error:
        raise FormatError(f"{path}: {error}") from None
    return [_from_row(row, f"{path}, entry {number}: ") for number, row in enumerate(rows, start=1)]


def _decision(line: bytes, where: str = "") -> Decision:
    try:
        row = parse_json(line)
    except DocumentError as error:
        raise FormatError(f"{where}not a decision ({error})") from None
    return _from_row(row, where)


def _from_row(row: object, where: str) -> Decision:
    try:
        return Decision.from_row(row)
    except (FormatError, RunError) as error:
        raise type(error)(f"{where}{error}") from error
