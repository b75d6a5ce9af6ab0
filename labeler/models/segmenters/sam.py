"""SAM, SAM-HQ, SAM 2, SAM 2.1, EdgeTAM and the tracker of SAM 3, prompted with boxes, points and rough masks.

Masks are run-length encoded as soon as they are decoded, so that few dense masks exist at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from labeler.models.detectors.detector import Image
from labeler.models.runtime import Runtime
from labeler.models.segmenters.encoded import EncodedImage, prompt_tensors
from labeler.models.segmenters.encoding import MaskEncoder, encode_masks, stability
from labeler.models.segmenters.segmenter import SegmentedMask, SegmentPrompts
from labeler.models.strips import padded_to_ratio

PROMPTS_PER_CALL = 64  # of the mask decoder; its upscaled features take 8 MB per prompt
PIXELS_PER_CHUNK = 16 * 2**20  # masks resized to image size at a time; 64 MiB as float32 logits
MaskChunk = tuple[NDArray[np.bool_], list[float], list[float]]  # masks (n, H, W), mask scores, stabilities


class SamSegmenter:
    """SAM and the models that share its prompt interface; one mask per prompt.

    - SAM: Kirillov et al. 2023, arXiv 2304.02643, github.com/facebookresearch/segment-anything.
    - SAM-HQ: Ke et al. 2023, arXiv 2306.01567, github.com/SysCV/sam-hq.
    - SAM 2 and 2.1: Ravi et al. 2024, arXiv 2408.00714, github.com/facebookresearch/sam2.
    - EdgeTAM: Zhou et al. 2025, arXiv 2501.07256, github.com/facebookresearch/EdgeTAM.
    - SAM 3: Carion et al. 2025, arXiv 2511.16719, github.com/facebookresearch/sam3; its tracker segments boxes.

    Args:
        model: ``SamModel``, ``SamHQModel``, ``Sam2Model``, ``EdgeTamModel`` or ``Sam3TrackerModel``, on its device.
        processor: its processor.
        clean_share: see ``labeler.geometry.masks.clean_mask``.
    """

    def __init__(self, model: Any, processor: Any, runtime: Runtime, clean_share: float = 0.01) -> None:
        self.model = model
        self.image_processor = processor.image_processor
        self.runtime = runtime
        # SAM scales the longer side to this; the short side of a longer strip would become 0.
        self._longest_strip = int(self.image_processor.size["longest_edge"] or 1024) if self._keeps_ratio else 1024
        self._encoder = MaskEncoder(clean_share)

    @torch.inference_mode()
    def segment(self, images: Sequence[Image], prompts: Sequence[SegmentPrompts]) -> list[list[SegmentedMask]]:
        for image, image_prompts in zip(images, prompts, strict=True):
            image_prompts.check(*image.shape[:2])
        masks: list[list[SegmentedMask]] = [[] for _ in images]
        pending: dict[int, list[Future[list[SegmentedMask]]]] = {}
        with_prompts = [index for index, image_prompts in enumerate(prompts) if len(image_prompts)]
        for start in range(0, len(with_prompts), self.runtime.batch_size):
            batch = with_prompts[start : start + self.runtime.batch_size]
            for index, encoded in zip(batch, self._encode([images[index] for index in batch]), strict=True):
                pending[index] = self._submitted(encoded, prompts[index])
        for index, chunks in pending.items():
            masks[index] = [mask for chunk in chunks for mask in chunk.result()]
        return masks

    @torch.inference_mode()
    def encode(self, image: Image) -> EncodedImage:
        """The embeddings of an image, uint8 ``(H, W, 3)`` RGB, to ``decode`` prompts with as often as wanted."""
        (encoded,) = self._encode([image])
        return encoded

    @torch.inference_mode()
    def decode(self, encoded: EncodedImage, prompts: SegmentPrompts) -> list[SegmentedMask]:
        """One mask per prompt, as ``segment`` makes them, without encoding the image again.

        Raises:
            UsageError: see ``SegmentPrompts.check``.
        """
        prompts.check(*encoded.image_size)
        if not len(prompts):
            return []
        return [mask for chunk in self._submitted(encoded, prompts) for mask in chunk.result()]

    @torch.inference_mode()
    def proposals(
        self, encoded: EncodedImage, points_xy: NDArray[np.float32], min_score: float, min_stability: float
    ) -> list[SegmentedMask]:
        """All masks that the model proposes for single points, not only the best, and not cleaned.

        Args:
            points_xy: float32 ``(n, 2)``, in pixels of the image.
            min_score, min_stability: masks are kept above these; 0 keeps all.
        """
        points = SegmentPrompts(
            points_xy=points_xy[:, None], point_labels=np.ones((len(points_xy), 1), np.int_), multimask=True
        )
        points.check(*encoded.image_size)
        kept: list[SegmentedMask] = []
        for logits, scores in self._outputs(encoded, points):
            logits, scores = logits.flatten(0, 1), scores.flatten()
            if min_score > 0:
                logits, scores = logits[scores > min_score], scores[scores > min_score]
            for masks, mask_scores, stabilities in self._at_image_size(encoded, logits, scores):
                rows = [row for row, each in enumerate(stabilities) if each > min_stability or min_stability == 0]
                chosen = [mask_scores[row] for row in rows], [stabilities[row] for row in rows]
                kept += encode_masks(masks[rows], *chosen, clean_share=0)
        return kept

    def _submitted(self, encoded: EncodedImage, prompts: SegmentPrompts) -> list[Future[list[SegmentedMask]]]:
        """The chunks of an image's masks, which become RLEs in another thread."""
        return [self._encoder.submit(*chunk) for chunk in self._decode(encoded, prompts)]

    @property
    def _keeps_ratio(self) -> bool:
        return self.model.config.model_type in ("sam", "sam_hq")

    def _preprocess(self, image: Image) -> tuple[Tensor, tuple[int, int]]:
        """The model's input ``(1, 3, h, w)``, and the (height, width) of the image in it; the rest is padding."""
        values = self.image_processor(images=image, input_data_format="channels_last", return_tensors="pt")
        pixels = values["pixel_values"]
        if "reshaped_input_sizes" in values:  # SAM keeps the aspect ratio and pads; SAM 2 stretches
            height, width = (int(n) for n in values["reshaped_input_sizes"][0])
            return pixels, (height, width)
        return pixels, (pixels.shape[-2], pixels.shape[-1])

    def _embed(self, pixels: Tensor) -> list[Tensor]:
        """Image embeddings as a flat list of ``(B, …)`` tensors; each family returns another structure."""
        embeddings = self.model.get_image_embeddings(pixels.to(self.runtime.device))
        if isinstance(embeddings, Tensor):
            return [embeddings]
        if self.model.config.model_type == "sam_hq":
            embedding, intermediate = embeddings
            return [embedding, *intermediate]
        return list(embeddings)

    def _encode(self, images: Sequence[Image]) -> list[EncodedImage]:
        padded = [padded_to_ratio(image, self._longest_strip) for image in images]
        inputs = [self._preprocess(image) for image in padded]
        pixels = torch.cat([pixels for pixels, _ in inputs])
        with self.runtime.autocast():
            embeddings = self._embed(pixels)
        height, width = pixels.shape[-2:]
        return [
            EncodedImage(
                [level[row : row + 1] for level in embeddings],
                image.shape[:2],
                whole.shape[:2],
                input_size,
                (height, width),
            )
            for row, (image, whole, (_, input_size)) in enumerate(zip(images, padded, inputs, strict=True))
        ]

    def _decode(self, encoded: EncodedImage, prompts: SegmentPrompts) -> Iterator[MaskChunk]:
        """The best mask of each prompt, in chunks of bounded size."""
        for logits, scores in self._outputs(encoded, prompts):
            if prompts.multimask:
                rows, best = torch.arange(len(scores), device=scores.device), scores.argmax(1)
                logits, scores = logits[rows, best][:, None], scores[rows, best][:, None]
            yield from self._at_image_size(encoded, logits[:, 0], scores[:, 0])

    def _outputs(self, encoded: EncodedImage, prompts: SegmentPrompts) -> Iterator[tuple[Tensor, Tensor]]:
        """Low-resolution logits ``(n, m, h, w)`` and IoU estimates ``(n, m)`` of the m masks per prompt, in chunks."""
        mask_side = 4 * self.model.prompt_encoder.image_embedding_size[0]
        for first in range(0, len(prompts), PROMPTS_PER_CALL):
            inputs = prompt_tensors(prompts[first : first + PROMPTS_PER_CALL], encoded, mask_side)
            inputs = {name: values.to(self.runtime.device) for name, values in inputs.items()}
            embeddings = encoded.embeddings
            if "input_masks" in inputs:
                # The models take one mask per image, so each prompt gets an image of its own.
                count = len(inputs["input_masks"])
                embeddings = [level.expand(count, *level.shape[1:]) for level in embeddings]
                inputs |= {name: inputs[name][0][:, None] for name in inputs if name != "input_masks"}
            with self.runtime.autocast():
                outputs = self.model(**self._decoder_inputs(embeddings), **inputs, multimask_output=prompts.multimask)
            yield outputs.pred_masks.flatten(0, 1).float(), outputs.iou_scores.flatten(0, 1).float()

    def _at_image_size(self, encoded: EncodedImage, logits: Tensor, scores: Tensor) -> Iterator[MaskChunk]:
        """Masks of ``(n, h, w)`` logits at image size, in chunks of bounded size."""
        (height, width), (image_height, image_width) = encoded.padded_size, encoded.image_size
        chunk = max(1, PIXELS_PER_CHUNK // (height * width))
        for start in range(0, len(logits), chunk):
            full = self._to_image_size(logits[start : start + chunk, None], encoded.padded_size, encoded.input_size)[
                :, 0
            ]
            masks = (full > 0).cpu().numpy()[:, :image_height, :image_width]
            yield masks, scores[start : start + chunk].tolist(), stability(full).tolist()

    def _decoder_inputs(self, embeddings: list[Tensor]) -> dict[str, Any]:
        model_type = self.model.config.model_type
        if model_type == "sam":
            return {"image_embeddings": embeddings[0]}
        if model_type == "sam_hq":
            return {"image_embeddings": embeddings[0], "intermediate_embeddings": embeddings[1:]}
        return {"image_embeddings": embeddings}

    def _to_image_size(self, logits: Tensor, image_size: tuple[int, int], input_size: tuple[int, int]) -> Tensor:
        """Crop the padding and resize to image size, as ``post_process_masks`` of the processors does."""
        pad_size = getattr(self.image_processor, "pad_size", None)
        if pad_size and self.model.config.model_type in ("sam", "sam_hq"):
            padded = (pad_size["height"], pad_size["width"])
            logits = functional.interpolate(logits, padded, mode="bilinear", align_corners=False)
            logits = logits[..., : input_size[0], : input_size[1]]
        return functional.interpolate(logits, image_size, mode="bilinear", align_corners=False)
