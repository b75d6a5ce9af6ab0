"""SAM 3: prompts to boxes, scores and masks in one model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from labeler.models.detectors.batching import preprocess, tokenize_to_length
from labeler.models.detectors.detector import Detections, Image, Prompts
from labeler.models.labelers.candidates import best_candidates, instance_of
from labeler.models.labelers.labeler import LabelRequest, PendingInstances
from labeler.models.runtime import Runtime
from labeler.models.segmenters.encoding import MaskChunk, MaskEncoder, PendingMasks, stability, windows
from labeler.models.segmenters.upscaling import axis, upscaled
from labeler.records import Instance
from ontologies import DISTRACTOR, Ontology

PROMPT_TOKENS = 32  # what ``Sam3Processor`` pads prompts to
CACHED_PROMPTS = 2048  # text features kept; 32 KiB each, so 64 MiB
PASS_BYTES = 2 * 2**30  # of intermediate results in one pass of several prompts over an image
LOW, HIGH = 1 / (1 + math.e), math.e / (1 + math.e)  # probabilities of the logits -1 and 1, see ``stability``


@dataclass(frozen=True, eq=False)
class _Found:
    """What prompts find in an image: boxes with scores, and for each box its mask logits, ``(h, w)``."""

    detections: Detections
    masks: list[Tensor]


class Sam3Labeler:
    """SAM 3 with text prompts: Carion et al. 2025, arXiv 2511.16719, github.com/facebookresearch/sam3.

    An image passes the vision encoder once, whatever the number of prompts, and a prompt passes the text encoder once.
    Each prompt has its own queries, so two prompts of one class may both find an object; the gate's filters of
    overlapping masks drop the lower-scored one. Scores and masks are those of ``post_process_instance_segmentation``:

    - The score is sigmoid(logit) x sigmoid(presence logit of the prompt).
    - SAM 3 does not estimate the IoU of its masks. The mean mask probability inside the mask stands for it.
    - Stability is as in ``SegmentedMask``, on the probabilities at image size.

    It is thread-safe.

    Args:
        model: ``Sam3Model`` or ``Sam3LiteTextModel``, on its device.
        processor: its processor.
        max_instances: maximum number of candidates per image, the best ones.
        clean_share: see ``labeler.geometry.masks.clean_mask``.
    """

    def __init__(
        self, model: Any, processor: Any, runtime: Runtime, max_instances: int = 300, clean_share: float = 0.01
    ) -> None:
        self.model = model
        self.processor = processor
        self.runtime = runtime
        self.max_instances = max_instances
        # A CPU labels several images at a time, one thread each, and gains nothing from several prompts in a pass.
        self.prompts_per_pass = 1 if runtime.device == "cpu" else max(1, PASS_BYTES // prompt_bytes(model.config))
        self._encoder = MaskEncoder(clean_share)
        self._text = lru_cache(maxsize=CACHED_PROMPTS)(self._read)
        self._tokenizing = Lock()  # a fast tokenizer fails if two threads use it at once

    @property
    def detector(self) -> Sam3Labeler:
        """What gets the prompts: tags are checked against it, and the tagger ``detector`` uses it."""
        return self

    def label(self, requests: Sequence[LabelRequest]) -> list[list[Instance]]:
        return [instances() for instances in self.begin(requests)]

    @torch.inference_mode()
    def begin(self, requests: Sequence[LabelRequest]) -> list[PendingInstances]:
        """See ``labeler.models.labelers.labeler.begin``."""
        begun: list[PendingInstances] = []
        for request, vision in zip(requests, self._seen([request.pixels for request in requests]), strict=True):
            found, candidates = self._best(vision, request.pixels, request.ontology)
            boxes = [found.detections.boxes_xyxy[row].tolist() for row, _, _ in candidates]
            masks = PendingMasks(self._encoder)
            for chunk in self._masks([found.masks[row] for row, _, _ in candidates], request.pixels.shape[:2]):
                masks.add(chunk)
            begun.append(partial(_instances, request.ontology.prompts, candidates, boxes, masks))
        return begun

    @torch.inference_mode()
    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        """Boxes and scores alone; see ``labeler.models.detectors.detector.Detector``."""
        return [
            Detections.concatenate(
                [found.detections for found in self._passes(vision, image, texts, range(len(texts)))], len(texts)
            )
            for image, vision, texts in zip(images, self._seen(images), prompts, strict=True)
        ]

    def forward_passes(self, prompts: Prompts) -> int:
        """The number of passes of these prompts over an image.

        Raises:
            UsageError: a prompt has more than ``PROMPT_TOKENS`` tokens.
        """
        for prompt in prompts:
            self._tokens(prompt)
        return -(-len(prompts) // self.prompts_per_pass)

    def _seen(self, images: Sequence[Image]) -> Iterator[Any]:
        """The vision features of each image, from one pass per batch."""
        most = self.runtime.images_per_pass(len(images))
        for start in range(0, len(images), most):
            batch = images[start : start + most]
            pixels = torch.stack([preprocess(self.processor.image_processor, image, self.runtime) for image in batch])
            with self.runtime.autocast():
                features = self.model.get_vision_features(pixels.to(self.runtime.device))
            for row in range(len(batch)):
                yield _each_level(features, lambda level, row=row: level[row : row + 1])

    def _best(self, vision: Any, image: Image, ontology: Ontology) -> tuple[_Found, list[tuple[int, int, float]]]:
        """What is found in an image, and its candidates as ``best_candidates`` returns them.

        Distractors come first. So of each pass, only what may become a candidate is kept, which bounds the memory.
        """
        prompts = tuple(prompt for prompt, _ in ontology.prompts)
        is_distractor = np.array([class_id == DISTRACTOR for _, class_id in ontology.prompts])
        kept, candidates = _Found(Detections.none(len(prompts)), []), []
        for found in self._passes(vision, image, prompts, np.argsort(~is_distractor, kind="stable").tolist()):
            detections = Detections.concatenate([kept.detections, found.detections], len(prompts))
            masks = kept.masks + found.masks
            candidates = best_candidates(detections, ontology, self.runtime.candidate_floor, self.max_instances)
            of_distractors = np.flatnonzero(detections.scores[:, is_distractor].any(axis=1)).tolist()
            rows = np.array(sorted({*of_distractors, *(row for row, _, _ in candidates)}), np.int_)
            kept = _Found(
                Detections(detections.boxes_xyxy[rows], detections.scores[rows]), [masks[row] for row in rows]
            )
            candidates = [(int(np.searchsorted(rows, row)), prompt, score) for row, prompt, score in candidates]
        return kept, candidates

    def _passes(self, vision: Any, image: Image, prompts: Prompts, order: Sequence[int]) -> Iterator[_Found]:
        """What the prompts at the indices ``order`` find, above the candidate floor, pass by pass."""
        height, width = image.shape[:2]
        scale = np.asarray([width, height] * 2, np.float32)
        for start in range(0, len(order), self.prompts_per_pass):
            asked = order[start : start + self.prompts_per_pass]
            expand = partial(Tensor.expand, size=(len(asked), -1, -1, -1))
            with self.runtime.autocast():
                texts = [self._text(prompts[index]) for index in asked]
                features, attention = (torch.cat(part) for part in zip(*texts, strict=True))
                outputs = self.model(
                    vision_embeds=_each_level(vision, expand),
                    # A tensor, which the documentation asks for, raises. The video model passes this output as well.
                    text_embeds=BaseModelOutputWithPooling(pooler_output=features),
                    attention_mask=attention,
                )
            scores = outputs.pred_logits.float().sigmoid() * outputs.presence_logits.float().sigmoid()
            rows, queries = torch.nonzero(scores >= self.runtime.candidate_floor, as_tuple=True)
            boxes = outputs.pred_boxes[rows, queries].float().cpu().numpy() * scale
            of_prompt = np.zeros((len(rows), len(prompts)), np.float32)
            columns = np.asarray(asked)[rows.cpu().numpy()]
            of_prompt[np.arange(len(rows)), columns] = scores[rows, queries].cpu().numpy()
            yield _Found(
                Detections(np.clip(boxes, 0, scale), of_prompt),
                [
                    outputs.pred_masks[row, query].clone()
                    for row, query in zip(rows.tolist(), queries.tolist(), strict=True)
                ],
            )

    def _masks(self, logits: list[Tensor], size: tuple[int, int]) -> Iterator[MaskChunk]:
        """Masks at image size. As ``post_process_instance_segmentation``, probabilities are resized, not logits."""
        if not logits:
            return
        small = torch.stack(logits).float().sigmoid()
        axes = [axis(low, ((side, side),), str(small.device)) for low, side in zip(small.shape[1:], size, strict=True)]
        for part in upscaled(small, axes, threshold=LOW):
            masks = part.values > 0.5
            mask_scores = (part.values * masks).sum((1, 2)) / masks.sum((1, 2)).clamp(min=1)
            yield MaskChunk(
                part.rows.tolist(),
                windows(masks, part.tops, part.lefts),
                mask_scores.clamp(max=1).tolist(),
                stability(part.values, LOW, HIGH).tolist(),
                size,
            )

    def _tokens(self, prompt: str) -> Any:
        with self._tokenizing:
            return tokenize_to_length(self.processor.tokenizer, [prompt.lower()], PROMPT_TOKENS)

    def _read(self, prompt: str) -> tuple[Tensor, Tensor]:
        """Text features ``(1, 32, c)`` and attention mask ``(1, 32)``.

        Each prompt is read by itself, so that the features do not depend on the prompts beside it.
        """
        tokens = self._tokens(prompt).to(self.runtime.device)
        features = self.model.get_text_features(tokens["input_ids"], attention_mask=tokens["attention_mask"])
        return features.pooler_output, tokens["attention_mask"]


def prompt_bytes(config: Any) -> int:
    """About the memory that a prompt takes in a pass, in bytes.

    The mask decoder dominates: it copies the finest feature map, upscales to it, and multiplies it with all queries.

    Args:
        config: ``Sam3Config``.
    """
    height, width = config.vision_config.backbone_feature_sizes[0]
    channels = 6 * config.vision_config.fpn_hidden_size + 2 * config.detr_decoder_config.num_queries
    return 4 * int(height * width * channels)


def _instances(
    prompts: Sequence[tuple[str, int]],
    candidates: Sequence[tuple[int, int, float]],
    boxes: Sequence[Sequence[float]],
    masks: PendingMasks,
) -> list[Instance]:
    """The instances of one image: each candidate has a box and a mask."""
    return [
        instance_of(prompts[prompt], box, score, mask)
        for (_, prompt, score), box, mask in zip(candidates, boxes, masks.result(), strict=True)
    ]


def _each_level(vision: Any, change: Any) -> Any:
    """``Sam3VisionEncoderOutput`` with another batch: that of ``change(level)``."""
    return type(vision)(
        fpn_hidden_states=tuple(map(change, vision.fpn_hidden_states)),
        fpn_position_encoding=tuple(map(change, vision.fpn_position_encoding)),
    )
