"""Features that a Grounding DINO computes once: of a caption for all images, and of an image for all its captions.

The forward pass of ``transformers`` reads text and image every time. Here its two encoders are replaced by modules that
know what was read before. All else in the model stays as it is.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_outputs import BaseModelOutput

from labeler.models.detectors.captions import Caption

CACHED_CAPTIONS = 128  # of 256 tokens with 768 channels at most, so 100 MiB


class CaptionEncoder(nn.Module):
    """Stands in for the text encoder, and reads each caption once. Several threads may use it at once.

    A caption is read by itself, so that its features do not depend on the captions beside it. Where another one of the
    batch has more tokens, its features are padded with zeros, which the model masks.

    Args:
        encoder: the ``BertModel``.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self._given = threading.local()
        self._lock = threading.Lock()
        self._read: OrderedDict[Caption, Tensor] = OrderedDict()

    @contextmanager
    def given(self, captions: Sequence[Caption]) -> Iterator[None]:
        """In this thread, take ``captions`` for the rows of the batch."""
        self._given.captions = captions
        try:
            yield
        finally:
            self._given.captions = None

    def forward(
        self, input_ids: Tensor, masks: Tensor, token_type_ids: Tensor, position_ids: Tensor, **options: Any
    ) -> Any:
        captions: Sequence[Caption] | None = getattr(self._given, "captions", None)
        if captions is None:
            return self.encoder(input_ids, masks, token_type_ids, position_ids, **options)
        rows = []
        for row, caption in enumerate(captions):
            length = len(caption.token_ids)
            with self._lock:
                features = self._read.get(caption)
            if features is None:
                one = slice(row, row + 1)
                features = self.encoder(
                    input_ids[one, :length],
                    masks[one, :, :length, :length],
                    token_type_ids[one, :length],
                    position_ids[one, :length],
                    **options,
                ).last_hidden_state
            self._keep(caption, features)
            rows.append(functional.pad(features, (0, 0, 0, input_ids.shape[1] - length)))
        return BaseModelOutput(last_hidden_state=torch.cat(rows))

    def _keep(self, caption: Caption, features: Tensor) -> None:
        with self._lock:
            self._read[caption] = features
            self._read.move_to_end(caption)
            while len(self._read) > CACHED_CAPTIONS:
                self._read.popitem(last=False)


class ImageEncoder(nn.Module):
    """Stands in for the image backbone with its position embeddings; in a thread, returns features that are given.

    Args:
        encoder: the ``GroundingDinoConvModel`` or ``MMGroundingDinoConvModel``.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.position_embedding = encoder.position_embedding  # the model uses it for a further level
        self._given = threading.local()

    def read(self, pixels: Tensor) -> tuple[list[tuple[Tensor, Tensor]], list[Tensor]]:
        """Feature maps with their masks, and position embeddings, of images ``(B, 3, h, w)`` without padding."""
        mask = torch.ones(len(pixels), *pixels.shape[-2:], dtype=torch.long, device=pixels.device)
        features: tuple[list[tuple[Tensor, Tensor]], list[Tensor]] = self.encoder(pixels, mask)
        return features

    @contextmanager
    def given(self, features: tuple[list[tuple[Tensor, Tensor]], list[Tensor]], rows: Sequence[int]) -> Iterator[None]:
        """In this thread, take the images at ``rows`` of what ``read`` returned for those of the batch."""
        maps, positions = features
        if list(rows) == list(range(len(positions[0]))):
            self._given.features = list(maps), list(positions)  # the model appends to the lists
        else:
            chosen = torch.tensor(rows, device=positions[0].device)
            self._given.features = (
                [(each[chosen], mask[chosen]) for each, mask in maps],
                [each[chosen] for each in positions],
            )
        try:
            yield
        finally:
            self._given.features = None

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> Any:
        features = getattr(self._given, "features", None)
        return self.encoder(pixel_values, pixel_mask) if features is None else features


def encoders_of(model: Any) -> tuple[CaptionEncoder, ImageEncoder]:
    """The two encoders of a ``GroundingDinoForObjectDetection``, which are put into it if they are not there yet."""
    inner = model.model
    if not isinstance(inner.text_backbone, CaptionEncoder):
        inner.text_backbone = CaptionEncoder(inner.text_backbone)
        inner.backbone = ImageEncoder(inner.backbone)
    return inner.text_backbone, inner.backbone
