from __future__ import annotations

import random
from itertools import product
from pathlib import PurePosixPath

import pytest

from labeler.formats.flat_names import FlatFileNames, flat_stem

IDS = [f"{'/'.join(parts)}.jpg" for count in (1, 2, 3) for parts in product(("a", "b", "a_b", "A"), repeat=count)]


@pytest.mark.parametrize(
    ("image_id", "stem"),
    [
        ("photo.jpg", "photo"),
        ("sub/photo.jpg", "sub_photo"),
        ("sub/deep/my photo (1).tar.png", "sub_deep_my photo (1).tar"),
        ("großer/Hund.JPG", "großer_Hund"),
        (".hidden/..x.png", "hidden_..x"),
        ("scan.tif#0003", "scan_0003"),
        ("a\\b\n.png", "a_b_"),
        ("no_suffix", "no_suffix"),
        ("...", "image"),
        ("x" * 300 + ".png", "x" * 239),
        ("ü" * 300 + ".tif#0002", "ü" * 117 + "_0002"),
    ],
)
def test_stem(image_id: str, stem: str) -> None:
    assert flat_stem(image_id) == stem
    assert len(stem.encode()) <= 239


def test_every_image_has_its_own_stem() -> None:
    names = FlatFileNames()
    given = {image_id: names.give(image_id, ".jpg") for image_id in IDS}
    assert len({PurePosixPath(name).stem.casefold() for name in given.values()}) == len(IDS)
    assert all("/" not in name and name.endswith(".jpg") for name in given.values())
    assert {image_id: names.give(image_id, ".png") for image_id in IDS} == given  # asked again
    assert (given["a.jpg"], given["a/b.jpg"]) == ("a.jpg", "a_b_" + given["a/b.jpg"][-12:])
    assert given["a_b.jpg"] == "a_b.jpg"


def test_names_stay_as_images_arrive() -> None:
    """Every order of arrival, with a new start in between, keeps the names of the images that were there."""
    for seed in range(20):
        ids = random.Random(seed).sample(IDS, len(IDS))
        known: dict[str, str] = {}
        for start in range(0, len(ids), 17):
            names = FlatFileNames(known)
            now = {image_id: names.give(image_id, ".jpg") for image_id in sorted(ids[: start + 17])}
            assert known.items() <= now.items()
            known = now
        assert len({name.casefold() for name in known.values()}) == len(IDS)


def test_a_name_does_not_depend_on_how_many_came_before() -> None:
    """It is the plain one or the one with the hash of the id, whatever the order."""
    seen: dict[str, set[str]] = {image_id: set() for image_id in IDS}
    for seed in range(20):
        names = FlatFileNames()
        for image_id in random.Random(seed).sample(IDS, len(IDS)):
            seen[image_id].add(names.give(image_id, ".jpg"))
    assert max(map(len, seen.values())) == 2


def test_an_image_that_is_called_like_a_name_with_a_hash() -> None:
    names = FlatFileNames()
    assert names.give("a_b.jpg", ".jpg") == "a_b.jpg"
    taken = FlatFileNames({"x": "a_b.jpg"}).give("a/b.jpg", ".jpg")
    assert names.give(taken, ".jpg") == taken
    assert names.give("a/b.jpg", ".jpg") not in (taken, "a_b.jpg")


def test_long_names_stay_short_and_apart() -> None:
    names = FlatFileNames()
    given = {names.give(f"{'ü' * 200}{number}.png", ".png") for number in range(50)}
    assert len(given) == 50
    assert all(len(name.encode()) <= 255 for name in given)
