"""Which COCO categories are classes."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from ontologies.coco_categories import real_categories

PALLETS = [(0, "warehouse", "none"), (1, "pallet", "warehouse"), (2, "forklift", "warehouse")]
SAME_NAME = [(0, "pallet", "none"), (1, "pallet", "pallet"), (2, "forklift", "pallet")]
ONE_CLASS = [(0, "raccoons", "none"), (1, "raccoon", "raccoons")]
HIERARCHY = [(1, "animal", "none"), (2, "dog", "animal"), (3, "car", "vehicle")]
COCO = [(1, "person", "person"), (2, "bicycle", "vehicle")]
NO_SUPERCATEGORY = [(1, "dog", ""), (2, "cat", "")]


@pytest.mark.parametrize(
    ("categories", "used", "ids"),
    [
        (PALLETS, (), [1, 2]),
        (PALLETS, {1}, [1, 2]),
        (PALLETS, {0, 1}, [0, 1, 2]),
        (PALLETS[::-1], (), [2, 1]),
        (SAME_NAME, {1, 2}, [1, 2]),
        (ONE_CLASS, (), [1]),
        (HIERARCHY, (), [1, 2, 3]),
        (COCO, (), [1, 2]),
        (NO_SUPERCATEGORY, (), [1, 2]),
        ([(0, "none", "none"), (1, "dog", "none")], (), [0, 1]),
        ([(0, "dog", "none")], (), [0]),
        ([], (), []),
    ],
)
def test_a_category_that_groups_all_others_is_no_class(
    categories: list[tuple[int, str, str]], used: Collection[int], ids: list[int]
) -> None:
    entries = [dict(zip(("id", "name", "supercategory"), each, strict=True)) for each in categories]
    assert [each["id"] for each in real_categories(entries, used)] == ids
