"""One list of classes out of the tags that images were given, so that ids mean the same in every run.

A record numbers its instances by its own tags. A dataset needs one list: tags in the order in which they first occur,
shard by shard, behind those that the dataset had before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from labeler.records import ImageRecord
from ontologies import ClassSpec, Ontology


def classes_of_tags(
    tagged: Iterable[Sequence[str]], before: Sequence[str], min_tag_count: int, max_classes: int | None
) -> Ontology | None:
    """The classes that tags make; None if there is no tag.

    Args:
        tagged: the tags of each image, in shard order.
        before: the classes of the dataset so far, which keep their place as long as they are among the wanted.
        min_tag_count: images that a tag must be found in.
        max_classes: the most frequent ones are taken, the earlier one of two equals.
    """
    counts: Counter[str] = Counter()
    spelling: dict[str, str] = {}
    for tags in tagged:
        counts.update({tag.casefold() for tag in tags})
        for tag in tags:
            spelling.setdefault(tag.casefold(), tag)
    frequent = [key for key in spelling if counts[key] >= min_tag_count]
    wanted = set(sorted(frequent, key=lambda key: -counts[key])[:max_classes])
    old = [name for name in before if name.casefold() in wanted]
    known = {name.casefold() for name in old}
    names = [*old, *(spelling[key] for key in frequent if key in wanted and key not in known)]
    return Ontology(tuple(map(ClassSpec, names))) if names else None


def numbered(records: Iterable[ImageRecord], ontology: Ontology) -> Iterator[ImageRecord]:
    """``records`` of tagged images with the class ids of ``ontology``; instances of other tags are left out."""
    ids = {name.casefold(): class_id for class_id, name in enumerate(ontology.class_names)}
    for record in records:
        of_tag = [ids.get(" ".join(tag.split()).casefold()) for tag, _ in record.tags]
        kept = ((instance, of_tag[instance.class_id]) for instance in record.instances)
        yield replace(record, instances=tuple(replace(i, class_id=n) for i, n in kept if n is not None))
