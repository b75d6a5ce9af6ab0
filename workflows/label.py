"""The whole job: find images, label what is not labeled yet, write the dataset.

find ──► plan shards ──► label each (decode ► detect ► segment ► records) ──► judge ──► COCO + YOLO
"""

from __future__ import annotations

import hashlib
import heapq
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from labeler.checkpoints import model_identity
from labeler.errors import DeviceError, RunError, UsageError
from labeler.listing import find_images, stamps
from labeler.models import ModelConfig
from labeler.sizes import shown
from labeler.storage import absolute, is_within
from labeler.tagger_models import TaggingConfig
from ontologies import Ontology
from workflows.changes import changed_images
from workflows.dataset_settings import as_published, last_published, read_saved
from workflows.datasets import recover
from workflows.engines import ray_engine, run_local
from workflows.exit_codes import NOTHING_LABELED, TOO_MANY_FAILURES
from workflows.export import ExportSummary, export
from workflows.export_config import ExportConfig
from workflows.failures import FailureLedger, FailureLimit, RunLimit
from workflows.pools import EngineConfig, takes_ray
from workflows.resolved_settings import ExportChange, Settled, publishing, resolved, settle
from workflows.run_folder import VERSION, RunFolder, Shard
from workflows.settings_text import describe, dropped_formats
from workflows.shards import ShardReport
from workflows.summary import RunSummary
from workflows.workers import WorkerConfig

if TYPE_CHECKING:
    from labeler.labelers import Labeler
    from labeler.storage import AnyPath

SHARD_SIZE = 64
MAX_SHARD_SIZE = 1_000_000


@dataclass(frozen=True)
class LabelJob:
    """One labeling, whole.

    Attributes:
        images: folder, file, glob or list file, on this machine or as a URI.
        ontology: what to look for; None lets images propose their own classes, by ``tagging``.
        output: the folder, or ``labeler.storage.locate`` of a URI, that becomes dataset and run folder.
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


class Progress(Protocol):
    def begin(self, images: int, already_labeled: int) -> None: ...
    def advance(self, report: ShardReport) -> None: ...
    def say(self, message: str) -> None: ...


@dataclass
class LabelSummary:
    """What one call of ``label`` did.

    Attributes:
        found: images in the input.
        labeled: figures of the images labeled by this call; earlier ones are not in it.
        seconds: wall clock of ``load`` (models; with Ray, its start), ``label`` and ``export``.
        first_image: seconds until the first image was labeled; None if none was.
        run: what ``run/summary.json`` tells, the exit code among it.
    """

    found: int
    labeled: ShardReport
    dataset: ExportSummary
    seconds: dict[str, float]
    first_image: float | None
    run: RunSummary


@dataclass
class Recorded:
    """The records of a job, all there.

    Attributes:
        settled: the settings of the dataset.
        done, seconds, first_image: as in ``LabelSummary``.
        failed: the failures of labeling that no run has reported yet, by image id.
        limit: how many there may be of these and others.
    """

    settled: Settled
    run: RunFolder
    root: AnyPath
    images: pa.Array
    done: ShardReport
    seconds: dict[str, float]
    first_image: float | None
    ledger: FailureLedger
    failed: dict[str, str]
    limit: RunLimit


def label(job: LabelJob, progress: Progress) -> LabelSummary:
    """Run ``job``; the same call resumes it after an interruption.

    Raises:
        UsageError: nothing is at ``job.images``.
        RunError: the output folder is in use, was labeled with other settings, or no image was found.
        OSError: a store or folder cannot be reached, read or written.
        ModelError: a model cannot be loaded.
    """
    summary = RunSummary("label", job.max_failures, job.allow_failures)
    with recorded(job, progress, summary) as records:
        progress.say("writing the dataset")
        with _clock(records.seconds, "export"):
            settled = records.settled
            if hint := dropped_formats(settled):
                progress.say(hint)
            with publishing(records.run, settled):
                dataset = export(
                    records.run,
                    records.root,
                    settled.ontology,
                    settled.export,
                    previous=settled.published.export if settled.published else None,
                    overwrite_edits=job.overwrite_edits,
                    prune=job.prune,
                )
        describe(dataset, settled)
        # An image that the input names but does not hold, as a list file may, is a failure and not merely gone.
        listed = set(dataset.missing).intersection(records.images.to_pylist()) if dataset.missing else ()
        dataset.failures += [(name, "no such file") for name in dataset.missing if name in listed]
        dataset.found_failed.update(listed)
        dataset.missing = [name for name in dataset.missing if name not in listed]
        dataset.new = records.failed.keys() | (dataset.found_failed - records.ledger.failed)
        summary.exported(dataset)
        if records.limit.is_exceeded(len(dataset.new_failures)):  # as failures of writing the dataset may make it
            summary.exit_code = TOO_MANY_FAILURES
        else:
            records.ledger.close(dataset.found_failed)
        summary.write(records.run)
    return LabelSummary(len(records.images), records.done, dataset, records.seconds, records.first_image, summary)


@contextmanager
def recorded(job: LabelJob, progress: Progress, summary: RunSummary | None = None) -> Iterator[Recorded]:
    """Label what is not labeled yet. The run folder is held until the block is left.

    Args:
        summary: is filled in, and written if labeling or the block ends early.

    Raises:
        TooManyFailuresError: more images failed than ``job`` allows.
    """
    began = time.time()
    output = absolute(job.output)
    run = RunFolder(output)
    _settle(job, run, read_saved(run, job.restart))  # so that a mistake is told before the images are listed
    source = find_images(job.images, exclude=job.output)
    root, image_ids = source.root, chosen(source.image_ids, job.sample)
    # A million names take a tenth of the memory in an array.
    images, now = pa.array(image_ids, pa.string()), pa.array(stamps(root, image_ids), pa.string())
    del source, image_ids
    if not images:
        raise NothingFoundError(f"{job.images}: no image found; give a folder that holds some")
    if is_within(root, output):
        raise UsageError(f"{job.images} lies in the output folder {job.output}; choose another -o")
    seconds = dict.fromkeys(("load", "label", "export"), 0.0)
    done = ShardReport()
    with run.locked() as still_held:
        recover(output)
        saved = read_saved(run, job.restart)
        settled = replace(_settle(job, run, saved), published=last_published(run, saved))
        job = replace(job, ontology=settled.ontology, export=settled.export)
        content = {**settings(job, root), **as_published(settled.published)}
        run.begin(content, job.restart)
        ledger = FailureLedger(run)
        if job.restart or not run.record_paths():
            ledger.clear()
        if job.retry_failed or job.restart:
            run.clear_attempts()
        changes = changed_images(run, root, images, now, job.verify_content)
        if changes.images:
            progress.say(f"{len(changes.images)} images changed since they were labeled")
        if again := ledger.to_retry():
            progress.say(f"trying the {len(again)} images again that failed in a run with too many failures")
        failed_before = set(run.failed()).intersection(images.to_pylist()) if job.retry_failed else set()
        changed = {*changes.images, *again, *failed_before}
        if forgotten := run.plan(images, changes.stamps, job.shard_size, changed, job.prune):
            progress.say(f"{forgotten} images that are gone from {job.images} are dropped")
        run.set_unusable_aside()
        todo = run.waiting()
        ledger.begin(todo)
        failed = dict(ledger.unreported())
        taken_up = run.count_in(ledger.pending - ledger.assumed)
        limit = RunLimit(job.max_failures, taken_up, len(failed) if ledger.assumed else 0)
        if summary:
            summary.ask(content, settled.export.quality, settled.ontology)
            summary.images.update(found=len(images), changed=len(changes.images), pruned=forgotten)
            summary.seconds, summary.failed_so_far = seconds, failed

        def take(report: ShardReport) -> None:
            still_held()
            progress.advance(report)
            done.add(report)
            failed.update(report.failures)
            if summary:
                summary.labeled(done)
            check()

        def check() -> None:
            if limit.is_exceeded(len(failed)):
                ledger.retry_next_time()
                raise limit.error(job.images, list(failed.items()))

        with summary.of_errors(run, progress.say) if summary else nullcontext():
            remaining = sum(len(shard.image_ids) for shard in todo)
            progress.begin(len(images), max(len(images) - remaining, 0))
            check()
            if todo:  # a run with nothing new loads no model
                _label(todo, job, root, run, take, seconds, progress.say)
            del todo
            first_image = done.first_image - began if done.images else None
            yield Recorded(settled, run, root, images, done, seconds, first_image, ledger, failed, limit)


def _settle(job: LabelJob, run: RunFolder, saved: dict[str, Any]) -> Settled:
    return settle(run, saved, job.export, job.ontology, job.model.floor, job.keep_min_scores)


def chosen(image_ids: Sequence[str], count: int | None) -> Sequence[str]:
    """``count`` of the images, those of the smallest digests: with more images around, most stay chosen."""
    if count is None or count >= len(image_ids):
        return image_ids

    def digest(image_id: str) -> bytes:
        return hashlib.blake2b(image_id.encode(), digest_size=8).digest()

    return sorted(heapq.nsmallest(count, image_ids, key=digest))


def _label(
    todo: list[Shard],
    job: LabelJob,
    root: AnyPath,
    run: RunFolder,
    take: Callable[[ShardReport], None],
    seconds: dict[str, float],
    say: Callable[[str], None],
) -> None:
    """Label the shards ``todo``; ``take`` gets the report of each, and may raise to end this."""
    config = WorkerConfig(root, job.ontology, job.model, job.load, job.tagging, job.tags_only, run.path / "embeddings")
    try:
        with ExitStack() as stack:
            with _clock(seconds, "load"):
                if takes_ray(job.engine, job.model.device, len(todo)):
                    reports = stack.enter_context(ray_engine(todo, config, job.engine, run.output, say))
                else:
                    reports = stack.enter_context(closing(run_local(todo, config, config.load_stages())))
            with _clock(seconds, "label"):
                for report in reports:
                    take(report)
    except DeviceError:
        raise  # what was begun may be what the device was lost to
    except BaseException:
        run.clear_attempts()
        raise
    run.clear_attempts()


class NothingFoundError(RunError):
    """The input is there, but holds no image."""

    exit_code = NOTHING_LABELED


@contextmanager
def _clock(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] += time.perf_counter() - started


def settings(job: LabelJob, root: AnyPath) -> dict[str, Any]:
    """``run.json``. What is under ``labeling`` decides the records, so it cannot change within a run folder."""
    of_models = ["precision", "prompts_per_caption", "floor", "max_instances", "clean_share"]
    roles = ["detector", "segmenter"]
    if job.tags_only and job.tagging:
        sweeps = job.tagging.kind(job.model) == "detector"
        of_models, roles = (["precision", "floor"], ["detector"]) if sweeps else (["precision"], [])
    return {
        "version": VERSION,
        "input": str(root),
        "labeling": {
            "ontology": job.ontology.prompt_digest if job.ontology else None,
            "tags_only": job.tags_only or None,
            "tagging": _identity(job.tagging, job.model) if job.tagging else None,
            **{role: model_identity(getattr(job.model, role)) for role in roles},
            **{name: getattr(job.model, name) for name in of_models},
        },
        "ontology": asdict(job.ontology) if job.ontology else None,
        "model": asdict(job.model),
        "export": asdict(resolved(job.export, ExportConfig(), job.ontology)),
        "versions": {name: version(name) for name in ("autodistill-labeler", "torch", "transformers")},
    }


def _identity(tagging: TaggingConfig, model: ModelConfig) -> dict[str, Any]:
    """What decides the tags."""
    source = tagging.source(model)
    return {
        **asdict(tagging),
        "tagger": tagging.kind(model),
        "tagger_model": model_identity(source) if source else None,
        "vocabulary": hashlib.sha256("\n".join(tagging.vocabulary).encode()).hexdigest(),
    }
