"""Checkpoints: found in the hub's cache, the hub, a folder or this package, and loaded whole or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from labeler.errors import ModelError
from labeler.files.retries import retrying
from labeler.models.devices import resolved_device, torch_dtype
from labeler.models.identity import resolve

if TYPE_CHECKING:
    from labeler.models.config import ModelConfig
    from labeler.models.runtime import Runtime

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

    from labeler.models.runtime import Runtime

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    device = resolved_device(config.device)
    name, revision = resolve(source, role)

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
    runtime = Runtime(device, torch_dtype(config.precision, device), config.batch_size, config.floor)
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
