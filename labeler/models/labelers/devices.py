"""Labelers and taggers wrapped for the device they run on: one thread per image on CPUs, a checked GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from labeler.errors import DeviceError
from labeler.models.detectors.detector import Image
from labeler.models.labelers.labeler import Labeler
from labeler.records import Instance
from ontologies import Ontology
from ontologies.taggers import Tagger, Tags


class SingleImageLabeler:
    """Labels every image alone, several at once, each on one thread.

    CPU kernels split a sum by the size of the batch and the number of threads, which changes the last bits of a
    result. Alone on one thread, an image gets the same bits in any company and on any number of cores. It takes no
    longer: cores that work on images of their own never wait for each other.

    Args:
        labeler: may be called from several threads.
        threads: images at once.
        limit_threads: called in each of these threads; makes the models' kernels run on the calling thread alone.
    """

    def __init__(self, labeler: Labeler, threads: int, limit_threads: Callable[[], None]) -> None:
        self._labeler = labeler
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="image", initializer=limit_threads)

    def label(self, images: Sequence[Image], ontologies: Sequence[Ontology]) -> list[list[Instance]]:
        return list(self._pool.map(self._label_one, images, ontologies))

    def _label_one(self, image: Image, ontology: Ontology) -> list[Instance]:
        return self._labeler.label([image], [ontology])[0]


class SingleImageTagger:
    """As ``SingleImageLabeler``, of a tagger."""

    def __init__(self, tagger: Tagger, threads: int, limit_threads: Callable[[], None]) -> None:
        self._tagger = tagger
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="tags", initializer=limit_threads)

    def tag(self, images: Sequence[Image]) -> list[Tags]:
        return list(self._pool.map(lambda image: self._tagger.tag([image])[0], images))

    @property
    def unparsed(self) -> int:
        return getattr(self._tagger, "unparsed", 0)


@dataclass(frozen=True)
class DeviceCheckedLabeler:
    """Tells an image that fails from a device that does.

    After some errors, such as an illegal memory access, everything that a process asks of its GPU fails. Without this,
    every image that follows would be taken for a bad one.

    Attributes:
        synchronize: raises if the device is lost; ``torch.cuda.synchronize``.
    """

    labeler: Labeler
    synchronize: Callable[[], None]

    def label(self, images: Sequence[Image], ontologies: Sequence[Ontology]) -> list[list[Instance]]:
        with _device_checked(self.synchronize):
            return self.labeler.label(images, ontologies)


@dataclass(frozen=True)
class DeviceCheckedTagger:
    """As ``DeviceCheckedLabeler``, of a tagger."""

    tagger: Tagger
    synchronize: Callable[[], None]

    def tag(self, images: Sequence[Image]) -> list[Tags]:
        with _device_checked(self.synchronize):
            return self.tagger.tag(images)

    @property
    def unparsed(self) -> int:
        return getattr(self.tagger, "unparsed", 0)


@contextmanager
def _device_checked(synchronize: Callable[[], None]) -> Iterator[None]:
    try:
        yield
    except Exception:
        try:
            synchronize()
        except Exception as error:
            cause = (str(error).splitlines() or [type(error).__name__])[0]
            raise DeviceError(f"the GPU is lost to this process ({cause}); run the same command again") from error
        raise
