"""What a summary says about splits, in words and for ``run/summary.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labeler.formats.splits import SPLITS, Leak
from workflows.dataset.splitting import SplitSummary

if TYPE_CHECKING:
    from workflows.settings.export import ExportConfig


def empty_split(splits: SplitSummary, config: ExportConfig) -> str:
    """What it means if no image is in train or in val; empty if both have some, or there is no image at all."""
    images = splits.images
    empty = next((split for split in ("val", "train") if split not in images), None)
    if empty is None or not images:
        return ""
    other = next(split for split in SPLITS if split in images)
    share = dict(zip(SPLITS, config.split_rule.shares, strict=True))[empty]
    if not share:
        cause = "--val-share is 0" if empty == "val" else "--val-share and --test-share leave none for train"
    elif splits.groups == 1:
        one = "1 image" if sum(images.values()) == 1 else f"{sum(images.values())} images of one group"
        cause = f"the dataset has {one} (--split-by {config.split_by})"
    elif splits.groups == 2 and all(config.split_rule.shares):
        cause = "the dataset has two groups of images for three splits"
    else:
        cause = f"no image is in {empty}, and images keep their split; --resplit moves some there"
    if not {"yolo", "yolo-detect"}.intersection(config.formats) or config.link == "none":
        return f"no {'validation' if empty == 'val' else 'training'} images: {cause}"
    names = {"train": "training", "val": "validation", "test": "test"}
    same = f"{names[empty]} equals {names[other]}"
    return f"{same}: {cause}; data.yaml points {empty} to images/{other}"


def leak_in_words(leak: Leak) -> str:
    """Such as ``a.png and 7 more in train, b.png in val``."""
    parts = []
    for split in SPLITS:
        if count := leak.images.get(split, 0):
            parts.append(f"{leak.first[split]}{f' and {count - 1} more' if count > 1 else ''} in {split}")
    return ", ".join(parts)


def to_json(splits: SplitSummary) -> dict[str, Any]:
    """The key ``splits`` of ``run/summary.json``."""
    return {
        "by": splits.split_by,
        "groups": splits.groups,
        "moved": splits.moved,
        "unmatched": splits.unmatched,
        "validation_equals_training": bool(splits.images) and "val" not in splits.images,
        "leaks": {
            "groups": splits.leaks,
            "images": splits.leaking_images,
            "first": [
                {split: {"images": leak.images[split], "first": leak.first[split]} for split in leak.images}
                for leak in splits.first_leaks
            ],
        },
    }
