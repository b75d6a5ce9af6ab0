"""Which models there are, and how they are loaded: from the hub's cache, the hub, a folder, or this package."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labeler.errors import ModelError, UsageError
from labeler.retries import retrying

if TYPE_CHECKING:
    from labeler.detectors import Detector, Runtime
    from labeler.labelers import GroundedSamLabeler, Labeler
    from labeler.segmenters import Segmenter

EMBEDDED = "embedded:"
WEIGHTS = Path(__file__).parent / "demo" / "weights"
DEVICES = ("auto", "cpu", "mps", "cuda", "cuda:N")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
QUESTION_WAITS = (0.5, 1.0)  # seconds: who has no network shall not wait long to be told


@dataclass(frozen=True)
class Preset:
    detector: str
    segmenter: str
    about: str


# Open, ungated weights only.
PRESETS = {
    "demo": Preset("embedded:detector", "embedded:segmenter", "coloured shapes only; ships with the package"),
    "fast": Preset("iSEE-Laboratory/llmdet_tiny", "facebook/sam2.1-hiera-tiny", "a laptop, or a first look"),
    "balanced": Preset(
        "openmmlab-community/mm_grounding_dino_base_all", "facebook/sam2.1-hiera-base-plus", "one GPU, good masks"
    ),
    "best": Preset("iSEE-Laboratory/llmdet_large", "facebook/sam2.1-hiera-large", "best labels, slowest"),
}


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides what the models answer, and how fast.

    Attributes:
        detector, segmenter: hub id (``owner/name`` or ``owner/name@revision``), folder, or ``embedded:…``.
        device: ``auto`` takes CUDA, then MPS, then the CPU.
        precision: ``auto`` is fp32 on CPU and MPS; on CUDA bf16 where the card has it, else fp16.
        batch_size: images in one forward, at most.
        prompts_per_caption: at most so many prompts in one forward of a grounding detector; None packs all that fit.
        floor: raw candidates with a lower class score are not kept.
        max_instances: raw candidates kept an image, at most.
        clean_share: specks and pinholes below this share of a mask are removed; 0 switches cleaning off.
    """

    detector: str
    segmenter: str
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 8
    prompts_per_caption: int | None = None
    floor: float = 0.1
    max_instances: int = 300
    clean_share: float = 0.01

    def __post_init__(self) -> None:
        is_device = re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]+)?", self.device) is not None
        _check("device", is_device, f"one of {', '.join(DEVICES)}", self.device)
        _check("precision", self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}", self.precision)
        _check("batch_size", self.batch_size >= 1, "1 or more", self.batch_size)
        _check("max_instances", self.max_instances >= 1, "1 or more", self.max_instances)
        _check("floor", 0 < self.floor <= 1, "above 0 and at most 1", self.floor)
        _check("clean_share", 0 <= self.clean_share < 0.5, "from 0 to below 0.5", self.clean_share)
        captions = self.prompts_per_caption
        _check("prompts_per_caption", captions is None or captions >= 1, "1 or more", captions)


def _check(name: str, holds: bool, expected: str, found: object) -> None:
    if not holds:
        raise UsageError(f"{name} must be {expected}, not {found!r}")


def load_labeler(config: ModelConfig) -> GroundedSamLabeler:
    """Both models of ``config``, ready to label.

    Raises:
        ModelError: a model cannot be found or loaded, or is of no kind known here.
    """
    from labeler.labelers import GroundedSamLabeler

    return GroundedSamLabeler(
        load_detector(config), load_segmenter(config), floor=config.floor, max_instances=config.max_instances
    )


def for_batches(labeler: Labeler, config: ModelConfig) -> Labeler:
    """A labeler for many images: CPU cores take images of their own, a lost GPU is told from a bad image."""
    from labeler.labelers import DeviceCheckedLabeler, SingleImageLabeler

    device = resolved_device(config.device)
    if device == "cpu":
        return SingleImageLabeler(labeler, cpu_threads(config), limit_threads)
    if device.startswith("cuda"):
        return DeviceCheckedLabeler(labeler, synchronizer(device))
    return labeler


def synchronizer(device: str) -> Callable[[], None]:
    """What waits for all work on a CUDA device, and raises if that is lost."""
    import torch

    return lambda: torch.cuda.synchronize(device)


def cpu_threads(config: ModelConfig) -> int:
    """Images at once on a CPU."""
    import torch

    return min(torch.get_num_threads(), config.batch_size)


def limit_threads() -> None:
    """Make kernels run on the calling thread alone."""
    import torch

    torch.set_num_threads(1)


def load_detector(config: ModelConfig) -> Detector:
    from labeler import detectors

    def grounding(model: Any, processor: Any, runtime: Runtime) -> Detector:
        return detectors.GroundingDinoDetector(model, processor, runtime, config.prompts_per_caption)

    kinds: dict[str, Callable[[Any, Any, Runtime], Detector]] = {
        "grounding-dino": grounding,
        "mm-grounding-dino": grounding,
        "owlv2": detectors.Owlv2Detector,
        "omdet-turbo": detectors.OmDetTurboDetector,
    }
    model, processor, runtime = load_checkpoint(
        config.detector, "detector", "AutoModelForZeroShotObjectDetection", kinds, config
    )
    return kinds[model.config.model_type](model, processor, runtime)


def load_segmenter(config: ModelConfig) -> Segmenter:
    from labeler.segmenters import SamSegmenter

    kinds = ("sam", "sam_hq", "sam2", "sam2_video", "edgetam", "edgetam_video")
    model, processor, runtime = load_checkpoint(
        config.segmenter, "segmenter", "AutoModelForMaskGeneration", kinds, config
    )
    return SamSegmenter(model, processor, runtime, config.clean_share)


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
        except Exception:
            if reached:
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


def _why_not_loaded(source: str, role: str, error: Exception, reached: bool) -> str:
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
    """What tells one model from another: the hub id as it is, or for a folder a digest of its files."""
    name, revision = _resolve(source, "model")
    if not os.path.isdir(name):
        return f"{name}@{revision}" if revision else name
    return f"blake2b:{retrying(lambda: _digest(Path(name)))}"


def _digest(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.iterdir()):
        if path.suffix in {".json", ".safetensors", ".bin", ".txt"}:
            digest.update(path.name.encode())
            with open(path, "rb") as file:
                while block := file.read(2**20):
                    digest.update(block)
    return digest.hexdigest()


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
