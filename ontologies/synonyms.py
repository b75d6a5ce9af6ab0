"""Finds words that mean the same: other spellings, plurals, and synonyms that the user lists."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ontologies.ontology import SEPARATORS, OntologyError, clean_text
from ontologies.sources import parse, read_text

# Plurals with another meaning than their singulars.
_OTHER_THINGS = frozenset({"boxers", "briefs", "glasses", "goods", "spirits", "trunks", "woods"})
_ENGLISH = re.compile(r"[a-z]+(?:[ '][a-z]+)*")


def read_synonyms(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read a file of synonyms as word -> class, for ``propose``. The file is TOML::

        [synonyms]
        dog = ["puppy", "golden retriever"]

    Raises:
        OntologyError: the file cannot be read or is not valid, a word is blank or not text, a synonym has two classes,
            or classes are synonyms of each other; the message begins with the path.
    """
    path = Path(path)
    text = read_text(path)
    try:
        document = parse(text, ".toml")
        table = document.get("synonyms") if isinstance(document, dict) and document.keys() == {"synonyms"} else None
        if not isinstance(table, dict):
            raise OntologyError("expected one table [synonyms], with lines such as dog = ['puppy']")
        pairs = []
        for name, words in table.items():
            if not isinstance(words, list):
                raise OntologyError(f"the synonyms of {name!r} must be a list; put them in brackets")
            pairs += [(clean_text(word, f"a synonym of {name!r}"), name) for word in words]
        classes_of(pairs)
    except OntologyError as error:
        raise OntologyError(f"{path}: {error}") from error
    return dict(pairs)


def spelling_of(tag: str) -> str:
    """A tag with characters that are not allowed in prompts, and underscores, as spaces; "" if nothing else is left."""
    kept = (" " if x in SEPARATORS + "_" or unicodedata.category(x) in ("Cc", "Cs") else x for x in tag)
    return " ".join(unicodedata.normalize("NFC", "".join(kept)).split())


def classes_of(synonyms: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Folded word -> class, from (synonym, class) pairs. Chains of synonyms are followed, and a class is its own word.

    Raises:
        OntologyError: a word has two classes, or is a synonym of itself.
    """
    above: dict[str, str] = {}
    names: dict[str, str] = {}
    pairs = sorted(synonyms)
    for name in sorted({name for _, name in pairs}):
        names.setdefault(_fold(name), clean_text(name, "a class of synonyms"))
    for word, name in pairs:
        if _fold(word) == _fold(name):
            continue
        if above.setdefault(_fold(word), _fold(name)) != _fold(name):
            raise OntologyError(f"{word!r} is a synonym of {names[above[_fold(word)]]!r} and of {name!r}; keep one")
    classes = {}
    for word in (*above, *names):
        end, passed = word, {word}
        while end in above:
            end = above[end]
            if end in passed:
                raise OntologyError(f"{names[end]!r} is a synonym of itself through other synonyms; remove one of them")
            passed.add(end)
        classes[word] = names[end]
    return classes


def same_words(words: Iterable[str], others: Iterable[str]) -> dict[str, list[str]]:
    """For each of ``words``, the ``others`` that mean the same: other spellings, and its singular or plural."""
    words, others = set(words), set(others)
    same: dict[str, list[str]] = {word: [] for word in words}
    for _, group in grouped(sorted(words | others), {}):
        for word in words.intersection(group):
            same[word] = sorted(others.intersection(group))
    return same


def grouped(spellings: Iterable[str], classes: Mapping[str, str]) -> Iterator[tuple[str | None, list[str]]]:
    """Group spellings that mean the same.

    Args:
        classes: folded word -> class, from ``classes_of``. A singular and its plural stay apart if these name different
            classes for them.

    Returns:
        For each group its class, or None if ``classes`` names none, and its spellings.
    """
    # A union-find over folded words.
    folded = {spelling: _fold(spelling) for spelling in spellings}
    above = {word: word for word in sorted({*folded.values(), *classes})}
    names = dict(classes)

    def root(word: str) -> str:
        while above[word] != word:
            above[word] = word = above[above[word]]
        return word

    pairs = [(_fold(name), word) for word, name in classes.items()]
    for pair in (*pairs, *_plurals(above)):
        one, other = map(root, pair)
        if one == other or (one in names and other in names and names[one] != names[other]):
            continue
        above[other] = one
        if other in names:
            names[one] = names[other]
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for spelling, word in folded.items():
        groups[root(word)].append(spelling)
    for word, group in groups.items():
        yield names.get(word), group


def _fold(word: str) -> str:
    """A key that is equal for words that differ only in case, spaces, underscores or hyphens."""
    folded = unicodedata.normalize("NFC", spelling_of(word).casefold())
    return " ".join(re.sub(r"[-\u2010\u2011]", " ", folded).split()) or folded


def _plurals(words: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The (singular, plural) pairs among folded words, sorted by singular."""
    import inflect  # takes a second to import

    known = {word for word in words if _ENGLISH.fullmatch(word)}
    modern, classical = inflect.engine(), inflect.engine()
    classical.classical(all=True)  # adds hooves, cacti and persons
    for word in sorted(known):
        for plural in sorted({engine.plural_noun(word) for engine in (modern, classical)} & known):
            if plural == word or plural in _OTHER_THINGS:
                continue
            # The rules take "bus" for the plural of "bu", and "news" for that of "new". But "bus" has a plural itself,
            # and "new" is not the singular of "news".
            is_singular = modern.plural_noun(plural) == f"{plural}es"
            if not is_singular and word in {engine.singular_noun(plural) for engine in (modern, classical)}:
                yield word, plural
