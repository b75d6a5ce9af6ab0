"""The classes of YOLO-World and YOLOE, set from prompts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from labeler.errors import ModelError, UsageError
from labeler.models.detectors.detector import Prompts

PACKAGE = "git+https://github.com/ultralytics/CLIP.git"


class PromptedClasses:
    """Sets what a YOLO-World or YOLOE model looks for.

    Ultralytics' ``set_classes`` loads the text encoder each time. Here it is loaded once, by Ultralytics, and each
    prompt is read once and by itself. It is not thread-safe.

    Args:
        yolo: ``ultralytics.YOLOWorld`` or ``YOLOE``; the model in it is what predictors copy.
        name: of the checkpoint, for messages.
    """

    def __init__(self, yolo: Any, name: str) -> None:
        self._yolo = yolo
        self._name = name
        self._encoder: Any = None
        self._features = lru_cache(maxsize=10_000)(self._read)

    @property
    def stored(self) -> bool:
        """Whether there are features for the names in the checkpoint. A YOLOE may have names alone."""
        model = self._yolo.model
        return hasattr(model, "txt_feats") or hasattr(model, "pe") or not self.possible

    @property
    def possible(self) -> bool:
        """False for a YOLOE whose classes were made part of its weights."""
        head = self._yolo.model.model[-1]
        return not (getattr(head, "is_fused", False) or hasattr(head, "lrpc"))

    def check(self, prompts: Prompts) -> None:
        """Read the prompts.

        Raises:
            ModelError: there is no text encoder.
            UsageError: a prompt is too long for it.
        """
        for prompt in prompts:
            self._features(prompt)

    def set(self, names: Prompts) -> None:
        """Make ``names``, each given once, the classes of the model; for errors see ``check``."""
        features = torch.cat([self._features(name) for name in names], dim=1)
        model = self._yolo.model
        if hasattr(model, "txt_feats"):  # YOLO-World, whose set_classes takes no features; this is what it does
            model.txt_feats = features
            model.model[-1].nc = len(names)
            model.names = list(names)
        else:
            self._yolo.set_classes(list(names), features)

    def _read(self, prompt: str) -> Tensor:
        """Text features ``(1, 1, d)``."""
        model = self._yolo.model
        # The encoder is in the model only while it reads, since each predictor copies the model.
        model.clip_model = self._encoder
        try:
            with threads(1):
                features: Tensor = model.get_text_pe([prompt], cache_clip_model=True)
                self._encoder = model.clip_model
        except Exception as error:  # a missing package, no network, or a damaged file
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ModelError(
                f"detector {self._name!r}: not all prompts are classes that are stored in it, and its text encoder "
                f"cannot be loaded ({reason:.200}); that needs the package clip, pip install {PACKAGE}, and weights, "
                "which Ultralytics downloads"
            ) from error
        finally:
            model.clip_model = None
        try:
            self._encoder.tokenize([prompt], truncate=False)
        except RuntimeError as error:
            raise UsageError(f"prompt {prompt!r} is too long for detector {self._name!r}: shorten it") from error
        return features


@contextmanager
def threads(count: int | None = None) -> Iterator[None]:
    """Use ``count`` threads of torch in this thread, and afterwards as many as before, whatever the block changed."""
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)
