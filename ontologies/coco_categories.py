"""Tells classes from the entries of COCO ``categories`` that only group them."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import TypeVar

NO_SUPERCATEGORY = ("none", "", None)
Category = TypeVar("Category", bound=Mapping[str, object])


def real_categories(categories: Sequence[Category], used: Collection[Hashable] = ()) -> list[Category]:
    """``categories`` without the one that only groups all others.

    Roboflow writes the project's name as category 0, with the supercategory ``none``, and as the supercategory of every
    class; no annotation uses it. It may have the same name as a class.

    Args:
        categories: the ``categories`` of a COCO file, in any order.
        used: the category ids of the annotations, where they are known; none of these is left out.
    """
    return [
        category
        for position, category in enumerate(categories)
        if category.get("id") in used or not _groups(category, [*categories[:position], *categories[position + 1 :]])
    ]


def _groups(category: Mapping[str, object], others: Sequence[Mapping[str, object]]) -> bool:
    name, parent = category.get("name"), category.get("supercategory")
    is_root = parent in NO_SUPERCATEGORY and name not in NO_SUPERCATEGORY
    return is_root and bool(others) and all(other.get("supercategory") == name for other in others)
