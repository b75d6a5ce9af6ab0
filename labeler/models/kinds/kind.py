"""The interface of labeler kinds. Each kind is a small frozen dataclass, one per file in this folder.

A kind is picklable and imports no model library until ``load`` is called, in the process that labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from labeler.models.config import ModelConfig

if TYPE_CHECKING:
    from labeler.models.labelers.labeler import Labeler


@dataclass(frozen=True)
class NeededModel:
    """A checkpoint that a labeler loads.

    Attributes:
        source: hub id, folder or embedded model.
        role: the flag that names it, without ``--``; for messages.
        types: the allowed model types; None for any.
    """

    source: str
    role: str
    types: tuple[str, ...] | None = None


class LabelerKind(Protocol):
    """What makes the labels, and with which settings. Paths in it are absolute, since workers run in other folders.

    Attributes:
        kind: the name that ``--labeler`` takes.
    """

    kind: ClassVar[str]

    def models(self, config: ModelConfig) -> Iterable[NeededModel]:
        """The checkpoints that ``load`` will load, to be checked before a run."""
        ...

    def identity(self, config: ModelConfig) -> dict[str, Any]:
        """What decides the records, apart from the settings that all kinds share; plain JSON values.

        It contains ``labeler``, the kind. A run folder does not mix records of different identities.

        Raises:
            ModelError: a checkpoint does not exist.
        """
        ...

    def load(self, config: ModelConfig) -> Labeler:
        """The labeler, ready for the device of ``config``.

        Raises:
            ModelError: a model cannot be found or loaded, or is of an unknown type.
            UsageError: this machine does not have ``config.device``.
        """
        ...


def innermost(kind: LabelerKind) -> LabelerKind:
    """The kind that tiles or views are wrapped around: it decides what the scores mean and which flags apply."""
    inner: LabelerKind | None = getattr(kind, "inner", None)
    return kind if inner is None else innermost(inner)


def fitted(kind: LabelerKind, image_ids: Callable[[], Sequence[str]]) -> tuple[LabelerKind, list[str]]:
    """``kind`` for a run on these images, and what the user should know about it, one line each.

    Only a kind with a method ``fitted``, which looks up images by name, needs to know them before the run.
    """
    own = getattr(kind, "fitted", None)
    return own(image_ids()) if own else (kind, [])


def check_kind(kind: LabelerKind) -> None:
    """Check what else a kind can tell before a run on this machine, by its method ``check``, if it has one.

    Raises:
        ModelError, UsageError: it cannot run.
    """
    check: Callable[[], None] | None = getattr(kind, "check", None)
    if check is not None:
        check()
