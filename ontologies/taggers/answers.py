"""Extracts tags from the answers of language models: lists of any kind, JSON, or English sentences."""

from __future__ import annotations

import itertools
import re
import string
import unicodedata
from collections.abc import Iterable, Iterator

MAX_TAGS = 50
MAX_WORDS = 5
_MAX_LETTERS = 40  # per word
_MAX_CHARACTERS = 20_000  # per answer; the rest is ignored

_LABEL = re.compile(r"""["'](?:label|name|object|tag|class|category)["']\s*:\s*["']([^"'\n]+)["']""")
_FENCE = re.compile(r"^[ \t]*```\w*[ \t]*$", re.MULTILINE)
_THOUGHTS_BEGIN, _THOUGHTS_END = re.compile("<think(?:ing)?>"), re.compile("</think(?:ing)?>")
_MARKUP = re.compile(r"<[^<>\n]{1,40}>")
_BULLET = re.compile(r"\s*(?:[-*+•–·]|\(?\d{1,3}[.):])\s+")
_HEAD = re.compile(r":(?:[\s*]|$)")
_NUMBER_INSIDE = re.compile(r"\s\(?\d{1,3}[.)]\s")
_IN_PARENTHESES = re.compile(r"\([^()]*\)")
_SEPARATORS = re.compile(r"[,;|/.?!\n、，；。]|\s[-–—]+\s")
_ROUND_A_WORD = "*_\"'`()[]{}<>:“”‘«»#~"
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_DETERMINERS = _set(
    "a an the his her its their one two three four five six seven eight nine ten eleven twelve dozen some any several "
    "many few multiple various numerous another other both each"
)
_GROUPS = _set("couple pair pairs group groups lot lots bunch number variety dozens hundreds")
_COUNT = re.compile(r"[x×]?\d+[x×]?")
_NEGATIONS = _set("no not without isn't aren't")
_PICTURES = _set("image picture photo photograph scene view background foreground")
_LETTERS = frozenset(string.ascii_lowercase)
# Words that end a noun phrase: verbs, prepositions, pronouns, and words with which an answer refers to itself.
_BREAKS = _set(
    "and or but as well along with in on at by to up down off out from into onto near next beside besides behind under "
    "underneath below beneath above over across against around between among through inside outside toward towards "
    "front during while is are was were be being been has have having could may appears appear seems seem looks look "
    "see seen visible shown shows show depicts depict depicting features feature featuring contains contain containing "
    "includes include including there here it this that these those which who i i'm i'll you we they she he my what "
    "where when also sitting standing lying laying parked covered filled surrounded made wearing holding riding "
    "objects object items item list following such like etc none nothing sorry cannot can't don't unable help assist "
    "sure certainly"
)
# Words in -ing that are nouns. Others are taken for verbs before a determiner or break ("a dog chewing on a bone").
_NOUNS_IN_ING = _set(
    "building painting drawing ceiling clothing railing awning wing ring king string swing spring bedding lighting "
    "earring pudding thing housing landing opening siding flooring crossing"
)


def parse_tags(text: str, complete: bool = True) -> list[str]:
    """Extract the things that an answer names, in order.

    Answers may be lists (with commas, lines, bullets or numbers), JSON (complete or truncated), or simple English
    sentences, from which noun phrases are taken: "A dog and two cats." gives dog and cats.

    Args:
        text: the answer.
        complete: False if the answer was truncated; its last phrase, which may be incomplete, is then dropped.

    Returns:
        Tags; see ``clean_tags``.
    """
    text = _THOUGHTS_BEGIN.split(_THOUGHTS_END.split(text)[-1])[0]  # the opening mark may be in the chat template
    if len(text) > _MAX_CHARACTERS:
        text, complete = text[:_MAX_CHARACTERS], False
    if not complete:
        text = text[: max((match.end() for match in _SEPARATORS.finditer(text)), default=0)]
    text = _MARKUP.sub(",", unicodedata.normalize("NFC", text).replace("’", "'"))
    text = _FENCE.sub("", text)
    chunks = _LABEL.findall(text) or [chunk for line in text.split("\n") for chunk in _chunks(line)]
    return clean_tags(phrase for chunk in chunks for phrase in _noun_phrases(chunk))


def clean_tags(phrases: Iterable[str]) -> list[str]:
    """Turn phrases into tags: lower-case words of letters and digits, without articles and counts.

    Phrases are dropped if they have more than ``MAX_WORDS`` words or other characters, are negated, or refer to the
    picture itself.

    Returns:
        Each tag once, at most ``MAX_TAGS``.
    """
    tags: dict[str, None] = {}
    for phrase in phrases:
        words = [word for word in _words(phrase) if word]
        while words and (
            words[0] in _DETERMINERS
            or words[0] == "of"
            or (words[0] in _GROUPS and words[1:2] == ["of"])
            or _COUNT.fullmatch(words[0])
        ):
            del words[0]
        while words and (words[-1] == "of" or _COUNT.fullmatch(words[-1])):
            del words[-1]
        tag = " ".join(words)
        is_tag = 0 < len(words) <= MAX_WORDS and all(map(_is_word, words)) and tag not in _LETTERS
        if is_tag and _NEGATIONS.isdisjoint(words) and tag not in _PICTURES:
            tags[tag] = None
        if len(tags) == MAX_TAGS:
            break
    return list(tags)


def _words(phrase: str) -> list[str]:
    return [word.strip(_ROUND_A_WORD) for word in phrase.lower().replace("’", "'").split()]


def _is_word(word: str) -> bool:
    return len(word) <= _MAX_LETTERS and _WORD.fullmatch(word) is not None


def _chunks(line: str) -> Iterator[str]:
    """Split a line at separators. After a bullet, the text before a colon counts; otherwise the text after it."""
    if bullet := _BULLET.match(line):
        line = _HEAD.split(line[bullet.end() :], maxsplit=1)[0]
    for chunk in _SEPARATORS.split(_NUMBER_INSIDE.sub(",", _IN_PARENTHESES.sub(" ", line))):
        yield chunk.rpartition(":")[2]


def _noun_phrases(chunk: str) -> Iterator[str]:
    """Split a chunk before determiners, and at verbs, prepositions and other breaks. Negations stay in their phrase."""
    phrase: list[str] = []
    for word, following in itertools.pairwise([*_words(chunk), ""]):
        ends = following in _BREAKS or following in _DETERMINERS
        verb = word.endswith("ing") and word not in _NOUNS_IN_ING and bool(phrase) and ends
        if word in _BREAKS or verb or (word == "can" and following in ("be", "see")):
            yield " ".join(phrase)
            phrase = []
        elif word in _NEGATIONS or (word in _DETERMINERS and _NEGATIONS.isdisjoint(phrase)):
            yield " ".join(phrase)
            phrase = [word]
        else:
            phrase.append(word)
    yield " ".join(phrase)
