"""One labeling job: everything that ``labeler label`` needs to know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labeler.errors import UsageError
from labeler.files.image_config import ImageConfig
from labeler.models.config import ModelConfig
from labeler.models.kinds.grounded_sam import GroundedSamKind
from labeler.models.kinds.kind import LabelerKind
from labeler.models.taggers.config import TaggingConfig
from labeler.setting import check, setting
from ontologies import Ontology
from workflows.settings.engine import EngineConfig
from workflows.settings.export import GROUP as DATASET_GROUP
from workflows.settings.export import ExportConfig
from workflows.settings.limits import FailureLimit
from workflows.settings.resolved import ExportChange

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

SHARD_SIZE = 64
RUN_GROUP = "re-runs and failures"
MAX_SHARD_SIZE = 1_000_000
RESPLIT = (
    "move groups of images that are in several splits into one; if --val-share, --test-share, --split-by or --seed "
    "changed, split all images anew"
)
OVERWRITE_EDITS = "replace dataset files that you have edited; otherwise they are kept and listed"


@dataclass(frozen=True)
class LabelJob:
    """One labeling job.

    Attributes:
        images: folder, file, glob or list file, on this machine or as a URI.
        ontology: what to look for; None lets images propose their own classes, by ``tagging``.
        output: the folder, or ``labeler.files.storage.locate`` of a URI, that becomes dataset and run folder.
        export: settings of the dataset; or what makes them from those that ``output`` remembers (in a new folder, from
            the defaults of the models' family); None for the remembered ones as they are.
        defaults: start from those defaults in any folder.
        shard_size: images per record file: what a killed run loses, at most.
        retry_failed: retry images that failed in earlier runs.
        verify_content: look for changed images by reading them all, instead of by their sizes and times.
        max_failures: how many new failures there may be: a number of images, or a percentage of those taken up.
        allow_failures: failed images below that limit are no reason for another exit code than 0.
        reading: how images are read; its ``intensity`` decides the records.
        engine: what labels; the records do not depend on it.
        tagging: which tagger runs, and what for; None for none.
        tags_only: tag, and look for nothing.
        sample: look at so many images only.
        labeler: what makes the labels, with the models of ``model``; any ``LabelerKind``, also one of your own.
        keep_floor: take the candidate floor that ``output`` remembers, or in a new folder that of the models' family,
            in place of the one in ``model``; for a user who states none.
        add_pass: the labeler may be another one than those that labeled ``output``; it is asked for ``all`` prompts, or
            for ``new`` ones alone, which none was asked for.
        keep_min_scores: give the classes of ``ontology`` the ``min_score`` values that ``output`` remembers for them;
            for a list of words, which cannot state any.
    """

    images: str
    output: AnyPath
    ontology: Ontology | None
    model: ModelConfig
    export: ExportConfig | ExportChange | None = None
    shard_size: int = setting(
        SHARD_SIZE, "images per record file", metavar="N", group=RUN_GROUP, least=1, most=MAX_SHARD_SIZE
    )
    restart: bool = setting(
        False, "delete the records and label all images again; dataset settings are kept", group=RUN_GROUP
    )
    retry_failed: bool = setting(False, "retry images that failed in earlier runs", group=RUN_GROUP)
    verify_content: bool = setting(
        False,
        "read every image to find changed ones, not only those whose size, mtime or ctime differs",
        group=RUN_GROUP,
    )
    prune: bool = setting(False, "drop images that are no longer in the input", group=RUN_GROUP)
    max_failures: str | None = setting(
        None,
        "stop with exit code 4 if more images than this fail: a number, or a percentage of the images to label",
        metavar="N|P%",
        group=RUN_GROUP,
        unset="no limit",
    )
    allow_failures: bool = setting(False, "exit with 0, not 1, when some images could not be labeled", group=RUN_GROUP)
    reading: ImageConfig = field(default_factory=ImageConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    tagging: TaggingConfig | None = None
    tags_only: bool = False
    sample: int | None = None
    overwrite_edits: bool = setting(False, OVERWRITE_EDITS, group=DATASET_GROUP)
    resplit: bool = setting(False, RESPLIT, group=DATASET_GROUP)
    labeler: LabelerKind = field(default_factory=GroundedSamKind)
    keep_min_scores: bool = False
    add_pass: str | None = setting(
        None,
        "add the labels of another labeler to those in the folder, asked for all prompts or only for new ones",
        choices=("all", "new"),
        group=RUN_GROUP,
        unset="refused",
    )
    keep_floor: bool = False
    defaults: bool = False

    def __post_init__(self) -> None:
        check(self)
        if self.ontology is None and self.tagging is None:
            raise UsageError('say what to look for: --classes "dog, cat", --ontology FILE, or --tagger auto')
        if self.sample is not None and self.sample < 1:
            raise UsageError(f"--sample must be 1 or more, not {self.sample}")
        if self.max_failures is not None:
            FailureLimit.parse(self.max_failures)
