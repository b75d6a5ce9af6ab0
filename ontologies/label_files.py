"""Reads class lists from text and XML: plain lines, CVAT's ``labelmap.txt``, and label configurations in XML."""

from __future__ import annotations

import re

from ontologies.class_lists import named, of_names
from ontologies.documents import DocumentError, parse_xml
from ontologies.ontology import Ontology, OntologyError

_LABELMAP = re.compile(r"([^:]+):(?:\d{1,3},\s*\d{1,3},\s*\d{1,3})?:[^:]*:[^:]*")  # name:colour:parts:actions
_COLOURED = re.compile(r"(?:\d{1,3}[\s,]+){3}(\D.*)")  # CVAT's label_colors.txt
_NUMBERED = re.compile(r"(\d+)(\s*[:,\t]\s*|\s+)(.+)")


def without_comment(line: str) -> str:
    """A line without its comment, stripped; a comment begins with ``#`` at the start or after a space."""
    return re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()


def from_lines(text: str) -> Ontology:
    """The ontology in a text file.

    It has one ``class``, ``prompt=class`` or ``0: class`` a line, or is CVAT's ``labelmap.txt`` or
    ``label_colors.txt``.

    Raises:
        OntologyError: a line does not fit the others, or the result is not a valid ontology.
    """
    lines = [line for line in map(without_comment, text.splitlines()) if line]
    label_map = [_LABELMAP.fullmatch(line) for line in lines]
    if any(label_map):
        if wrong := next((line for line, match in zip(lines, label_map, strict=True) if match is None), None):
            raise OntologyError(f"{wrong!r} is no line of a labelmap.txt, as others are; write name:r,g,b::")
        return of_names(match[1].strip() for match in label_map if match)
    coloured = [match for line in lines if (match := _COLOURED.fullmatch(line))]
    if lines and len(coloured) == len(lines):
        return of_names(match[1] for match in coloured)
    numbered = [match for line in lines if (match := _NUMBERED.fullmatch(line)) and "=" not in line]
    numbers = [int(match[1]) for match in numbered]
    first = numbers[0] if numbers else 0
    if not lines or numbers != [*range(first, first + len(lines))]:
        return Ontology.from_items(lines)
    if any(match[2].isspace() and "\t" not in match[2] for match in numbered):
        if len(lines) == 1:
            return Ontology.from_items(lines)
        raise OntologyError(
            f"its lines are numbered; write {first}: {numbered[0][3]} if the numbers are ids, or {lines[0]}={lines[0]} "
            "if they belong to the names"
        )
    return of_names(match[3] for match in numbered)


def from_xml(text: str) -> Ontology:
    """The labels in a labeling configuration of Label Studio, or in CVAT's annotations.

    Raises:
        OntologyError: it is neither.
    """
    try:
        root = parse_xml(text)
    except DocumentError as error:
        raise OntologyError(str(error)) from error
    if root.tag == "annotations":
        names = [label.findtext("name") for label in root.iterfind("meta//label") if label.find("parent") is None]
    else:
        names = [label.get("value") for label in root.iter("Label")]
    if not names:
        raise OntologyError(
            "there are no labels in it; give Label Studio's labeling configuration with <Label> tags, or CVAT's "
            "annotations.xml"
        )
    if dynamic := next((name for name in names if name and name.startswith("$")), None):
        raise OntologyError(f"its labels come from the tasks' data ({dynamic}); write the class names into a file")
    return Ontology(tuple(named(name) for name in dict.fromkeys(names)))
