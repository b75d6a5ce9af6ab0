"""Build one list of classes from the tags of all images, with class ids that stay the same from run to run.

In a record of a tagged image, class ids index the image's own tags. A dataset needs one list for all images: first the
classes it already has, then new tags in the order in which they first occur, shard by shard. Spellings and plurals of
one word are one class.
"""

from __future__ import annotations

import json
import logging
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from labeler.errors import FormatError, RunError
from labeler.files.storage import read_bytes, write_bytes
from labeler.migrations import read_json
from labeler.records import ImageRecord
from ontologies import ClassSpec, Ontology, OntologyError
from ontologies.synonyms import grouped
from workflows.settings.class_ids import class_from_json, class_to_json
from workflows.settings.passes import without_warnings

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SavedClasses:
    """The classes of a dataset, as the last export saved them.

    Attributes:
        min_tag_count, max_classes: the limits they were chosen with, if they come from tags.
    """

    ontology: Ontology
    min_tag_count: int
    max_classes: int | None


def read_classes(path: AnyPath) -> SavedClasses | None:
    """The classes in ``classes.json``; None if the file is missing or, with a warning, damaged.

    Raises:
        RunError: they were written by a newer labeler.
    """
    try:
        content = read_json("classes.json", path)
        specs = tuple(class_from_json(each) for each in content["classes"])
        return SavedClasses(without_warnings(specs, ()), content["min_tag_count"], content["max_classes"])
    except FileNotFoundError:
        return None
    except (FormatError, KeyError, TypeError, AttributeError, OntologyError):
        logger.warning("%s is damaged; the dataset's classes may get other ids", path)
        return None


def write_classes(path: AnyPath, saved: SavedClasses) -> None:
    content = {
        "min_tag_count": saved.min_tag_count,
        "max_classes": saved.max_classes,
        "classes": [class_to_json(spec) for spec in saved.ontology.classes],
    }
    data = (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
    with suppress(FileNotFoundError):
        if read_bytes(path) == data:
            return
    write_bytes(path, data)


def classes_of_tags(
    tagged: Iterable[Sequence[str]], before: SavedClasses | None, min_tag_count: int, max_classes: int | None
) -> Ontology | None:
    """The classes that tags make; None if there are no tags. The prompts of a class are its tags.

    Args:
        tagged: the tags of each image, in shard order.
        before: the classes of the dataset so far. With the same limits as before, all of them are kept. With other
            limits, only those that still satisfy them are kept, in front of new ones.
        min_tag_count: the number of images that must have a tag of the class.
        max_classes: keep the most frequent classes; of two equally frequent ones, the one that occurs first.
    """
    images = _Images()
    for tags in tagged:
        images.add(tags)
    old = before.ontology.class_names if before else ()
    groups = _groups(images.spellings, old)
    counts = images.counts([group for group, _ in groups])
    known = {name.casefold() for name in old}
    if before and (before.min_tag_count, before.max_classes) == (min_tag_count, max_classes):
        kept, limit = set(known), None if max_classes is None else max(max_classes - len(old), 0)
    else:
        kept, limit = set(), max_classes
    free = [n for n, (_, name) in enumerate(groups) if counts[n] >= min_tag_count and name.casefold() not in kept]
    wanted = kept | {groups[n][1].casefold() for n in sorted(free, key=lambda n: -counts[n])[:limit]}
    prompts = {name.casefold(): [images.spellings[key] for key in group] for group, name in groups}
    names = [name for name in old if name.casefold() in wanted]
    names += [name for _, name in groups if name.casefold() in wanted - known]
    specs = [ClassSpec(name, tuple(prompts.get(name.casefold()) or [name])) for name in names]
    return Ontology(tuple(specs)) if specs else None


class _Images:
    """Which tags each image has, at four bytes per tag."""

    def __init__(self) -> None:
        self.spellings: dict[str, str] = {}
        self._ids: dict[str, int] = {}
        self._tags, self._ends = array("I"), array("Q")

    def add(self, tags: Iterable[str]) -> None:
        for tag in tags:
            key = tag.casefold()
            self.spellings.setdefault(key, tag)
            self._tags.append(self._ids.setdefault(key, len(self._ids)))
        self._ends.append(len(self._tags))

    def counts(self, groups: Sequence[Sequence[str]]) -> Counter[int]:
        """For each group, the number of images that have any of its tags."""
        group_of = array("I", bytes(4 * len(self._ids)))
        for number, keys in enumerate(groups):
            for key in keys:
                group_of[self._ids[key]] = number
        counts: Counter[int] = Counter()
        start = 0
        for end in self._ends:
            counts.update({group_of[tag] for tag in self._tags[start:end]})
            start = end
        return counts


def _groups(spellings: dict[str, str], old: Sequence[str]) -> list[tuple[list[str], str]]:
    """(case-folded tags, name) of each class, ordered by its first tag; classes in ``old`` keep their names."""
    name_of = {name.casefold(): name for name in old}
    by_name: dict[str, list[str]] = {}
    for _, group in grouped([*spellings, *(key for key in name_of if key not in spellings)], {}):
        own = [key for key in group if key in name_of]
        for key in group:
            if key in spellings:
                by_name.setdefault(key if key in own else own[0] if own else group[0], []).append(key)
    order = {key: index for index, key in enumerate(spellings)}
    groups = [(keys, name_of.get(head) or spellings[head]) for head, keys in by_name.items()]
    return sorted(groups, key=lambda item: order[item[0][0]])


def with_known_classes(records: Iterable[ImageRecord], ontology: Ontology) -> Iterator[ImageRecord]:
    """``records``, unchanged, after checking their class ids.

    Raises:
        RunError: the class id of an instance is not in ``ontology``.
    """
    for record in records:
        _check_class_ids(record, len(ontology.classes), "classes")
        yield record


def _check_class_ids(record: ImageRecord, count: int, what: str) -> None:
    greatest = max((instance.class_id for instance in record.instances), default=-1)
    if greatest >= count:
        raise RunError(
            f"the record of image {record.image_id!r} has class id {greatest}, but there are {count} {what}; label the "
            "images again into a new folder"
        )


def numbered(records: Iterable[ImageRecord], ontology: Ontology) -> Iterator[ImageRecord]:
    """``records`` of tagged images with class ids of ``ontology``; instances of tags without a class are left out.

    Raises:
        RunError: the class id of an instance is not the index of a tag of its image.
    """
    ids = {prompt.casefold(): class_id for class_id, spec in enumerate(ontology.classes) for prompt in spec.prompts}
    for record in records:
        _check_class_ids(record, len(record.tags), "tags")
        of_tag = [ids.get(" ".join(tag.split()).casefold()) for tag, _ in record.tags]
        kept = ((instance, of_tag[instance.class_id]) for instance in record.instances)
        yield replace(record, instances=tuple(replace(i, class_id=n) for i, n in kept if n is not None))
