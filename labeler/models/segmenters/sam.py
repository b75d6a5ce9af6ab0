"""SAM, SAM-HQ, SAM 2, SAM 2.1, EdgeTAM and the tracker of SAM 3, prompted with boxes, points and rough masks.

Masks are run-length encoded as soon as they are decoded, so that few dense masks exist at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labeler.models.detectors.detector import Image
from labeler.models.runtime import Runtime
from labeler.models.segmenters.encoded import EncodedImage, calls, prompt_tensors
from labeler.models.segmenters.encoding import MaskChunk, MaskEncoder, PendingMasks, encode, stability, windows
from labeler.models.segmenters.segmenter import PendingMaskList, SegmentedMask, SegmentPrompts
from labeler.models.segmenters.upscaling import axis, upscaled
from labeler.models.strips import padded_to_ratio

PROMPTS_PER_CALL = 64  # of the mask decoder; its upscaled features take 8 MB per prompt


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

    def segment(self, images: Sequence[Image], prompts: Sequence[SegmentPrompts]) -> list[list[SegmentedMask]]:
        return [masks() for masks in self.begin(images, prompts)]

    @torch.inference_mode()
    def begin(self, images: Sequence[Image], prompts: Sequence[SegmentPrompts]) -> list[PendingMaskList]:
        """See ``begin_masks``."""
        for image, image_prompts in zip(images, prompts, strict=True):
            image_prompts.check(*image.shape[:2])
        pending = [PendingMasks(self._encoder) for _ in images]
        with_prompts = [index for index, image_prompts in enumerate(prompts) if len(image_prompts)]
        most = self.runtime.images_per_pass(len(images))
        for start in range(0, len(with_prompts), most):
            batch = with_prompts[start : start + most]
            encoded = self._encode([images[index] for index in batch])
            for row, chunk in self._decode(encoded, [prompts[index] for index in batch]):
                pending[batch[row]].add(chunk)
        return [masks.result for masks in pending]

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
        masks = PendingMasks(self._encoder)
        for _, chunk in self._decode([encoded], [prompts]):
            masks.add(chunk)
        return masks.result()

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
        kept: dict[int, SegmentedMask] = {}
        first = 0
        for call in calls([points], PROMPTS_PER_CALL):
            ((logits, scores),) = self._outputs([(encoded, points[rows]) for _, rows in call])
            logits, scores = logits.flatten(0, 1), scores.flatten()
            if min_score > 0:
                logits, scores = logits[scores > min_score], scores[scores > min_score]
            for chunk in self._at_image_size(encoded, logits, scores, first):
                stable = chunk.stable(min_stability)
                kept |= zip(stable.rows, encode(stable, clean_share=0), strict=True)
            first += len(scores)
        return [kept[row] for row in sorted(kept)]

    @property
    def _keeps_ratio(self) -> bool:
        return self.model.config.model_type in ("sam", "sam_hq")

    def _preprocess(self, image: Image) -> tuple[Tensor, tuple[int, int]]:
        """The model's input ``(1, 3, h, w)``, and the (height, width) of the image in it; the rest is padding."""
        values = self.image_processor(**self.runtime.processor_input(image))
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

    def _decode(
        self, images: Sequence[EncodedImage], prompts: Sequence[SegmentPrompts]
    ) -> Iterator[tuple[int, MaskChunk]]:
        """The best mask of each prompt, in chunks of bounded size, each with the index of its image."""
        for call in calls(prompts, PROMPTS_PER_CALL):
            asked = [(images[index], prompts[index][rows]) for index, rows in call]
            outputs = self._outputs(asked)
            for (index, rows), (encoded, own), (logits, scores) in zip(call, asked, outputs, strict=True):
                if own.multimask:
                    every, best = torch.arange(len(scores), device=scores.device), scores.argmax(1)
                    logits, scores = logits[every, best][:, None], scores[every, best][:, None]
                for chunk in self._at_image_size(encoded, logits[:, 0], scores[:, 0], rows.start):
                    yield index, chunk

    def _outputs(self, asked: Sequence[tuple[EncodedImage, SegmentPrompts]]) -> list[tuple[Tensor, Tensor]]:
        """Low-resolution logits ``(n, m, h, w)`` and IoU estimates ``(n, m)`` of the m masks per prompt, by image.

        The prompts of all images have the same parts.
        """
        mask_side = 4 * self.model.prompt_encoder.image_embedding_size[0]
        tensors = [prompt_tensors(prompts, image, mask_side) for image, prompts in asked]
        counts = [len(prompts) for _, prompts in asked]
        inputs, embeddings = tensors[0], asked[0][0].embeddings
        if len(asked) > 1 or "input_masks" in inputs:
            # Each prompt gets an image of its own: the models take as many prompts for each image, and one mask.
            inputs = {
                name: torch.cat([own[name] if name == "input_masks" else own[name][0][:, None] for own in tensors])
                for name in inputs
            }
            levels = zip(*(image.embeddings for image, _ in asked), strict=True)
            embeddings = [
                torch.cat([each.expand(count, *each.shape[1:]) for each, count in zip(level, counts, strict=True)])
                for level in levels
            ]
        inputs = {name: values.to(self.runtime.device) for name, values in inputs.items()}
        with self.runtime.autocast():
            outputs = self.model(**self._decoder_inputs(embeddings), **inputs, multimask_output=asked[0][1].multimask)
        logits, scores = outputs.pred_masks.flatten(0, 1).float(), outputs.iou_scores.flatten(0, 1).float()
        return list(zip(logits.split(counts), scores.split(counts), strict=True))

    def _at_image_size(
        self, encoded: EncodedImage, logits: Tensor, scores: Tensor, first: int = 0
    ) -> Iterator[MaskChunk]:
        """Masks of ``(n, h, w)`` logits at image size, the first of which is number ``first`` of its image."""
        mask_scores = scores.tolist()
        axes = [
            axis(low, self._steps(number, encoded), str(logits.device)) for number, low in enumerate(logits.shape[1:])
        ]
        for part in upscaled(logits, axes, threshold=-1.0):
            yield MaskChunk(
                (part.rows + first).tolist(),
                windows(part.values > 0, part.tops, part.lefts),
                [mask_scores[row] for row in part.rows],
                stability(part.values).tolist(),
                encoded.image_size,
            )

    def _steps(self, number: int, encoded: EncodedImage) -> tuple[tuple[int, int], ...]:
        """How axis ``number`` gets to image size: as in ``post_process_masks`` of the processors."""
        size = encoded.padded_size[number]
        pad_size = getattr(self.image_processor, "pad_size", None)
        if not (pad_size and self._keeps_ratio):
            return ((size, size),)
        padded = int(pad_size["width" if number else "height"])
        return ((padded, encoded.input_size[number]), (size, size))

    def _decoder_inputs(self, embeddings: list[Tensor]) -> dict[str, Any]:
        model_type = self.model.config.model_type
        if model_type == "sam":
            return {"image_embeddings": embeddings[0]}
        if model_type == "sam_hq":
            return {"image_embeddings": embeddings[0], "intermediate_embeddings": embeddings[1:]}
        return {"image_embeddings": embeddings}
