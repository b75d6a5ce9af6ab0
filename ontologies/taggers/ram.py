"""The taggers of the package ``ram``: RAM++, RAM and Tag2Text, which have a built-in vocabulary.

The package is not a dependency, because it is only available on GitHub and needs ``transformers`` 4. If it is missing
or does not work, ``load_ram`` says so and what to do.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from pickle import UnpicklingError
from typing import Any

import PIL.Image
import torch
from torch import Tensor

from ontologies.ontology import OntologyError
from ontologies.taggers import Image, Tags, best_first

# The names of the models in the package, and the backbones of the published checkpoints.
KINDS = {"ram_plus": "swin_l", "ram": "swin_l", "tag2text": "swin_b"}
IMAGE_SIDE = 384
_REPOSITORY = "https://github.com/xinyu1205/recognize-anything"


class RamTagger:
    """Tags images with a model of github.com/xinyu1205/recognize-anything.

    - RAM++: Huang et al. 2023, arXiv 2310.15200.
    - RAM: Zhang et al. 2023, arXiv 2306.03514.
    - Tag2Text: Huang et al. 2023, arXiv 2303.05657.

    The model itself decides which tags an image has, with a threshold per tag set by its authors (``class_threshold``;
    tags in ``delete_tag_index`` are never given). It returns names only. The score of a tag is the sigmoid that is
    compared with its threshold, read from the model's last layer. Scores of different tags are not comparable, because
    thresholds differ: those of RAM range from 0.46 to 1, which no image reaches.

    Args:
        model: a model of ``ram.models``, on its device.
        transform: turns a PIL image into a tensor, as ``ram.get_transform`` returns it.
        batch_size: maximum number of images per forward pass.
    """

    def __init__(self, model: Any, transform: Callable[[PIL.Image.Image], Tensor], batch_size: int = 8) -> None:
        self.model = model.eval()
        self.transform = transform
        self.batch_size = batch_size
        self._lock = threading.Lock()
        deleted = {int(index) for index in model.delete_tag_index}
        self._columns: dict[str, list[int]] = defaultdict(list)  # Tag2Text has a noun "train" and a verb "train"
        for index, name in enumerate(model.tag_list):
            if index not in deleted:
                self._columns[str(name)].append(index)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """All tags that the model can give."""
        return tuple(self._columns)

    @torch.inference_mode()
    def tag(self, images: Sequence[Image]) -> list[Tags]:
        tagged: list[Tags] = []
        for start in range(0, len(images), self.batch_size):
            answers, scores = self._forward(images[start : start + self.batch_size])
            for answer, row in zip(answers, scores.tolist(), strict=True):
                names = filter(None, answer.split(" | "))
                tagged.append(best_first({name: max(row[column] for column in self._columns[name]) for name in names}))
        return tagged

    def _forward(self, images: Sequence[Image]) -> tuple[list[str], Tensor]:
        """The model's answer for each image, tags joined by " | ", and the scores of all tags ``(images, tags)``."""
        device = next(self.model.parameters()).device
        pixels = torch.stack([self.transform(PIL.Image.fromarray(image)) for image in images]).to(device)
        outputs: list[Tensor] = []
        with self._lock:  # the hook would also record forward passes of other threads
            hook = self.model.fc.register_forward_hook(lambda _module, _inputs, logits: outputs.append(logits))
            try:
                answers = self._answers(pixels)
            finally:
                hook.remove()
        (logits,) = outputs
        return answers, logits.reshape(len(images), -1).sigmoid()

    def _answers(self, pixels: Tensor) -> list[str]:
        if hasattr(self.model, "generate_tag"):
            english, _chinese = self.model.generate_tag(pixels)
            return list(english)
        # Tag2Text also writes a caption. It is not used, so it is limited to one token, the minimum.
        _captions, tags = self.model.generate(
            pixels, num_beams=1, min_length=0, max_length=self.model.prompt_length + 1, return_tag_predict=True
        )
        return list(tags)


def load_ram(checkpoint: str, kind: str = "ram_plus", device: str = "cpu", batch_size: int = 8) -> RamTagger:
    """Load a checkpoint published by the authors.

    Args:
        checkpoint: path of a ``.pth`` file, such as ``ram_plus_swin_large_14m.pth``.
        kind: one of ``KINDS``.
        device: a torch device.
        batch_size: maximum number of images per forward pass.

    Raises:
        OntologyError: there is no such kind or file, the package ``ram`` is missing or does not work with the installed
            libraries, or the checkpoint cannot be loaded.
    """
    if kind not in KINDS:
        raise OntologyError(f"{kind!r} is not a tagger of the package ram; known taggers: {', '.join(KINDS)}")
    check_ram(checkpoint)
    path = os.path.expanduser(checkpoint)
    # The package turns off all warnings of the process, and prints while it loads.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        try:
            import ram
            from ram import models
        except ImportError as error:
            raise OntologyError(_unfit(error)) from error
        try:
            _check_is_data(path)
            model = getattr(models, kind)(pretrained=path, image_size=IMAGE_SIDE, vit=KINDS[kind])
            transform = ram.get_transform(image_size=IMAGE_SIDE)
        except UnpicklingError as error:
            raise OntologyError(
                f"{checkpoint}: cannot be loaded as {kind}: it is not a checkpoint, or it contains more than weights, "
                "which could run code"
            ) from error
        except Exception as error:  # a file that is not a checkpoint can raise anything
            raise OntologyError(f"{checkpoint}: cannot be loaded as {kind}: {_line(error)}") from error
    return RamTagger(model.to(device), transform, batch_size)


def check_ram(checkpoint: str) -> None:
    """Check that the checkpoint and the package ``ram`` are there, without loading either.

    Raises:
        OntologyError: one is not.
    """
    if not os.path.isfile(os.path.expanduser(checkpoint)):
        raise OntologyError(f"{checkpoint}: no such file; {_REPOSITORY} links to the checkpoints")
    if importlib.util.find_spec("ram") is None:
        raise OntologyError(f"--tagger ram needs the package ram; run `pip install git+{_REPOSITORY}.git`")


def _check_is_data(path: str) -> None:
    """Refuse a checkpoint whose pickle contains more than tensors and plain containers.

    The package reads checkpoints with a plain ``torch.load``, which runs code that the pickle names: by default before
    torch 2.6, and later if TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set.

    Raises:
        pickle.UnpicklingError: it contains more.
        Exception: it is not a checkpoint.
    """
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # tensors stay on disk
    except RuntimeError:  # the format before torch 1.6 cannot be memory-mapped
        torch.load(path, map_location="cpu", weights_only=True)


def _unfit(error: ImportError) -> str:
    return f"the package ram does not work with the installed libraries ({_line(error)}); it must be ported to them"


def _line(error: Exception) -> str:
    """The message of an error on one line."""
    return f"{' '.join(str(error).split()) or type(error).__name__:.300}"
