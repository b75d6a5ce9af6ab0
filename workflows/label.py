"""The whole job: find images, label what is not labeled yet, write the dataset.

find ──► plan shards ──► label each (decode ► detect ► segment ► records) ──► judge ──► COCO + YOLO
"""

from __future__ import annotations

import hashlib
import heapq
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from labeler.checkpoints import model_identity
from labeler.errors import DeviceError, RunError, UsageError
from labeler.listing import find_images, stamps
from labeler.models import ModelConfig
from labeler.quality import QualityConfig
from labeler.storage import absolute, is_within
from labeler.tagger_models import TaggingConfig
from ontologies import ClassSpec, Ontology
from workflows.changes import changed_images
from workflows.engines import ray_engine, run_local
from workflows.export import ExportConfig, ExportSummary, export
from workflows.pools import EngineConfig, takes_ray
from workflows.run_folder import VERSION, RunFolder, Shard
from workflows.shards import ShardReport
from workflows.workers import WorkerConfig

if TYPE_CHECKING:
    from labeler.labelers import Labeler
    from labeler.storage import AnyPath

SHARD_SIZE = 64


@dataclass(frozen=True)
class LabelJob:
    """One labeling, whole.

    Attributes:
        images: folder, file, glob or list file, on this machine or as a URI.
        ontology: what to look for; None lets images propose their own classes, by ``tagging``.
        output: the folder, or ``labeler.storage.locate`` of a URI, that becomes dataset and run folder.
        shard_size: images in one record file: what a killed run loses, at most.
        restart: drop labels that are already in ``output``.
        retry_failed: label the shards again in which an image failed.
        fast_scan: look for changed images by size and time of the files, instead of reading them all.
        prune: drop images that are gone from the input.
        engine: who labels; the records do not depend on it.
        tagging: who tags, and what for; None for nobody.
        tags_only: tag, and look for nothing.
        sample: look at so many images only.
        load: makes the labeler, where it is to be another than the models of ``model``; picklable, for Ray's workers.
    """

    images: str
    output: AnyPath
    ontology: Ontology | None
    model: ModelConfig
    export: ExportConfig = field(default_factory=ExportConfig)
    shard_size: int = SHARD_SIZE
    restart: bool = False
    retry_failed: bool = False
    fast_scan: bool = False
    prune: bool = False
    engine: EngineConfig = field(default_factory=EngineConfig)
    tagging: TaggingConfig | None = None
    tags_only: bool = False
    sample: int | None = None
    load: Callable[[], Labeler] | None = None

    def __post_init__(self) -> None:
        if self.ontology is None and self.tagging is None:
            raise UsageError('say what to look for: --classes "dog, cat", --ontology FILE, or --tagger auto')
        if self.sample is not None and self.sample < 1:
            raise UsageError(f"--sample must be 1 or more, not {self.sample}")
        if self.shard_size < 1:
            raise UsageError(f"--shard-size must be 1 or more, not {self.shard_size}")


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
    """

    found: int
    labeled: ShardReport
    dataset: ExportSummary
    seconds: dict[str, float]
    first_image: float | None


@dataclass
class Recorded:
    """The records of a job, all there.

    Attributes:
        done, seconds, first_image: as in ``LabelSummary``.
    """

    run: RunFolder
    root: AnyPath
    images: pa.Array
    done: ShardReport
    seconds: dict[str, float]
    first_image: float | None


def label(job: LabelJob, progress: Progress) -> LabelSummary:
    """Run ``job``; the same call after an interruption goes on where it stopped.

    Raises:
        UsageError: nothing is at ``job.images``.
        RunError: the output folder is in use, was labeled with other settings, or no image was found.
        OSError: a store or folder cannot be reached, read or written.
        ModelError: a model cannot be loaded.
    """
    with recorded(job, progress) as records:
        progress.say("writing the dataset")
        with _clock(records.seconds, "export"):
            dataset = export(records.run, records.root, job.ontology, job.export)
        # An image that the input names but does not hold, as a list file may, is a failure and not merely gone.
        listed = set(dataset.missing).intersection(records.images.to_pylist()) if dataset.missing else ()
        dataset.failures += [(name, "no such file") for name in dataset.missing if name in listed]
        dataset.missing = [name for name in dataset.missing if name not in listed]
    return LabelSummary(len(records.images), records.done, dataset, records.seconds, records.first_image)


@contextmanager
def recorded(job: LabelJob, progress: Progress) -> Iterator[Recorded]:
    """Label what is not labeled yet. The run folder is held until the block is left."""
    began = time.time()
    source = find_images(job.images, exclude=job.output)
    root, image_ids = source.root, chosen(source.image_ids, job.sample)
    # A million names take a tenth of the memory in an array.
    images, now = pa.array(image_ids, pa.string()), pa.array(stamps(root, image_ids), pa.string())
    del source, image_ids
    if not images:
        raise NothingFoundError(f"{job.images}: no image found; give a folder that holds some")
    output = absolute(job.output)
    if is_within(root, output):
        raise UsageError(f"{job.images} lies in the output folder {job.output}; choose another -o")
    check_floor(job.model.floor, job.export.quality, job.ontology)
    run = RunFolder(output)
    seconds = dict.fromkeys(("load", "label", "export"), 0.0)
    done = ShardReport()
    with run.locked() as still_held:
        run.begin(settings(job, root), job.restart)
        if job.retry_failed or job.restart:
            run.clear_attempts()
        if job.retry_failed:
            run.drop_failed()
        changed = changed_images(run, root, images, now, job.fast_scan)
        if changed:
            progress.say(f"{len(changed)} images changed since they were labeled")
        if forgotten := run.plan(images, now, job.shard_size, changed, job.prune):
            progress.say(f"{forgotten} images that are gone from {job.images} are dropped")
        run.set_unusable_aside()
        todo = run.waiting()
        remaining = sum(len(shard.image_ids) for shard in todo)
        progress.begin(len(images), max(len(images) - remaining, 0))
        if todo:  # a run with nothing new loads no model
            done = _label(todo, job, root, run, still_held, progress, seconds)
        del todo
        yield Recorded(run, root, images, done, seconds, done.first_image - began if done.images else None)


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
    still_held: Callable[[], None],
    progress: Progress,
    seconds: dict[str, float],
) -> ShardReport:
    config = WorkerConfig(root, job.ontology, job.model, job.load, job.tagging, job.tags_only, run.path / "embeddings")
    done = ShardReport()
    try:
        with ExitStack() as stack:
            with _clock(seconds, "load"):
                if takes_ray(job.engine, job.model.device, len(todo)):
                    reports = stack.enter_context(ray_engine(todo, config, job.engine, run.output, progress.say))
                else:
                    reports = run_local(todo, config, config.load_stages())
            with _clock(seconds, "label"):
                for report in reports:
                    still_held()
                    progress.advance(report)
                    done.add(report)
    except DeviceError:
        raise  # what was begun may be what the device was lost to
    except BaseException:
        run.clear_attempts()
        raise
    run.clear_attempts()
    return done


def check_floor(floor: float, quality: QualityConfig, ontology: Ontology | None) -> None:
    """Refuse thresholds that no record can meet.

    Raises:
        UsageError: one lies below ``floor``.
    """
    of_classes = ontology.min_scores if ontology else ()
    least = min(score for score in (quality.min_score, *of_classes, 1.0) if score)  # 0 and None: no threshold
    if least < floor:
        raise UsageError(f"min_score {least} is below the records' floor of {floor}; label with --floor {least}")


class NothingFoundError(RunError):
    """The input is there, but holds no image."""


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
        "export": asdict(job.export),
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


def saved_ontology(content: dict[str, Any] | None) -> Ontology | None:
    """The ontology as ``run.json`` keeps it; None where images proposed their own classes."""
    if content is None:
        return None
    classes = tuple(ClassSpec(c["name"], tuple(c["prompts"]), c["min_score"]) for c in content["classes"])
    return Ontology(classes, tuple(content["distractors"]))
