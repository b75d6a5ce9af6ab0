"""From the export of an annotation tool back to decisions."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from labeler.annotation_tools.corrected import read_corrected
from labeler.annotation_tools.corrections import CorrectedImage, SentImage, SentInstance, compare
from labeler.decisions import Decision
from labeler.errors import FormatError, UsageError
from labeler.image_pairs import pair_images
from workflows.review.sent_sets import read_sent, sent_instance, sent_path, set_numbers

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from workflows.dataset.labeled import Labeled

logger = logging.getLogger(__name__)

# The id of a review set in the id of an object; in sets of the first version, which may still come back, the latter was
# "sent-SET-NUMBER".
_OBJECT_ID = re.compile(r"(?:sent-([0-9a-f]{8})-[0-9]+|([0-9a-f]{8})-[0-9a-f]+-[0-9]+-[0-9]+)")


def corrections(labeled: Labeled, path: AnyPath) -> list[Decision]:
    """The decisions in a corrected export, image by image: on what came back of a review set, and on what did not.

    Images that are not in the export get no decisions, and neither do objects that came back in a form that cannot be
    read; those are counted in warnings. The review set is the one that the object ids name, or else the
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
    came = [(image, back) for image, back in came if _is_same_image(image, back)]
    if unknown := len(corrected) - len(came):
        logger.warning("%s: %d images that were not sent are skipped", path, unknown)
    _refuse_without_objects(path, came)
    outlines = any(each.outlined for _, back in came for each in back.instances)
    class_names = labeled.ontology.class_names
    try:
        decisions = [compare(image, back, (), class_names, outlines) for image, back in came]
        _say_unread(path, came, decisions)
        # An object that seems new may be an instance that was not sent, for example because it was accepted already.
        drawn = [number for number, each in enumerate(decisions) if any(decision.rle is None for decision in each)]
        others = _not_sent(labeled, [came[number][0] for number in drawn])
        for number in drawn:
            image, back = came[number]
            decisions[number] = compare(image, back, others.get(image.image_id, ()), class_names, outlines)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    return [decision for each in decisions for decision in each]


def _is_same_image(image: SentImage, back: CorrectedImage) -> bool:
    """Whether two images that were paired by name are one: of another project, ``a.jpg`` may not be our ``a.png``."""
    known = {each.object_id for each in image.instances}
    came = {each.object_id for each in back.instances} | {each.object_id for each in back.unread}
    suffixes = {PurePosixPath(name).suffix.casefold() for name in (image.name, back.name)}
    return bool(known & came) or len(suffixes) == 1


def _refuse_without_objects(path: AnyPath, came: Sequence[tuple[SentImage, CorrectedImage]]) -> None:
    """Refuse an export of several images without a single object: more likely it lacks its masks.

    Raises:
        FormatError: it is one.
    """
    sent = [image for image, _ in came if image.instances]
    if len(sent) > 1 and not any(back.instances or back.unread for _, back in came):
        raise FormatError(
            f"{path}: none of the {sum(len(image.instances) for image in sent)} objects in {len(sent)} images came "
            "back, so it seems to be without its masks; export it with them (Label Studio: as JSON), or reject the "
            "objects on the page of `labeler review`"
        )


def _say_unread(
    path: AnyPath, came: Sequence[tuple[SentImage, CorrectedImage]], decisions: Sequence[Sequence[Decision]]
) -> None:
    """Warn of shapes that cannot be read, by kind, and of objects that get no decision."""
    for kind, count in sorted(Counter(shape.kind for _, back in came for shape in back.unread).items()):
        shapes = "shape" if count == 1 else "shapes"
        logger.warning("%s: %d %s of type %s cannot be read as a mask", path, count, shapes, kind)
    undecided = 0
    for (image, _), on_image in zip(came, decisions, strict=True):
        decided = {decision.subject for decision in on_image}
        undecided += sum(each.decision.subject not in decided for each in image.instances)
    if undecided:
        objects = "object stays" if undecided == 1 else "objects stay"
        why = "they may be among the shapes that cannot be read, or lost because outlines drop what is thin"
        logger.warning("%s: %d %s undecided: %s", path, undecided, objects, why)


def _not_sent(labeled: Labeled, images: Sequence[SentImage]) -> dict[str, list[SentInstance]]:
    """The instances of ``images`` that are not in the review set, as decisions left them, by image id."""
    looks = {image.image_id: {(each.class_name, each.rle["counts"]) for each in image.instances} for image in images}
    if not looks:
        return {}
    class_names = labeled.ontology.class_names
    return {
        decided.record.image_id: [
            sent_instance(decided, index)
            for index, each in enumerate(decided.record.instances)
            if (class_names[each.class_id], each.rle["counts"]) not in looks[decided.record.image_id]
        ]
        for decided, _ in labeled.decided()
        if decided.record.image_id in looks
    }


def _sent_set(labeled: Labeled, path: AnyPath, corrected: Sequence[CorrectedImage]) -> list[SentImage]:
    """The review set that ``corrected`` belongs to."""
    came = [each.object_id for image in corrected for each in image.instances]
    came += [each.object_id for image in corrected for each in image.unread]
    ids = map(_OBJECT_ID.fullmatch, came)
    named = {match[1] or match[2] for match in ids if match}
    if len(named) > 1:
        raise FormatError(f"{path}: holds objects of {len(named)} review sets; export them one by one")
    for number in sorted(set_numbers(labeled), reverse=True):
        set_id, images = read_sent(sent_path(labeled, number))
        if named and set_id not in named:
            continue
        if pair_images((image.name for image in images), (image.name for image in corrected)):
            return images
    raise UsageError(f"{path}: none of its images is in a review set that was sent from {labeled.run.output}")
