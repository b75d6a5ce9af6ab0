"""``labeler tag``: tag the images, and propose an ontology from what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labeler.errors import RunError
from ontologies import Proposal, TagCounts, propose, write_proposal
from workflows.label import LabelJob, Progress, recorded
from workflows.shards import ShardReport


@dataclass
class TagSummary:
    """What one call of ``tag`` did.

    Attributes:
        images: tagged by now.
        without_tags: of these.
        tagged: figures of the images tagged by this call.
        failures: (image id, error) of those that could not be read or tagged.
    """

    images: int
    without_tags: int
    proposals: list[Proposal]
    tagged: ShardReport
    failures: list[tuple[str, str]]
    seconds: dict[str, float]


def tag(job: LabelJob, path: Path, synonyms: Mapping[str, str], progress: Progress) -> TagSummary:
    """Run ``job``, which is one of tags only, and write the ontology that its tags speak for to ``path``.

    Raises:
        RunError: no image has a tag; and what ``label`` raises.
        OntologyError: ``path`` cannot be written.
    """
    with recorded(job, progress) as records:
        counts, without_tags, failures = TagCounts(), 0, []
        for record in records.run.labeled():
            if record.error:
                failures.append((record.image_id, record.error))
            if record.status == "ok":
                counts.add(record.image_id, record.tags)
                without_tags += not record.tags
    proposals = propose(counts, synonyms, job.export.min_tag_count, job.export.max_classes)
    if not proposals:
        raise RunError(f"{job.images}: no tag found in {counts.images} images; lower --tag-score or --min-tag-count")
    write_proposal(path, proposals, counts.images)
    return TagSummary(counts.images, without_tags, proposals, records.done, failures, records.seconds)
