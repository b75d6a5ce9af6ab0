"""What is sent to a device, counted; the device is this machine's memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from labeler.models.labelers import on_device
from labeler.models.labelers.labeler import LabelRequest, preparation
from labeler.models.labelers.on_device import DeviceCheckedLabeler
from labeler.models.uploads import Uploads
from labeler.records import Instance
from ontologies import Ontology

Pixels = NDArray[np.uint8]


class Device:
    def __init__(self) -> None:
        self.sent = 0

    def send(self, image: Pixels, device: str) -> Tensor:
        self.sent += 1
        return torch.from_numpy(image.copy())


def image(value: int) -> Pixels:
    return np.full((4, 5, 3), value, np.uint8)


def test_models_share_an_upload_that_ends_with_the_call() -> None:
    device, pixels = Device(), image(1)
    uploads = Uploads(device.send)
    for value in (1, 2):  # the caller may write to its array between two calls
        pixels[:] = value
        with uploads.shared([pixels], "cpu"):
            for _ in range(2):
                assert uploads.pixels(pixels, "cpu").tolist() == pixels.tolist()
    assert device.sent == 2
    pixels[:] = 3
    assert uploads.pixels(pixels, "cpu").tolist() == pixels.tolist()


def test_an_image_that_is_deleted_makes_room() -> None:
    device = Device()
    uploads = Uploads(device.send, most_bytes=2 * image(0).nbytes)
    for value in range(5):
        pixels = image(value)  # often where the one before it was
        uploads.ahead(pixels, "cpu")
        uploads.ahead(pixels, "cpu")
        assert uploads.pixels(pixels, "cpu")[0, 0].tolist() == [value] * 3
    assert device.sent == 5


def test_bytes_are_bounded() -> None:
    device, images = Device(), [image(value) for value in range(4)]
    uploads = Uploads(device.send, most_bytes=2 * images[0].nbytes)
    with uploads.shared(images, "cpu"):
        assert [int(uploads.pixels(each, "cpu")[0, 0, 0]) for each in images] == [0, 1, 2, 3]
    assert device.sent == 2


def test_a_full_device_is_left_to_the_models() -> None:
    def full(pixels: Pixels, device: str) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    pixels, uploads = image(7), Uploads(full)
    uploads.ahead(pixels, "cpu")
    assert uploads.pixels(pixels, "cpu").tolist() == pixels.tolist()


def test_a_labeler_on_a_device_sends_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device()
    uploads = Uploads(device.send)
    monkeypatch.setattr(on_device, "UPLOADS", uploads)
    seen: list[list[int]] = []

    class Sees:
        def label(self, requests: Sequence[LabelRequest]) -> list[list[Instance]]:
            seen.append([int(uploads.pixels(each.pixels, "cpu")[0, 0, 0]) for each in requests])
            return [[] for _ in requests]

    labeler = DeviceCheckedLabeler(Sees(), lambda: None, "cpu")
    requests = [LabelRequest("", image(value), Ontology.from_text("dog")) for value in (1, 2)]
    preparation(labeler)(requests[0].pixels)
    assert device.sent == 1
    assert labeler.label(requests) == [[], []]
    assert [instances() for instances in labeler.begin(requests)] == [[], []]
    assert (seen, device.sent) == ([[1, 2], [1, 2]], 4)
    preparation(None)(image(1))
    assert device.sent == 4
