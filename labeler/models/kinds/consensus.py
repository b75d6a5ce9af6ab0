"""``--views`` and ``--also``: what several views of an image, or two labelers, agree on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from labeler.models.config import ModelConfig
from labeler.models.kinds.kind import LabelerKind, NeededModel
from labeler.models.kinds.wrapping import check_wrappable

if TYPE_CHECKING:
    from labeler.models.labelers.labeler import Labeler


@dataclass(frozen=True)
class SecondLabeler:
    """A labeler with models of its own, which give scores; the other settings of the models are those of the run."""

    labeler: LabelerKind
    detector: str
    segmenter: str

    def config(self, config: ModelConfig) -> ModelConfig:
        return replace(config, detector=self.detector, segmenter=self.segmenter, verify=None)


@dataclass(frozen=True)
class ConsensusKind:
    """See ``labeler.models.labelers.consensus``.

    Attributes:
        inner: the first labeler, with the models of the run.
        also: the second one.
        mirror: the mirrored image is a second view.
    """

    kind: ClassVar[str] = "consensus"

    inner: LabelerKind
    also: SecondLabeler | None = None
    mirror: bool = False

    def __post_init__(self) -> None:
        check_wrappable(self.inner, "--views" if self.mirror else "--also")

    def models(self, config: ModelConfig) -> Iterator[NeededModel]:
        yield from self.inner.models(config)
        if self.also:
            yield from (replace(each, role="also") for each in self.also.labeler.models(self.also.config(config)))

    def identity(self, config: ModelConfig) -> dict[str, Any]:
        return {
            **self.inner.identity(config),
            **({"views": "mirror"} if self.mirror else {}),
            **({"also": self.also.labeler.identity(self.also.config(config))} if self.also else {}),
        }

    def load(self, config: ModelConfig) -> Labeler:
        from labeler.models.labelers.consensus import ConsensusLabeler

        labelers = [self.inner.load(config)]
        if self.also:
            labelers.append(self.also.labeler.load(self.also.config(config)))
        return ConsensusLabeler(tuple(labelers), self.mirror, config.max_instances)
