"""``--verify``: an image-text model scores the boxes of a detector that gives no confidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from labeler.errors import UsageError
from labeler.models.checkpoints import load_checkpoint
from labeler.models.config import ModelConfig
from labeler.models.detectors.detector import Detections, Detector, Image, Prompts
from labeler.models.devices import limit_threads
from labeler.models.runtime import Runtime
from labeler.models.strips import padded_to_ratio
from labeler.models.taggers.config import CONTRASTIVE, verifier_of
from ontologies import OntologyError
from ontologies.taggers.vocabulary import WordScorer, embed_texts

LONGEST_CROP = 16  # times its short side; a processor that keeps the aspect ratio would scale it to a huge input


def load_verified(detector: Detector, config: ModelConfig) -> VerifiedDetector:
    """``detector`` with the verifier that ``config`` names.

    Raises:
        ModelError: the verifier cannot be loaded.
    """
    source = verifier_of(config) or ""
    return VerifiedDetector(detector, *load_checkpoint(source, "verify", "AutoModel", CONTRASTIVE, config))


class VerifiedDetector:
    """The boxes of a detector, each with the probability that its crop shows what the prompt says.

    A score of the detector is multiplied by the score that ``WordScorer`` gives the prompt for the pixels inside the
    box. It is thread-safe if the detector is.

    Args:
        model: ``SiglipModel``, ``Siglip2Model`` or ``CLIPModel``, on its device.
        processor: its processor.
    """

    def __init__(self, detector: Detector, model: Any, processor: Any, runtime: Runtime) -> None:
        self.detector = detector
        self.runtime = runtime
        self._model, self._processor = model, processor
        # A fast tokenizer fails if two threads use it at once. On one core, embeddings have the same bits everywhere.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="texts", initializer=limit_threads)
        scorer = self._reader.submit(WordScorer, model, processor, runtime.batch_size, runtime.autocast)
        self._scorer = scorer.result()  # made there, since it embeds the neutral texts of CLIP
        self._text = lru_cache(maxsize=10_000)(self._embed)

    def forward_passes(self, prompts: Prompts) -> int:
        for prompt in prompts:
            self._text(prompt)
        return self.detector.forward_passes(prompts)

    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        found = self.detector.detect(images, prompts)
        return [self._verified(*each) for each in zip(images, found, prompts, strict=True)]

    def _verified(self, image: Image, found: Detections, prompts: Prompts) -> Detections:
        if not len(found.boxes_xyxy):
            return found
        texts = torch.from_numpy(np.concatenate([self._text(prompt) for prompt in prompts])).to(self.runtime.device)
        probabilities = self._scorer.scores(list(_crops(image, found.boxes_xyxy)), texts).float().cpu().numpy()
        scores = (found.scores * probabilities).astype(np.float32)
        kept = scores.max(axis=1) >= self.runtime.candidate_floor
        return Detections(found.boxes_xyxy[kept], scores[kept])

    def _embed(self, prompt: str) -> NDArray[np.float32]:
        """``(1, d)``; each prompt is read by itself, so that its score does not depend on the others."""
        try:
            return self._reader.submit(embed_texts, self._model, self._processor, [prompt]).result()
        except OntologyError as error:
            raise UsageError(f"prompt {prompt!r} is too long for --verify: {error}") from error


def _crops(image: Image, boxes_xyxy: NDArray[np.float32]) -> Iterator[Image]:
    """The pixels that each box touches, at least one."""
    height, width = image.shape[:2]
    for x1, y1, x2, y2 in boxes_xyxy.tolist():
        left, top = min(int(x1), width - 1), min(int(y1), height - 1)
        right, bottom = max(int(np.ceil(x2)), left + 1), max(int(np.ceil(y2)), top + 1)
        yield padded_to_ratio(np.ascontiguousarray(image[top:bottom, left:right]), LONGEST_CROP)
