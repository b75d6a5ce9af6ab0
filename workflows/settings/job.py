"""One labeling job: everything that ``labeler label`` needs to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labeler.errors import UsageError
from labeler.models.config import ModelConfig
from labeler.models.tagging import TaggingConfig
from labeler.sizes import shown
from ontologies import Ontology
from workflows.settings.engine import EngineConfig
from workflows.settings.export import ExportConfig
from workflows.settings.limits import FailureLimit
from workflows.settings.resolved import ExportChange

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from labeler.models.labelers.labeler import Labeler

SHARD_SIZE = 64
MAX_SHARD_SIZE = 1_000_000


@dataclass(frozen=True)
class LabelJob:
    """One labeling, whole.

    Attributes:
        images: folder, file, glob or list file, on this machine or as a URI.
        ontology: what to look for; None lets images propose their own classes, by ``tagging``.
        output: the folder, or ``labeler.files.storage.locate`` of a URI, that becomes dataset and run folder.
        export: settings of the dataset; or what makes them from those that ``output`` remembers (in a new folder, from
            the defaults); None for the remembered ones as they are.
        shard_size: images in one record file: what a killed run loses, at most.
        restart: drop labels that are already in ``output``.
        retry_failed: label the shards again in which an image failed.
        verify_content: look for changed images by reading them all, instead of by their sizes and times.
        prune: drop images that are gone from the input.
        max_failures: how many new failures there may be: a number of images, or a percentage of those taken up.
        allow_failures: failed images below that limit are no reason for another exit code than 0.
        engine: who labels; the records do not depend on it.
        tagging: who tags, and what for; None for nobody.
        tags_only: tag, and look for nothing.
        sample: look at so many images only.
        overwrite_edits: replace files of the dataset that were edited.
        load: makes the labeler, where it is to be another than the models of ``model``; picklable, for Ray's workers.
        keep_min_scores: give the classes of ``ontology`` the ``min_score`` values that ``output`` remembers for them;
            for a list of words, which cannot state any.
    """

    images: str
    output: AnyPath
    ontology: Ontology | None
    model: ModelConfig
    export: ExportConfig | ExportChange | None = None
    shard_size: int = SHARD_SIZE
    restart: bool = False
    retry_failed: bool = False
    verify_content: bool = False
    prune: bool = False
    max_failures: str | None = None
    allow_failures: bool = False
    engine: EngineConfig = field(default_factory=EngineConfig)
    tagging: TaggingConfig | None = None
    tags_only: bool = False
    sample: int | None = None
    overwrite_edits: bool = False
    load: Callable[[], Labeler] | None = None
    keep_min_scores: bool = False

    def __post_init__(self) -> None:
        if self.ontology is None and self.tagging is None:
            raise UsageError('say what to look for: --classes "dog, cat", --ontology FILE, or --tagger auto')
        if self.sample is not None and self.sample < 1:
            raise UsageError(f"--sample must be 1 or more, not {self.sample}")
        if not 1 <= self.shard_size <= MAX_SHARD_SIZE:
            raise UsageError(f"--shard-size must be from 1 to {MAX_SHARD_SIZE}, not {shown(self.shard_size)}")
        if self.max_failures is not None:
            FailureLimit.parse(self.max_failures)
