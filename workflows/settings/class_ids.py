"""The ids of the classes of a dataset: never reused, never shifted, whatever order the user names classes in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from ontologies import ClassSpec, Ontology
from workflows.settings.passes import named, prompt_key, without_warnings

Value = TypeVar("Value")


def with_ids(given: Ontology | None, before: Ontology | None) -> Ontology | None:
    """The classes ``given`` with the ids that they have in ``before``; new ones follow, and missing ones are removed.

    A class is the one of the same name before. If there is none, it is one that shares a prompt and was renamed.

    Args:
        before: the classes of the dataset; None if there are none yet.
    """
    if given is None or before is None:
        return given
    ids = {spec.name.casefold(): class_id for class_id, spec in enumerate(before.classes)}
    now = {ids[spec.name.casefold()]: spec for spec in given.classes if spec.name.casefold() in ids}
    new = [spec for spec in given.classes if spec.name.casefold() not in ids]
    appended = []
    for spec in new:
        renamed = (class_id for class_id in _sharing(spec, before) if class_id not in now)
        if (class_id := next(renamed, None)) is None:
            appended.append(spec)
        else:
            now[class_id] = spec
    kept = [_continued(old, now.get(class_id)) for class_id, old in enumerate(before.classes)]
    return without_warnings((*kept, *appended), given.distractors)


def changes_of_classes(before: Ontology | None, now: Ontology | None) -> Iterator[str]:
    """What to tell of classes that were renamed or removed, or are back."""
    if before is None or now is None:
        return
    pairs = list(zip(before.classes, now.classes, strict=False))
    for old, new in pairs:
        if old.name != new.name:
            yield f"class {old.name!r} is called {new.name!r} now; no model is needed for that"
    if removed := [new.name for old, new in pairs if new.removed and not old.removed]:
        yield f"removed: {named(removed)}; the ids of the other classes stay, and so does the place in the class list"
    if back := [new.name for old, new in pairs if old.removed and not new.removed]:
        yield f"back among the classes: {named(back)}"


def of_class(spec: ClassSpec, values: Mapping[str, Value]) -> Value | None:
    """The value of a class in ``values``, which may still have one of its former names."""
    return next((values[name] for name in (spec.name, *reversed(spec.former_names)) if name in values), None)


def class_to_json(spec: ClassSpec) -> dict[str, Any]:
    """A class as files hold it, without thresholds."""
    rare = {"removed": spec.removed, "former_names": spec.former_names}
    return {"name": spec.name, "prompts": spec.prompts, **{name: value for name, value in rare.items() if value}}


def class_from_json(content: Mapping[str, Any]) -> ClassSpec:
    """The inverse of ``class_to_json``; ``min_score`` may be there, too.

    Raises:
        KeyError, TypeError, OntologyError: it is damaged.
    """
    removed, former = content.get("removed", False), tuple(content.get("former_names", ()))
    return ClassSpec(content["name"], tuple(content["prompts"]), content.get("min_score"), removed, former)


def under_new_names(values: Mapping[str, Value], ontology: Ontology | None) -> dict[str, Value]:
    """``values`` by the names that classes have now, where they had former ones."""
    now = {former: spec.name for spec in (ontology.classes if ontology else ()) for former in spec.former_names}
    return {
        now.get(name, name) if ontology and name not in ontology.class_names else name: values[name] for name in values
    }


def _sharing(spec: ClassSpec, before: Ontology) -> Iterator[int]:
    """The ids of the classes that are not removed and have a prompt of ``spec``."""
    prompts = set(map(prompt_key, spec.prompts))
    for class_id, old in enumerate(before.classes):
        if not old.removed and not prompts.isdisjoint(map(prompt_key, old.prompts)):
            yield class_id


def _continued(old: ClassSpec, now: ClassSpec | None) -> ClassSpec:
    if now is None:
        return replace(old, removed=True, min_score=None)
    former = [name for name in dict.fromkeys([*old.former_names, old.name]) if name != now.name]
    return replace(now, former_names=tuple(former))
