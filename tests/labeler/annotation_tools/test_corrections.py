from __future__ import annotations

import cv2
import numpy as np
import pytest

from labeler.annotation_tools.corrections import (
    CorrectedImage,
    CorrectedInstance,
    SentImage,
    SentInstance,
    compare,
)
from labeler.annotation_tools.same_mask import is_same_mask
from labeler.decisions import Decision
from labeler.errors import FormatError
from labeler.geometry.masks import mask_to_rle
from labeler.geometry.polygons import polygons_to_rle
from tests.support.hard_masks import HARD_MASKS, Mask

HEIGHT, WIDTH = 60, 90


def box(x: int, y: int, width: int = 20, height: int = 20) -> Mask:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y : y + height, x : x + width] = True
    return mask


def accepting(class_name: str, mask: Mask) -> Decision:
    return Decision("sub/a.png", "accept", class_name, mask_to_rle(mask))


def sent(*items: tuple[str, Mask]) -> SentImage:
    instances = (SentInstance(f"s-{n}", accepting(name, mask), 0.3) for n, (name, mask) in enumerate(items))
    return SentImage("sub/a.png", "sub_a.png", WIDTH, HEIGHT, tuple(instances))


def back(*items: tuple[str, Mask] | tuple[str, Mask, str]) -> CorrectedImage:
    instances = (CorrectedInstance(item[0], mask_to_rle(item[1]), item[2] if len(item) > 2 else "") for item in items)
    return CorrectedImage("images/sub_a.png", tuple(instances))


def rows(decisions: list[Decision], *masks: Mask) -> list[tuple[object, ...]]:
    """Decisions with masks as their places among ``masks``, None for none."""
    known = {mask_to_rle(mask)["counts"]: place for place, mask in enumerate(masks)}
    return [
        (
            d.verdict,
            d.class_name,
            d.rle and known[d.rle["counts"]],
            d.new_class,
            d.new_rle and known[d.new_rle["counts"]],
        )
        for d in decisions
    ]


A, B, C = box(0, 0), box(40, 0), box(40, 30)


@pytest.mark.parametrize("ids", [True, False])
def test_untouched_changed_deleted_and_added(ids: bool) -> None:
    """With ids and without, in any order."""
    wide = box(40, 0, 26)  # IoU 0.77
    image = sent(("cat", A), ("dog", B), ("dog", C))
    new = box(5, 30)
    came = back(("dog", new), ("cat", wide, "s-1" if ids else ""), ("cat", A, "s-0" if ids else ""))
    decisions = compare(image, came)
    assert rows(decisions, A, B, C, wide, new) == [
        ("reject", "dog", 2, None, None),
        ("accept", "cat", 0, None, None),
        ("accept", "dog", 1, "cat", 3),
        ("accept", None, None, "dog", 4),
    ]
    assert {decision.image_id for decision in decisions} == {"sub/a.png"}
    assert [Decision.from_row(decision.to_row()) for decision in decisions] == decisions


def test_an_id_outdoes_the_overlap() -> None:
    """A mask drawn anew elsewhere is still the same object, and what lies where it was is another."""
    decisions = compare(sent(("cat", A)), back(("cat", B, "s-0"), ("cat", A)))
    assert rows(decisions, A, B) == [("accept", "cat", 0, None, 1), ("accept", None, None, "cat", 0)]


def test_a_copied_id_is_the_nearest_mask() -> None:
    decisions = compare(sent(("cat", A)), back(("dog", B, "s-0"), ("cat", A, "s-0")))
    assert rows(decisions, A, B) == [("accept", "cat", 0, None, None), ("accept", None, None, "dog", 1)]


def test_ids_of_another_set_are_none() -> None:
    assert rows(compare(sent(("cat", A)), back(("cat", A, "t-5"))), A) == [("accept", "cat", 0, None, None)]


def test_two_classes_of_one_mask_stay_apart() -> None:
    image = sent(("cat", A), ("dog", A))
    assert rows(compare(image, back(("dog", A), ("cat", A))), A) == [
        ("accept", "cat", 0, None, None),
        ("accept", "dog", 0, None, None),
    ]
    assert rows(compare(image, back(("dog", A))), A) == [
        ("reject", "cat", 0, None, None),
        ("accept", "dog", 0, None, None),
    ]


def test_below_half_the_overlap_it_is_another_object() -> None:
    less, more = box(0, 0, 9), box(0, 0, 11)  # IoU 0.45 and 0.55
    assert [d.verdict for d in compare(sent(("cat", A)), back(("cat", less)))] == ["reject", "accept"]
    assert rows(compare(sent(("cat", A)), back(("cat", more))), A, more) == [("accept", "cat", 0, None, 1)]


def test_what_is_drawn_where_an_instance_was_not_shown_is_that_instance() -> None:
    other = SentInstance("", accepting("dog", B), 0.9)
    near = box(41, 0)
    decisions = compare(sent(("cat", A)), back(("cat", A), ("cat", near), ("dog", C)), [other])
    assert rows(decisions, A, B, C, near) == [
        ("accept", "cat", 0, None, None),
        ("accept", "dog", 1, "cat", 3),
        ("accept", None, None, "dog", 2),
    ]


def test_what_is_drawn_elsewhere_is_not_an_instance_that_was_not_shown() -> None:
    """Neither has an id, which does not make them the same."""
    other = SentInstance("", accepting("dog", B), 0.9)
    decisions = compare(sent(("cat", A)), back(("cat", A), ("dog", C)), [other])
    assert rows(decisions, A, B, C) == [("accept", "cat", 0, None, None), ("accept", None, None, "dog", 2)]


def test_an_erased_mask_is_a_deleted_object() -> None:
    decisions = compare(sent(("cat", A)), back(("cat", np.zeros_like(A), "s-0")))
    assert rows(decisions, A) == [("reject", "cat", 0, None, None)]
    assert compare(sent(), back()) == []


def test_what_cannot_be_meant() -> None:
    image = sent(("cat", A))
    with pytest.raises(FormatError, match=r"sub_a.png: an object of class 'lion', but the classes are cat, dog"):
        compare(image, back(("lion", A)), class_names=["cat", "dog"])
    with pytest.raises(FormatError, match="a mask of 60 x 90 pixels, but the image that was sent has 90 x 60"):
        compare(image, back(("cat", A.T)))
    row = image.to_row()
    assert SentImage.from_row(row) == image


def outline(mask: Mask, epsilon: float) -> list[list[float]]:
    """Polygons as tools make them: the outer contours through pixel centres, simplified."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [cv2.approxPolyDP(contour, epsilon, True).ravel().astype(float).tolist() for contour in contours]


@pytest.mark.parametrize("name", ["holes", "nested islands", "two parts", "spiral", "full image", "diagonal blocks"])
def test_a_tools_polygon_of_an_untouched_mask_is_no_change(name: str) -> None:
    mask = np.kron(HARD_MASKS[name], np.ones((3, 3), dtype=bool))
    for epsilon in (0.0, 1.0, 2.0):
        rle = polygons_to_rle(outline(mask, epsilon), *mask.shape)
        assert is_same_mask(mask_to_rle(mask), rle, outlined=True)


def test_a_ring_whose_hole_a_tool_filled_is_the_same_object() -> None:
    ring = HARD_MASKS["frame on every border"]
    height, width = ring.shape
    image = SentImage(
        "a.png",
        "a.png",
        width,
        height,
        (SentInstance("s-0", Decision("a.png", "accept", "cat", mask_to_rle(ring)), 0.3),),
    )
    polygon = polygons_to_rle(outline(ring, 1.0), height, width)
    came = CorrectedImage("a.png", (CorrectedInstance("cat", polygon, outlined=True),))
    assert compare(image, came) == [Decision("a.png", "accept", "cat", mask_to_rle(ring))]


def test_a_changed_polygon_is_a_change() -> None:
    disc = np.hypot(*(np.mgrid[:HEIGHT, :WIDTH] - np.array([30, 40])[:, None, None])) <= 22
    for change in (disc & ~box(40, 0, 5, 60), disc | box(60, 25, 8, 8), np.roll(disc, 5, axis=1)):
        rle = polygons_to_rle(outline(change, 1.0), HEIGHT, WIDTH)
        assert not is_same_mask(mask_to_rle(disc), rle, outlined=True)
    ring = disc & ~box(38, 28, 4, 4)
    assert not is_same_mask(mask_to_rle(ring | box(61, 29, 3, 3)), mask_to_rle(disc & ~box(30, 20, 10, 10)))


def test_masks_as_such_are_compared_closely() -> None:
    grown = box(0, 0, 21)
    assert not is_same_mask(mask_to_rle(A), mask_to_rle(grown))  # IoU 0.952
    assert is_same_mask(mask_to_rle(A), mask_to_rle(grown), outlined=True)
    almost = A.copy()
    almost[0, :4] = False  # 0.99
    assert is_same_mask(mask_to_rle(A), mask_to_rle(almost))


def test_what_an_outline_drops_is_not_rejected() -> None:
    line, block = box(0, 0, 20, 2), box(40, 0)
    image, came = sent(("cat", line), ("dog", block), ("dog", C)), back(("dog", C, "s-2"))
    assert rows(compare(image, came, outlines=True), line, block, C) == [
        ("reject", "dog", 1, None, None),
        ("accept", "dog", 2, None, None),
    ]
    assert [decision.verdict for decision in compare(image, came)] == ["reject", "reject", "accept"]
