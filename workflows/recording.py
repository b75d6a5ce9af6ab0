"""From images to records: decides what still needs labeling and runs it on an engine."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from labeler.errors import DeviceError, RunError, UsageError
from labeler.files.image_table import ImageTable
from labeler.files.listing import search_images, with_further_frames
from labeler.files.processes import Spread, on_all_cores
from labeler.files.sampling import sampled
from labeler.files.sorting import sorted_images
from labeler.files.storage import absolute, is_within
from labeler.models.families import GENERAL
from labeler.models.kinds.kind import fitted, innermost
from workflows.asked import as_labeled, checked, classes_before, saved_settings, settled_for
from workflows.dataset.pending_edits import refuse_other_polygons
from workflows.dataset.recovery import recover
from workflows.engines.local import local_engine
from workflows.engines.ray import ray_engine
from workflows.engines.ray_calls import on_cluster
from workflows.engines.resources import takes_ray
from workflows.engines.workers import WorkerConfig
from workflows.run.changes import changed_images
from workflows.run.exit_codes import NOTHING_LABELED
from workflows.run.failures import FailureLedger, RunLimit
from workflows.run.folder import RunFolder
from workflows.run.pass_work import asking, lacking, passes_now
from workflows.run.reading import not_read_line, reading_figures, reading_lines, untiled_line
from workflows.run.shard_report import ShardReport
from workflows.run.summary import RunSummary
from workflows.run.waiting import WaitingShards
from workflows.settings.class_ids import changes_of_classes
from workflows.settings.job import LabelJob
from workflows.settings.resolved import Settled, last_published
from workflows.settings.text import unknown_family_line

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath


logger = logging.getLogger(__name__)


class Progress(Protocol):
    """What a job tells while it runs; ``workflows.commands.progress`` documents it."""

    def begin(self, images: int, already_labeled: int) -> None: ...
    def stage(self, doing: str, images: int = 0) -> None: ...
    def advance(self, report: ShardReport) -> None: ...
    def say(self, message: str) -> None: ...


@dataclass
class Recorded:
    """The records of a job, all there.

    Attributes:
        settled: the settings of the dataset.
        done, seconds, first_image: as in ``LabelSummary``.
        failed: the failures of labeling that no run has reported yet, by image id.
        limit: how many there may be of these and others.
        spread: where to do what is left to do with the records.
    """

    settled: Settled
    run: RunFolder
    root: AnyPath
    images: ImageTable
    done: ShardReport
    seconds: dict[str, float]
    first_image: float | None
    ledger: FailureLedger
    failed: dict[str, str]
    limit: RunLimit
    spread: Spread


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
    asked, family = checked(job, run)  # a mistake is told before the images are listed
    progress.stage("listing the images")
    images, root, not_read = _listed(job)
    if not_read:
        progress.say(not_read_line(not_read))
    logger.debug("%d images below %s", len(images), root)
    if not len(images):
        raise NothingFoundError(
            f"{job.images}: no image found; name a folder, a list or a pattern that holds some"
            + (f" ({not_read_line(not_read)})" if not_read else "")
        )
    if is_within(root, output):
        raise UsageError(f"{job.images} lies in the output folder {job.output}; choose another -o")
    labeler, notes = fitted(job.labeler, images.ids)
    job = replace(job, labeler=labeler)
    for note in notes:
        progress.say(note)
    seconds = dict.fromkeys(("load", "label", "export"), 0.0)
    done = ShardReport()
    with run.locked() as still_held:
        recover(output)
        saved = saved_settings(job, run)
        job = as_labeled(job, saved, family)
        settled = settled_for(job, run, saved, family)
        settled = replace(settled, published=last_published(run.settings, saved, run.has_dataset))
        if settled.published and not job.overwrite_edits:
            refuse_other_polygons(output, settled.published.export, settled.export)
        if settled.started_from is GENERAL and job.keep_floor:
            progress.say(unknown_family_line(innermost(job.labeler).kind, job.model.detector, job.model.floor))
        job = replace(job, ontology=settled.ontology, export=settled.export)
        asked = replace(
            asked,
            input=str(root),
            ontology=settled.ontology,
            export=settled.export,
            published=settled.published,
            family=family.name,
            other=saved.other if saved else {},
        )
        before = classes_before(job, run, saved)
        asked = run.begin(asked, job.restart, job.add_pass)
        for line in changes_of_classes(before, settled.ontology):
            progress.say(line)
        ledger = FailureLedger(run)
        if job.restart or not run.record_paths():
            ledger.clear()
        if job.retry_failed or job.restart:
            run.clear_attempts()
        changes = changed_images(run, root, images, job.verify_content)
        if changes.count:
            progress.say(f"{changes.count} images changed since they were labeled")
        if again := ledger.to_retry():
            progress.say(f"retrying {len(again)} images that failed in a run with too many failures")
        failed_before = set(images.held(run.failed())) if job.retry_failed else set()
        passes = passes_now(asked)
        retried = failed_before.union(again)
        if forgotten := run.plan(images, job.shard_size, changes, job.prune, passes=passes, retried=retried):
            progress.say(f"{forgotten} images that are gone from {job.images} are dropped")
        run.set_unusable_aside()
        todo = run.waiting(passes)
        logger.debug("%d shards are to be labeled", len(todo))
        ledger.begin(todo)
        failed = dict(ledger.unreported())
        taken_up = run.count_in(ledger.pending - ledger.assumed)
        limit = RunLimit(job.max_failures, taken_up, len(failed) if ledger.assumed else 0)
        if summary:
            summary.ask(asked, settled.export.quality, settled.ontology)
            summary.images.update(found=len(images), changed=changes.count, pruned=forgotten)
            summary.seconds, summary.failed_so_far = seconds, failed
            summary.reading = reading_figures(not_read, done)

        def take(report: ShardReport) -> None:
            still_held()
            progress.advance(report)
            done.add(report)
            failed.update(report.failures)
            if summary:
                summary.labeled(done)
                summary.reading = reading_figures(not_read, done)
            check()

        def check() -> None:
            if limit.is_exceeded(len(failed)):
                ledger.retry_next_time()
                raise limit.error(job.images, list(failed.items()))

        with summary.of_errors(run, progress.say) if summary else nullcontext():
            remaining = todo.count_images(images)
            progress.begin(len(images), max(len(images) - remaining, 0))
            check()
            on_ray = False
            for number, shards in todo.by_pass():  # a run with nothing new loads no model
                if line := asking(asked, number, shards.images):
                    progress.say(line)
                so_far, done.images = done.images, 0
                of_pass = replace(job, ontology=asked.passes[number].ontology)
                on_ray |= _label(shards, of_pass, root, run, take, seconds, progress)
                done.images = max(done.images, so_far)  # passes label the same images
            if not todo:  # the last run may have been killed after it wrote its last records
                run.clear_attempts()
            del todo
            told = [*reading_lines(done), untiled_line(done, job.labeler), *lacking(asked, run.current().lacking())]
            for line in filter(None, told):
                progress.say(line)
            first_image = done.first_image - began if done.images else None
            spread = on_cluster(job.engine, done.images) if on_ray else on_all_cores
            yield Recorded(settled, run, root, images, done, seconds, first_image, ledger, failed, limit, spread)


def _listed(job: LabelJob) -> tuple[ImageTable, AnyPath, dict[str, int]]:
    """The images of ``job``, the root that they are below, and how many files of which extension are no images."""
    search = search_images(job.images, exclude=job.output)
    found = with_further_frames(search.root, search.found) if job.reading.frames == "all" else search.found
    images = sampled(sorted_images(search.root, found), job.sample)
    return images, search.root, dict(sorted(search.not_read.items()))


def _label(
    todo: WaitingShards,
    job: LabelJob,
    root: AnyPath,
    run: RunFolder,
    take: Callable[[ShardReport], None],
    seconds: dict[str, float],
    progress: Progress,
) -> bool:
    """Label the shards ``todo``; ``take`` gets the report of each, and may raise to end this.

    Returns:
        Whether that was on Ray.
    """
    doing, images = "tagging" if job.tags_only else "labeling", todo.images
    cache = run.path / "embeddings"
    config = WorkerConfig(root, job.ontology, job.model, job.labeler, job.tagging, job.tags_only, cache, job.reading)
    try:
        with ExitStack() as stack:
            with clock(seconds, "load"):
                progress.stage("loading the models")
                on_ray = takes_ray(job.engine, job.model.device, len(todo))
                logger.debug("engine: %s; models: %s", "ray" if on_ray else "local", job.model)
                engine = ray_engine if on_ray else local_engine
                reports = stack.enter_context(engine(todo, config, job.engine, run.output, progress.say))
            progress.stage(doing, images)
            entered, began = time.time(), math.inf
            with clock(seconds, "label"):
                for report in reports:
                    began = min(began, report.began)
                    take(report)
            if on_ray and began < math.inf:  # its workers load the models after that
                loading = min(max(began - entered, 0.0), seconds["label"])
                seconds["load"] += loading
                seconds["label"] -= loading
    except DeviceError:
        raise  # what was begun may be what the device was lost to
    except BaseException:
        run.clear_attempts()
        raise
    run.clear_attempts()
    return on_ray


class NothingFoundError(RunError):
    """The input is there, but holds no image."""

    exit_code = NOTHING_LABELED


@contextmanager
def clock(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] += time.perf_counter() - started
