"""Reads the class lists of other tools from parsed JSON, YAML and TOML.

=====================  ======================================================================
COCO, LVIS             ``categories``, or that list alone; LVIS's synonyms become prompts too
Ultralytics            ``names``
Hugging Face           ``id2label`` or ``label2id`` of a ``config.json``, or that table alone
FiftyOne               ``default_classes`` or ``classes``
CVAT                   ``labels``, or the list of the raw label constructor
=====================  ======================================================================
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ontologies.coco_categories import real_categories
from ontologies.ontology import ClassSpec, Ontology, OntologyError, OntologyWarning

# Names that label maps give to pixels and ids without a class.
_NO_CLASS = ("background", "_background_", "__background__", "n/a")
_PLACEHOLDER = re.compile(r"LABEL_\d+")  # what Hugging Face writes where nobody has named the classes
_CVAT_KEYS = frozenset({"attributes", "color", "sublabels"})


def from_class_list(document: object) -> Ontology | None:
    """The ontology in a document; None if it holds no class list that is known here.

    Raises:
        OntologyError: it holds one that is damaged or ambiguous.
    """
    if isinstance(document, list):
        return _from_list(document)
    if not isinstance(document, dict):
        return None
    for key, read in _READERS.items():
        if key in document and not isinstance(document[key], str):  # text is a class, with the key as its prompt
            return read(document[key], document)
    if "names" in document and {"train", "val", "path"} & document.keys():
        raise OntologyError("'names' must be a list of class names, or a table of id: name")
    if not document:
        return None
    are_ids = [_as_id(key) is not None for key in document]
    if all(are_ids):
        return _from_ids(document)
    if all(_as_id(value) is not None for value in document.values()):
        return _from_label2id(document)
    if any(are_ids) and all(isinstance(value, str) for value in document.values()):
        raise OntologyError(
            "some keys are numbers and some are words; write id: name for every class, or prompt: class for every one"
        )
    return None


def named(name: Any) -> ClassSpec:
    """A class with its name as prompt, in which underscores and separators become spaces."""
    return ClassSpec(name, (re.sub(r"[_.?\s]+", " ", name),) if isinstance(name, str) else ())


def of_names(names: Iterable[Any]) -> Ontology:
    """Classes of a label map, in their order, without those that stand for no class.

    Raises:
        OntologyError: the names are placeholders, or not valid.

    Warns:
        OntologyWarning: names are left out.
    """
    names = list(names)
    if names and all(isinstance(name, str) and _PLACEHOLDER.fullmatch(name) for name in names):
        raise OntologyError(
            f"its names are placeholders ({names[0]}, …); write the names of the classes in their place"
        )
    left_out = [name for name in names if isinstance(name, str) and name.strip().casefold() in _NO_CLASS]
    for name in dict.fromkeys(left_out):
        warnings.warn(f"{name!r} is left out: it stands for no class", OntologyWarning, stacklevel=2)
    return Ontology(tuple(named(name) for name in names if name not in left_out))


def _from_list(items: list[Any]) -> Ontology | None:
    if not items:
        return None
    if all(isinstance(item, str) for item in items):
        return Ontology.from_items(items) if any("=" in item for item in items) else Ontology(tuple(map(named, items)))
    if not all(isinstance(item, dict) and "name" in item for item in items):
        raise OntologyError("a list of classes must hold names, or tables that have a name each; fix the others")
    if all("id" in item and not _CVAT_KEYS & item.keys() for item in items):
        return _from_coco(items, {})
    return Ontology(tuple(named(item["name"]) for item in items))


def _from_coco(categories: object, document: Mapping[Any, Any]) -> Ontology:
    if isinstance(categories, list) and categories and all(isinstance(each, str) for each in categories):
        return Ontology(tuple(map(named, categories)))
    if not isinstance(categories, list):
        raise OntologyError("'categories' must be a list, as in a COCO file")
    by_id: dict[int, dict[str, Any]] = {}
    for category in categories:
        number = _as_id(category.get("id")) if isinstance(category, dict) else None
        if number is None or "name" not in category:
            raise OntologyError("a COCO category must have a name and a whole number as id; fix 'categories'")
        if number in by_id:
            raise OntologyError(f"two COCO categories have the id {number}; fix 'categories'")
        by_id[number] = {**category, "id": number}
    annotations = document.get("annotations")
    used = {
        _as_id(each.get("category_id"))
        for each in (annotations if isinstance(annotations, list) else ())
        if isinstance(each, dict)
    }
    real = real_categories([by_id[number] for number in sorted(by_id)], used - {None})
    for number in sorted(by_id.keys() - {category["id"] for category in real}):
        text = f"category {number}, {by_id[number]['name']!r}, is left out: it only groups the others"
        warnings.warn(text, OntologyWarning, stacklevel=2)
    if any("synonyms" in category for category in real):
        return _from_lvis(real)
    return Ontology(tuple(named(category["name"]) for category in real))


def _from_lvis(categories: list[dict[str, Any]]) -> Ontology:
    """LVIS's categories. Names such as ``bow_(weapon)`` become the prompt "bow weapon"; a synonym that several
    classes share is none of theirs."""
    names = [category["name"] for category in categories]
    own = [_lvis_prompt(name) for name in names]
    more = [list(dict.fromkeys(map(_lvis_prompt, category.get("synonyms") or ()))) for category in categories]
    claims = Counter(text.casefold() for texts in more for text in {each.casefold(): each for each in texts}.values())
    taken = {prompt.casefold() for prompt in own}
    return Ontology(
        tuple(
            ClassSpec(
                name,
                (prompt, *(each for each in texts if each.casefold() not in taken and claims[each.casefold()] == 1)),
            )
            for name, prompt, texts in zip(names, own, more, strict=True)
        )
    )


def _lvis_prompt(name: object) -> str:
    if not isinstance(name, str):
        raise OntologyError(f"a name or synonym must be text, not {type(name).__name__}; fix 'categories'")
    return re.sub(r"[_.?()\s]+", " ", name).strip()


def _from_ultralytics(names: object, _: object) -> Ontology:
    if isinstance(names, dict):
        by_id = {str(class_id): name for class_id, name in names.items()}
        ids = [str(class_id) for class_id in range(len(names))]
        if by_id.keys() != set(ids):
            raise OntologyError(f"the ids of 'names' must run from 0 to {len(names) - 1} without a gap; fix them")
        names = [by_id[class_id] for class_id in ids]
    if not isinstance(names, list):
        raise OntologyError("'names' must be a list of class names, or a table of id: name")
    return Ontology(tuple(named(name) for name in names))


def _from_ids(table: object, _: object = None) -> Ontology:
    """Classes of a table of id: name, in the order of the ids."""
    if not isinstance(table, dict) or any(_as_id(key) is None for key in table):
        raise OntologyError("'id2label' must be a table of id: name")
    by_id: dict[int, Any] = {}
    for key, name in table.items():
        number = _as_id(key)
        assert number is not None
        if number in by_id:
            raise OntologyError(f"two classes have the id {number}; fix the ids")
        by_id[number] = name
    return of_names(by_id[number] for number in sorted(by_id))


def _from_label2id(table: object, _: object = None) -> Ontology:
    if not isinstance(table, dict) or any(_as_id(value) is None for value in table.values()):
        raise OntologyError("'label2id' must be a table of name: id")
    if len({_as_id(value) for value in table.values()}) < len(table):
        raise OntologyError("two classes have the same id; write prompt: class for names of one class, or fix the ids")
    return of_names(sorted(table, key=lambda name: _as_id(table[name]) or 0))


def _from_classes(classes: object, _: object) -> Ontology:
    """A list of classes, a table of id: name, or FiftyOne's table with one such list for each of its fields."""
    if isinstance(classes, dict) and classes and all(isinstance(value, list) for value in classes.values()):
        if len(classes) > 1:
            raise OntologyError(
                f"'classes' holds {len(classes)} lists of classes; write one of them to a file of its own"
            )
        (classes,) = classes.values()
    ontology = from_class_list(classes) if isinstance(classes, (list, dict)) else None
    if ontology is None:
        raise OntologyError("there is no list of class names in it; write one, or [[class]] tables")
    return ontology


def _as_id(value: object) -> int | None:
    """An id that is written as a whole number, as text or as ``3.0``; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,9}\s*", value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9 or value != int(value):
        return None
    return int(value)


_READERS: dict[str, Callable[[Any, Mapping[Any, Any]], Ontology]] = {
    "categories": _from_coco,
    "names": _from_ultralytics,
    "id2label": _from_ids,
    "label2id": _from_label2id,
    "default_classes": _from_classes,
    "classes": _from_classes,
    "labels": _from_classes,
}
