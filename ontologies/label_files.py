"""Reads class lists from text and XML: plain lines, CVAT's ``labelmap.txt``, and label configurations in XML."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from ontologies.class_lists import named, of_names
from ontologies.ontology import Ontology, OntologyError

_LABELMAP = re.compile(r"([^:]+):(?:\d{1,3},\s*\d{1,3},\s*\d{1,3})?:[^:]*:[^:]*")  # name:colour:parts:actions
_NUMBERED = re.compile(r"(\d+)\s*[:,\t]\s*(.+)")


def without_comment(line: str) -> str:
    """A line without its comment, stripped; a comment begins with ``#`` at the start or after a space."""
    return re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()


def from_lines(text: str) -> Ontology:
    """The ontology in a text file: one ``class`` or ``prompt=class`` a line, ``0: class``, or CVAT's ``labelmap.txt``.

    Raises:
        OntologyError: a line does not fit the others, or the result is not a valid ontology.
    """
    lines = [line for line in map(without_comment, text.splitlines()) if line]
    label_map = [_LABELMAP.fullmatch(line) for line in lines]
    if any(label_map):
        if wrong := next((line for line, match in zip(lines, label_map, strict=True) if match is None), None):
            raise OntologyError(f"{wrong!r} is no line of a labelmap.txt, as others are; write name:r,g,b::")
        return of_names(match[1].strip() for match in label_map if match)
    numbered = [match for line in lines if (match := _NUMBERED.fullmatch(line))]
    numbers = [int(match[1]) for match in numbered]
    if lines and len(numbered) == len(lines) and numbers == [*range(numbers[0], numbers[0] + len(lines))]:
        return of_names(match[2] for match in numbered)
    return Ontology.from_items(lines)


def from_xml(text: str) -> Ontology:
    """The labels in a labeling configuration of Label Studio, or in CVAT's annotations.

    Raises:
        OntologyError: it is neither.
    """
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise OntologyError(f"not valid XML: {error}") from error
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
