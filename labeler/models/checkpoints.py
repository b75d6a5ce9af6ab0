"""Loads checkpoints from this package, a folder, the hub's cache or the hub; incomplete ones are refused."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from labeler.errors import ModelError
from labeler.files.retries import retrying
from labeler.models.config import AUTO_BATCH
from labeler.models.devices import resolved_device, torch_dtype
from labeler.models.identity import is_on_this_machine, resolve

if TYPE_CHECKING:
    from labeler.models.config import ModelConfig
    from labeler.models.runtime import Runtime

logger = logging.getLogger(__name__)

# The class that loads the part of SAM 3 that takes text, by model type. ``facebook/sam3`` is a ``sam3_video``.
SAM3_CLASSES = {"sam3": "Sam3Model", "sam3_video": "Sam3Model", "sam3_lite_text": "Sam3LiteTextModel"}
# transformers 5.24 saves the tracker of a ``sam3_video`` with its prefix twice, and does not find it again.
KEY_MAPPINGS = {"sam3_video": {r"^tracker_model\.tracker_model\.": "tracker_model."}}
AUTOCAST_ROLES = ("detector", "segmenter")  # of models whose forward passes all run under ``Runtime.autocast``
HUB_CHECK_WAITS = (0.5, 1.0)  # seconds between retries; short, so that a machine without a network fails fast


def load_checkpoint(
    source: str, role: str, auto_class: str | Mapping[str, str], kinds: Any, config: ModelConfig
) -> tuple[Any, Any, Runtime]:
    """The model in evaluation mode on its device, its processor, and its ``Runtime``.

    Code that comes with a checkpoint is never run.

    Args:
        source: hub id, folder or embedded model.
        role: the flag that names the model, without ``--``; for messages.
        auto_class: the class of ``transformers`` that loads the model, or that class for each model type.
        kinds: the allowed model types; None for all that ``auto_class`` knows.

    Raises:
        ModelError: it cannot be found or loaded, or is of another type.
        UsageError: this machine does not have ``config.device``.
    """
    import transformers

    from labeler.models.precision import lower_weights
    from labeler.models.runtime import Runtime

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()  # of reading weights; that also hides the bars of downloads
    device = resolved_device(config.device)
    if device.startswith("cuda"):
        # Its checks of tensors make the CPU wait for the GPU several times in a forward pass.
        os.environ.setdefault("TRANSFORMERS_DISABLE_TORCH_CHECK", "1")
    name, revision = resolve(source, role)

    def read(**options: bool) -> tuple[Any, Any]:
        # Without trust_remote_code, transformers would ask on the terminal whether to run the checkpoint's code.
        options = {**options, "trust_remote_code": False}
        model_type = transformers.AutoConfig.from_pretrained(name, revision=revision, **options).model_type
        if kinds is not None and model_type not in kinds:
            raise wrong_type(source, role, model_type, kinds)
        loader = auto_class if isinstance(auto_class, str) else auto_class[model_type]
        return _read(name, loader, KEY_MAPPINGS.get(model_type), revision=revision, **options)

    reached = os.path.isdir(name)
    try:
        try:
            model, processor = retrying(lambda: read(local_files_only=True))
        except ModelError:
            raise
        except Exception as error:
            if reached or _needs_own_code(error):
                raise
            # Check first that the hub answers. Without a network, from_pretrained would retry for half a minute.
            ask_hub(name, revision)
            reached = True
            with _shown_download(source, role):
                model, processor = retrying(read)
    except ModelError:
        raise
    except Exception as error:  # a damaged folder can raise anything
        raise ModelError(_message(source, role, error, reached)) from error
    dtype, takes_all = torch_dtype(config.precision, device), config.batch_size == AUTO_BATCH
    runtime = Runtime(device, dtype, config.images_per_pass, config.floor, takes_all)
    if role in AUTOCAST_ROLES:
        lower_weights(model, runtime.dtype)
    return model.to(device).eval(), processor, runtime


@contextmanager
def _shown_download(source: str, role: str) -> Iterator[None]:
    """Say that a model is downloaded, and on a terminal show the bars of ``huggingface_hub`` meanwhile."""
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    logger.warning("%s %r is not on this machine; downloading it from the hub", role, source)
    may_show = logger.isEnabledFor(logging.WARNING) and not constants.HF_HUB_DISABLE_PROGRESS_BARS
    if may_show and sys.stderr.isatty():
        enable_progress_bars()
    try:
        yield
    finally:
        disable_progress_bars()


def check_available(source: str, role: str) -> str | None:
    """Check that a model is on this machine, or else that the hub has it; nothing is downloaded.

    Returns:
        The model's type, if the hub was asked and told it.

    Raises:
        ModelError: neither is the case.
    """
    name, revision = resolve(source, role)
    if is_on_this_machine(source):
        return None
    try:
        return ask_hub(name, revision)
    except Exception as error:
        raise ModelError(_message(source, role, error, reached=False)) from error


def ask_hub(name: str, revision: str | None) -> str | None:
    """Check that the hub has a model and lets this account download it; anyone can see a gated model.

    Returns:
        The model's type, if the hub tells it.

    Raises:
        Exception: of the hub's client or its HTTP library, if not.
    """
    from huggingface_hub import HfApi

    model = retrying(lambda: HfApi().model_info(name, revision=revision, timeout=10), HUB_CHECK_WAITS)
    if model.gated:
        retrying(lambda: HfApi().auth_check(name), HUB_CHECK_WAITS)
    found = model.config.get("model_type") if isinstance(model.config, dict) else None
    return found if isinstance(found, str) else None


def gated_line(name: str, error: Exception) -> str | None:
    """What to do if ``error``, or what caused it, is that access to the model must be asked for; None if not."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError

    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    if not any(isinstance(link, GatedRepoError) for link in chain):
        return None
    return (
        f"is gated; ask for access on its page, {constants.ENDPOINT}/{name}, then log in with `hf auth login` or set "
        "HF_TOKEN"
    )


def wrong_type(source: str, role: str, model_type: str, known: Iterable[str]) -> ModelError:
    """The error for a checkpoint of a type that cannot be used in its role."""
    hint = "; SAM 3 needs --labeler sam3" if role == "detector" and model_type in SAM3_CLASSES else ""
    return ModelError(f"{role} {source!r} is of type {model_type!r}; known types: {', '.join(known)}{hint}")


def _read(name: str, auto_class: str, key_mapping: dict[str, str] | None, **options: Any) -> tuple[Any, Any]:
    """Model and processor.

    Args:
        key_mapping: new names of weights, by the pattern of the old.
        options: those of ``from_pretrained``.

    Raises:
        ValueError: the checkpoint is incomplete.
    """
    import torch
    import transformers

    processor = transformers.AutoProcessor.from_pretrained(name, **options)
    model, report = getattr(transformers, auto_class).from_pretrained(
        name,
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # reported by _check_complete
        key_mapping=key_mapping,
        **options,
    )
    _check_complete(model, processor, report)
    return model, processor


def _check_complete(model: Any, processor: Any, report: dict[str, Any]) -> None:
    """Refuse missing weights, which ``transformers`` silently replaces by random ones, and a missing vocabulary.

    Raises:
        ValueError: weights or vocabulary are missing.
    """
    unfit = sorted([*report["missing_keys"], *(key[0] for key in report["mismatched_keys"])])
    if unfit:
        raise ValueError(
            f"the weights do not fit config.json: {len(unfit)} are missing or have another shape, such as {unfit[0]}"
        )
    tokenizer, text = getattr(processor, "tokenizer", None), getattr(model.config, "text_config", None)
    if tokenizer is not None and text is not None and 2 * len(tokenizer) < text.vocab_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} tokens and the model {text.vocab_size}; "
            "are the tokenizer's files missing?"
        )


def _needs_own_code(error: Exception) -> bool:
    """Whether ``transformers`` refused a checkpoint because it comes with code to run."""
    return "trust_remote_code" in str(error)


def _message(source: str, role: str, error: Exception, reached: bool) -> str:
    if _needs_own_code(error):
        return (
            f"{role} {source!r} needs code of its own, which is never run; use a checkpoint of a type that "
            "transformers knows"
        )
    name = source.partition("@")[0]
    if gated := gated_line(name, error):
        return f"{role} {source!r} {gated}"
    if reached:
        reason = " ".join(str(error).split()) or type(error).__name__
        return f"{role} {source!r} cannot be loaded: {reason:.300}"
    return (
        f"{role} {source!r} is not on this machine and could not be downloaded; on a machine with a network, run "
        f"`labeler models --fetch {source} --to models`, then copy models/{name.split('/')[-1]} here and give it as "
        f"--{role}"
    )
