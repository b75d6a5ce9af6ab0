"""What can be told of models and devices before anything is loaded, so that a mistake costs no time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from labeler.errors import ModelError, UsageError
from labeler.models.checkpoints import check_available, wrong_type
from labeler.models.config import ModelConfig
from labeler.models.detectors.known_classes import KnownClasses
from labeler.models.devices import resolved_device
from labeler.models.identity import ULTRALYTICS, is_ultralytics, local_config, resolve
from labeler.models.kinds.grounded_sam import detector_models
from labeler.models.kinds.kind import LabelerKind, NeededModel, check_kind, innermost
from labeler.models.kinds.kinds import KINDS
from labeler.models.loading import CLOSED_SET_TYPES, SEGMENTER_TYPES
from labeler.models.taggers.config import TaggingConfig, no_detector
from ontologies.documents import DocumentError, parse_json

WEIGHTS = ("*.safetensors", "*.bin", "*.safetensors.index.json")


def check_models(
    labeler: LabelerKind, config: ModelConfig, tagging: TaggingConfig | None, tags_only: bool, ask_hub: bool
) -> dict[str, str]:
    """Check that the models of a run are there, and of the types that they are used as. No weights are read.

    Args:
        tags_only: only the tagger runs.
        ask_hub: a model that is not on this machine must be on the hub.

    Returns:
        The model types that the hub told, by source.

    Raises:
        ModelError, UsageError, OntologyError: one is not, or a package is missing.
    """
    told = {}
    if tagging and tagging.kind(config) == "ram":
        _check_ram(tagging)
    if ask_hub and not tags_only:
        check_kind(innermost(labeler))
    for needed in _needed(labeler, config, tagging, tags_only):
        if ULTRALYTICS in (needed.types or ()) and is_ultralytics(needed.source):
            _check_ultralytics(needed.source)
            continue
        name, _ = resolve(needed.source, needed.role)
        if os.path.isdir(name):
            _check_folder(Path(name), needed)
        elif ask_hub and (model_type := check_available(needed.source, needed.role)):
            told[needed.source] = model_type
    return told


def check_classes(labeler: LabelerKind, config: ModelConfig, prompts: Sequence[str]) -> None:
    """Check that a detector with a fixed list of classes knows what ``prompts`` mean, as far as its config.json tells.

    Raises:
        UsageError: it has no such class.
    """
    for needed in labeler.models(config):
        content = local_config(needed.source) if needed.role == "detector" else {}
        names = content.get("id2label")
        if isinstance(names, dict) and content.get("model_type") in CLOSED_SET_TYPES:
            known = KnownClasses(dict(enumerate(map(str, names.values()))), f"detector {needed.source!r}")
            known.columns(prompts)


def check_device(device: str) -> None:
    """Check that this machine has ``device``.

    Raises:
        UsageError: it has not.
    """
    if device not in ("auto", "cpu"):  # these are everywhere, and torch takes seconds to import
        resolved_device(device)


def check_segmenter(segmenter: str) -> None:
    """Check that a segmenter is on this machine or on the hub, and of a type that takes clicks.

    Raises:
        ModelError: it is not.
    """
    name, _ = resolve(segmenter, "segmenter")
    if os.path.isdir(name):
        _check_folder(Path(name), NeededModel(segmenter, "segmenter", SEGMENTER_TYPES))
    else:
        check_available(segmenter, "segmenter")


def _needed(
    labeler: LabelerKind, config: ModelConfig, tagging: TaggingConfig | None, tags_only: bool
) -> Iterator[NeededModel]:
    kind = tagging.kind(config) if tagging else None
    needed = [] if tags_only else list(labeler.models(config))
    if kind == "detector" and not any(each.role == "detector" for each in needed):
        if not tags_only and innermost(labeler).kind in KINDS:
            raise no_detector()
        yield from detector_models(config)
    yield from needed
    if tagging and kind != "ram" and (source := tagging.source(config)):
        yield NeededModel(source, "tagger-model")


def _check_folder(folder: Path, needed: NeededModel) -> None:
    try:
        content = parse_json((folder / "config.json").read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{needed.role} {needed.source!r}: that folder holds no config.json of a model") from None
    except (OSError, DocumentError):
        return  # loading it says what is wrong
    kind = content.get("model_type") if isinstance(content, dict) else None
    if needed.types is not None and isinstance(kind, str) and kind not in needed.types:
        raise wrong_type(needed.source, needed.role, kind, needed.types)
    if not any(next(folder.glob(pattern), None) for pattern in WEIGHTS):
        raise ModelError(f"{needed.role} {needed.source!r}: that folder holds no weights (*.safetensors or *.bin)")


def _check_ultralytics(source: str) -> None:
    if not Path(source).expanduser().is_file():
        raise ModelError(f"detector {source!r}: no such checkpoint file")
    if find_spec("ultralytics") is None:
        raise ModelError(
            f"detector {source!r} needs the package ultralytics, whose licence is AGPL-3.0; install it with "
            "pip install 'autodistill-labeler[ultralytics]'"
        )


def _check_ram(tagging: TaggingConfig) -> None:
    from ontologies.taggers.ram import check_ram

    if tagging.tagger_model is None:
        raise UsageError("--tagger ram needs --tagger-model FILE, a checkpoint published by RAM's authors")
    check_ram(tagging.tagger_model)
