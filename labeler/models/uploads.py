"""Images on a GPU: sent once for all models, and ahead of them by other threads.

The pixels travel on a stream of their own, so that the models compute meanwhile.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from labeler.models.detectors.detector import Image

MOST_BYTES = 512 * 2**20  # of images that wait on a device; further ones are sent when a model asks for them


@dataclass(frozen=True, eq=False)
class _Sent:
    image: weakref.ref[Image]
    pixels: Tensor


class Uploads:
    """Images that are on a device until they are forgotten or deleted. Several threads may use it at once.

    Args:
        send: copies the pixels of an image to a device, uint8 ``(H, W, 3)``.
    """

    def __init__(self, send: Callable[[Image, str], Tensor], most_bytes: int = MOST_BYTES) -> None:
        self._send = send
        self._most_bytes = most_bytes
        self._sent: dict[tuple[int, str], _Sent] = {}

    def ahead(self, image: Image, device: str) -> None:
        """Send an image before a model asks for it. Without room on the device, nothing happens."""
        key = (id(image), device)
        waiting = sum(sent.pixels.nbytes for sent in list(self._sent.values()))
        if self._found(image, device) is not None or waiting + image.nbytes > self._most_bytes:
            return
        try:
            pixels = self._send(image, device)
        except RuntimeError:  # out of memory, or the device failed: the models will meet it, where it is handled
            return
        self._sent[key] = _Sent(weakref.ref(image, lambda _: self._sent.pop(key, None)), pixels)

    @contextmanager
    def shared(self, images: Sequence[Image], device: str) -> Iterator[None]:
        """The models in this block share one upload of each image. It is forgotten at the end: the image may change."""
        try:
            for image in images:
                self.ahead(image, device)
            yield
        finally:
            for image in images:
                self._sent.pop((id(image), device), None)

    def pixels(self, image: Image, device: str) -> Tensor:
        """The pixels of an image on the device, uint8 ``(H, W, 3)``."""
        found = self._found(image, device)
        if found is None:
            return torch.from_numpy(image).to(device)
        if found.is_cuda:  # its memory must not be used anew before this stream is done with it
            found.record_stream(torch.cuda.current_stream(found.device))
        return found

    def _found(self, image: Image, device: str) -> Tensor | None:
        sent = self._sent.get((id(image), device))
        return sent.pixels if sent is not None and sent.image() is image else None


@lru_cache
def _stream(device: str) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _to_gpu(image: Image, device: str) -> Tensor:
    with torch.cuda.stream(_stream(device)):
        return torch.from_numpy(image).to(device)  # from ordinary memory, so the copy is done when this returns


UPLOADS = Uploads(_to_gpu)
