"""The summary of a run for schedulers and dashboards: ``OUT/run/summary.json``, and one line in the log.

The file is replaced at the end of every run of ``label``, ``tag``, ``export``, ``review --apply`` and ``review
--from``, even if the run ends with an error or Ctrl-C. A run that is refused before it starts, or that is killed,
writes none. The line is ``summary: key=value key=value …``, with no spaces in values, and is the same for two equal
runs.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from labeler.files.credentials import without_secrets
from labeler.files.storage import write_bytes
from ontologies import Ontology
from workflows.run import exit_codes

if TYPE_CHECKING:
    from labeler.quality_config import QualityConfig
    from workflows.run.failures import Failure
    from workflows.run.folder import RunFolder
    from workflows.run.shard_report import ShardReport
    from workflows.settings.run_settings import RunSettings

logger = logging.getLogger(__name__)

VERSION = 1  # of summary.json
IMAGES = ("found", "labeled", "train", "val", "test")
FAILURES_NAMED = 20
ERROR_LENGTH = 300


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass
class RunSummary:
    """The figures of one run, filled in while it runs.

    Attributes:
        command: ``label``, ``tag``, ``export`` or ``review``.
        max_failures: as given by the user.
        allow_failures: exit with 0 even if some images failed.
        asked: input, classes, tagger and models.
        thresholds: those the quality gate applied.
        images: ``found`` in the input, ``changed``, ``labeled`` by this run, in ``train``, ``val`` and ``test``, …
        splits: how images were divided, and which groups of them are in several splits.
        dataset_version: the name of the version that the dataset was published as.
        polygons: how near they are to the masks, see ``workflows.dataset.polygon_fit``; empty where they are exact.
        instances: by verdict: ``accept``, ``review``, ``reject``.
        new, old: failures that no earlier run has reported, and those that one has.
        failed_so_far: the new failures of labeling, by image id; used for ``new`` if the run ends early.
        reading: files that are no images, and how images were read, see ``workflows.run.reading``.
        seconds: of each stage.
        engine: ``local`` or ``ray``; None if no image was labeled.
        error: what ended the run early, in one line.
    """

    command: str
    max_failures: str | None = None
    allow_failures: bool = False
    asked: dict[str, Any] = field(default_factory=dict)
    thresholds: dict[str, Any] = field(default_factory=dict)
    images: Counter[str] = field(default_factory=Counter)
    splits: dict[str, Any] = field(default_factory=dict)
    dataset_version: str | None = None
    polygons: dict[str, Any] = field(default_factory=dict)
    instances: Counter[str] = field(default_factory=Counter)
    new: Sequence[Failure] = ()
    old: Sequence[Failure] = ()
    failed_so_far: Mapping[str, str] = field(default_factory=dict)
    reading: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    engine: str | None = None
    workers: int = 0
    error: str = ""
    exit_code: int = exit_codes.OK
    started: str = field(default_factory=_now)
    _began: float = field(default_factory=time.monotonic, repr=False)

    def ask(self, settings: RunSettings, quality: QualityConfig, ontology: Ontology | None) -> None:
        """Take over what was asked for; older versions may lack something in ``settings``."""
        model, tagging = settings.model, settings.labeling.get("tagging") or {}
        self.asked = {
            "input": settings.input,
            "classes": list(ontology.active_names) if ontology else None,
            "tagger": tagging.get("tagger"),
            "detector": model.get("detector"),
            "segmenter": model.get("segmenter"),
            "detector_image_size": model.get("detector_image_size"),
            "segmenter_image_size": model.get("segmenter_image_size"),
        }
        own = {spec.name: spec.min_score for spec in ontology.classes if spec.min_score is not None} if ontology else {}
        self.thresholds = {**asdict(quality), "class_min_scores": own}

    def labeled(self, done: ShardReport) -> None:
        """Add what this run labeled."""
        self.images["labeled"] = done.images
        if done.images:
            self.engine, self.workers = ("ray", len(done.workers)) if done.workers else ("local", 1)

    def failed(self, new: Sequence[Failure], old: Sequence[Failure], images: int) -> None:
        """Add the failures and set the exit code; ``images`` is the number of images that are labeled after the run."""
        self.new, self.old = new, old
        self.exit_code = exit_codes.of_result(len(new), len(new) + len(old), images, self.allow_failures)

    @contextmanager
    def of_errors(self, run: RunFolder, say: Callable[[str], None]) -> Iterator[None]:
        """Write the summary if the block ends early."""
        try:
            yield
        except BaseException as error:
            self.exit_code, self.new = exit_codes.of_error(error), list(self.failed_so_far.items())
            if isinstance(error, KeyboardInterrupt):
                self.error = exit_codes.stopped()
            else:
                self.error = without_secrets(" ".join(str(error).split())) or type(error).__name__
            self.write(run)
            say(self.line())
            raise

    def content(self) -> dict[str, Any]:
        """The content of ``summary.json``."""
        return {
            "version": VERSION,
            "command": self.command,
            "labeler": version("autodistill-labeler"),
            "started": self.started,
            "ended": _now(),
            "exit_code": self.exit_code,
            "error": self.error or None,
            "asked": {**self.asked, "max_failures": self.max_failures, "allow_failures": self.allow_failures},
            "engine": self.engine,
            "workers": self.workers,
            "images": {name: self.images[name] for name in IMAGES} | self.images,
            "reading": self.reading,
            "splits": self.splits or None,
            "dataset_version": self.dataset_version,
            "polygons": self.polygons or None,
            "instances": {name: self.instances[name] for name in ("accept", "review", "reject")},
            "failed": {"new": _named(self.new), "old": _named(self.old)},
            "thresholds": self.thresholds,
            "seconds": {stage: round(seconds, 3) for stage, seconds in self._stages().items()},
        }

    def line(self) -> str:
        """The line for the log."""
        figures = {
            "command": self.command,
            "exit_code": self.exit_code,
            **{name: self.images[name] for name in IMAGES},
            **{name: self.instances[name] for name in ("accept", "review", "reject")},
            "leaks": self.splits["leaks"]["groups"] if self.splits else 0,
            "failed_new": len(self.new),
            "failed_old": len(self.old),
        }
        return "summary: " + " ".join(f"{name}={value}" for name, value in figures.items())

    def write(self, run: RunFolder) -> None:
        """Replace ``summary.json``; if it cannot be written, only a warning is given, since the run itself is over."""
        path = run.path / "summary.json"
        try:
            write_bytes(path, (json.dumps(self.content(), indent=2, ensure_ascii=False) + "\n").encode())
        except OSError as error:
            logger.warning("%s: cannot be written (%s)", path, error.strerror or error)

    def _stages(self) -> dict[str, float]:
        return {**self.seconds, "total": time.monotonic() - self._began}


def _named(failures: Sequence[Failure]) -> dict[str, Any]:
    first = [{"image": image_id, "error": error[:ERROR_LENGTH]} for image_id, error in failures[:FAILURES_NAMED]]
    return {"count": len(failures), "first": first}
