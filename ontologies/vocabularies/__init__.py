"""Words to look for when nobody has said which: what tagging chooses from.

The shipped lists are the class names of public datasets, in the datasets' own order, one noun phrase a line:

    ============  =====  ==============================================
    coco             80  COCO (2014 and later)
    lvis           1203  LVIS v1
    objects365      365  Objects365 v2
    openimages      601  the boxable classes of Open Images V7
    ============  =====  ==============================================

Of several synonyms the first that names the thing plainly stands. Misspelt names are mended ("noodles"), and what is
ambiguous without its picture is qualified ("bat animal", "tennis ball"), so that each line is fit to be a prompt.
"""

from __future__ import annotations

import warnings
from importlib import resources
from pathlib import Path

from ontologies.ontology import OntologyError, OntologyWarning, clean_prompt
from ontologies.sources import read_text, without_comment

VOCABULARIES: tuple[str, ...] = ("coco", "lvis", "objects365", "openimages")
"""The shipped lists."""


def read_vocabulary(source: str | Path) -> tuple[str, ...]:
    """The words of a vocabulary, in its own order.

    Args:
        source: one of ``VOCABULARIES``, or else the path of a UTF-8 file of one word (or noun phrase) a line; ``#`` at
            the start or after a space opens a comment.

    Raises:
        OntologyError: there is no such vocabulary, it cannot be read, it holds no word, or a line is no prompt (see
            ``ClassSpec``). The text begins with the source.

    Warns:
        OntologyWarning: words are given again, case and spacing aside; the first of each is kept.
    """
    if str(source) in VOCABULARIES:
        text = resources.files(__name__).joinpath(f"{source}.txt").read_text(encoding="utf-8")
    elif not (path := Path(source)).exists():
        known = ", ".join(VOCABULARIES)
        raise OntologyError(f"{source}: no such vocabulary or file; name one of {known}, or a file of one word a line")
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
        raise OntologyError(f"{source}: no word in it; write one a line")
    if repeats:
        count = f"{len(repeats)} words are" if len(repeats) > 1 else "1 word is"
        warnings.warn(
            f"{source}: {count} given again (the first: {repeats[0]!r}) and left out; remove them",
            OntologyWarning,
            stacklevel=2,
        )
    return tuple(words.values())
