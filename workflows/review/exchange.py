"""Review sets to annotation tools and back: ``labeler review OUT --to TOOL -o DIR`` and ``--from FILE``.

    DIR/images/… (FiftyOne: DIR/data/…)     the images, most uncertain first
    DIR/tasks.json, labeling_config.xml     Label Studio
    DIR/annotations.xml, labels.json        CVAT
    DIR/labels.json                         FiftyOne
    OUT/run/sent/000001.json                what was sent, so that what does not come back is known as rejected

``OUT`` keeps what was sent, since what comes back is a file of the tool's own, from wherever it runs.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from labeler.annotation_tools.corrected import read_corrected
from labeler.annotation_tools.corrections import CorrectedImage, SentImage, SentInstance, compare
from labeler.annotation_tools.cvat import write_cvat
from labeler.annotation_tools.fiftyone import write_fiftyone
from labeler.annotation_tools.label_studio import write_label_studio
from labeler.decisions import Decision, distinct
from labeler.errors import FormatError, UsageError
from labeler.files.storage import scan, write_bytes
from labeler.formats.names import FlatNames, safe_part
from labeler.ground_truth import pair_images
from labeler.migrations import VERSIONS, read_json
from labeler.quality import effective_thresholds, ranking_score
from labeler.records import ImageRecord
from workflows.dataset.links import link_file
from workflows.settings.review_sets import TOOLS as TOOLS

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from workflows.dataset.labeled import Labeled

logger = logging.getLogger(__name__)

VERDICTS = {"review": ("review",), "accept": ("accept",), "reject": ("reject",), "all": ("review", "accept")}
_SET_NAME = re.compile(r"([0-9]{6,})\.json")
_SENT_ID = re.compile(r"sent-([0-9a-f]{8})-[0-9]+")


@dataclass(frozen=True)
class ReviewSet:
    """What was sent.

    Attributes:
        missing: images that are gone from the input and the dataset, and so were left out.
    """

    tool: str
    folder: Path
    images: int
    instances: int
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
    """Write a review set with pre-filled masks for ``tool``: the images of which an instance is most uncertain first.

    An instance is the more uncertain the nearer its joint score is to the score from which it would be accepted.

    Args:
        tool: ``label-studio``, ``cvat`` or ``fiftyone``.
        folder: to write into, empty or new.
        verdict: the instances to send: those under ``review``, the ``accept`` or the ``reject`` ones, or ``all``, which
            here are those that the dataset has or may have: accepted and under review. Images without any are left out.
        limit: of the images.
        image_url: Label Studio: what stands before an image's name in its address; by default that of its local file
            storage, with ``folder``'s parent for LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT.
        link: how images come into the folder: ``hard``, ``symlink`` or ``copy``.

    Raises:
        UsageError: the folder holds something, or there is nothing to review.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: not an empty folder; choose another one with -o")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be 1 or more, not {limit}")
    wanted = _wanted(labeled, verdict)
    chosen = sorted(wanted) if limit is None else heapq.nsmallest(limit, wanted)
    if not chosen:
        raise UsageError(
            f"{labeled.run.output}: no instance to send; --verdict {'|'.join(VERDICTS)} says which to take"
        )

    image_folder = folder / ("data" if tool == "fiftyone" else "images")
    image_folder.mkdir(parents=True)
    sent, missing, names = list[SentImage](), list[str](), FlatNames()
    class_names, set_id = labeled.ontology.class_names, _set_id(chosen)
    count = 0
    for _, image_id, record in chosen:
        suffix = PurePosixPath(image_id).suffix
        name = names.give(image_id) + (f".{safe_part(suffix)}" if suffix else "")
        if (source := labeled.image_path(record)) is None:
            missing.append(image_id)
            continue
        link_file(source, image_folder / name, link)
        instances = []
        for each in record.instances:
            count += 1
            sent_id = f"sent-{set_id}-{count}"
            instances.append(SentInstance(sent_id, class_names[each.class_id], each.rle, each.joint_score))
        sent.append(SentImage(image_id, name, record.width, record.height, tuple(instances)))
    if not sent:
        raise UsageError(f"none of the images is below {labeled.root} or in the dataset any more; put them back")

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
    return ReviewSet(tool, folder, len(sent), count, tuple(missing))


def _wanted(labeled: Labeled, verdict: str) -> Iterator[tuple[float, str, ImageRecord]]:
    """Records with nothing but the instances to send, behind how near one of these is to being accepted or not."""
    quality = labeled.export.quality
    thresholds = [effective_thresholds(quality, spec).accept_score for spec in labeled.ontology.classes]
    for record, judgements in labeled.judged():
        verdicts = [judgement.verdict for judgement in judgements]
        kept = tuple(
            record.instances[place]
            for place in distinct(record.instances, verdicts)
            if verdicts[place] in VERDICTS[verdict] and record.instances[place].area
        )
        if kept:
            margin = min(abs(ranking_score(each, quality.score) - thresholds[each.class_id]) for each in kept)
            yield margin, record.image_id, replace(record, instances=kept)


def _set_id(chosen: Sequence[tuple[float, str, ImageRecord]]) -> str:
    """Of the set's content, so that what comes back from another one is not taken for this."""
    digest = hashlib.blake2b(digest_size=4)
    for _, image_id, record in chosen:
        for part in (image_id.encode(), *(each.rle["counts"] for each in record.instances)):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


# ---------------------------------------------------------------- and back


def corrections(labeled: Labeled, path: AnyPath) -> list[Decision]:
    """The decisions in a corrected export: what came back of a review set, and what did not, image by image.

    Images that are not in it have no decisions. The set is the one whose ids the file has, else the last one with
    images of it.

    Args:
        path: what the tool has exported, see ``labeler.annotation_tools.corrected``.

    Raises:
        FormatError: it is none of these, or does not hold together.
        UsageError: nothing of the kind was sent from here.
    """
    corrected = read_corrected(path)
    if not corrected:
        raise FormatError(f"{path}: nobody has looked at an image of it yet; submit the tasks, and export again")
    sent = _sent_set(labeled, path, corrected)
    pairs = pair_images((image.name for image in sent), (image.name for image in corrected))
    by_name = {image.name: image for image in corrected}
    found = [(image, by_name[pairs[image.name]]) for image in sent if image.name in pairs]
    if unknown := len(corrected) - len(found):
        logger.warning("%s: %d images that were not sent, left out", path, unknown)
    if shapes := sum(image.shapes for _, image in found):
        logger.warning("%s: %d shapes without a mask (boxes, points, …), left out", path, shapes)
    class_names = labeled.ontology.class_names
    try:
        decisions = [compare(image, back, (), class_names) for image, back in found]
        # Who was not shown an instance, say since it is accepted anyway, draws it.
        drawn = [place for place, each in enumerate(decisions) if any(decision.rle is None for decision in each)]
        others = _not_sent(labeled, [found[place][0] for place in drawn])
        for place in drawn:
            image, back = found[place]
            decisions[place] = compare(image, back, others.get(image.image_id, ()), class_names)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    return [decision for each in decisions for decision in each]


def _not_sent(labeled: Labeled, images: Sequence[SentImage]) -> dict[str, list[SentInstance]]:
    """The instances of ``images`` that are not in the set, as decisions left them, by image id."""
    wanted = {image.image_id: {(each.class_name, each.rle["counts"]) for each in image.instances} for image in images}
    if not wanted:
        return {}
    class_names = labeled.ontology.class_names
    return {
        record.image_id: [
            SentInstance("", name, each.rle, each.joint_score)
            for each in record.instances
            if ((name := class_names[each.class_id]), each.rle["counts"]) not in wanted[record.image_id]
        ]
        for record, _ in labeled.judged()
        if record.image_id in wanted
    }


def _sent_set(labeled: Labeled, path: AnyPath, corrected: Sequence[CorrectedImage]) -> list[SentImage]:
    """The set that ``corrected`` came of."""
    ids = (_SENT_ID.fullmatch(each.sent_id) for image in corrected for each in image.instances)
    named = {found[1] for found in ids if found}
    if len(named) > 1:
        raise FormatError(f"{path}: holds objects of {len(named)} review sets; export them one by one")
    for number in sorted(_set_numbers(labeled), reverse=True):
        set_id, images = _read_sent(_sent_path(labeled, number))
        if named and set_id not in named:
            continue
        if pair_images((image.name for image in images), (image.name for image in corrected)):
            return images
    raise UsageError(f"{path}: none of its images is of a review set that was sent from {labeled.run.output}")


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
        raise FormatError(f"{path}: damaged, {error}; move it away to go by the other sets") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{path}: damaged ({error!r}); move it away to go by the other sets") from error


def _sent_path(labeled: Labeled, number: int) -> AnyPath:
    return labeled.run.path / "sent" / f"{number:06d}.json"


def _set_numbers(labeled: Labeled) -> list[int]:
    try:
        names = [found.name for found in scan(labeled.run.path / "sent")]
    except FileNotFoundError:
        return []
    return [int(found[1]) for found in map(_SET_NAME.fullmatch, names) if found]
