"""SAM, SAM-HQ, SAM 2, SAM 2.1, EdgeTAM and the tracker of SAM 3, prompted with boxes.

Masks are run-length encoded as soon as they are decoded, so that few dense masks exist at a time.
"""

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

from labeler.models.detectors.detector import Image
from labeler.models.runtime import Runtime
from labeler.models.segmenters.encoding import encode_masks, stability
from labeler.models.segmenters.segmenter import SegmentedMask
from labeler.models.strips import padded_to_ratio

BOXES_PER_CALL = 64  # of the mask decoder; its upscaled features take 8 MB per box
PIXELS_PER_CHUNK = 16 * 2**20  # masks resized to image size at a time; 64 MiB as float32 logits
MAX_WAITING_CHUNKS = 4  # decoded chunks that wait to be encoded, so that dense masks do not pile up


class SamSegmenter:
    """SAM and the models that share its prompt interface; one mask per box.

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
        self.clean_share = clean_share
        # Encodes the masks of one image while the model works on the next.
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="mask-encoder")

    @torch.inference_mode()
    def segment(self, images: Sequence[Image], boxes_xyxy: Sequence[NDArray[np.float32]]) -> list[list[SegmentedMask]]:
        pending: dict[int, list[Future[list[SegmentedMask]]]] = defaultdict(list)
        waiting: deque[Future[list[SegmentedMask]]] = deque()
        with_boxes = [index for index, boxes in enumerate(boxes_xyxy) if len(boxes)]
        for start in range(0, len(with_boxes), self.runtime.batch_size):
            batch = with_boxes[start : start + self.runtime.batch_size]
            whole = {index: padded_to_ratio(images[index], self._longest_strip) for index in batch}
            inputs = [self._preprocess(whole[index]) for index in batch]
            with self.runtime.autocast():
                embeddings = self._embed(torch.cat([pixels for pixels, _ in inputs]))
            for row, (index, (_, shape)) in enumerate(zip(batch, inputs, strict=True)):
                for masks, mask_scores, stabilities in self._decode(
                    [level[row : row + 1] for level in embeddings], boxes_xyxy[index], whole[index].shape[:2], shape
                ):
                    height, width = images[index].shape[:2]
                    masks = masks[:, :height, :width]
                    if len(waiting) == MAX_WAITING_CHUNKS:
                        waiting.popleft().result()
                    waiting.append(
                        self._encoder.submit(encode_masks, masks, mask_scores, stabilities, self.clean_share)
                    )
                    pending[index].append(waiting[-1])
        return [[mask for future in pending[index] for mask in future.result()] for index in range(len(images))]

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

    def _decode(
        self,
        embeddings: list[Tensor],
        boxes_xyxy: NDArray[np.float32],
        image_size: tuple[int, int],
        input_size: tuple[int, int],
    ) -> Iterator[tuple[NDArray[np.bool_], list[float], list[float]]]:
        """Masks ``(n, H, W)`` of the boxes with their mask and stability scores, in chunks of bounded size."""
        (height, width), (input_height, input_width) = image_size, input_size
        scale = np.asarray([input_width / width, input_height / height] * 2, dtype=np.float32)
        boxes = torch.from_numpy(boxes_xyxy * scale)[None].to(self.runtime.device)
        chunk = max(1, PIXELS_PER_CHUNK // (height * width))
        for first in range(0, boxes.shape[1], BOXES_PER_CALL):
            with self.runtime.autocast():
                outputs = self.model(
                    **self._decoder_inputs(embeddings),
                    input_boxes=boxes[:, first : first + BOXES_PER_CALL],
                    multimask_output=False,
                )
            logits, scores = outputs.pred_masks[0].float(), outputs.iou_scores[0, :, 0].float()
            for start in range(0, len(logits), chunk):
                full = self._to_image_size(logits[start : start + chunk], image_size, input_size)[:, 0]
                yield (
                    (full > 0).cpu().numpy(),
                    scores[start : start + chunk].tolist(),
                    stability(full).tolist(),
                )

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
