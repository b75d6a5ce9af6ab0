"""One list of classes out of the tags that images were given, so that ids mean the same in every run.

A record numbers its instances by its own tags. A dataset needs one list: tags in the order in which they first occur,
shard by shard, behind those that the dataset had before. Spellings and plurals of one word are one class.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from labeler.errors import RunError
from labeler.records import ImageRecord
from ontologies import ClassSpec, Ontology
from ontologies.synonyms import grouped


@dataclass(frozen=True)
class SavedClasses:
    """The classes of a dataset, as an export left them.

    Attributes:
        min_tag_count, max_classes: what they were chosen by, where images proposed them.
    """

    ontology: Ontology
    min_tag_count: int
    max_classes: int | None


def classes_of_tags(
    tagged: Iterable[Sequence[str]], before: SavedClasses | None, min_tag_count: int, max_classes: int | None
) -> Ontology | None:
    """The classes that tags make; None if there is no tag. Their prompts are the tags that mean them.

    Args:
        tagged: the tags of each image, in shard order.
        before: the classes of the dataset so far. All of them stay, whatever has been added since, unless the limits
            are others now; then those stay in front that are still wanted.
        min_tag_count: images that a class must be found in.
        max_classes: the most frequent ones are taken, the earlier one of two equals.
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
    """Which tags each image has, in four bytes a tag."""

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
        """The images that have any tag of each group."""
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
    """(folded tags, name) of each class in the order of its first tag; what had a name before keeps it."""
    name_of = {name.casefold(): name for name in old}
    found: dict[str, list[str]] = {}
    for _, group in grouped([*spellings, *(key for key in name_of if key not in spellings)], {}):
        own = [key for key in group if key in name_of]
        for key in group:
            if key in spellings:
                found.setdefault(key if key in own else own[0] if own else group[0], []).append(key)
    place = {key: number for number, key in enumerate(spellings)}
    groups = [(keys, name_of.get(head) or spellings[head]) for head, keys in found.items()]
    return sorted(groups, key=lambda item: place[item[0][0]])


def with_known_classes(records: Iterable[ImageRecord], ontology: Ontology) -> Iterator[ImageRecord]:
    """``records`` as they are.

    Raises:
        RunError: an instance has a class id that ``ontology`` does not have.
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
    """``records`` of tagged images with the class ids of ``ontology``; instances of other tags are left out.

    Raises:
        RunError: an instance has a class id that its image has no tag for.
    """
    ids = {prompt.casefold(): class_id for class_id, spec in enumerate(ontology.classes) for prompt in spec.prompts}
    for record in records:
        _check_class_ids(record, len(record.tags), "tags")
        of_tag = [ids.get(" ".join(tag.split()).casefold()) for tag, _ in record.tags]
        kept = ((instance, of_tag[instance.class_id]) for instance in record.instances)
        yield replace(record, instances=tuple(replace(i, class_id=n) for i, n in kept if n is not None))
