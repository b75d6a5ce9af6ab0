"""Checkpoints: found in the hub's cache, the hub, a folder or this package, and loaded whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labeler.errors import ModelError, UsageError
from labeler.retries import retrying

if TYPE_CHECKING:
    from labeler.detectors import Runtime
    from labeler.models import ModelConfig

EMBEDDED = "embedded:"
WEIGHTS = Path(__file__).parent / "demo" / "weights"
CHECKPOINT_FILES = (".pth", ".pt")  # of models that come as a single one
QUESTION_WAITS = (0.5, 1.0)  # seconds: who has no network shall not wait long to be told


def load_checkpoint(
    source: str, role: str, auto_class: str, kinds: Any, config: ModelConfig
) -> tuple[Any, Any, Runtime]:
    """Model, processor and how to run them.

    Args:
        source: hub id, folder or embedded model.
        role: what an error calls it, and the flag that names it.
        auto_class: of ``transformers``.
        kinds: the model types that may be there; None for any that ``auto_class`` knows.

    Raises:
        ModelError: it cannot be found or loaded, or is of no such kind.
    """
    import torch
    import transformers
    from huggingface_hub import HfApi

    from labeler.detectors import Runtime

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    device = resolved_device(config.device)
    name, revision = _resolve(source, role)

    def read(**where: bool) -> tuple[Any, Any]:
        # Without the last argument, transformers would ask whether to run the checkpoint's own code.
        where = {**where, "trust_remote_code": False}
        model_type = transformers.AutoConfig.from_pretrained(name, revision=revision, **where).model_type
        if kinds is not None and model_type not in kinds:
            raise ModelError(f"{role} {source!r} is of type {model_type!r}; known types: {', '.join(kinds)}")
        processor = transformers.AutoProcessor.from_pretrained(name, revision=revision, **where)
        model, report = getattr(transformers, auto_class).from_pretrained(
            name,
            revision=revision,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below, in words
            **where,
        )
        _check_whole(model, processor, report)
        return model, processor

    reached = os.path.isdir(name)
    try:
        try:
            model, processor = retrying(lambda: read(local_files_only=True))
        except ModelError:
            raise
        except Exception as error:
            if reached or _wants_own_code(error):
                raise
            # One quick question; without a network, from_pretrained would retry for half a minute.
            retrying(lambda: HfApi().model_info(name, revision=revision, timeout=10), QUESTION_WAITS)
            reached = True
            model, processor = retrying(read)
    except ModelError:
        raise
    except Exception as error:  # a broken folder raises what its readers happen to raise
        raise ModelError(_why_not_loaded(source, role, error, reached)) from error
    runtime = Runtime(device, _dtype(config.precision, device), config.batch_size, config.floor)
    return model.to(device).eval(), processor, runtime


def _check_whole(model: Any, processor: Any, report: dict[str, Any]) -> None:
    """What ``transformers`` would fill in without a word: weights with random ones, a vocabulary with an empty one."""
    unfit = sorted([*report["missing_keys"], *(key[0] for key in report["mismatched_keys"])])
    if unfit:
        raise ValueError(
            f"the weights do not fit config.json: missing or of another shape are {len(unfit)}, such as {unfit[0]}"
        )
    tokenizer = getattr(processor, "tokenizer", None)
    if tokenizer is not None and 2 * len(tokenizer) < model.config.text_config.vocab_size:
        raise ValueError(
            f"its tokenizer has {len(tokenizer)} tokens and the model {model.config.text_config.vocab_size}; "
            "are the tokenizer's files there?"
        )


def _resolve(source: str, role: str) -> tuple[str, str | None]:
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


def _wants_own_code(error: Exception) -> bool:
    """Whether a checkpoint was refused since it brings code that would have to run."""
    return "trust_remote_code" in str(error)


def _why_not_loaded(source: str, role: str, error: Exception, reached: bool) -> str:
    if _wants_own_code(error):
        return (
            f"{role} {source!r} needs code of its own, which is never run; take a checkpoint of a type that "
            "transformers knows"
        )
    if reached:
        reason = " ".join(str(error).split()) or type(error).__name__
        return f"{role} {source!r} cannot be loaded: {reason:.300}"
    name = source.partition("@")[0]
    return (
        f"{role} {source!r} is not on this machine and could not be fetched; where there is a network run "
        f"`hf download {name} --local-dir {name.split('/')[-1]}`, then give that folder as --{role}"
    )


def resolved_device(wanted: str) -> str:
    """The device that ``wanted`` stands for.

    Raises:
        UsageError: it is not on this machine.
    """
    import torch

    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if has[device])
    kind, _, number = wanted.partition(":")
    if not has[kind] or (number and int(number) >= torch.cuda.device_count()):
        raise UsageError(f"device {wanted!r} is not on this machine; take --device cpu or auto")
    return wanted


def _dtype(precision: str, device: str) -> Any:
    import torch

    if precision == "auto":
        precision = "fp32" if not device.startswith("cuda") else "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def model_identity(source: str) -> str:
    """What tells one model from another: the hub id as it is, or for a folder or file a digest of what is in it."""
    file = Path(source).expanduser()
    if file.is_file():
        return f"blake2b:{retrying(lambda: _digest([file]))}"
    if file.suffix in CHECKPOINT_FILES:
        raise ModelError(f"{source}: no such checkpoint file")
    name, revision = _resolve(source, "model")
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
        name, revision = _resolve(source, "model")
    except ModelError:
        return False
    if os.path.isdir(name):
        return True
    from huggingface_hub import try_to_load_from_cache

    def cached(file: str) -> bool:
        return isinstance(try_to_load_from_cache(name, file, revision=revision), str)

    weights = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
    return cached("config.json") and any(map(cached, weights))
