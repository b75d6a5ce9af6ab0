"""Ontologies from files and from autodistill, and back to a file.

The format to write by hand is TOML::

    distractors = ["toy dog"]            # optional; above the first class

    [[class]]
    name = "dog"
    prompts = ["golden retriever", "puppy"]  # optional; the name if left out
    min_score = 0.4                          # optional; the job's default if left out
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, Protocol

import tomli_w
import yaml

from ontologies.ontology import ClassSpec, Ontology, OntologyError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_TOP_KEYS = ("class", "distractors")
_CLASS_KEYS = ("name", "prompts", "min_score")


class CaptionOntologyLike(Protocol):
    """What is asked of autodistill's ``CaptionOntology``, so that autodistill need not be imported."""

    @property
    def promptMap(self) -> Sequence[tuple[str, str]]:
        """(prompt, class name) pairs."""


def from_caption_ontology(ontology: CaptionOntologyLike) -> Ontology:
    """The ontology that autodistill's ``CaptionOntology`` stands for.

    Prompts of one class share a class id here; autodistill's own ``classes()`` has an entry for each prompt.

    Raises:
        OntologyError: it is no caption ontology, or not a valid one.
    """
    pairs = getattr(ontology, "promptMap", None)
    if pairs is None:
        raise OntologyError(f"expected a CaptionOntology, not {type(ontology).__name__}; wrap it: CaptionOntology(...)")
    return Ontology.from_pairs(pairs)


def read_ontology(path: str | os.PathLike[str]) -> Ontology:
    """Read an ontology file.

    - ``.txt``: one ``class`` or ``prompt=class`` a line; ``#`` at the start or after a space opens a comment.
    - ``.toml``, ``.yaml``, ``.yml``, ``.json``, told apart by what is in them: this project's own shape (above);
      a COCO file (classes in the order of category ids); an Ultralytics ``data.yaml``; or ``prompt: class`` pairs as
      in autodistill. COCO and Ultralytics names become prompts with ``_``, ``.`` and ``?`` turned into spaces.

    Raises:
        OntologyError: the file cannot be read, is torn, or holds no valid ontology. The text begins with the path.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix != ".txt" and suffix not in _PARSERS:
        raise OntologyError(f"{path}: unknown kind of ontology file; use {', '.join(_PARSERS)} or .txt")
    text = read_text(path)
    try:
        return _from_lines(text) if suffix == ".txt" else _from_document(parse(text, suffix))
    except OntologyError as error:
        raise OntologyError(f"{path}: {error}") from error


def write_ontology(path: str | os.PathLike[str], ontology: Ontology) -> None:
    """Write ``ontology`` as TOML; ``read_ontology`` gives back an equal one. The file is there whole or not at all.

    Raises:
        OntologyError: ``path`` does not end in ``.toml``, or cannot be written.
    """
    document: dict[str, Any] = {"distractors": ontology.distractors} if ontology.distractors else {}
    document["class"] = [
        {"name": item.name, "prompts": item.prompts} | ({} if item.min_score is None else {"min_score": item.min_score})
        for item in ontology.classes
    ]
    write_toml(path, tomli_w.dumps(document))


def write_toml(path: str | os.PathLike[str], text: str) -> None:
    """Write the TOML of an ontology. The file is there whole or not at all.

    Raises:
        OntologyError: ``path`` does not end in ``.toml``, or cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".toml":
        raise OntologyError(f"{path}: ontologies are written as TOML; end the name in .toml")
    temporary = path.with_name(f".{path.name}.partial")
    try:
        try:
            with open(temporary, "wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OntologyError(f"{path}: cannot be written ({error.strerror}); check the folder") from error


def read_text(path: Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        OntologyError: it cannot be read, or is not UTF-8. The text begins with the path.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise OntologyError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise OntologyError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def without_comment(line: str) -> str:
    """A line of a plain list, stripped; ``#`` at the start or after a space opens a comment."""
    return re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()


def _from_lines(text: str) -> Ontology:
    lines = (without_comment(line) for line in text.splitlines())
    return Ontology.from_items(line for line in lines if line)


def _from_document(document: object) -> Ontology:
    if not isinstance(document, dict) or not document:
        raise OntologyError("no ontology in it; write [[class]] tables, or prompt: class pairs")
    if any(key in document for key in _TOP_KEYS):
        return _from_own(document)
    if "categories" in document:
        return _from_coco(document["categories"])
    if "names" in document:
        return _from_ultralytics(document["names"])
    if all(isinstance(name, str) for name in document.values()):
        return Ontology.from_pairs(document.items())
    raise OntologyError(
        f"no ontology in it: its keys are {_listed(document)}; expected class (and distractors), "
        "categories (COCO), names (Ultralytics), or prompt: class pairs of text"
    )


def _from_own(document: dict[Any, Any]) -> Ontology:
    if unknown := document.keys() - set(_TOP_KEYS):
        raise OntologyError(f"unknown key {_listed(unknown)}; known ones are {_listed(_TOP_KEYS)}")
    entries = document.get("class", [])
    if not isinstance(entries, list):
        raise OntologyError("'class' must be a list of tables; write [[class]], with two brackets")
    classes = tuple(_class(entry, f"class number {number}") for number, entry in enumerate(entries, start=1))
    return Ontology(classes, document.get("distractors", ()))


def _class(entry: object, where: str) -> ClassSpec:
    if not isinstance(entry, dict):
        raise OntologyError(f"{where} must be a table with a name, not {type(entry).__name__}")
    if "distractors" in entry:
        raise OntologyError(f"{where} holds 'distractors', which go to the top of the file, above the first class")
    if unknown := entry.keys() - set(_CLASS_KEYS):
        raise OntologyError(f"{where} has the unknown key {_listed(unknown)}; known ones are {_listed(_CLASS_KEYS)}")
    if "name" not in entry:
        raise OntologyError(f"{where} has no name; add one")
    if entry.get("prompts") == []:
        raise OntologyError(f"{where} has no prompts; list some, or leave the key out to use the name")
    return ClassSpec(**entry)


def _from_coco(categories: object) -> Ontology:
    if not isinstance(categories, list):
        raise OntologyError("'categories' must be a list, as in a COCO file")
    names: dict[int, Any] = {}
    for category in categories:
        if not isinstance(category, dict) or type(category.get("id")) is not int or "name" not in category:
            raise OntologyError("a COCO category must have a whole number as id, and a name; fix 'categories'")
        if category["id"] in names:
            raise OntologyError(f"two COCO categories have the id {category['id']}; fix 'categories'")
        names[category["id"]] = category["name"]
    return Ontology(tuple(_named(names[category_id]) for category_id in sorted(names)))


def _from_ultralytics(names: object) -> Ontology:
    if isinstance(names, dict):
        by_id = {str(class_id): name for class_id, name in names.items()}
        ids = [str(class_id) for class_id in range(len(names))]
        if by_id.keys() != set(ids):
            raise OntologyError(f"the ids of 'names' must run from 0 to {len(names) - 1} without a gap; fix them")
        names = [by_id[class_id] for class_id in ids]
    if not isinstance(names, list):
        raise OntologyError("'names' must be a list of class names, or a table of id: name")
    return Ontology(tuple(_named(name) for name in names))


def _named(name: Any) -> ClassSpec:
    """A class whose prompt is its name in plain words; dataset names are identifiers as often as not."""
    return ClassSpec(name, (re.sub(r"[_.?\s]+", " ", name),) if isinstance(name, str) else ())


def _listed(keys: Any) -> str:
    return ", ".join(sorted(map(repr, keys))[:5])


def parse(text: str, suffix: str) -> object:
    """What a document of the kind ``suffix`` (``.toml``, ``.yaml``, ``.yml`` or ``.json``) holds.

    Raises:
        OntologyError: it is torn.
    """
    try:
        return _PARSERS[suffix](text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (at line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise OntologyError(f"not valid YAML: {error.problem or error.context}{where}") from error
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise OntologyError(f"not valid {suffix[1:].upper()}: {' '.join(str(error).split())}") from error


def _parse_json(text: str) -> object:
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is given twice")
    return found


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML keeps the last of equal keys, and would drop a prompt in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                problem = f"the key {key.value!r} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def _parse_yaml(text: str) -> object:
    return yaml.load(text, Loader=_UniqueKeyLoader)


_PARSERS: dict[str, Callable[[str], object]] = {
    ".toml": tomllib.loads,
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
    ".json": _parse_json,
}
