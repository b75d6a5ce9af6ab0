"""The taggers of the package ``ram``: RAM++, RAM and Tag2Text, which bring a vocabulary of their own.

The package is no dependency, since it is on GitHub alone (https://github.com/xinyu1205/recognize-anything) and written
for ``transformers`` 4: ``load_ram`` says how to install it, or why it cannot be used.
"""

from __future__ import annotations

import contextlib
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

# Kind, as the package names it, and the backbone of the checkpoint that its authors published.
KINDS = {"ram_plus": "swin_l", "ram": "swin_l", "tag2text": "swin_b"}
IMAGE_SIDE = 384
_REPOSITORY = "https://github.com/xinyu1205/recognize-anything"


class RamTagger:
    """RAM++ (Huang et al. 2023), RAM (Zhang et al. 2023) or Tag2Text (Huang et al. 2023).

    The tags are those that the model itself answers, which its authors' threshold for each tag decides
    (``class_threshold``, less ``delete_tag_index``). Its answer holds names alone; a tag's score is the sigmoid that
    was compared with the threshold, read where it leaves the model's last layer. Scores of different tags are hardly
    comparable, since their thresholds are not (RAM's go from 0.46 to 1, which no image reaches).

    Args:
        model: of ``ram.models``, on its device.
        transform: of ``ram.get_transform``: a PIL image to a tensor of one shape for all.
        batch_size: images in one forward, at most.
    """

    def __init__(self, model: Any, transform: Callable[[PIL.Image.Image], Tensor], batch_size: int = 8) -> None:
        self.model = model.eval()
        self.transform = transform
        self.batch_size = batch_size
        self._alone = threading.Lock()
        deleted = {int(index) for index in model.delete_tag_index}
        self._columns: dict[str, list[int]] = defaultdict(list)  # Tag2Text has a noun "train" and a verb "train"
        for index, name in enumerate(model.tag_list):
            if index not in deleted:
                self._columns[str(name)].append(index)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """All tags that there can be."""
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
        """What the model answers for each image, names joined by " | ", and the scores ``(images, tags)``."""
        device = next(self.model.parameters()).device
        pixels = torch.stack([self.transform(PIL.Image.fromarray(image)) for image in images]).to(device)
        left: list[Tensor] = []
        with self._alone:  # else the hook would see what passes in other threads
            hook = self.model.fc.register_forward_hook(lambda _module, _inputs, logits: left.append(logits))
            try:
                answers = self._answers(pixels)
            finally:
                hook.remove()
        (logits,) = left
        return answers, logits.reshape(len(images), -1).sigmoid()

    def _answers(self, pixels: Tensor) -> list[str]:
        if hasattr(self.model, "generate_tag"):
            english, _chinese = self.model.generate_tag(pixels)
            return list(english)
        # Tag2Text writes a caption as well, which nobody reads: one word of it is the least that can be asked for.
        _captions, tags = self.model.generate(
            pixels, num_beams=1, min_length=0, max_length=self.model.prompt_length + 1, return_tag_predict=True
        )
        return list(tags)


def load_ram(checkpoint: str, kind: str = "ram_plus", device: str = "cpu", batch_size: int = 8) -> RamTagger:
    """A tagger from one of the authors' checkpoints.

    Args:
        checkpoint: path of a ``.pth`` file, such as ``ram_plus_swin_large_14m.pth``.
        kind: one of ``KINDS``.
        device: a torch device.
        batch_size: images in one forward, at most.

    Raises:
        OntologyError: no such kind or file, the package ``ram`` is absent or does not suit the libraries here, or the
            checkpoint cannot be loaded.
    """
    if kind not in KINDS:
        raise OntologyError(f"{kind!r} is no tagger of the package ram; known: {', '.join(KINDS)}")
    path = os.path.expanduser(checkpoint)
    if not os.path.isfile(path):
        raise OntologyError(f"{checkpoint}: no such file; {_REPOSITORY} links the checkpoints")
    # The package silences every warning of the process, and prints while it loads.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        try:
            import ram
            from ram import models
        except ModuleNotFoundError as error:
            if error.name != "ram":
                raise OntologyError(_unfit(error)) from error
            raise OntologyError(f"{kind} needs the package ram; run `pip install git+{_REPOSITORY}.git`") from error
        except ImportError as error:
            raise OntologyError(_unfit(error)) from error
        try:
            _check_is_data(path)
            model = getattr(models, kind)(pretrained=path, image_size=IMAGE_SIDE, vit=KINDS[kind])
            transform = ram.get_transform(image_size=IMAGE_SIDE)
        except UnpicklingError as error:
            raise OntologyError(
                f"{checkpoint}: cannot be loaded as {kind}: it is no checkpoint, or it holds more than weights, which "
                "could run code"
            ) from error
        except Exception as error:  # a file that is no checkpoint raises what its readers happen to raise
            raise OntologyError(f"{checkpoint}: cannot be loaded as {kind}: {_line(error)}") from error
    return RamTagger(model.to(device), transform, batch_size)


def _check_is_data(path: str) -> None:
    """Refuse a checkpoint whose pickle holds more than tensors and plain containers.

    The package reads it by a bare ``torch.load``, which runs whatever code a pickle names: by default before torch 2.6,
    and with TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD set ever since.

    Raises:
        pickle.UnpicklingError: it does.
        Exception: what torch raises on a file that is no checkpoint.
    """
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # tensors stay on disk
    except RuntimeError:  # of a format before torch 1.6, which cannot be mapped
        torch.load(path, map_location="cpu", weights_only=True)


def _unfit(error: ImportError) -> str:
    return f"the package ram does not work with the libraries installed here ({_line(error)}); it needs a port to them"


def _line(error: Exception) -> str:
    return f"{' '.join(str(error).split()) or type(error).__name__:.300}"
