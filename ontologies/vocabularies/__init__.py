"""Lists of words that taggers choose from.

The built-in lists are the class names of public datasets, in the order of the datasets:

    ============  =====  ==============================================
    coco             80  COCO (2014 and later)
    lvis           1203  LVIS v1
    objects365      365  Objects365 v2
    openimages      601  the boxable classes of Open Images V7
    ============  =====  ==============================================

Each line is a noun phrase that can be a prompt. If a dataset lists synonyms, the list has the first one that is plain.
Spelling mistakes are corrected ("noodles"), and ambiguous names are qualified ("bat animal", "tennis ball").
"""

from __future__ import annotations

import warnings
from importlib import resources
from pathlib import Path

from ontologies.label_files import without_comment
from ontologies.ontology import OntologyError, OntologyWarning, clean_prompt
from ontologies.sources import read_text

VOCABULARIES: tuple[str, ...] = ("coco", "lvis", "objects365", "openimages")
"""The built-in lists."""


def read_vocabulary(source: str | Path) -> tuple[str, ...]:
    """The words of a vocabulary, in its order.

    Args:
        source: one of ``VOCABULARIES``, or the path of a UTF-8 file with one word or noun phrase per line; ``#`` at the
            start or after a space begins a comment.

    Raises:
        OntologyError: there is no such vocabulary, it cannot be read, it is empty, or a line is not a valid prompt (see
            ``ClassSpec``); the message begins with the source.

    Warns:
        OntologyWarning: words are repeated (ignoring case and spacing); the first of each is kept.
    """
    if str(source) in VOCABULARIES:
        text = resources.files(__name__).joinpath(f"{source}.txt").read_text(encoding="utf-8")
    elif not (path := Path(source)).exists():
        known = ", ".join(VOCABULARIES)
        raise OntologyError(
            f"{source}: no such vocabulary or file; give one of {known}, or a file with one word per line"
        )
    else:
        text = read_text(path)
    words: dict[str, str] = {}
    repeats: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not (entry := without_comment(line)):
            continue
        word = clean_prompt(entry, f"{source}: line {number}")
        if words.setdefault(word.casefold(), word) is not word:
            repeats.append(word)
    if not words:
        raise OntologyError(f"{source}: there are no words in it; write one per line")
    if repeats:
        count = f"{len(repeats)} words are" if len(repeats) > 1 else "1 word is"
        warnings.warn(
            f"{source}: {count} repeated and left out, such as {repeats[0]!r}; remove the repetitions",
            OntologyWarning,
            stacklevel=2,
        )
    return tuple(words.values())
