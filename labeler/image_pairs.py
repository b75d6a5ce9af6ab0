"""Pairs images with their names in another list, such as those of the ground truth."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from posixpath import splitext
from urllib.parse import parse_qs, unquote

Parts = tuple[str, ...]
Key = Callable[[str], Parts | None]
# What tools add to a name without its suffix: the start of an upload to Label Studio (which a date may look like), and
# the ends of Roboflow's masks and of its images, which keep the old suffix in their name.
_ADDED = (
    re.compile(r"^(?!(?:19|20)[0-9]{6}-)[0-9a-f]{8}-(?=.)"),
    re.compile(r"_mask$"),
    re.compile(r"_(?:jpe?g|png|bmp|webp|tiff?|gif|avif|heic)\.rf\.[0-9A-Za-z]+$", re.IGNORECASE),
)


@dataclass(frozen=True)
class ImagePairs:
    """Which image has which name.

    Attributes:
        names: image id -> name, for the images that have a partner.
        ambiguous: image ids without one, because several names fit them, or because their name fits several images.
        renamed: image ids whose partner was found only after removing what a tool added to one of the names, or moved
            from its folders into its file name.
    """

    names: dict[str, str]
    ambiguous: tuple[str, ...]
    renamed: tuple[str, ...]


def pair_images(image_ids: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """The pairs of ``find_pairs``: image id -> name, for the images that have a partner."""
    return find_pairs(image_ids, names).names


def find_pairs(image_ids: Iterable[str], names: Iterable[str]) -> ImagePairs:
    r"""Pair images with names in another list.

    Equal names are paired first. Next are names of which one is the end of the other (``val/a.jpg`` and ``a.jpg``),
    unless several fit. Both steps are then repeated without suffixes, because mask files have other suffixes than
    images, and at last without what Label Studio and Roboflow add to names (``1f2e3d4c-a.jpg``,
    ``a_jpg.rf.2b7c….jpg``), if only one of the two names has such an addition, or with the folders of one in the file
    name of the other (``day/a.jpg`` and ``day_a.jpg``, as flat datasets have it). Names may also be URLs, or paths with
    backslashes.
    """
    search = _Search(image_ids, names)
    for key in (_whole, _parts, _without_suffix):
        search.pair(key, key)
    exact = dict(search.pairs)
    search.pair(_plain, _original)
    search.pair(_original, _plain)
    search.pair(_flat, _without_suffix)
    search.pair(_without_suffix, _flat)
    return ImagePairs(
        search.pairs,
        tuple(image_id for image_id in search.left if image_id in search.unclear),
        tuple(image_id for image_id in search.pairs if image_id not in exact),
    )


class _Search:
    """The pairs found so far, and the images (``left``) and names (``right``) that have no partner yet."""

    def __init__(self, image_ids: Iterable[str], names: Iterable[str]) -> None:
        self.left, self.right = dict.fromkeys(image_ids), dict.fromkeys(names)
        self.pairs: dict[str, str] = {}
        self.unclear: set[str] = set()

    def pair(self, left_key: Key, right_key: Key) -> None:
        """Pair by keys of which one is the end of the other; what has no key takes no part."""
        left = {image_id: parts for image_id in self.left if (parts := left_key(image_id))}
        right = {name: parts for name in self.right if (parts := right_key(name))}
        counts = Counter(right.values())
        whole = {parts: name for name, parts in right.items() if counts[parts] == 1}
        ends = Counter(end for parts in right.values() for end in _ends(parts))
        by_end = {end: name for name, parts in right.items() for end in _ends(parts) if ends[end] == 1}
        claims: dict[str, list[str]] = {}
        for image_id, parts in left.items():
            longer = (whole[end] for end in _ends(parts) if end in whole)
            if match := whole.get(parts) or by_end.get(parts) or next(longer, None):
                claims.setdefault(match, []).append(image_id)
            elif ends[parts] or any(end in counts for end in _ends(parts)):
                self.unclear.add(image_id)
        for name, claimants in claims.items():
            equal = [image_id for image_id in claimants if left[image_id] == right[name]]
            if len(chosen := equal or claimants) == 1:
                self.pairs[chosen[0]] = name
                del self.left[chosen[0]], self.right[name]
            else:
                self.unclear.update(claimants)


def _whole(name: str) -> Parts:
    return (name,)


def _parts(name: str) -> Parts:
    """The folders and the file name of a path or URL; in Label Studio's URLs of local files the path is in ``d=``."""
    if "://" in name or name.startswith("/data/local-files/"):
        path, _, query = name.partition("://")[2].partition("?") if "://" in name else name.partition("?")
        name = parse_qs(query).get("d", [unquote(path)])[-1]
    name = unicodedata.normalize("NFC", name.replace("\\", "/"))
    return tuple(part for part in name.split("/") if part not in ("", "."))


def _without_suffix(name: str) -> Parts:
    *folders, last = _parts(name) or ("",)
    return (*folders, splitext(last)[0])


def _flat(name: str) -> Parts | None:
    """The key of a name in folders, all in one: see ``labeler.formats.flat_names``; None for others."""
    parts = _without_suffix(name)
    return ("_".join(parts).lstrip(". "),) if len(parts) > 1 else None


def _plain(name: str) -> Parts | None:
    """The key of a name without additions; None for others."""
    *folders, stem = _without_suffix(name)
    return None if any(added.search(stem) for added in _ADDED) else (*folders, _simplified(stem))


def _original(name: str) -> Parts | None:
    """The key of a name with additions, without these; None for others."""
    *folders, stem = _without_suffix(name)
    original = stem
    for added in _ADDED:
        original = added.sub("", original)
    return None if original == stem else (*folders, _simplified(original))


def _simplified(stem: str) -> str:
    """``stem`` with ``-`` for all that tools replace in names: spaces, brackets and the like."""
    return re.sub(r"[\W_]+", "-", stem).strip("-")


def _ends(parts: Parts) -> list[Parts]:
    return [parts[start:] for start in range(len(parts))]
