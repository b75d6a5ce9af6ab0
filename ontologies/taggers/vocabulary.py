"""A tagger that scores each word of a vocabulary with SigLIP, SigLIP 2 or CLIP.

The text encoder runs once per vocabulary. Each image then takes a forward pass of the image encoder and a matrix
product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ontologies.ontology import OntologyError
from ontologies.taggers import Image, Tags, best_first

# The template of SigLIP. It also serves CLIP, whose own "a photo of a {}." does not fit plurals.
TEMPLATE = "This is a photo of {}."
# Texts for photographs of nothing in particular, against which CLIP compares a word.
NEUTRAL = ("This is a photo.", "This is a photo of something.", "This is an image.", "This is a picture of a scene.")
TEXTS_PER_FORWARD_PASS = 64


class WordScorer:
    """Scores words for images with an image-text model; a word's score does not depend on the other words.

    - SigLIP: Zhai et al. 2023, arXiv 2303.15343; SigLIP 2: Tschannen et al. 2025, arXiv 2502.14786. The score of a word
      is the sigmoid that these models were trained with.
    - CLIP: Radford et al. 2021, arXiv 2103.00020. The score of a word is its softmax probability among the word and the
      ``NEUTRAL`` texts.

    Args:
        model: ``SiglipModel``, ``Siglip2Model`` or ``CLIPModel``, on its device.
        processor: its processor.
        batch_size: maximum number of images per forward pass.
        autocast: returns the context that forward passes run in, such as ``torch.autocast``.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        batch_size: int = 8,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.model = model
        self.image_processor = processor.image_processor
        self.batch_size = batch_size
        self.autocast = autocast
        self._calibrated = hasattr(model, "logit_bias")
        if not self._calibrated:
            self._neutral = torch.from_numpy(embed_texts(model, processor, NEUTRAL, template="{}")).to(model.device)

    @torch.inference_mode()
    def scores(self, images: Sequence[Image], texts: Tensor) -> Tensor:
        """The score of each word for each image, float32 ``(images, words)`` in [0, 1].

        Args:
            texts: what ``embed_texts`` returns for the words, on the model's device.
        """
        batches = (images[start : start + self.batch_size] for start in range(0, len(images), self.batch_size))
        return torch.cat([self._scores(batch, texts) for batch in batches] or [texts.new_zeros(0, len(texts))])

    def _scores(self, images: Sequence[Image], texts: Tensor) -> Tensor:
        # They are processed one at a time, because processors that keep the aspect ratio pad a batch to a common size.
        inputs = [
            self.image_processor(images=image, input_data_format="channels_last", return_tensors="pt")
            for image in images
        ]
        stacked = {name: torch.cat([each[name] for each in inputs]).to(self.model.device) for name in inputs[0]}
        with self.autocast():
            features = _normalised(self.model.get_image_features(**stacked).pooler_output.float())
        logits = features @ texts.T * self.model.logit_scale.exp()
        if self._calibrated:
            return torch.sigmoid(logits + self.model.logit_bias)
        neutral = features @ self._neutral.T * self.model.logit_scale.exp()
        return torch.sigmoid(logits - neutral.logsumexp(1, keepdim=True))


class VocabularyTagger:
    """Scores the words of a vocabulary; see ``WordScorer``.

    Args:
        model: ``SiglipModel``, ``Siglip2Model`` or ``CLIPModel``, on its device.
        processor: its processor.
        vocabulary: words or noun phrases.
        embeddings: the result of ``embed_texts`` for the vocabulary; None to compute it.
        threshold: tags with a lower score are dropped.
        tiles: also score the tiles of a ``tiles`` x ``tiles`` grid, for small objects; a word's score is the best of
            all views. 1 scores the whole image only.
        batch_size: maximum number of views per forward pass.
        autocast: returns the context that forward passes run in, such as ``torch.autocast``.

    Raises:
        OntologyError: the vocabulary is empty, or a word has too many tokens for the model.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        vocabulary: Sequence[str],
        embeddings: NDArray[np.float32] | None = None,
        threshold: float = 0.1,
        tiles: int = 1,
        batch_size: int = 8,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        if not vocabulary:
            raise OntologyError("the vocabulary is empty; name at least one word")
        self.vocabulary = tuple(vocabulary)
        self.threshold = threshold
        self.tiles = tiles
        self._scorer = WordScorer(model, processor, batch_size, autocast)
        if embeddings is None:
            embeddings = embed_texts(model, processor, self.vocabulary)
        self._texts = torch.from_numpy(embeddings).to(model.device)

    def tag(self, images: Sequence[Image]) -> list[Tags]:
        tagged = []
        for scores in self.scores(images):
            above = np.flatnonzero(scores >= self.threshold)
            tagged.append(best_first({self.vocabulary[index]: float(scores[index]) for index in above}))
        return tagged

    def scores(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """The score of each word in each image, float32 ``(images, words)`` in [0, 1]."""
        views = [view for image in images for view in _views(image, self.tiles)]
        scores = self._scorer.scores(views, self._texts)
        if len(images):
            scores = scores.reshape(len(images), -1, len(self.vocabulary)).amax(1)
        return scores.cpu().numpy().astype(np.float32)


@torch.inference_mode()
def embed_texts(model: Any, processor: Any, texts: Sequence[str], template: str = TEMPLATE) -> NDArray[np.float32]:
    """Text embeddings of unit length, float32 ``(len(texts), d)``.

    Raises:
        OntologyError: a text has too many tokens for the model.
    """
    tokenizer = processor.tokenizer
    length = model.config.text_config.max_position_embeddings
    rows = []
    for start in range(0, len(texts), TEXTS_PER_FORWARD_PASS):
        chosen = [template.format(text) for text in texts[start : start + TEXTS_PER_FORWARD_PASS]]
        if too_long := [t for t, ids in zip(chosen, tokenizer(chosen).input_ids, strict=True) if len(ids) > length]:
            raise OntologyError(f"{too_long[0]!r} has more tokens than the tagger reads ({length}); shorten the word")
        # SigLIP was trained with texts padded to full length; CLIP ignores what follows the end-of-text token.
        tokens = tokenizer(chosen, padding="max_length", max_length=length, return_tensors="pt")
        inputs = {name: values.to(model.device) for name, values in tokens.items() if name != "token_type_ids"}
        rows.append(_normalised(model.get_text_features(**inputs).pooler_output).float().cpu().numpy())
    return np.concatenate(rows)


def _normalised(features: Tensor) -> Tensor:
    lengths: Tensor = features.norm(dim=-1, keepdim=True)
    return features / lengths


def _views(image: Image, tiles: int) -> Iterator[Image]:
    """The whole image and, if ``tiles`` is above 1, the tiles of a grid; each has at least one pixel."""
    yield image
    if tiles == 1:
        return
    parts = [[(part[0], part[-1] + 1) for part in _parts(side, tiles)] for side in image.shape[:2]]
    for top, bottom in parts[0]:
        for left, right in parts[1]:
            yield image[top:bottom, left:right]


def _parts(side: int, count: int) -> list[NDArray[np.int_]]:
    """The pixel indices of a side, split into ``count`` parts."""
    pixels = np.arange(side)
    return [part if len(part) else pixels[:1] for part in np.array_split(pixels, count)]
