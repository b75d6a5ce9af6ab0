"""``labeler review --assist``: the segmenter that draws masks on the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labeler.errors import UsageError
from labeler.models.config import PRESETS, ModelConfig
from labeler.setting import setting
from workflows.commands.options import changes
from workflows.settings.changes import Changes

if TYPE_CHECKING:
    from workflows.commands.terminal import Terminal
    from workflows.review.assistant import Assistant
    from workflows.review.queue import ReviewQueue

_OF_MODEL = ("segmenter", "device", "precision")


@dataclass(frozen=True)
class AssistOptions:
    """Whether a segmenter draws masks, and which."""

    assist: bool = setting(False, "fix masks and draw objects on the page by clicks, with a segmenter")
    model: str = setting("balanced", "preset whose segmenter draws", choices=tuple(PRESETS), group="models")
    given: Changes[ModelConfig] = changes(ModelConfig, only=_OF_MODEL)

    def check(self, given: Mapping[str, Any]) -> None:
        """Refuse options that mean nothing without ``assist``.

        Raises:
            UsageError: one is given.
        """
        if not self.assist and (extra := next((name for name in ("model", *_OF_MODEL) if name in given), None)):
            raise UsageError(f"--{extra} goes with --assist")

    def config(self) -> ModelConfig:
        """The settings of the segmenter.

        Raises:
            UsageError: the preset has no segmenter, and none is named.
        """
        preset = PRESETS[self.model]
        config = self.given.of(ModelConfig(preset.detector, preset.segmenter))
        if not config.segmenter:
            raise UsageError(f"--model {self.model} has no segmenter of its own; name one with --segmenter")
        return config


def assistant_of(options: AssistOptions, queue: ReviewQueue, console: Terminal) -> Assistant | None:
    """What draws masks for the page; None without ``--assist``.

    The segmenter is the one that the user names: the one that only the run folder names is never loaded.

    Raises:
        ModelError, UsageError: the segmenter is not there, or this machine has no such device.
    """
    if not options.assist:
        return None
    from labeler.models.availability import check_device, check_segmenter
    from labeler.models.loading import load_segmenter
    from workflows.review.assistant import Assistant

    config = options.config()
    check_device(config.device)
    check_segmenter(config.segmenter)
    console.print(f"masks are drawn by {config.segmenter}, which is being loaded", highlight=False, markup=False)
    labeled_with = queue.labeled.settings.model.get("segmenter")
    if labeled_with and labeled_with != config.segmenter:
        text = f"note: the images were labeled with {labeled_with}; --segmenter names another"
        console.print(text, highlight=False, markup=False)
    return Assistant(queue, lambda: load_segmenter(config))
