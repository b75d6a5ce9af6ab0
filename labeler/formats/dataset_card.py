"""The card of a dataset: ``README.md`` in the form of the Hugging Face Hub, which anybody can read as it is.

Nothing in it depends on the time or on paths, so an unchanged dataset keeps its card.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import yaml

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_LARGEST = "10M<n<100M"
_TASKS = ["image-segmentation", "object-detection"]


@dataclass(frozen=True, slots=True)
class CardModel:
    """A model that labeled the dataset.

    Attributes:
        role: such as ``detector``.
        name: its checkpoint.
        license: of the weights; empty if unknown.
    """

    role: str
    name: str
    license: str = ""


@dataclass(frozen=True)
class DatasetCard:
    """What a card says.

    Attributes:
        title: the dataset's name.
        digest: see ``dataset_digest``.
        images: number of images by split, in the order of the splits.
        instances: number of instances by class name, in the order of the class ids.
        models: those that labeled it.
        thresholds: what was in force, by the name of the setting.
        metrics: measured values by name, in [0, 1]; empty if nothing was measured.
        measured_on: what the metrics were measured against.
        decided_by_hand: number of instances that a person accepted or rejected.
        version: of labeler.
        license: of the dataset, as an identifier of the Hub such as ``cc-by-4.0``; empty if nobody stated it.
        folders: split -> glob of its files, where the dataset is a Hugging Face ``imagefolder``.
    """

    title: str
    digest: str
    images: Mapping[str, int]
    instances: Mapping[str, int]
    models: Sequence[CardModel] = ()
    thresholds: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    measured_on: str = ""
    decided_by_hand: int = 0
    version: str = ""
    license: str = ""
    folders: Mapping[str, str] = field(default_factory=dict)


def dataset_digest(files: Iterable[tuple[str, str]]) -> str:
    """The content digest of a dataset, 64 hexadecimal digits: SHA-256 of its files' names and content digests.

    Args:
        files: (POSIX path, content digest) of each, in any order; without the card itself.
    """
    digest = hashlib.sha256()
    for name, content in sorted(files):
        digest.update(json.dumps([name, content]).encode("ascii") + b"\n")
    return digest.hexdigest()


def card_text(card: DatasetCard) -> str:
    """The content of ``README.md``."""
    return f"---\n{_header(card)}---\n\n" + "\n\n".join(_sections(card)) + "\n"


def _header(card: DatasetCard) -> str:
    total = sum(card.images.values())
    content: dict[str, object] = {"pretty_name": " ".join(card.title.split())}
    if card.license:
        content["license"] = card.license
    by_hand = ["expert-generated"] if card.decided_by_hand else []
    content["annotations_creators"] = ["machine-generated", *by_hand]
    content["task_categories"] = _TASKS
    content["task_ids"] = ["instance-segmentation"]
    content["size_categories"] = [next((name for limit, name in _SIZES if total < limit), _LARGEST)]
    content["tags"] = ["labeler", "coco", "autodistill"]
    if card.folders:
        data_files = [{"split": split, "path": path} for split, path in card.folders.items()]
        content["configs"] = [{"config_name": "default", "data_files": data_files}]
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=float("inf"))


def _sections(card: DatasetCard) -> Iterable[str]:
    instances = sum(card.instances.values())
    yield f"# {_line(card.title)}"
    labeled = f"Labeled automatically by labeler{' ' + card.version if card.version else ''}"
    decided = f"; a person decided on {card.decided_by_hand:,} instances" if card.decided_by_hand else ""
    yield (
        f"{sum(card.images.values()):,} images with {instances:,} instances of {len(card.instances):,} classes. "
        f"{labeled}{decided}."
    )
    yield f"Content digest: `{card.digest}`"
    yield _table("Images", ("split", "images"), ((split, f"{count:,}") for split, count in card.images.items()))
    yield _table("Classes", ("class", "instances"), ((name, f"{count:,}") for name, count in card.instances.items()))
    if card.models:
        rows = ((model.role, model.name, model.license or "unknown") for model in card.models)
        yield _table("Models", ("role", "model", "license of the weights"), rows)
    if card.thresholds:
        yield _table("Thresholds", ("setting", "value"), card.thresholds.items())
    if card.metrics:
        measured = ((name, f"{value:.3f}") for name, value in card.metrics.items())
        against = f"Measured against {_line(card.measured_on)}.\n\n" if card.measured_on else ""
        yield _table("Quality", ("metric", "value"), measured, against)
    else:
        yield "## Quality\n\nThese labels were not measured against ground truth."


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]], before: str = "") -> str:
    lines = [head, ["---"] * len(head), *rows]
    return f"## {title}\n\n{before}" + "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")


def _line(text: str) -> str:
    """``text`` on one line, so that Markdown and HTML show it as it is."""
    for sign in "\\`*_[]<#":
        text = text.replace(sign, "\\" + sign)
    return " ".join(text.split())
