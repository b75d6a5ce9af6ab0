"""Labelers wrapped for the device they run on: one thread per image on a CPU, failure checks on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labeler.models.config import ModelConfig
from labeler.models.devices import cpu_threads, device_checked, limit_threads, resolved_device, synchronizer
from labeler.models.labelers.labeler import Labeler, LabelRequest, PendingInstances, begin, detector_of
from labeler.models.uploads import UPLOADS
from labeler.records import Instance

if TYPE_CHECKING:
    from labeler.models.detectors.detector import Detector, Image


def labeler_on_device(labeler: Labeler, config: ModelConfig) -> Labeler:
    """``labeler``, wrapped for the device that ``config`` names."""
    device = resolved_device(config.device)
    if device == "cpu":
        return SingleImageLabeler(labeler, cpu_threads(config), limit_threads)
    return DeviceCheckedLabeler(labeler, synchronizer(device), device) if device.startswith("cuda") else labeler


class SingleImageLabeler:
    """Labels each image on its own, several at a time, one thread per image.

    CPU kernels split sums by batch size and thread count, which changes the last bits of a result. With one image and
    one thread per call, an image gets the same bits in any batch and on any number of cores. This is as fast as
    batching, because threads that work on different images never wait for each other.

    Args:
        labeler: called from several threads at once.
        threads: how many images to label at a time.
        limit_threads: called once in each thread; it must keep the models' kernels on the calling thread.
    """

    def __init__(self, labeler: Labeler, threads: int, limit_threads: Callable[[], None]) -> None:
        self._labeler = labeler
        self.detector = detector_of(labeler)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="image", initializer=limit_threads)

    def label(self, requests: Sequence[LabelRequest]) -> list[list[Instance]]:
        return list(self._pool.map(self._label_one, requests))

    def _label_one(self, request: LabelRequest) -> list[Instance]:
        return self._labeler.label([request])[0]


@dataclass(frozen=True)
class DeviceCheckedLabeler:
    """Raises ``DeviceError`` if the GPU fails, rather than an image; see ``device_checked``.

    Attributes:
        device: the GPU; images are sent to it once, whatever the number of models; None if they need not.
    """

    labeler: Labeler
    synchronize: Callable[[], None]
    device: str | None = None

    @property
    def detector(self) -> Detector | None:
        return detector_of(self.labeler)

    def label(self, requests: Sequence[LabelRequest]) -> list[list[Instance]]:
        with device_checked(self.synchronize), self._uploaded(requests):
            return self.labeler.label(requests)

    def begin(self, requests: Sequence[LabelRequest]) -> list[PendingInstances]:
        with device_checked(self.synchronize), self._uploaded(requests):
            return begin(self.labeler, requests)

    def prepare(self, image: Image) -> None:
        """See ``labeler.models.labelers.labeler.preparation``."""
        if self.device is not None:
            UPLOADS.ahead(image, self.device)

    def _uploaded(self, requests: Sequence[LabelRequest]) -> AbstractContextManager[None]:
        if self.device is None:
            return nullcontext()
        return UPLOADS.shared([request.pixels for request in requests], self.device)
