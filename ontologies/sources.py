"""Reads ontologies from files and from autodistill, and writes them as TOML::

distractors = ["toy dog"]                # optional; before the first class

[[class]]
name = "dog"
prompts = ["golden retriever", "puppy"]  # optional; by default the name
min_score = 0.4                          # optional; by default the general one
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import tomli_w

from ontologies.class_lists import from_class_list
from ontologies.documents import DocumentError, decoded, parse_json, parse_toml, parse_yaml, read_at_most
from ontologies.label_files import from_lines, from_xml
from ontologies.ontology import ClassSpec, Ontology, OntologyError

_TOP_KEYS = ("class", "distractors")
_CLASS_KEYS = ("name", "prompts", "min_score")
MAX_TEXT_BYTES = 2**24  # of lists of words, and of any other file but a COCO file
MAX_COCO_BYTES = 2**32


class CaptionOntologyLike(Protocol):
    """The part of autodistill's ``CaptionOntology`` that is used here, so that autodistill need not be imported."""

    @property
    def promptMap(self) -> Sequence[tuple[str, str]]:
        """(prompt, class name) pairs."""


def from_caption_ontology(ontology: CaptionOntologyLike) -> Ontology:
    """Convert autodistill's ``CaptionOntology``.

    Prompts of the same class share a class id, while ``CaptionOntology.classes()`` has an entry for each prompt.

    Raises:
        OntologyError: it is not a ``CaptionOntology``, or not a valid ontology.
    """
    pairs = getattr(ontology, "promptMap", None)
    if pairs is None:
        raise OntologyError(f"expected a CaptionOntology, not {type(ontology).__name__}; wrap it: CaptionOntology(...)")
    return Ontology.from_pairs(pairs)


def read_ontology(path: str | os.PathLike[str]) -> Ontology:
    """Read an ontology file.

    - ``.txt``: one ``class`` or ``prompt=class`` per line, or CVAT's ``labelmap.txt``; ``#`` at the start or after a
      space begins a comment.
    - ``.xml``: Label Studio's labeling configuration, or CVAT's annotations.
    - ``.toml``, ``.yaml``, ``.yml`` or ``.json`` with one of these contents: the format above; a list of names; a class
      list of another tool (see ``ontologies.class_lists``), in the order of its ids; or ``prompt: class`` pairs, as in
      autodistill. In prompts made from the names of other tools, ``_``, ``.`` and ``?`` become spaces.

    Raises:
        OntologyError: the file cannot be read, is damaged, or contains no valid ontology; the message begins with the
            path.

    Warns:
        OntologyWarning: an entry is left out because it stands for no class.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _PARSERS and suffix not in _TEXT:
        raise OntologyError(f"{path}: unknown ontology format; use {', '.join([*_PARSERS, *_TEXT][:-1])} or .txt")
    text = read_text(path)
    try:
        return _TEXT[suffix](text) if suffix in _TEXT else _from_document(parse(text, suffix))
    except OntologyError as error:
        raise OntologyError(f"{path}: {error}") from error


def write_ontology(path: str | os.PathLike[str], ontology: Ontology) -> None:
    """Write ``ontology`` as TOML, atomically; ``read_ontology`` returns an equal one.

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
    """Write the TOML text of an ontology, atomically.

    Raises:
        OntologyError: ``path`` does not end in ``.toml``, or cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".toml":
        raise OntologyError(f"{path}: ontologies are written as TOML; use a name that ends in .toml")
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
        OntologyError: it cannot be read, is not UTF-8 or is far too large; the message begins with the path.
    """
    try:
        return decoded(read_at_most(path, MAX_COCO_BYTES if path.suffix.lower() == ".json" else MAX_TEXT_BYTES))
    except OSError as error:
        raise OntologyError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except DocumentError as error:
        raise OntologyError(f"{path}: {error}") from error


def _from_document(document: object) -> Ontology:
    if isinstance(document, list) and all(
        isinstance(each, dict) and each.keys() <= set(_CLASS_KEYS) for each in document
    ):
        document = {"class": document} if document else {}
    if isinstance(document, dict) and any(key in document for key in _TOP_KEYS):
        return _from_own(document)
    if (ontology := from_class_list(document)) is not None:
        return ontology
    if not isinstance(document, dict) or not document:
        raise OntologyError(
            "there is no ontology in it; write [[class]] tables, a list of names, or prompt: class pairs"
        )
    if all(isinstance(name, str) for name in document.values()):
        return Ontology.from_pairs(document.items())
    raise OntologyError(
        f"there is no ontology in it: the keys are {_listed(document)}; expected class (and distractors), "
        "categories (COCO), names (Ultralytics), id2label (Hugging Face), classes, or prompt: class pairs of text"
    )


def _from_own(document: dict[Any, Any]) -> Ontology:
    if unknown := document.keys() - set(_TOP_KEYS):
        raise OntologyError(f"unknown key {_listed(unknown)}; known keys are {_listed(_TOP_KEYS)}")
    entries = document.get("class", [])
    if not isinstance(entries, list):
        raise OntologyError("'class' must be a list of tables; write [[class]], with two brackets")
    classes = tuple(_class(entry, f"class number {number}") for number, entry in enumerate(entries, start=1))
    return Ontology(classes, document.get("distractors", ()))


def _class(entry: object, where: str) -> ClassSpec:
    if not isinstance(entry, dict):
        raise OntologyError(f"{where} must be a table with a name, not {type(entry).__name__}")
    if "distractors" in entry:
        raise OntologyError(f"{where} contains 'distractors'; move them to the top of the file, before the first class")
    if unknown := entry.keys() - set(_CLASS_KEYS):
        raise OntologyError(f"{where} has the unknown key {_listed(unknown)}; known keys are {_listed(_CLASS_KEYS)}")
    if "name" not in entry:
        raise OntologyError(f"{where} has no name; add one")
    if entry.get("prompts") == []:
        raise OntologyError(f"{where} has no prompts; list some, or leave the key out to use the name")
    return ClassSpec(**entry)


def _listed(keys: Any) -> str:
    return ", ".join(sorted(map(repr, keys))[:5])


def parse(text: str, suffix: str) -> object:
    """Parse a document; ``suffix`` is ``.toml``, ``.yaml``, ``.yml`` or ``.json``.

    Raises:
        OntologyError: it is not valid.
    """
    try:
        return _PARSERS[suffix](text)
    except DocumentError as error:
        raise OntologyError(str(error)) from error


_PARSERS: dict[str, Callable[[str], object]] = {
    ".toml": parse_toml,
    ".yaml": parse_yaml,
    ".yml": parse_yaml,
    ".json": parse_json,
}
_TEXT: dict[str, Callable[[str], Ontology]] = {".xml": from_xml, ".txt": from_lines}
