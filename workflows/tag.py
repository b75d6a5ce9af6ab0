"""``labeler tag``: tag the images, and propose an ontology from what was found."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from labeler.errors import RunError, UsageError
from labeler.files.storage import info, read_bytes, write_bytes
from labeler.files.writable import check_writable
from labeler.models.taggers.config import TAG_FLOORS
from ontologies import Proposal, TagCounts, propose, write_proposal
from workflows.recording import Progress, recorded
from workflows.run.shard_report import ShardReport
from workflows.run.summary import RunSummary
from workflows.settings.job import LabelJob

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath


@dataclass
class TagSummary:
    """What one call of ``tag`` did.

    Attributes:
        images: tagged by now.
        without_tags: of these.
        tagged: figures of the images tagged by this call.
        failures: (image id, error) of those that could not be read or tagged.
        run: what ``run/summary.json`` tells, which of the failures are new and the exit code among it.
        written: the proposal; not the file that was asked for if that holds something else by now.
    """

    images: int
    without_tags: int
    proposals: list[Proposal]
    tagged: ShardReport
    failures: list[tuple[str, str]]
    seconds: dict[str, float]
    written: Path
    run: RunSummary


def tag(job: LabelJob, path: Path, synonyms: Mapping[str, str], progress: Progress) -> TagSummary:
    """Run ``job``, which is one of tags only, and write the ontology that its tags speak for to ``path``.

    An ontology that was edited since is left alone: the new one goes beside it.

    Raises:
        RunError: no image has a tag; and what ``label`` raises.
        OntologyError: ``path`` cannot be written.
    """
    job, least = _keeping_all(job)
    check_writable(path.parent)
    summary = RunSummary("tag", job.max_failures, job.allow_failures)
    with recorded(job, progress, summary) as records:
        counts, without_tags, failures = TagCounts(), 0, []
        chosen = set(records.images.ids()) if job.sample else None
        for record in records.run.labeled():
            if chosen is not None and record.image_id not in chosen:
                continue  # of another sample, or of all images
            if record.status == "error":
                failures.append((record.image_id, record.error))
                continue
            tags = [(tag, score) for tag, score in record.tags if score >= least]
            counts.add(record.image_id, tags)
            without_tags += not tags
        if failures and not counts.images:
            image_id, error = failures[0]
            raise RunError(
                f"{job.images}: none of {len(failures)} images could be tagged ({image_id}: {error}); fix that, then "
                "--retry-failed"
            )
        limits = records.settled.export
        proposals = propose(counts, synonyms, limits.min_tag_count, limits.max_classes)
        if not proposals:
            raise RunError(f"{job.images}: no tag in {counts.images} images; lower --tag-score or --min-tag-count")
        written = _write(path, records.run.path / "proposed.blake2b", proposals, counts.images)
        new = [failure for failure in failures if failure[0] in records.failed]
        old = [failure for failure in failures if failure[0] not in records.failed]
        summary.failed(new, old, counts.images)
        records.ledger.close(())
        summary.write(records.run)
    return TagSummary(counts.images, without_tags, proposals, records.done, failures, records.seconds, written, summary)


def _keeping_all(job: LabelJob) -> tuple[LabelJob, float]:
    """``job`` with more tags kept than it asks for, so that another threshold needs no model; and what it asks for."""
    if job.tagging is None:
        raise UsageError("tagging needs a tagger; give --tagger auto")
    floor, least = TAG_FLOORS.get(job.tagging.kind(job.model), 0.0), job.tagging.threshold(job.model)
    if least < floor:
        raise UsageError(f"--tag-score {least} is below what is kept of tags ({floor}); take {floor} or more")
    return replace(job, tagging=replace(job.tagging, tag_score=floor)), least


def _write(path: Path, digest_path: AnyPath, proposals: list[Proposal], images: int) -> Path:
    """Write the proposal, beside what the user has made of an earlier one if that was edited."""
    with suppress(FileNotFoundError):
        ours = read_bytes(digest_path) if info(digest_path) else b""
        if hashlib.blake2b(read_bytes(path)).hexdigest().encode() != ours:
            path = path.with_suffix(".new.toml")
            write_proposal(path, proposals, images)
            return path
    write_proposal(path, proposals, images)
    write_bytes(digest_path, hashlib.blake2b(path.read_bytes()).hexdigest().encode())
    return path
