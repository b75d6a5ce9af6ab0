"""Where a checkpoint is, and what tells one model from another."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from labeler.errors import ModelError
from labeler.files.retries import retrying

EMBEDDED = "embedded:"
# What the embedded detector was trained on: every colour with every shape of ``labeler.demo.scenes``, in its order.
EMBEDDED_CLASSES = tuple(
    f"{colour} {shape}"
    for colour in ("red", "green", "blue", "yellow", "purple", "orange", "white", "black")
    for shape in ("circle", "square", "triangle", "star", "ring", "cross", "heart", "crescent")
)
WEIGHTS = Path(__file__).parents[1] / "demo" / "weights"
CHECKPOINT_FILES = (".pth", ".pt")  # of models that come as a single one


def resolve(source: str, role: str) -> tuple[str, str | None]:
    """What ``from_pretrained`` takes: a folder or hub id, and a revision."""
    if source.startswith(EMBEDDED):
        if source not in embedded_models():
            raise ModelError(f"{role} {source!r}: this package embeds {', '.join(embedded_models())}")
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
    return [f"{EMBEDDED}{folder.name}" for folder in sorted(WEIGHTS.iterdir()) if folder.is_dir()]


def model_identity(source: str) -> str:
    """What tells one model from another: the hub id as it is, or for a folder or file a digest of what is in it."""
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


def may_fetch() -> bool:
    """Whether the hub may be asked: ``HF_HUB_OFFLINE`` forbids it."""
    from huggingface_hub import constants

    return not constants.HF_HUB_OFFLINE


def is_on_this_machine(source: str) -> bool:
    """Whether a model loads without a network: embedded, a folder, or in the hub's cache."""
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
