"""SAM, SAM-HQ, SAM 2, SAM 2.1 and EdgeTAM. Masks are run-length encoded right behind the mask decoder."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from labeler.geometry.masks import clean_mask, mask_to_rle, rle_area
from labeler.models.detectors.detector import Image
from labeler.models.runtime import Runtime
from labeler.models.segmenters.segmenter import SegmentedMask

# Boxes in one decoder call: SAM's upscaled features take 8 MB a box, so more would not be bounded.
BOXES_A_CALL = 64
# Mask pixels brought to image size at a time; as float32 logits, 64 MiB.
PIXELS_A_CHUNK = 16 * 2**20
# Chunks that wait for the encoder, at most: the decoder may be faster, and must not pile up dense masks.
CHUNKS_WAITING = 4


class SamSegmenter:
    """SAM (Kirillov et al. 2023) and its kin, prompted with boxes, one mask a box.

    Args:
        model: ``SamModel``, ``SamHQModel``, ``Sam2Model`` or ``EdgeTamModel``.
        processor: its processor.
        clean_share: specks and pinholes smaller than this share of the mask are removed; 0 leaves masks as they are.
    """

    def __init__(self, model: Any, processor: Any, runtime: Runtime, clean_share: float = 0.01) -> None:
        self.model = model
        self.image_processor = processor.image_processor
        self.runtime = runtime
        self.clean_share = clean_share
        # One thread encodes the masks of an image while the model works on the next.
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="mask-encoder")

    @torch.inference_mode()
    def segment(self, images: Sequence[Image], boxes_xyxy: Sequence[NDArray[np.float32]]) -> list[list[SegmentedMask]]:
        pending: dict[int, list[Future[list[SegmentedMask]]]] = defaultdict(list)
        waiting: deque[Future[list[SegmentedMask]]] = deque()
        asked = [index for index, boxes in enumerate(boxes_xyxy) if len(boxes)]
        for start in range(0, len(asked), self.runtime.batch_size):
            batch = asked[start : start + self.runtime.batch_size]
            inputs = [self._preprocess(images[index]) for index in batch]
            with self.runtime.autocast():
                embeddings = self._embed(torch.cat([pixels for pixels, _ in inputs]))
            for row, (index, (_, shape)) in enumerate(zip(batch, inputs, strict=True)):
                for masks, mask_scores, stabilities in self._decode(
                    [level[row : row + 1] for level in embeddings], boxes_xyxy[index], images[index].shape[:2], shape
                ):
                    if len(waiting) == CHUNKS_WAITING:
                        waiting.popleft().result()
                    waiting.append(self._encoder.submit(_encode, masks, mask_scores, stabilities, self.clean_share))
                    pending[index].append(waiting[-1])
        return [[mask for future in pending[index] for mask in future.result()] for index in range(len(images))]

    def _preprocess(self, image: Image) -> tuple[Tensor, tuple[int, int]]:
        """Pixels ``(1, 3, h, w)`` and the (height, width) of them that the image takes; the rest is padding."""
        values = self.image_processor(images=image, input_data_format="channels_last", return_tensors="pt")
        pixels = values["pixel_values"]
        if "reshaped_input_sizes" in values:  # SAM keeps the aspect and pads; SAM 2 stretches
            height, width = (int(n) for n in values["reshaped_input_sizes"][0])
            return pixels, (height, width)
        return pixels, (pixels.shape[-2], pixels.shape[-1])

    def _embed(self, pixels: Tensor) -> list[Tensor]:
        """Image embeddings as a flat list of ``(B, …)`` tensors, whatever the family returns."""
        embeddings = self.model.get_image_embeddings(pixels.to(self.runtime.device))
        if isinstance(embeddings, Tensor):
            return [embeddings]
        if self.model.config.model_type == "sam_hq":
            embedding, intermediate = embeddings
            return [embedding, *intermediate]
        return list(embeddings)

    def _decode(
        self,
        embeddings: list[Tensor],
        boxes_xyxy: NDArray[np.float32],
        image_size: tuple[int, int],
        input_size: tuple[int, int],
    ) -> Iterator[tuple[NDArray[np.bool_], list[float], list[float]]]:
        """Masks at image size with mask and stability scores, in chunks of bounded size."""
        (height, width), (input_height, input_width) = image_size, input_size
        scale = np.asarray([input_width / width, input_height / height] * 2, dtype=np.float32)
        boxes = torch.from_numpy(boxes_xyxy * scale)[None].to(self.runtime.device)
        chunk = max(1, PIXELS_A_CHUNK // (height * width))
        for first in range(0, boxes.shape[1], BOXES_A_CALL):
            with self.runtime.autocast():
                outputs = self.model(
                    **self._decoder_inputs(embeddings),
                    input_boxes=boxes[:, first : first + BOXES_A_CALL],
                    multimask_output=False,
                )
            logits, scores = outputs.pred_masks[0].float(), outputs.iou_scores[0, :, 0].float()
            for start in range(0, len(logits), chunk):
                full = self._to_image_size(logits[start : start + chunk], image_size, input_size)[:, 0]
                yield (
                    (full > 0).cpu().numpy(),
                    scores[start : start + chunk].tolist(),
                    _stability(full).tolist(),
                )

    def _decoder_inputs(self, embeddings: list[Tensor]) -> dict[str, Any]:
        model_type = self.model.config.model_type
        if model_type == "sam":
            return {"image_embeddings": embeddings[0]}
        if model_type == "sam_hq":
            return {"image_embeddings": embeddings[0], "intermediate_embeddings": embeddings[1:]}
        return {"image_embeddings": embeddings}

    def _to_image_size(self, logits: Tensor, image_size: tuple[int, int], input_size: tuple[int, int]) -> Tensor:
        """As the processors' ``post_process_masks``: padding away, then to the image's own size."""
        pad_size = getattr(self.image_processor, "pad_size", None)
        if pad_size and self.model.config.model_type in ("sam", "sam_hq"):
            padded = (pad_size["height"], pad_size["width"])
            logits = functional.interpolate(logits, padded, mode="bilinear", align_corners=False)
            logits = logits[..., : input_size[0], : input_size[1]]
        return functional.interpolate(logits, image_size, mode="bilinear", align_corners=False)


def _stability(logits: Tensor, offset: float = 1.0) -> Tensor:
    inner = (logits > offset).sum((-2, -1))
    outer = (logits > -offset).sum((-2, -1))
    return inner / outer.clamp(min=1)


def _encode(
    masks: NDArray[np.bool_], mask_scores: list[float], stabilities: list[float], clean_share: float
) -> list[SegmentedMask]:
    encoded = []
    for mask, mask_score, stability in zip(masks, mask_scores, stabilities, strict=True):
        rle = mask_to_rle(clean_mask(mask, clean_share) if clean_share else mask)
        encoded.append(SegmentedMask(rle, rle_area(rle), mask_score, stability))
    return encoded
