"""Plan ``README.md``, the card of a dataset. One that the user made is never touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import labeler
from labeler.files.credentials import without_secrets
from labeler.files.images import content_digest
from labeler.formats import hugging_face
from labeler.formats.dataset_card import CardModel, DatasetCard, card_text, dataset_digest
from labeler.formats.splits import SPLITS
from labeler.models.identity import embedded_models, model_identity
from labeler.models.published import PUBLISHED
from ontologies import Ontology
from workflows.dataset.dataset import Dataset
from workflows.dataset.measured import measured_labels
from workflows.settings.export import ExportConfig
from workflows.settings.run_settings import DatasetSettings, RunSettings, min_scores_of
from workflows.settings.text import thresholds

CARD = "README.md"
CLASSES_IN_TITLE = 3
DIGEST = "blake2b:"  # begins the identity of a checkpoint of this machine
ROLES = {
    "detector": "detector",
    "segmenter": "segmenter",
    "verify": "verifier",
    "tagger_model": "tagger",
    "labeler_class": "labeler",
}  # by the names in ``RunSettings.labeling``


def plan_card(
    dataset: Dataset,
    ontology: Ontology,
    config: ExportConfig,
    saved: RunSettings,
    images: Mapping[str, int],
    verdicts: Mapping[str, Mapping[str, int]],
    by_hand: int,
    labels: str,
) -> str:
    """Plan the card, once all other files are planned.

    Args:
        saved: what the folder remembers of the models.
        images: their number by split.
        verdicts: number of instances by class name and verdict.
        by_hand: number of instances that a person decided on.
        labels: ``JudgedShards.digest`` of the labels.

    Returns:
        The content digest of the dataset.
    """
    written = ("accept", "review") if config.include_review else ("accept",)
    names = [spec.name for spec in ontology.classes if not spec.removed]
    measured = measured_labels(dataset.destination.path("evaluation/evaluation.json"), labels)
    card = DatasetCard(
        _title(names),
        digest := dataset_digest(dataset.files_after()),
        {split: images[split] for split in SPLITS if images.get(split)},
        {name: sum(verdicts.get(name, {}).get(verdict, 0) for verdict in written) for name in names},
        list(dict.fromkeys(_models(saved))),
        thresholds(DatasetSettings(config, min_scores_of(ontology))),
        measured.metrics if measured else {},
        measured.against if measured else "",
        decided_by_hand=by_hand,
        version=labeler.__version__,
        folders=_folders(images) if "hf" in config.formats else {},
    )
    text = card_text(card).encode()
    is_there = dataset.destination.stamp(CARD) != ""
    if is_there and dataset.ledger.row(CARD) is None and dataset.destination.digest(CARD) != content_digest(text):
        return digest
    dataset.commit([dataset.files.plan_file(CARD, text)])
    return digest


def _title(names: list[str]) -> str:
    more = f" and {len(names) - CLASSES_IN_TITLE} more" if len(names) > CLASSES_IN_TITLE else ""
    return f"Instance segmentation: {', '.join(names[:CLASSES_IN_TITLE])}{more}"


def _models(saved: RunSettings) -> Iterator[CardModel]:
    """The models of all labeling passes."""
    for labeling in [made.labeling for made in saved.passes] or [saved.labeling]:
        given = saved.model if labeling == saved.labeling else {}
        for role, checkpoint in _checkpoints(labeling):
            name = _name(checkpoint, given.get(role))
            published = PUBLISHED.get(name.partition("@")[0])
            yield CardModel(role, name, published.licence if published else "")


def _checkpoints(labeling: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Role and identity of each model."""
    for key, value in labeling.items():
        if isinstance(value, dict):
            yield from _checkpoints(value)
        elif key in ROLES and value:
            yield ROLES[key], str(value)


def _name(checkpoint: str, given: Any) -> str:
    """A checkpoint as others know it: without the folders of this machine, and without passwords.

    Args:
        checkpoint: its ``model_identity``.
        given: what the user named, if that is known.
    """
    if not checkpoint.startswith(DIGEST):
        return without_secrets(checkpoint)
    if embedded := _embedded().get(checkpoint):
        return embedded
    name = PurePosixPath(str(given or "").replace("\\", "/")).name
    return f"{name} ({checkpoint})" if name else checkpoint


@lru_cache(maxsize=1)
def _embedded() -> dict[str, str]:
    return {model_identity(name): name for name in embedded_models()}


def _folders(images: Mapping[str, int]) -> dict[str, str]:
    """The files of each split for the Hugging Face Hub."""
    present = (hugging_face.FOLDERS[split] for split in SPLITS if images.get(split))
    return {folder: f"hf/{folder}/**" for folder in present}
