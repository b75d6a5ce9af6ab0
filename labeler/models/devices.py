"""Devices, precisions and threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labeler.errors import UsageError
from labeler.models.config import ModelConfig

if TYPE_CHECKING:
    from labeler.models.config import ModelConfig


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


def torch_dtype(precision: str, device: str) -> Any:
    import torch

    if precision == "auto":
        precision = "fp32" if not device.startswith("cuda") else "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
