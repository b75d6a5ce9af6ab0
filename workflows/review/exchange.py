"""Writes review sets for annotation tools: ``labeler review OUT --to TOOL -o DIR``. ``corrections.py`` reads them back.

    DIR/images/… (FiftyOne: DIR/data/…)     the images, the most uncertain first
    DIR/tasks.json, labeling_config.xml     Label Studio
    DIR/annotations.xml, labels.json        CVAT
    DIR/labels.json                         FiftyOne
    OUT/run/sent/000001.json                what was sent: an instance that does not come back was rejected

``OUT`` keeps what was sent because the corrections are a file of the tool's own, from wherever the tool runs. In the
tool, an object's id is the id of its review set followed by the id of its instance.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from labeler.annotation_tools.corrections import SentImage, SentInstance
from labeler.annotation_tools.cvat import write_cvat
from labeler.annotation_tools.fiftyone import write_fiftyone
from labeler.annotation_tools.label_studio import write_label_studio
from labeler.decided import distinct
from labeler.errors import UsageError
from labeler.files.storage import write_bytes
from labeler.formats.names import FlatNames, safe_part
from labeler.migrations import VERSIONS
from labeler.quality import effective_thresholds, ranking_score
from labeler.records import ImageRecord
from workflows.dataset.links import link_file
from workflows.review.sent_sets import sent_instance, sent_path, set_numbers
from workflows.settings.review_sets import SELECTIONS

if TYPE_CHECKING:
    from workflows.dataset.labeled import Labeled


@dataclass(frozen=True)
class ReviewSet:
    """What was sent.

    Attributes:
        rejected: how many of the instances are rejected; a tool does not show that, and accepts what is left in it.
        missing: ids of images that were left out because they are gone from the input and the dataset.
    """

    tool: str
    folder: Path
    images: int
    instances: int
    rejected: int
    missing: tuple[str, ...]


def export_review_set(
    labeled: Labeled,
    tool: str,
    folder: Path,
    verdict: str = "review",
    limit: int | None = None,
    image_url: str | None = None,
    link: str = "hard",
) -> ReviewSet:
    """Write a review set with pre-filled masks for ``tool``, images with the most uncertain instances first.

    An instance is the more uncertain, the nearer its joint score is to the score from which it would be accepted.

    Args:
        tool: ``label-studio``, ``cvat`` or ``fiftyone``.
        folder: where to write; must be empty or new.
        verdict: which instances to send, a key of ``SELECTIONS``. Images without any of them are left out.
        limit: maximum number of images.
        image_url: Label Studio only: prefix of every image's URL. By default that of its local file storage, with the
            parent of ``folder`` as LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT.
        link: how images get into the folder: ``hard``, ``symlink`` or ``copy``.

    Raises:
        UsageError: the folder is not empty, or there is nothing to review.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: not an empty folder; choose another one with -o")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be 1 or more, not {limit}")
    wanted = _wanted(labeled, verdict)
    chosen = sorted(wanted) if limit is None else heapq.nsmallest(limit, wanted)
    if not chosen:
        raise UsageError(
            f"{labeled.run.output}: no instance to send; --verdict {'|'.join(SELECTIONS)} says which to send"
        )

    image_folder = folder / ("data" if tool == "fiftyone" else "images")
    image_folder.mkdir(parents=True)
    sent, missing, names = list[SentImage](), list[str](), FlatNames()
    rejected = 0
    class_names, set_id = labeled.ontology.class_names, _set_id(chosen)
    for each in chosen:
        name, record = names.give(each.image_id), each.record
        if (source := labeled.image_path(record)) is None:
            missing.append(each.image_id)
            continue
        suffix = PurePosixPath(source.name).suffix  # that of the file, which may have been converted
        name += f".{safe_part(suffix)}" if suffix else ""
        link_file(source, image_folder / name, link)
        instances = tuple(
            replace(instance, object_id=f"{set_id}-{instance.decision.instance}") for instance in each.instances
        )
        sent.append(SentImage(each.image_id, name, record.width, record.height, instances))
        rejected += each.rejected
    if not sent:
        raise UsageError(f"all of the images are gone from {labeled.root} and from the dataset; put them back")

    if tool == "label-studio":
        url = image_url or f"/data/local-files/?d={quote(folder.resolve().name)}/images/"
        write_label_studio(folder, sent, class_names, url)
    elif tool == "cvat":
        write_cvat(folder, sent, class_names)
    else:
        write_fiftyone(folder, sent, class_names)
    labeled.run.refuse_links()
    number = 1 + max(set_numbers(labeled), default=0)
    content = {
        "version": VERSIONS["review set"],
        "set": set_id,
        "tool": tool,
        "images": [image.to_row() for image in sent],
    }
    write_bytes(sent_path(labeled, number), json.dumps(content, ensure_ascii=False).encode())
    count = sum(len(image.instances) for image in sent)
    return ReviewSet(tool, folder, len(sent), count, rejected, tuple(missing))


@dataclass(frozen=True, slots=True, order=True)
class _Chosen:
    """An image to send, ordered by how uncertain its most uncertain instance is.

    Attributes:
        margin: distance of that instance's score from the score from which it would be accepted.
        record: without its instances.
        instances: those to send, without object ids.
        rejected: how many of them are rejected.
    """

    margin: float
    image_id: str
    record: ImageRecord = field(compare=False)
    instances: tuple[SentInstance, ...] = field(compare=False)
    rejected: int = field(compare=False)


def _wanted(labeled: Labeled, verdict: str) -> Iterator[_Chosen]:
    quality = labeled.export.quality
    thresholds = [effective_thresholds(quality, spec).accept_score for spec in labeled.ontology.classes]
    for decided, judgements in labeled.decided():
        instances, verdicts = decided.record.instances, [judgement.verdict for judgement in judgements]
        indices = [
            index
            for index in distinct(instances, verdicts)
            if verdicts[index] in SELECTIONS[verdict] and instances[index].area
        ]
        if indices:
            scored = ((ranking_score(instances[index], quality.score), instances[index].class_id) for index in indices)
            margin = min(abs(score - thresholds[class_id]) for score, class_id in scored)
            bare = replace(decided.record, instances=())
            sent = tuple(sent_instance(decided, index) for index in indices)
            rejected = sum(verdicts[index] == "reject" for index in indices)
            yield _Chosen(margin, bare.image_id, bare, sent, rejected)


def _set_id(chosen: Sequence[_Chosen]) -> str:
    """Digest of the set's content: tells corrections of this set from those of another."""
    digest = hashlib.blake2b(digest_size=4)
    for each in chosen:
        for part in (each.image_id.encode(), *(instance.rle["counts"] for instance in each.instances)):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
