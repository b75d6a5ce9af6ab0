"""Reads a dataset to train on, and refuses what no student can learn from or be measured on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labeler.errors import RunError, UsageError
from labeler.files.images import file_digest
from labeler.formats.coco_file import read_coco
from labeler.formats.splits import SPLITS
from labeler.models.students.student import StudentData, StudentImage
from workflows.dataset.journal import JOURNAL
from workflows.dataset.labeled import open_labeled
from workflows.dataset.ledger import file_names
from workflows.training.source import Source, find_source

FEWEST = 10  # images to train on
SHOWN = 3


@dataclass(frozen=True)
class Dataset:
    """A dataset as it is on disk now.

    Attributes:
        source: where it was read.
        data: what a student is given.
        measured: the images of the val split to measure it on.
        test: the images of the test split.
        against: what the labels of ``measured`` are, in words.
        fingerprint: changes whenever the dataset is published with other labels or other splits.
    """

    source: Source
    data: StudentData
    measured: Sequence[StudentImage]
    test: Sequence[StudentImage]
    against: str
    fingerprint: str


def read_dataset(folder: Path, val_from: str, begun: str | None = None) -> Dataset:
    """The dataset in ``folder``, or the version that ``find_source`` says.

    Args:
        val_from: ``reviewed`` measures on the images alone whose every label a person decided on.
        begun: as ``find_source`` takes it.

    Raises:
        UsageError: it has too few images, no validation image, or an image in two splits.
        RunError: there is no dataset, or it is not whole.
        FormatError: its annotations are damaged.
    """
    source = find_source(folder, begun)
    root, folder = source.root, source.folder
    _check_whole(source)
    fingerprint = fingerprint_of(folder)
    names, splits = _read(source)
    train, val, test = (splits[split] for split in SPLITS)
    _check_counts(root, train, val)
    _check_leaks(root, train, [*val, *test])
    measured, against = val, "labels that nobody checked"
    if not (root / "run" / "run.json").exists():
        against = "the labels of the dataset"
    if val_from == "reviewed":
        reviewed = reviewed_images(root)
        measured, against = [image for image in val if image.labels.name in reviewed], "labels that people decided on"
        if source.version:
            measured = _as_now(measured, root)
        if not measured:
            raise UsageError(
                f"--val-from reviewed: no image of the val split is reviewed in full; `labeler review {root}`, then "
                "export, or leave it out"
            )
    return Dataset(source, StudentData(names, train, val), measured, test, against, fingerprint)


def fingerprint_of(folder: Path) -> str:
    """The digest of the annotations, which are published after everything else.

    Raises:
        RunError: there are none.
    """
    digest = hashlib.blake2b(digest_size=16)
    for split in SPLITS:
        for file in annotation_files(folder, split):
            digest.update(f"{split} {file_digest(file)}\n".encode())
    return digest.hexdigest()


def annotation_files(folder: Path, split: str) -> list[Path]:
    """The COCO file of a split, or its parts (``--dataset-shards``); none if there is no such split."""
    whole = folder / "annotations" / f"instances_{split}.json"
    return [whole] if whole.exists() else sorted(whole.parent.glob(f"instances_{split}-*-of-*.json"))


def _check_whole(source: Source) -> None:
    folder = source.folder
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder; label images first: labeler label IMAGES -o {folder}")
    if (folder / JOURNAL).exists():
        raise RunError(f"{folder} is being exported, or an export was killed; `labeler export {folder}` completes it")
    if not annotation_files(folder, "train") and not annotation_files(folder, "val"):
        way = "give a folder that `labeler label` or `labeler export` wrote"
        if (source.root / "run" / "run.json").exists():
            way = f"`labeler export {source.root} --formats coco,yolo` writes them"
        raise RunError(f"{folder} holds no COCO annotations (annotations/instances_train.json); {way}")


def _read(source: Source) -> tuple[tuple[str, ...], dict[str, list[StudentImage]]]:
    """Class names, and the images of each split that there is."""
    folder = source.folder
    names: tuple[str, ...] = ()
    splits: dict[str, list[StudentImage]] = {split: [] for split in SPLITS}
    for split, images in splits.items():
        for file in annotation_files(folder, split):
            truth = read_coco(file)
            if names and truth.class_names != names:
                raise RunError(f"{file} has other classes than the train split; export the dataset again")
            names = truth.class_names
            images += [StudentImage(folder / "images" / split / image.name, image) for image in truth.images]
        if gone := [image.labels.name for image in images if not image.path.exists()]:
            raise RunError(
                f"{folder}: {len(gone)} images of {split} are gone ({_some(gone)}); export {source.root} again"
            )
    return names, splits


def _check_counts(folder: Path, train: Sequence[StudentImage], val: Sequence[StudentImage]) -> None:
    resplit = f"`labeler export {folder} --val-share 0.2 --resplit` splits the images anew"
    if not train:
        raise UsageError(f"{folder}: the train split is empty; {resplit}")
    if not val:
        raise UsageError(f"{folder}: the val split is empty, so a student cannot be measured; {resplit}")
    if len(train) < FEWEST:
        raise UsageError(f"{folder}: {len(train)} images to train on; label more, at least {FEWEST}")
    if not any(image.labels.instances for image in train):
        raise UsageError(
            f"{folder}: no image of the train split has an accepted object; export with a lower --accept-score, or "
            "review"
        )


def _check_leaks(folder: Path, train: Sequence[StudentImage], held_out: Sequence[StudentImage]) -> None:
    """Refuse a file of ``train`` that is also in ``held_out``; only files of equal size are read."""
    if leaks := copies(train, held_out):
        pairs = [f"{ours.labels.name} = {theirs.labels.name}" for ours, theirs in leaks]
        raise UsageError(
            f"{folder}: {len(leaks)} images of the train split are also in val or test ({_some(pairs)}), where a "
            f"student would be measured on what it has seen; `labeler export {folder} --resplit` puts copies into one "
            "split"
        )


def copies(images: Sequence[StudentImage], others: Sequence[StudentImage]) -> list[tuple[StudentImage, StudentImage]]:
    """Pairs of images whose files have the same content."""
    by_size: dict[int, list[StudentImage]] = {}
    for other in others:
        by_size.setdefault(other.path.stat().st_size, []).append(other)
    digests: dict[Path, str] = {}

    def digest(image: StudentImage) -> str:
        if image.path not in digests:
            digests[image.path] = file_digest(image.path)
        return digests[image.path]

    found = []
    for image in images:
        alike = by_size.get(image.path.stat().st_size, ())
        same = next((other for other in alike if digest(other) == digest(image)), None)
        if same is not None:
            found.append((image, same))
    return found


def reviewed_images(folder: Path) -> set[str]:
    """Names in the dataset of the images where a person decided on every instance that was not rejected."""
    labeled = open_labeled(folder)
    given = file_names(folder)
    names = set()
    for record, judgements in labeled.judged():
        open_ones = [each for each in judgements if each.verdict != "reject" and not each.by_hand]
        if not open_ones and any(each.by_hand for each in judgements):
            names.add(given.get(record.image_id, record.image_id))
    return names


def _as_now(images: Sequence[StudentImage], root: Path) -> list[StudentImage]:
    """Those of ``images``, which are of the val split, that have the labels which the dataset in ``root`` has now."""
    now = {image.name: image for file in annotation_files(root, "val") for image in read_coco(file).images}
    return [image for image in images if now.get(image.labels.name) == image.labels]


def without_copies(images: Sequence[StudentImage], seen: Sequence[StudentImage]) -> list[StudentImage]:
    """``images`` less those whose content is among ``seen``."""
    dropped = {id(image) for image, _ in copies(images, seen)}
    return [image for image in images if id(image) not in dropped]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
