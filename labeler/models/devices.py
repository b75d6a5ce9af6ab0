"""Devices, precisions and threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from labeler.errors import DeviceError, UsageError
from labeler.models.config import ModelConfig


def resolved_device(device: str) -> str:
    """The device to run on: ``auto`` becomes ``cuda``, ``mps`` or ``cpu``, whichever comes first on this machine.

    Raises:
        UsageError: this machine has no such device.
    """
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    kind, _, number = device.partition(":")
    if not available[kind] or (number and int(number) >= torch.cuda.device_count()):
        raise UsageError(f"device {device!r} is not on this machine; use --device cpu or --device auto")
    return device


def torch_dtype(precision: str, device: str) -> Any:
    """The ``torch.dtype`` of a precision; ``auto`` is explained in ``ModelConfig``."""
    import torch

    if precision == "auto":
        precision = "fp32" if not device.startswith("cuda") else "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def cpu_threads(config: ModelConfig) -> int:
    """How many images a CPU processes at the same time, one thread each."""
    import torch

    return min(torch.get_num_threads(), config.images_per_pass)


def limit_threads() -> None:
    """Make torch kernels that this thread calls run on this thread alone."""
    import torch

    torch.set_num_threads(1)


def synchronizer(device: str) -> Callable[[], None]:
    """A function that waits for all work on a CUDA device. It raises if the device no longer responds."""
    import torch

    return lambda: torch.cuda.synchronize(device)


def has_room_to_double(device: str) -> bool:
    """Whether a CUDA device has memory for twice of what this process has used at most so far."""
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return 2 * torch.cuda.max_memory_allocated(device) <= free + torch.cuda.memory_reserved(device)


@contextmanager
def device_checked(synchronize: Callable[[], None]) -> Iterator[None]:
    """Tell an image that fails from a GPU that fails.

    After some errors, such as an illegal memory access, every later call of this process to its GPU fails. Without this
    check, every remaining image would be recorded as unreadable.

    Args:
        synchronize: see ``synchronizer``.

    Raises:
        DeviceError: the block raised, and ``synchronize`` raises too.
    """
    try:
        yield
    except Exception:
        try:
            synchronize()
        except Exception as error:
            cause = (str(error).splitlines() or [type(error).__name__])[0]
            raise DeviceError(f"the GPU no longer responds ({cause}); re-run the same command to resume") from error
        raise
