"""Taggers wrapped for the device they run on, as labelers are; see ``labeler.models.labelers.on_device``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from labeler.models.config import ModelConfig
from labeler.models.devices import cpu_threads, device_checked, limit_threads, resolved_device, synchronizer
from ontologies.taggers import Image, Tagger, Tags


def tagger_on_device(tagger: Tagger, config: ModelConfig) -> Tagger:
    """``tagger``, wrapped for the device that ``config`` names."""
    device = resolved_device(config.device)
    if device == "cpu":
        return SingleImageTagger(tagger, cpu_threads(config), limit_threads)
    return DeviceCheckedTagger(tagger, synchronizer(device)) if device.startswith("cuda") else tagger


class SingleImageTagger:
    """Tags each image on its own, several at a time, one thread per image; see ``SingleImageLabeler``."""

    def __init__(self, tagger: Tagger, threads: int, limit_threads: Callable[[], None]) -> None:
        self._tagger = tagger
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="tags", initializer=limit_threads)

    def tag(self, images: Sequence[Image]) -> list[Tags]:
        return list(self._pool.map(lambda image: self._tagger.tag([image])[0], images))

    @property
    def unparsed(self) -> int:
        return getattr(self._tagger, "unparsed", 0)


@dataclass(frozen=True)
class DeviceCheckedTagger:
    """Raises ``DeviceError`` if the GPU fails, rather than an image; see ``device_checked``."""

    tagger: Tagger
    synchronize: Callable[[], None]

    def tag(self, images: Sequence[Image]) -> list[Tags]:
        with device_checked(self.synchronize):
            return self.tagger.tag(images)

    @property
    def unparsed(self) -> int:
        return getattr(self.tagger, "unparsed", 0)
