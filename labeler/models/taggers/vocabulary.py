"""Loads a SigLIP or CLIP tagger, with the text embeddings of its vocabulary from a cache."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labeler.errors import ModelError
from labeler.files.documents import read_limited
from labeler.files.storage import write_bytes
from labeler.models.checkpoints import load_checkpoint
from labeler.models.config import ModelConfig
from labeler.models.devices import limit_threads
from labeler.models.identity import model_identity
from labeler.models.taggers.config import CONTRASTIVE, TaggingConfig, vocabulary_model

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from ontologies.taggers import Tagger


def load_vocabulary_tagger(tagging: TaggingConfig, config: ModelConfig, cache: AnyPath | None) -> Tagger:
    """The tagger that scores each word of ``tagging.vocabulary``; for arguments and errors see ``load_tagger``."""
    from ontologies.taggers.vocabulary import TEMPLATE, VocabularyTagger, embed_texts

    source = tagging.tagger_model or vocabulary_model(config)
    try:
        model, processor, runtime = load_checkpoint(source, "tagger-model", "AutoModel", CONTRASTIVE, config)
    except ModelError as error:
        if tagging.tagger_model is None:
            raise ModelError(f"{error}; or use --tagger detector, which needs no other model") from error
        raise

    def embed() -> NDArray[np.float32]:
        # On one thread, so that the embeddings have the same bits on any number of cores.
        with ThreadPoolExecutor(1, initializer=limit_threads) as single_thread:
            return single_thread.submit(embed_texts, model, processor, tagging.vocabulary).result()

    key = "\n".join((model_identity(source), TEMPLATE, *tagging.vocabulary))
    name = f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
    embeddings = _cached(cache / name, embed, len(tagging.vocabulary)) if cache else embed()
    return VocabularyTagger(
        model,
        processor,
        tagging.vocabulary,
        embeddings,
        tagging.threshold(config),
        tagging.tag_tiles,
        runtime.batch_size,
        runtime.autocast,
    )


def _cached(path: AnyPath, compute: Callable[[], NDArray[np.float32]], rows: int) -> NDArray[np.float32]:
    """The float32 array ``(rows, d)`` stored at ``path``. A missing or damaged file is computed and written anew."""
    with suppress(FileNotFoundError, ValueError, EOFError, MemoryError):  # MemoryError: a damaged header
        stored: NDArray[np.float32] = np.lib.format.read_array(io.BytesIO(read_limited(path)), allow_pickle=False)
        if stored.dtype == np.float32 and stored.ndim == 2 and len(stored) == rows and np.isfinite(stored).all():
            return stored
    buffer = io.BytesIO()
    np.save(buffer, computed := compute())
    write_bytes(path, buffer.getvalue())
    return computed
