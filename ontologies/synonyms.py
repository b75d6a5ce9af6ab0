"""Which words mean the same: spellings, plurals, and what the user says."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ontologies.ontology import SEPARATORS, OntologyError, clean_text
from ontologies.sources import parse, read_text

# Plurals that name another thing than their singulars do.
_OTHER_THINGS = frozenset({"boxers", "briefs", "glasses", "goods", "spirits", "trunks", "woods"})
_ENGLISH = re.compile(r"[a-z]+(?:[ '][a-z]+)*")


def read_synonyms(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read which words mean the same: the class of each synonym, for ``propose``.

    The file is TOML::

        [synonyms]
        dog = ["puppy", "golden retriever"]

    Raises:
        OntologyError: the file cannot be read or is torn, a word is blank or no text, a synonym has two classes, or
            classes are each other's synonyms. The text begins with the path.
    """
    path = Path(path)
    text = read_text(path)
    try:
        document = parse(text, ".toml")
        table = document.get("synonyms") if isinstance(document, dict) and document.keys() == {"synonyms"} else None
        if not isinstance(table, dict):
            raise OntologyError("expected one table, [synonyms], of lines such as dog = ['puppy']")
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
    """A tag as a prompt may spell it; "" if nothing is left."""
    kept = (" " if x in SEPARATORS + "_" or unicodedata.category(x) in ("Cc", "Cs") else x for x in tag)
    return " ".join(unicodedata.normalize("NFC", "".join(kept)).split())


def classes_of(synonyms: Iterable[tuple[str, str]]) -> dict[str, str]:
    """By folded word, the class that (synonym, class) pairs come to in the end; classes name themselves."""
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
    found = {}
    for word in (*above, *names):
        end, passed = word, {word}
        while end in above:
            end = above[end]
            if end in passed:
                raise OntologyError(f"{names[end]!r} is in the end a synonym of itself; remove one of its synonyms")
            passed.add(end)
        found[word] = names[end]
    return found


def same_words(words: Iterable[str], others: Iterable[str]) -> dict[str, list[str]]:
    """For each of ``words``, those of ``others`` that mean the same: other spellings, singular or plural."""
    words, others = set(words), set(others)
    found: dict[str, list[str]] = {word: [] for word in words}
    for _, group in grouped(sorted(words | others), {}):
        for word in words.intersection(group):
            found[word] = sorted(others.intersection(group))
    return found


def grouped(spellings: Iterable[str], classes: Mapping[str, str]) -> Iterator[tuple[str | None, list[str]]]:
    """(the user's name or None, spellings) of each class: a union-find over folded words.

    Plurals never join what the user holds apart.
    """
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
    for word, found in groups.items():
        yield names.get(word), found


def _fold(word: str) -> str:
    """What words have in common that differ by case, spaces, underscores or hyphens."""
    folded = unicodedata.normalize("NFC", spelling_of(word).casefold())
    return " ".join(re.sub(r"[-\u2010\u2011]", " ", folded).split()) or folded


def _plurals(words: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(singular, plural) pairs among folded words, in the order of the singulars."""
    import inflect  # a second, which only those who propose should wait

    known = {word for word in words if _ENGLISH.fullmatch(word)}
    modern, classical = inflect.engine(), inflect.engine()
    classical.classical(all=True)  # also knows hooves, cacti and persons
    for word in sorted(known):
        for plural in sorted({engine.plural_noun(word) for engine in (modern, classical)} & known):
            if plural == word or plural in _OTHER_THINGS:
                continue
            # Rules alone take "bus" for the plural of "bu", and "news" for that of "new": the one has a plural of its
            # own, and from the other no way leads back.
            is_singular = modern.plural_noun(plural) == f"{plural}es"
            if not is_singular and word in {engine.singular_noun(plural) for engine in (modern, classical)}:
                yield word, plural
