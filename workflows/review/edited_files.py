"""The label and COCO files of a dataset that somebody has edited since the tool wrote them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labeler.errors import UsageError
from labeler.files.images import content_digest
from labeler.files.storage import free_path, read_bytes, write_bytes
from ontologies import OntologyError
from ontologies.class_lists import from_class_list
from ontologies.documents import DocumentError, parse_yaml
from workflows.dataset.destination import Destination, destination_of
from workflows.dataset.journal import JOURNAL, SET_ASIDE, read_journal
from workflows.dataset.ledger import LEDGER, names_given, read_ledger
from workflows.dataset.planning import Planner

if TYPE_CHECKING:
    from workflows.dataset.labeled import Labeled

_COCO = re.compile(r"annotations/instances_([^/]+)\.json")


@dataclass(frozen=True)
class EditedFile:
    """One edited file.

    Attributes:
        name: POSIX path below the dataset's folder.
        data: its content.
        written: digest of what the tool wrote.
    """

    name: str
    data: bytes
    written: str

    @property
    def digest(self) -> str:
        return content_digest(self.data)


@dataclass(frozen=True)
class EditedFiles:
    """The edited files of a dataset.

    Attributes:
        labels: label files, by image id.
        coco: COCO files, by split, or by part of one.
        splits: the split of each image whose file is in the dataset, by image id.
        file_names: names of images below ``images/SPLIT``, by image id, where they differ from the id.
    """

    labels: dict[str, EditedFile]
    coco: dict[str, EditedFile]
    splits: dict[str, str]
    file_names: dict[str, str]


def find_edited(labeled: Labeled) -> EditedFiles:
    """The edited files of the dataset of ``labeled``.

    Raises:
        UsageError: what was edited cannot be told, or the class ids in label files may mean other classes.
        RunError: ledger or journal cannot be used.
    """
    output = labeled.run.output
    destination = destination_of(output)
    ledger = read_ledger(destination.path(LEDGER))
    if ledger is None or read_journal(destination.path(JOURNAL)):
        what = "it has no ledger" if ledger is None else "its last export did not finish"
        raise UsageError(f"{output}: what was edited cannot be told, since {what}; run `labeler export {output}` first")
    planner = Planner(destination, ledger)
    labels: dict[str, EditedFile] = {}
    coco: dict[str, EditedFile] = {}
    splits: dict[str, str] = {}
    columns = (ledger.table.column(name).to_pylist() for name in ("name", "digest", "image_id"))
    for name, digest, image_id in zip(*columns, strict=True):
        kind = name.partition("/")[0]
        if image_id and kind in ("images", "labels"):
            splits[image_id] = name.split("/")[1]
        match = _COCO.fullmatch(name)
        if (match or kind == "labels") and planner.is_edited(name):
            file = EditedFile(name, read_bytes(destination.path(name)), digest)
            if match:
                coco[match[1]] = file
            else:
                labels[image_id] = file
    if labels and planner.is_edited("data.yaml"):
        _check_names(destination, labeled.ontology.class_names)
    return EditedFiles(labels, coco, splits, names_given(ledger)[0])


def set_aside(labeled: Labeled, files: Iterable[EditedFile]) -> None:
    """Keep a copy of each file in ``run/set-aside``."""
    labeled.run.refuse_links()
    for file in files:
        write_bytes(free_path(labeled.run.output / SET_ASIDE / file.name), file.data)


def _check_names(destination: Destination, class_names: tuple[str, ...]) -> None:
    path = destination.path("data.yaml")
    try:
        document = parse_yaml(read_bytes(path))
        found = from_class_list(document)
    except (OntologyError, DocumentError) as error:
        raise UsageError(f"{path}: {error}; the class ids in label files cannot be told without it") from error
    if found is None or found.class_names != class_names:
        raise UsageError(
            f"{path}: names other classes than the dataset has ({', '.join(class_names)}), so the class ids in label "
            "files may mean others; restore it"
        )
