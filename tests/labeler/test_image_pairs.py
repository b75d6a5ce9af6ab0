"""Which image has which name in another list."""

from __future__ import annotations

import pytest

from labeler.image_pairs import find_pairs, pair_images


# (image ids, names in the ground truth, pairs)
@pytest.mark.parametrize(
    ("image_ids", "names", "pairs"),
    [
        (["a.jpg", "b.jpg"], ["b.jpg", "a.jpg"], {"a.jpg": "a.jpg", "b.jpg": "b.jpg"}),
        (["val/a.jpg"], ["a.jpg"], {"val/a.jpg": "a.jpg"}),
        (["a.jpg"], ["data/val/a.jpg"], {"a.jpg": "data/val/a.jpg"}),
        (["a.jpg"], ["x/a.jpg", "y/a.jpg"], {}),  # ambiguous
        (["x/a.jpg", "y/a.jpg"], ["a.jpg"], {}),
        (["x/a.jpg", "y/a.jpg"], ["y/a.jpg", "x/a.jpg"], {"x/a.jpg": "x/a.jpg", "y/a.jpg": "y/a.jpg"}),
        (["a.jpg", "y/a.jpg"], ["a.jpg"], {"a.jpg": "a.jpg"}),  # equal names come first
        (["a.jpg"], ["a.png"], {"a.jpg": "a.png"}),
        (["train/a.jpg"], ["masks/train/a.png"], {"train/a.jpg": "masks/train/a.png"}),
        (["a.jpg"], ["a.png", "a.jpg"], {"a.jpg": "a.jpg"}),
        (["a.jpg", "a.png"], ["a.tif"], {}),
        (["ba.jpg"], ["a.jpg"], {}),  # whole path components must be equal
        ([], ["a.jpg"], {}),
    ],
)
def test_pairs(image_ids: list[str], names: list[str], pairs: dict[str, str]) -> None:
    assert pair_images(image_ids, names) == pairs


HASH = "2b7c1f0e9d8a4b6c8e1f2a3b4c5d6e7f"


@pytest.mark.parametrize(
    ("image_id", "name"),
    [
        ("train/a.jpg", "images\\train\\a.jpg"),
        ("a.jpg", r"C:\data\images\a.jpg"),
        ("a.jpg", "/home/me/images/train/a.jpg"),
        ("a.jpg", "./a.jpg"),
        ("a.jpg", "../../images/a.jpg"),
        ("a b.jpg", "https://example.org/set/a%20b.jpg?version=3"),
        ("a.jpg", "s3://bucket/set/a.jpg"),
        ("set/a.jpg", "/data/local-files/?d=photos/set/a.jpg"),
        ("caf\u00e9.jpg", "cafe\u0301.jpg"),  # as macOS writes it
        ("a.JPG", "a.jpg"),
    ],
)
def test_paths_and_urls(image_id: str, name: str) -> None:
    pairs = find_pairs([image_id, "other.jpg"], [name, "another.jpg"])
    assert (pairs.names, pairs.ambiguous, pairs.renamed) == ({image_id: name}, (), ())


@pytest.mark.parametrize(
    ("image_id", "name"),
    [
        ("photo.jpg", "1f2e3d4c-photo.jpg"),
        ("photo.jpg", r"images\1f2e3d4c-photo.jpg"),
        ("my photo (1).jpg", "1f2e3d4c-my_photo_1.jpg"),
        ("photo.jpg", f"photo_jpg.rf.{HASH}.jpg"),
        ("photo.png", f"photo_png.rf.{HASH}.jpg"),
        ("my photo (1).jpg", f"my-photo-1-_jpg.rf.{HASH}.jpg"),
        ("photo.jpg", f"photo_jpg.rf.{HASH}_mask.png"),
        ("photo.jpg", "photo_mask.png"),
        (f"photo_jpg.rf.{HASH}.jpg", "photo.jpg"),
        ("set/photo.jpg", "photo_jpg.rf.4dTlbZ9xYq.jpg"),
        ("set/day/photo.jpg", "set_day_photo.png"),
        ("set_day_photo.jpg", "set/day/photo.jpg"),
        ("set/photo.jpg", "dataset/images/val/set_photo.jpg"),
    ],
)
def test_additions_of_tools(image_id: str, name: str) -> None:
    pairs = find_pairs([image_id, "other.jpg"], [name, "another.jpg"])
    assert (pairs.names, pairs.ambiguous, pairs.renamed) == ({image_id: name}, (), (image_id,))


@pytest.mark.parametrize(
    ("image_id", "name"),
    [
        ("001.jpg", "20240131-001.jpg"),  # a date, not an upload
        (f"photo_jpg.rf.{HASH}.jpg", "photo_jpg.rf.4dTlbZ9xYq.jpg"),  # two versions, which may be cropped differently
        ("my photo.jpg", "my-photo.jpg"),  # no addition
        ("1_0.jpg", "1f2e3d4c-10.jpg"),
    ],
)
def test_other_images(image_id: str, name: str) -> None:
    pairs = find_pairs([image_id], [name])
    assert (pairs.names, pairs.ambiguous) == ({}, ())


@pytest.mark.parametrize(
    ("image_ids", "names", "pairs", "ambiguous"),
    [
        (["photo.jpg"], ["photo_jpg.rf.aa.jpg", "photo_jpg.rf.bb.jpg"], {}, ["photo.jpg"]),
        (["a.jpg", "b.jpg"], ["1f2e3d4c-a.jpg", "2f2e3d4c-a.jpg", "b.jpg"], {"b.jpg": "b.jpg"}, ["a.jpg"]),
        (["x/a.jpg", "y/a.jpg"], ["a.jpg"], {}, ["x/a.jpg", "y/a.jpg"]),
        (["a.jpg"], ["x/a.jpg", "y/a.jpg"], {}, ["a.jpg"]),
        (["a.bmp"], ["a.png", "a.jpg"], {}, ["a.bmp"]),
        (["x/a.bmp"], ["a.png", "a.jpg"], {}, ["x/a.bmp"]),
        (["a.jpg", "y/a.jpg"], ["a.jpg"], {"a.jpg": "a.jpg"}, []),
        (["a.jpg"], ["b.jpg"], {}, []),
        (["x/y/a.jpg", "x/y_a.jpg"], ["x_y_a.jpg"], {}, ["x/y/a.jpg", "x/y_a.jpg"]),
    ],
)
def test_ambiguous_names_are_listed(
    image_ids: list[str], names: list[str], pairs: dict[str, str], ambiguous: list[str]
) -> None:
    found = find_pairs(image_ids, names)
    assert (found.names, list(found.ambiguous)) == (pairs, ambiguous)
