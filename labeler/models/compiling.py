"""``--compile``: ``torch.compile`` for the image encoders of detectors and segmenters.

They are compiled when a model is loaded, on made-up images, so a machine that cannot do it is told before the run.
Detectors that keep the aspect ratio get images of other shapes, too. Their encoders are compiled for each shape when it
comes, up to torch's limit of eight; beyond that, they run as without ``--compile``.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from labeler.errors import UsageError
from labeler.models.devices import limit_threads, synchronizer
from labeler.models.identity import local_model_type
from labeler.models.kinds.kind import innermost

if TYPE_CHECKING:
    from labeler.models.config import ModelConfig
    from labeler.models.kinds.kind import LabelerKind
    from labeler.models.runtime import Runtime
    from labeler.models.segmenters.sam import SamSegmenter

BACKEND = "inductor"
TIMED = 3  # the fastest of so many counts
SAMPLE = (480, 640)  # height and width of the made-up images
MOST_SAMPLES = 4  # images at a time, which surely fit
SAMPLE_BOXES = ((40, 30, 200, 240), (300, 100, 600, 400))  # xyxy

# Where the image encoder is in a model, by its type. Its code is for one height and width, and any number of images.
ENCODERS: Mapping[str, str] = {
    **dict.fromkeys(("grounding-dino", "mm-grounding-dino"), "model.backbone.encoder.conv_encoder.model"),
    "owlv2": "owlv2.vision_model",
    **dict.fromkeys(("sam", "sam_hq", "sam2", "sam2_video"), "vision_encoder"),
}


def check_compile(kind: LabelerKind, config: ModelConfig) -> None:
    """Refuse ``--compile`` for models that are not compiled.

    Raises:
        UsageError: it is so, as far as that is known before models are loaded.
    """
    if not config.compile:
        return
    labeler = innermost(kind)
    if "--compile" not in getattr(labeler, "flags", ()):
        raise UsageError(f"--compile: the labeler {labeler.kind} is not compiled; leave it out")
    for needed in labeler.models(config):
        model_type = local_model_type(needed.source)
        if needed.role in ("detector", "segmenter") and model_type is not None:
            _check_type(needed.role, model_type)


def _check_type(role: str, model_type: str) -> None:
    if model_type not in ENCODERS:
        raise UsageError(
            f"--compile: a {role} of type {model_type} is not compiled, only {', '.join(ENCODERS)}; leave it out"
        )


@dataclass(frozen=True)
class Gain:
    """What compiling gained on made-up images: milliseconds an image before and after, and what it took.

    Attributes:
        seconds: that compiling took.
    """

    before_ms: float
    after_ms: float
    seconds: float


GAINS: dict[str, Gain] = {}  # of the models of this process, by role and source


def compile_detector(detector: Any, model: Any, runtime: Runtime, source: str) -> None:
    """Compile ``model``, the model of ``detector``, in place; for the rest see ``compile_segmenter``."""
    image = _sample()
    _compile_parts(
        "detector", source, model, runtime, lambda images: detector.detect([image] * images, [("object",)] * images)
    )


def compile_segmenter(segmenter: SamSegmenter, source: str) -> None:
    """Compile the model of ``segmenter`` in place, and note in ``GAINS`` what that gains.

    Args:
        source: hub id, folder or embedded model; for messages.

    Raises:
        UsageError: this machine cannot compile, or models of this type are not compiled.
    """
    import numpy as np

    from labeler.models.segmenters.segmenter import SegmentPrompts

    image, prompts = _sample(), SegmentPrompts.of_boxes(np.array(SAMPLE_BOXES, np.float32))
    _compile_parts(
        "segmenter",
        source,
        segmenter.model,
        segmenter.runtime,
        lambda images: segmenter.segment([image] * images, [prompts] * images),
    )


def _compile_parts(role: str, source: str, model: Any, runtime: Runtime, run: Callable[[int], object]) -> None:
    """See ``compile_segmenter``.

    Args:
        role: the flag that names the model, without ``--``.
        run: labels so many made-up images, which runs all parts.
    """
    model_type = model.config.model_type
    _check_type(role, model_type)
    if (lacking := _lacking(runtime.device)) is not None:
        raise UsageError(f"--compile: {lacking}; leave it out")
    on_cpu = runtime.device == "cpu"
    images = 1 if on_cpu else min(runtime.batch_size, MOST_SAMPLES)
    # Code is for the number of threads that it was compiled with: on a CPU one, as in SingleImageLabeler.
    with ThreadPoolExecutor(1, initializer=limit_threads if on_cpu else None) as thread:
        gain = thread.submit(_compile, attrgetter(ENCODERS[model_type])(model), runtime.device, images, run)
        GAINS[f"{role} {source}"] = gain.result()


def _compile(encoder: Any, device: str, images: int, run: Callable[[int], object]) -> Gain:
    import torch
    from torch._dynamo.exc import TorchDynamoException

    before, plain = _milliseconds(images, device, run), encoder.forward
    compiled: Callable[..., Any] = torch.compile(plain, backend=BACKEND, dynamic=False)
    is_loading = True

    def forward(*args: Any, **options: Any) -> Any:
        for pixels in (*args, *options.values()):
            if isinstance(pixels, torch.Tensor):
                torch._dynamo.maybe_mark_dynamic(pixels, 0)
        try:
            return compiled(*args, **options)
        except TorchDynamoException:  # an image is labeled even if its shape cannot be compiled for
            if is_loading:
                raise
            return plain(*args, **options)

    encoder.forward = forward
    started = time.perf_counter()
    try:
        run(images)
    except Exception as error:
        reason = " ".join(str(error).splitlines()[:2]) or type(error).__name__  # the first names the backend alone
        raise UsageError(f"--compile: this machine cannot compile the model ({reason:.200}); leave it out") from error
    took, is_loading = time.perf_counter() - started, False
    return Gain(before, _milliseconds(images, device, run), took)


def _milliseconds(images: int, device: str, run: Callable[[int], object]) -> float:
    """For an image, at best."""
    wait = synchronizer(device) if device.startswith("cuda") else lambda: None
    run(images)
    wait()
    times = []
    for _ in range(TIMED):
        started = time.perf_counter()
        run(images)
        wait()
        times.append(time.perf_counter() - started)
    return 1000 * min(times) / images


def _lacking(device: str) -> str | None:
    """What this machine lacks to compile for ``device``; None if it seems to have all."""
    if device == "mps":
        return "there is no compiler for MPS, only for CUDA and CPUs"
    if device.startswith("cuda"):
        from torch.utils._triton import has_triton

        if not has_triton():
            return "Triton is not installed (`pip install triton`), or does not know this GPU"
        names = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]  # Triton builds small modules with it
    else:
        names = [os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")]
    if any(map(shutil.which, names)):
        return None
    return f"this machine has no compiler ({' or '.join(names)}), which torch.compile needs"


def _sample() -> Any:
    """uint8 ``(H, W, 3)``."""
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (*SAMPLE, 3), dtype=np.uint8)
