"""Where a checkpoint is, and what identifies a model."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from labeler.errors import ModelError
from labeler.files.retries import retrying
from ontologies.documents import DocumentError, parse_json

EMBEDDED = "embedded:"
# The classes that the embedded detector was trained on: ``labeler.demo.scenes.PAIRS`` as names, in the same order.
EMBEDDED_CLASSES = tuple(
    f"{colour} {shape}"
    for colour in ("red", "green", "blue", "yellow", "purple", "orange", "white", "black")
    for shape in ("circle", "square", "triangle", "star", "ring", "cross", "heart", "crescent")
)
WEIGHTS = Path(__file__).parents[1] / "demo" / "weights"
CHECKPOINT_FILES = (".pth", ".pt")  # models that come as a single file
ULTRALYTICS = "ultralytics"  # stands for the model type that such a file does not tell without running its code


def resolve(source: str, role: str) -> tuple[str, str | None]:
    """The folder or hub id, and the revision, that ``from_pretrained`` takes for ``source``.

    Args:
        role: the flag that names the model, without ``--``; for messages.

    Raises:
        ModelError: there is no such folder or embedded model, or ``source`` is not a hub id.
    """
    if not source:
        raise ModelError(f"{role} '' names no model; add --{role} with a hub id or a folder")
    if source.startswith(EMBEDDED):
        if source not in embedded_models():
            raise ModelError(f"{role} {source!r}: the embedded models are {', '.join(embedded_models())}")
        return str(WEIGHTS / source.removeprefix(EMBEDDED)), None
    if os.path.isdir(os.path.expanduser(source)):
        return os.path.expanduser(source), None
    if source.startswith((".", "/", "~")) or source.count("/") > 1 or "\\" in source:
        raise ModelError(f"{role} {source!r}: no such folder")
    name, _, revision = source.partition("@")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name, re.ASCII):
        raise ModelError(f"{role} {source!r} is neither a folder nor a hub id (owner/name)")
    return name, revision or None


def embedded_models() -> list[str]:
    """The models that ship with this package, as ``embedded:NAME``."""
    return [f"{EMBEDDED}{folder.name}" for folder in sorted(WEIGHTS.iterdir()) if folder.is_dir()]


def model_identity(source: str) -> str:
    """The identity of a model: its hub id (and revision), or for a local folder or file the digest of its content.

    Raises:
        ModelError: see ``resolve``; or there is no such checkpoint file.
    """
    file = Path(source).expanduser()
    if file.is_file():
        return f"blake2b:{retrying(lambda: _digest([file]))}"
    if file.suffix in CHECKPOINT_FILES:
        raise ModelError(f"{source}: no such checkpoint file")
    name, revision = resolve(source, "model")
    if not os.path.isdir(name):
        return f"{name}@{revision}" if revision else name
    weights = (".json", ".safetensors", ".bin", ".txt")
    return f"blake2b:{retrying(lambda: _digest(sorted(p for p in Path(name).iterdir() if p.suffix in weights)))}"


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        digest.update(path.name.encode())
        with open(path, "rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def is_ultralytics(detector: str) -> bool:
    """Whether a detector is a checkpoint file of Ultralytics."""
    return Path(detector).suffix == ".pt"


def local_model_type(source: str) -> str | None:
    """The ``model_type`` of a checkpoint on this machine, ``ULTRALYTICS`` for such a file; None if it is not known."""
    if is_ultralytics(source):
        return ULTRALYTICS
    found = local_config(source).get("model_type")
    return found if isinstance(found, str) else None


def local_config(source: str) -> dict[str, object]:
    """The ``config.json`` of a checkpoint on this machine; empty if it is not here or cannot be read."""
    try:
        name, revision = resolve(source, "model")
        file: object = os.path.join(name, "config.json")
        if not os.path.isdir(name):
            from huggingface_hub import try_to_load_from_cache

            file = try_to_load_from_cache(name, "config.json", revision=revision)
        content = parse_json(Path(file).read_bytes()) if isinstance(file, str) else None
    except (ModelError, OSError, DocumentError):
        return {}  # what checks or loads the model says what is wrong
    return content if isinstance(content, dict) else {}


def may_fetch() -> bool:
    """Whether models may be downloaded: not if ``HF_HUB_OFFLINE`` is set."""
    from huggingface_hub import constants

    return not constants.HF_HUB_OFFLINE


def is_on_this_machine(source: str) -> bool:
    """Whether a model loads without a network: it is embedded, a folder, or in the hub's cache."""
    try:
        name, revision = resolve(source, "model")
    except ModelError:
        return False
    if os.path.isdir(name):
        return True
    from huggingface_hub import try_to_load_from_cache

    def cached(file: str) -> bool:
        return isinstance(try_to_load_from_cache(name, file, revision=revision), str)

    weights = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
    return cached("config.json") and any(map(cached, weights))
