"""Review sets for annotation tools, and their corrections: ``labeler review OUT --to TOOL -o DIR`` and ``--from FILE``.

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
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from labeler.annotation_tools.corrected import read_corrected
from labeler.annotation_tools.corrections import CorrectedImage, SentImage, SentInstance, compare
from labeler.annotation_tools.cvat import write_cvat
from labeler.annotation_tools.fiftyone import write_fiftyone
from labeler.annotation_tools.label_studio import write_label_studio
from labeler.decided import Decided, distinct
from labeler.decisions import Decision
from labeler.errors import FormatError, UsageError
from labeler.files.storage import scan, write_bytes
from labeler.formats.names import FlatNames, safe_part
from labeler.ground_truth import pair_images
from labeler.migrations import VERSIONS, read_json
from labeler.quality import effective_thresholds, ranking_score
from labeler.records import ImageRecord
from workflows.dataset.links import link_file
from workflows.settings.review_sets import SELECTIONS

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from workflows.dataset.labeled import Labeled

logger = logging.getLogger(__name__)

_SET_NAME = re.compile(r"([0-9]{6,})\.json")
# The id of a review set in the id of an object; in sets of the first version, which may still come back, the latter was
# "sent-SET-NUMBER".
_OBJECT_ID = re.compile(r"(?:sent-([0-9a-f]{8})-[0-9]+|([0-9a-f]{8})-[0-9a-f]+-[0-9]+-[0-9]+)")


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


# ---------------------------------------------------------------- to a tool


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
        suffix = PurePosixPath(each.image_id).suffix
        name = names.give(each.image_id) + (f".{safe_part(suffix)}" if suffix else "")
        record = each.record
        if (source := labeled.image_path(record)) is None:
            missing.append(each.image_id)
            continue
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
    number = 1 + max(_set_numbers(labeled), default=0)
    content = {
        "version": VERSIONS["review set"],
        "set": set_id,
        "tool": tool,
        "images": [image.to_row() for image in sent],
    }
    write_bytes(_sent_path(labeled, number), json.dumps(content, ensure_ascii=False).encode())
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
            sent = tuple(_sent(decided, index) for index in indices)
            rejected = sum(verdicts[index] == "reject" for index in indices)
            yield _Chosen(margin, bare.image_id, bare, sent, rejected)


def _sent(decided: Decided, index: int) -> SentInstance:
    return SentInstance("", decided.decision(index), decided.record.instances[index].joint_score)


def _set_id(chosen: Sequence[_Chosen]) -> str:
    """Digest of the set's content: tells corrections of this set from those of another."""
    digest = hashlib.blake2b(digest_size=4)
    for each in chosen:
        for part in (each.image_id.encode(), *(instance.rle["counts"] for instance in each.instances)):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


# ---------------------------------------------------------------- and back


def corrections(labeled: Labeled, path: AnyPath) -> list[Decision]:
    """The decisions in a corrected export, image by image: on what came back of a review set, and on what did not.

    Images that are not in the export get no decisions. The review set is the one that the object ids name, or else the
    last one with an image of that name.

    Args:
        path: the tool's export, see ``labeler.annotation_tools.corrected``.

    Raises:
        FormatError: the file is not such an export, or it is damaged.
        UsageError: no review set with these images was sent from this folder.
    """
    corrected = read_corrected(path)
    if not corrected:
        raise FormatError(f"{path}: nobody has reviewed an image of it yet; submit the tasks, and export again")
    sent = _sent_set(labeled, path, corrected)
    pairs = pair_images((image.name for image in sent), (image.name for image in corrected))
    by_name = {image.name: image for image in corrected}
    came = [(image, by_name[pairs[image.name]]) for image in sent if image.name in pairs]
    if unknown := len(corrected) - len(came):
        logger.warning("%s: %d images that were not sent are skipped", path, unknown)
    if shapes := sum(image.shapes for _, image in came):
        logger.warning("%s: %d shapes without a mask (boxes, points, …) are skipped", path, shapes)
    class_names = labeled.ontology.class_names
    try:
        decisions = [compare(image, back, (), class_names) for image, back in came]
        # An object that seems new may be an instance that was not sent, for example because it was accepted already.
        drawn = [number for number, each in enumerate(decisions) if any(decision.rle is None for decision in each)]
        others = _not_sent(labeled, [came[number][0] for number in drawn])
        for number in drawn:
            image, back = came[number]
            decisions[number] = compare(image, back, others.get(image.image_id, ()), class_names)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    return [decision for each in decisions for decision in each]


def _not_sent(labeled: Labeled, images: Sequence[SentImage]) -> dict[str, list[SentInstance]]:
    """The instances of ``images`` that are not in the review set, as decisions left them, by image id."""
    looks = {image.image_id: {(each.class_name, each.rle["counts"]) for each in image.instances} for image in images}
    if not looks:
        return {}
    class_names = labeled.ontology.class_names
    return {
        decided.record.image_id: [
            _sent(decided, index)
            for index, each in enumerate(decided.record.instances)
            if (class_names[each.class_id], each.rle["counts"]) not in looks[decided.record.image_id]
        ]
        for decided, _ in labeled.decided()
        if decided.record.image_id in looks
    }


def _sent_set(labeled: Labeled, path: AnyPath, corrected: Sequence[CorrectedImage]) -> list[SentImage]:
    """The review set that ``corrected`` belongs to."""
    ids = (_OBJECT_ID.fullmatch(each.object_id) for image in corrected for each in image.instances)
    named = {match[1] or match[2] for match in ids if match}
    if len(named) > 1:
        raise FormatError(f"{path}: holds objects of {len(named)} review sets; export them one by one")
    for number in sorted(_set_numbers(labeled), reverse=True):
        set_id, images = _read_sent(_sent_path(labeled, number))
        if named and set_id not in named:
            continue
        if pair_images((image.name for image in images), (image.name for image in corrected)):
            return images
    raise UsageError(f"{path}: none of its images is in a review set that was sent from {labeled.run.output}")


def _read_sent(path: AnyPath) -> tuple[str, list[SentImage]]:
    """A set's id and images, as ``export_review_set`` keeps them.

    Raises:
        FormatError: the file is damaged.
        RunError: it was written by a newer labeler.
    """
    content = read_json("review set", path)
    try:
        images = [SentImage.from_row(row) for row in content["images"]]
        if not isinstance(content["set"], str):
            raise TypeError("its id must be text")
        return content["set"], images
    except FormatError as error:
        raise FormatError(f"{path}: damaged, {error}; move it away to use the other sets") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{path}: damaged ({error!r}); move it away to use the other sets") from error


def _sent_path(labeled: Labeled, number: int) -> AnyPath:
    return labeled.run.path / "sent" / f"{number:06d}.json"


def _set_numbers(labeled: Labeled) -> list[int]:
    try:
        names = [file.name for file in scan(labeled.run.path / "sent")]
    except FileNotFoundError:
        return []
    return [int(match[1]) for match in map(_SET_NAME.fullmatch, names) if match]
